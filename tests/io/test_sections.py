"""Folders of sections and pictures, as programs and people leave them."""

from __future__ import annotations

import struct
import zlib

import imageio.v3 as iio
import numpy as np
import pytest
import tifffile
from PIL import Image

from napari_emda.errors import DataError
from napari_emda.io.read import open_image, open_labels
from napari_emda.io.section_names import gaps, masks_beside_images, several_series


@pytest.fixture
def stack() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (12, 20, 30), dtype=np.uint8)


def write(folder, stack, pattern="s{:03d}.tif", numbers=None):
    folder.mkdir(exist_ok=True)
    for section, number in zip(stack, numbers or range(len(stack)), strict=True):
        iio.imwrite(folder / pattern.format(number), section)
    return folder


def refused(folder):
    with pytest.raises(DataError) as error:
        open_image(folder)
    return str(error.value)


# ---------------------------------------------------------------- what is no section


def test_junk_is_passed_over_and_the_rest_is_named(tmp_path, stack):
    folder = write(tmp_path / "a", stack, "Slice {}.TIF", range(1, 13))
    (folder / "Thumbs.db").write_bytes(b"\0" * 99)
    (folder / ".DS_Store").write_bytes(b"\0\0\0\1Bud1")
    (folder / "desktop.ini").write_text("x")
    (folder / "._Slice 1.TIF").write_bytes(b"\0\5\26\7")
    stored = open_image(folder)
    np.testing.assert_array_equal(stored.array[:], stack)
    assert (stored.notices, stored.gap, stored.not_a_volume) == ((), "", "")
    (folder / "notes.txt").write_text("x")
    write(folder / "old", stack[:1])
    (folder / "odd.tif").mkdir()
    stored = open_image(folder)
    np.testing.assert_array_equal(stored.array[:], stack)
    assert stored.notices == ("In the folder a, notes.txt, odd.tif and old are not read.",)


def test_a_file_with_another_name_than_all_others_is_pointed_out(tmp_path, stack):
    folder = write(tmp_path / "a", stack, "Slice {}.tif", range(1, 13))
    write(folder, stack[:1], "overview.tif", [0])
    stored = open_image(folder)
    assert stored.array.shape[0] == 13
    assert stored.notices == (
        "In the folder a, overview.tif is read like the other 12 files, though named in another "
        "way: move it to another folder if it is no section.",
    )
    # Names that have nothing in common say nothing.
    names = [chr(ord("a") + z) + ".tif" for z in range(len(stack))]
    (tmp_path / "b").mkdir()
    for name, section in zip(names, stack, strict=True):
        tifffile.imwrite(tmp_path / "b" / name, section)
    assert open_image(tmp_path / "b").notices == ()


def test_an_empty_folder_names_those_in_it(tmp_path, stack):
    (tmp_path / "a").mkdir()
    write(tmp_path / "a" / "raw", stack)
    assert refused(tmp_path / "a").endswith("files there, or choose a folder in it (raw).")


@pytest.mark.parametrize(
    "pattern",
    [
        "{}_mask.tif",
        "{}_masks.tif",
        "{}_cp_masks.tif",
        "{}_labels.tif",
        "{}-label.tif",
        "{}_seg.tif",
        "{}_gt.tif",
        "{}_GroundTruth.tif",
        "{}_Simple Segmentation.tif",
        "mask_{}.tif",
        "Labels {}.tif",
        "{}.mask.tif",
    ],
)
@pytest.mark.parametrize("image", ["{}.tif", "{}.png"])
def test_masks_beside_images_are_no_sections(tmp_path, stack, pattern, image):
    folder = tmp_path / "a"
    names = [f"slice_{z:03d}" for z in range(12)]
    write(folder, stack, image, names)
    for section, name in zip(stack, names, strict=True):
        tifffile.imwrite(folder / pattern.format(name), (section > 128).astype(np.uint8))
    text = refused(folder)
    assert "holds 12 images and 12 masks or labels of them (such as " in text
    assert text.endswith("): move those to a folder of their own.")


def test_arrays_of_other_programs_beside_the_sections_are_passed_over(tmp_path, stack):
    folder = write(tmp_path / "a", stack)
    np.save(folder / "s000_seg.npy", np.array({"masks": 1}, object), allow_pickle=True)
    stored = open_image(folder)
    assert stored.array.shape == stack.shape
    assert "s000_seg.npy" in stored.notices[0]


def test_names_of_masks_without_their_images_are_fine(tmp_path, stack):
    for pattern in ("{:03d}_mask.tif", "mask{}.png", "labels_{}.tif"):
        folder = write(tmp_path / pattern[:3], stack, pattern)
        np.testing.assert_array_equal(open_labels(folder).array[:], stack)
    assert masks_beside_images(["image_1.tif", "mask_2.tif"]) == []
    assert masks_beside_images(["image_1.tif", "mask_1.tif"]) == ["mask_1.tif"]
    assert masks_beside_images(["im001.png", "lab_001.png", "label001.png"]) == ["label001.png"]


def test_every_section_twice_is_refused(tmp_path, stack):
    folder = write(tmp_path / "a", stack)
    write(folder, stack, "s{:03d}.png")
    text = refused(folder)
    assert "holds every section twice (such as s000.png and s000.tif): move one" in text
    for number, copy in enumerate(("s004 (1).tif", "s004 - Copy.tif", "s004 copy.tif", "s4.tif")):
        folder = write(tmp_path / f"copy{number}", stack)
        tifffile.imwrite(folder / copy, stack[4])
        assert "holds 1 sections twice" in refused(folder)


# ---------------------------------------------------------------- numbers


def test_missing_numbers_are_named(tmp_path, stack):
    kept = [z for z in range(12) if z not in (4, 7)]
    folder = write(tmp_path / "a", stack[kept], numbers=kept)
    stored = open_image(folder)
    assert stored.array.shape[0] == 10
    assert stored.gap == (
        "The folder a holds 10 sections numbered 0 to 11, and 2 are missing (4 and 7): the "
        "sections before and after a gap are taken for neighbours, so put the missing ones back "
        "if you have them."
    )


@pytest.mark.parametrize(
    ("names", "missing"),
    [
        ([f"s{z}" for z in (0, 1, 2, 3, 9, 10, 11)], "5 are missing (4 to 8)"),
        ([f"s{z:04d}" for z in (10, 20, 30, 50)], "1 is missing (40)"),
        ([f"2024-05-12_s{z}" for z in (1, 2, 4)], "1 is missing (3)"),
        ([f"slice_{z:05d}_z={z / 100:.4f}um" for z in (0, 1, 2, 4, 5)], "1 is missing (3)"),
        ([f"s{z}" for z in (0, 10, 20, 30)], ""),
        ([f"s{z}" for z in range(5, 12)], ""),
        (["a", "b", "d"], ""),
        (["s1", "s3"], ""),
        ([f"img_{time}" for time in (120133, 125959, 131711)], ""),
        ([f"x-{-z}_\u00b2{z}" for z in range(12)], ""),
    ],
)
def test_gaps_in_the_numbers_of_names(names, missing):
    text = gaps("a", [f"{name}.tif" for name in names])
    assert missing in text
    assert bool(text) == bool(missing)


TILES = [
    [f"r{row}c{column}" for row in range(3) for column in range(4)],
    [f"tile_x{x}_y{y}" for x in range(3) for y in range(4)],
    [f"img_t{time:03d}_z{z:03d}" for time in range(2) for z in range(6)],
    [f"s{z:03d}_c{channel}" for z in range(6) for channel in range(2)],
    [f"EM_{z:03d}" for z in range(6)] + [f"ER_{z:03d}" for z in range(6)],
    [f"{row}{column:02d}" for row in "ABC" for column in range(1, 5)],
]


@pytest.mark.parametrize("names", TILES)
def test_tiles_and_several_series_are_doubted(tmp_path, stack, names):
    folder = write(tmp_path / "a", stack, "{}.tif", names)
    # Existing projects still open, and independent images may have such names.
    stored = open_image(folder)
    assert stored.array.shape == stack.shape
    assert stored.not_a_volume.startswith("The folder a holds ")
    assert "put each series in a folder of its own" in stored.not_a_volume


@pytest.mark.parametrize(
    "names",
    [
        [f"block2_2024_s{z}" for z in range(12)],
        [f"slice_{z:05d}_z={z / 100:.4f}um" for z in range(12)],
        [f"2024-05-12_{120000 + 7 * z}" for z in range(12)],
        list("abcdefghijkl"),
        [f"{z}" for z in range(12)],
    ],
)
def test_one_series_is_not_doubted(names):
    assert several_series("a", [f"{name}.tif" for name in names]) == ""


# ---------------------------------------------------------------- sections that differ


def test_sections_of_another_size_are_counted_and_named(tmp_path, stack):
    folder = write(tmp_path / "a", stack)
    tifffile.imwrite(folder / "s003.tif", stack[3, :10])
    assert refused(folder) == (
        "The folder a holds 11 of 20 x 30 such as s000.tif and 1 of 10 x 30 such as s003.tif, and "
        "a volume has sections of one shape: crop or pad them to the same size, or move those of "
        "another size."
    )


def test_sections_may_differ_in_compression_and_order_of_bytes(tmp_path, stack):
    folder = tmp_path / "a"
    folder.mkdir()
    deep = stack.astype(np.uint16) * 200
    for z, section in enumerate(deep):
        tifffile.imwrite(
            folder / f"{z}.tif",
            section,
            byteorder="<>"[z % 2],
            compression=(None, "zlib", "lzw")[z % 3],
        )
    np.testing.assert_array_equal(open_image(folder).array[:], deep)


# ---------------------------------------------------------------- colours

COLOURS = np.array([[0, 0, 0], [255, 0, 0], [0, 255, 0], [9, 9, 9]], np.uint8)
GREYS = np.array([[200] * 3, [10] * 3, [0] * 3, [90] * 3], np.uint8)


def indexed(path, values, colours):
    picture = Image.fromarray(values, mode="P")
    picture.putpalette(colours.tobytes())
    picture.save(path)


def test_numbers_of_a_palette_are_labels_and_its_greys_are_an_image(tmp_path, stack):
    labels = stack % 4
    indexed(tmp_path / "a.png", labels[0], COLOURS)
    np.testing.assert_array_equal(open_labels(tmp_path / "a.png").array[0], labels[0])
    text = refused(tmp_path / "a.png")
    assert text == (
        "a.png has a table of colours, as labels do: choose it as labels, or choose an image in "
        "grey values."
    )
    indexed(tmp_path / "b.png", labels[0], GREYS)
    np.testing.assert_array_equal(open_labels(tmp_path / "b.png").array[0], labels[0])
    np.testing.assert_array_equal(open_image(tmp_path / "b.png").array[0], GREYS[labels[0], 0])


def test_folders_of_pictures_with_a_palette(tmp_path, stack):
    labels = stack[:4] % 4
    for name in ("same", "greys", "differ", "mixed"):
        (tmp_path / name).mkdir()
    for z, section in enumerate(labels):
        indexed(tmp_path / "same" / f"{z}.png", section, COLOURS)
        indexed(tmp_path / "greys" / f"{z}.png", section, np.roll(GREYS, z, axis=0))
        indexed(tmp_path / "differ" / f"{z}.png", section, np.roll(COLOURS, z, axis=0))
        if z:
            indexed(tmp_path / "mixed" / f"{z}.png", section, COLOURS)
    Image.fromarray(labels[0]).save(tmp_path / "mixed" / "0.png")
    np.testing.assert_array_equal(open_labels(tmp_path / "same").array[:], labels)
    assert "table of colours" in refused(tmp_path / "same")
    greys = np.stack([np.roll(GREYS, z, axis=0)[labels[z], 0] for z in range(4)])
    np.testing.assert_array_equal(open_image(tmp_path / "greys").array[:], greys)
    for name in ("differ", "mixed"):
        with pytest.raises(DataError, match="different tables of colours"):
            open_labels(tmp_path / name)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA"])
def test_grey_pictures_saved_in_colour_are_grey(tmp_path, stack, mode):
    Image.fromarray(stack[0]).convert(mode).save(tmp_path / "a.png")
    stored = open_image(tmp_path / "a.png")
    assert stored.array.dtype == np.uint8
    np.testing.assert_array_equal(stored.array[:], stack[:1])
    folder = tmp_path / "folder"
    folder.mkdir()
    for z, section in enumerate(stack):
        # As some programs do: the sections without any colour in grey, the others in colour.
        Image.fromarray(section).convert(mode if z % 2 else "L").save(folder / f"{z}.png")
    np.testing.assert_array_equal(open_image(folder).array[:], stack)


def test_colours_in_a_later_section_are_found_when_it_is_read(tmp_path, stack):
    (tmp_path / "a").mkdir()
    for z, section in enumerate(stack):
        colours = np.stack([section, section, section ^ (z == 2)], axis=-1)
        Image.fromarray(colours).save(tmp_path / "a" / f"{z}.png")
    array = open_image(tmp_path / "a").array
    np.testing.assert_array_equal(array[1], stack[1])
    with pytest.raises(DataError, match=r"2\.png is a colour image: convert it to grey values"):
        array[2]


def chunk(kind, content):
    check = zlib.crc32(kind + content)
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", check)


def png(path, width, height, bits, colour, pixels):
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(pixels))
        + chunk(b"IEND", b"")
    )


def test_colours_with_sixteen_bits_do_not_lose_eight_of_them(tmp_path):
    png(tmp_path / "a.png", 2, 1, 16, 2, b"\0" + bytes(range(12)))
    assert "is a colour image (RGB;16B)" in refused(tmp_path / "a.png")


def test_a_picture_with_fewer_pixels_than_its_header_says(tmp_path):
    png(tmp_path / "a.png", 100_000, 100_000, 8, 0, b"\0" * 100)
    assert "says that it has 100000 x 100000 pixels, but holds fewer" in refused(tmp_path / "a.png")
