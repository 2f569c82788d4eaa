"""Voxel sizes and numbers of sections, as TIFF files state them."""

from __future__ import annotations

import uuid

import numpy as np
import pytest
import tifffile

from napari_emda.errors import DataError
from napari_emda.io.checks import check_spacing
from napari_emda.io.read import open_image


@pytest.fixture
def volume() -> np.ndarray:
    return np.random.default_rng(0).integers(1, 255, (8, 40, 50), dtype=np.uint8)


# ---------------------------------------------------------------- units per axis


def imagej(path, volume, x=5.0, y=5.0, z=50.0, **units):
    """Write as Fiji does: a unit of y or z only where it differs from that of x."""
    tifffile.imwrite(
        path,
        volume,
        imagej=True,
        resolution=(1 / x, 1 / y),
        metadata={"axes": "ZYX", "spacing": z, **units},
    )
    return open_image(path)


@pytest.mark.parametrize(
    ("sizes", "units"),
    [
        ({}, {"unit": "nm"}),
        ({"x": 0.005, "y": 0.005}, {"unit": "micron", "zunit": "nm"}),
        ({"z": 0.05}, {"unit": "nm", "zunit": "\\u00B5m"}),
        ({"z": 0.05}, {"unit": "nm", "zunit": "um"}),
        ({"y": 0.005}, {"unit": "nm", "yunit": "micron"}),
        ({"x": 5e-6, "z": 0.05}, {"unit": "mm", "yunit": "nm", "zunit": "\\u00B5m"}),
        ({"x": 5 / 2.54e7}, {"unit": "inch", "yunit": "nm", "zunit": "nm"}),
        ({"x": 50.0, "y": 50.0, "z": 500.0}, {"unit": "\\u00C5"}),
    ],
)
def test_each_axis_of_imagej_has_its_own_unit(tmp_path, volume, sizes, units):
    assert imagej(tmp_path / "a.tif", volume, **sizes, **units).nanometres == pytest.approx(
        (50, 5, 5)
    )


@pytest.mark.parametrize(
    ("z", "units", "remark"),
    [
        (3.0, {"unit": "nm", "zunit": "sec"}, "3 sec along z"),
        (1.0, {"unit": "nm", "zunit": "pixel"}, ""),
        (0.0, {"unit": "nm"}, "0 nm along z"),
        (-50.0, {"unit": "nm"}, "-50 nm along z"),
        ("NaN", {"unit": "nm"}, "nan nm along z"),
        ("inf", {"unit": "nm"}, "inf nm along z"),
        ("wide", {"unit": "nm"}, "nan nm along z"),
        (1e30, {"unit": "nm"}, "1e+30 nm along z"),
    ],
)
def test_a_distance_that_cannot_be_one_is_asked_for(tmp_path, volume, z, units, remark):
    stored = imagej(tmp_path / "a.tif", volume, z=z, **units)
    assert (stored.nanometres, stored.sizes, stored.remark) == (None, (None, 5, 5), remark)
    with pytest.raises(DataError) as error:
        check_spacing("a.tif", None, stored, "--spacing")
    end = f" (the file says {remark})." if remark else "."
    assert str(error.value) == (
        "The voxel size of 'a.tif' is not in its file: give it as --spacing Z 5 5 in nm, where Z "
        f"is the distance of its sections{end}"
    )
    assert check_spacing("a.tif", (40, 5, 5), stored) == (40, 5, 5)


def test_numbers_with_a_decimal_comma_are_numbers(tmp_path, volume):
    stored = imagej(tmp_path / "a.tif", volume, x=0.005, y=0.005, z="0,05", unit="micron")
    assert stored.nanometres == (50, 5, 5)


@pytest.mark.parametrize("unit", ["pixel", "pixels", "", None])
def test_pixels_are_no_voxel_size(tmp_path, volume, unit):
    units = {} if unit is None else {"unit": unit}
    stored = imagej(tmp_path / "a.tif", volume, x=1.0, y=1.0, z=1.0, **units)
    assert (stored.nanometres, stored.sizes, stored.remark) == (None, (None,) * 3, "")
    with pytest.raises(DataError, match="give it as three numbers z y x in nm with --spacing"):
        check_spacing("a.tif", None, stored, "--spacing")


def test_the_printers_default_is_no_voxel_size(tmp_path, volume):
    for name, resolution in (("a", 72), ("b", 25400)):
        tifffile.imwrite(
            tmp_path / f"{name}.tif",
            volume[0],
            imagej=True,
            resolution=(resolution, resolution),
            resolutionunit="inch",
        )
    assert open_image(tmp_path / "a.tif").sizes == (None, None, None)
    assert open_image(tmp_path / "b.tif").sizes == (None, 1000, 1000)


@pytest.mark.parametrize(("resolution", "unit"), [(1.25e6, "cm"), (3.175e6, "inch")])
def test_a_resolution_of_electron_microscopy_is_a_pixel_size(tmp_path, volume, resolution, unit):
    """IMOD and the programs of microscopes state no more than the resolution."""
    kind = {"cm": "CENTIMETER", "inch": "INCH"}[unit]
    options = {"metadata": None, "photometric": "minisblack", "resolutionunit": kind}
    tifffile.imwrite(tmp_path / "a.tif", volume, resolution=(resolution, resolution), **options)
    stored = open_image(tmp_path / "a.tif")
    assert stored.sizes == (None, 8, 8)
    with pytest.raises(DataError, match="--spacing Z 8 8 in nm, where Z is the distance"):
        check_spacing("a.tif", None, stored, "--spacing")
    # What printers have is none.
    tifffile.imwrite(tmp_path / "b.tif", volume, resolution=(4800, 4800), **options)
    assert open_image(tmp_path / "b.tif").sizes == (None, None, None)


@pytest.mark.parametrize(
    ("tag", "text", "sizes"),
    [
        (34682, "[Scan]\r\nPixelWidth=5.2e-009\r\nPixelHeight=5.5e-009\r\n", (None, 5.5, 5.2)),
        (34682, "[Scan]\r\nPixelWidth=\r\n", (None, None, None)),
        (34118, "AP_IMAGE_PIXEL_SIZE\r\nImage Pixel Size = 5.5 nm\r\n", (None, 5.5, 5.5)),
        (34118, "AP_PIXEL_SIZE\r\nPixel Size = 12.5 pm\r\n", (None, 0.0125, 0.0125)),
        (34118, "AP_PIXEL_SIZE\r\nPixel Size = unknown\r\n", (None, None, None)),
    ],
)
def test_the_pixel_size_in_the_tags_of_microscopes(tmp_path, volume, tag, text, sizes):
    tifffile.imwrite(
        tmp_path / "a.tif",
        volume[0],
        photometric="minisblack",
        metadata=None,
        extratags=[(tag, 2, 0, text, True)],
    )
    assert open_image(tmp_path / "a.tif").sizes == sizes


def test_a_folder_has_the_voxel_size_that_all_its_files_state(tmp_path, volume):
    # "File > Save As > Image Sequence" of Fiji, with and without the distance of the sections.
    for name, z, expected in (("a", None, (None, 4, 5)), ("b", 50.0, (50, 4, 5))):
        (tmp_path / name).mkdir()
        for number, section in enumerate(volume):
            imagej(tmp_path / name / f"s{number}.tif", section[None], z=z, unit="nm", y=4.0)
        assert open_image(tmp_path / name).sizes == expected
    imagej(tmp_path / "b" / "s3.tif", volume[:1], z=50.0, x=6.0, unit="nm", y=4.0)
    assert open_image(tmp_path / "b").sizes == (None, None, None)


def test_a_single_image_is_as_thick_as_its_pixels(tmp_path, volume):
    stored = imagej(tmp_path / "a.tif", volume[:1], z=None, x=4.0, y=5.0, unit="nm")
    assert stored.nanometres == (5, 5, 4)


def ome(path, volume, **sizes):
    tifffile.imwrite(path, volume, ome=True, metadata={"axes": "ZYX", **sizes})
    return open_image(path)


@pytest.mark.parametrize(
    "sizes",
    [
        {"X": (5, "nm"), "Y": (0.005, "\u00b5m"), "Z": (0.05, None)},
        {"X": (50, "\u00c5"), "Y": (5e-6, "mm"), "Z": (5e-6, "cm")},
        {"X": (5, "nm"), "Y": (5, "nm"), "Z": (50000, "pm")},
    ],
)
def test_each_axis_of_ome_has_its_own_unit(tmp_path, volume, sizes):
    metadata = {}
    for axis, (size, unit) in sizes.items():
        metadata[f"PhysicalSize{axis}"] = size
        if unit:
            metadata[f"PhysicalSize{axis}Unit"] = unit
    assert ome(tmp_path / "a.ome.tif", volume, **metadata).nanometres == (50, 5, 5)


@pytest.mark.parametrize(
    ("size", "unit", "remark"),
    [
        ("1.0", "pixel", ""),
        ("1.0", "reference frame", ""),
        ("2.5", "s", "2.5 s along z"),
        ("0", "nm", "0 nm along z"),
        ("NaN", "nm", "nan nm along z"),
        ("1e30", "nm", "1e+30 nm along z"),
        ("much", "nm", "nan nm along z"),
    ],
)
def test_ome_sizes_that_cannot_be_one_are_unknown(tmp_path, volume, size, unit, remark):
    metadata = {f"PhysicalSize{axis}": 5 for axis in "XY"}
    metadata |= {f"PhysicalSize{axis}Unit": "nm" for axis in "XY"}
    stored = ome(
        tmp_path / "a.ome.tif", volume, PhysicalSizeZ=size, PhysicalSizeZUnit=unit, **metadata
    )
    assert (stored.nanometres, stored.sizes, stored.remark) == (None, (None, 5, 5), remark)


@pytest.mark.parametrize("spacing", [(1e30, 8, 8), (50, 1e-9, 8)])
def test_sizes_that_no_voxel_has_are_refused_from_the_user_as_well(spacing):
    with pytest.raises(DataError, match=r"each between 0.001 and 1e\+07"):
        check_spacing("a.tif", spacing)


# ---------------------------------------------------------------- numbers of sections


def restated(path, kind, count):
    """Change the number of sections that a file of 8 states, as a faulty program would."""
    content = path.read_bytes()
    fields = {
        "imagej": (b"images=%d", b"slices=%d"),
        "shaped": (b'{"shape": [%d,',),
        "ome": (b'SizeZ="%d"', b'PlaneCount="%d"'),
    }[kind]
    for field in fields:
        old = field % 8
        new = field % count
        assert old in content
        # Of the same length, because a TIFF refers to bytes by their position.
        content = content.replace(old + b" " * (len(new) - len(old)), new)
    path.write_bytes(content)


@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("kind", ["imagej", "shaped", "ome"])
@pytest.mark.parametrize("stated", [5, 9])
def test_sections_are_neither_invented_nor_dropped(tmp_path, volume, kind, compression, stated):
    path = tmp_path / ("a.ome.tif" if kind == "ome" else "a.tif")
    flags = {"imagej": kind == "imagej", "ome": kind == "ome"}
    metadata = {} if kind == "shaped" else {"axes": "ZYX"}
    tifffile.imwrite(path, volume, compression=compression, metadata=metadata, **flags)
    assert open_image(path).array.shape == volume.shape
    restated(path, kind, stated)
    with pytest.raises(DataError, match=rf"\b{stated}\b.* sections.*copy it again") as error:
        open_image(path)
    assert "8" in str(error.value).removeprefix(path.name)


@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("stated", [5, 8, 12])
def test_imagej_with_a_header_for_each_section(tmp_path, volume, compression, stated):
    description = f"ImageJ=1.54f\nimages={stated}\nslices={stated}\nunit=nm\nspacing=50\n"
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        for z, section in enumerate(volume):
            writer.write(
                section,
                metadata=None,
                contiguous=False,
                compression=compression,
                description=description if z == 0 else None,
            )
    if stated == 8:
        np.testing.assert_array_equal(open_image(tmp_path / "a.tif").array[:], volume)
        return
    with pytest.raises(DataError, match=f"says that it holds {stated} sections, but it holds 8:"):
        open_image(tmp_path / "a.tif")


@pytest.mark.parametrize("stated", [5, 8, 12])
def test_imagej_with_one_header_for_all_sections(tmp_path, volume, stated):
    """As ImageJ writes stacks above 4 GiB."""
    path = tmp_path / "a.tif"
    description = f"ImageJ=1.54f\nimages={stated}\nslices={stated}\n"
    tifffile.imwrite(path, volume[0], metadata=None, description=description)
    path.write_bytes(path.read_bytes() + volume[1:].tobytes())
    if stated == 8:
        np.testing.assert_array_equal(open_image(path).array[:], volume)
        return
    with pytest.raises(DataError, match=f"says that it holds {stated} sections, but it holds 8:"):
        open_image(path)


def test_a_lost_file_of_an_ome_series_is_named(tmp_path, volume):
    ids = [f"urn:uuid:{uuid.UUID(int=number)}" for number in range(2)]
    planes = "".join(
        f'<TiffData IFD="{z % 4}" FirstZ="{z}" FirstC="0" FirstT="0" PlaneCount="1">'
        f'<UUID FileName="part{z // 4}.ome.tif">{ids[z // 4]}</UUID></TiffData>'
        for z in range(8)
    )
    for part in range(2):
        xml = (
            '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" '
            f'UUID="{ids[part]}"><Image ID="Image:0"><Pixels ID="Pixels:0" Type="uint8" '
            'DimensionOrder="XYZCT" SizeX="50" SizeY="40" SizeZ="8" SizeC="1" SizeT="1">'
            f'<Channel ID="Channel:0:0" SamplesPerPixel="1"/>{planes}</Pixels></Image></OME>'
        )
        with tifffile.TiffWriter(tmp_path / f"part{part}.ome.tif") as writer:
            for z in range(4):
                writer.write(
                    volume[part * 4 + z],
                    metadata=None,
                    contiguous=False,
                    description=xml if z == 0 else None,
                )
    np.testing.assert_array_equal(open_image(tmp_path / "part1.ome.tif").array[:], volume)
    (tmp_path / "part1.ome.tif").unlink()
    with pytest.raises(DataError) as error:
        open_image(tmp_path / "part0.ome.tif")
    assert str(error.value) == (
        "part0.ome.tif says that it holds 8 sections, but 4 of them are there: put part1.ome.tif "
        "back beside it."
    )


@pytest.mark.parametrize("options", [{}, {"compression": "zlib"}, {"contiguous": True}])
def test_sections_that_a_loop_has_written_are_all_read(tmp_path, volume, options):
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        for section in volume:
            writer.write(section, **options)
    np.testing.assert_array_equal(open_image(tmp_path / "a.tif").array[:], volume)


# tifffile samples the pages 0, 1, 7 and the last of a longer stack.
PAGES = 12


@pytest.mark.parametrize("other", [0, 3, 7, 11])
@pytest.mark.parametrize("imagej", [False, True])
def test_sections_may_be_compressed_in_different_ways(tmp_path, other, imagej):
    stack = np.random.default_rng(1).integers(0, 255, (PAGES, 20, 30), np.uint8)
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        for z, section in enumerate(stack):
            writer.write(
                section,
                metadata=None,
                compression="lzw" if z == other else "zlib",
                description=f"ImageJ=1.54f\nimages={PAGES}\n" if imagej and z == 0 else None,
            )
    array = open_image(tmp_path / "a.tif").array
    np.testing.assert_array_equal(array[:], stack)
    np.testing.assert_array_equal(array[2:7, 3:9, ::2], stack[2:7, 3:9, ::2])


@pytest.mark.parametrize("other", [0, 3, 11])
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_sections_of_different_types_are_called_so(tmp_path, other, compression):
    stack = np.random.default_rng(1).integers(0, 255, (PAGES, 20, 30), np.uint8)
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        for z, section in enumerate(stack):
            dtype = np.uint16 if z == other else np.uint8
            writer.write(section.astype(dtype), metadata=None, compression=compression)
    with pytest.raises(DataError, match=r"different type \(uint16 and uint8\).*number of bits"):
        open_image(tmp_path / "a.tif")


def test_several_stacks_in_one_file_are_refused(tmp_path, volume):
    for suffix in (".tif", ".ome.tif"):
        with tifffile.TiffWriter(tmp_path / f"a{suffix}") as writer:
            writer.write(volume)
            writer.write(volume)
    with pytest.raises(DataError, match=r"2 stacks \(of 8 and 8 sections\)"):
        open_image(tmp_path / "a.tif")
    with pytest.raises(DataError, match=r"2 images, the first of 8 x 40 x 50"):
        open_image(tmp_path / "a.ome.tif")


def test_sections_that_were_never_written_are_not_black(tmp_path, volume):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, volume, compression="zlib", metadata=None)
    with tifffile.TiffFile(path, mode="r+") as file:
        file.pages[5].tags["StripByteCounts"].overwrite([0])
    with pytest.raises(DataError, match="sections without voxels"):
        open_image(path)


@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("index", [(..., None), (None, ..., None), (0, ..., None)])
def test_a_single_channel_may_be_the_last_axis(tmp_path, volume, index, compression):
    """As the arrays of deep learning have it."""
    stack = volume[index]
    tifffile.imwrite(tmp_path / "a.tif", stack, photometric="minisblack", compression=compression)
    array = open_image(tmp_path / "a.tif").array
    np.testing.assert_array_equal(array[:], volume[:1] if index[0] == 0 else volume)


# ---------------------------------------------------------------- colours that are none


@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("count", [3, 4])
def test_few_sections_written_by_python_are_sections(tmp_path, volume, count, compression):
    """tifffile tags them as the planes of a colour image."""
    # tifffile announces that a future version will not; files written so far remain.
    with pytest.warns(DeprecationWarning, match="stored as RGB"):
        tifffile.imwrite(tmp_path / "a.tif", volume[:count], compression=compression)
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        assert file.pages.first.photometric == tifffile.PHOTOMETRIC.RGB
    stored = open_image(tmp_path / "a.tif")
    np.testing.assert_array_equal(stored.array[:], volume[:count])
    assert stored.notices == (f"The {count} colour planes of a.tif are read as {count} sections.",)


@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("sections", [1, 5])
def test_grey_values_saved_as_colours_are_grey_values(tmp_path, volume, sections, compression):
    grey = volume[:sections] if sections > 1 else volume[0]
    colours = np.stack([grey] * 3, axis=-1)
    tifffile.imwrite(tmp_path / "a.tif", colours, photometric="rgb", compression=compression)
    array = open_image(tmp_path / "a.tif").array
    np.testing.assert_array_equal(array[:], volume[:sections])
    np.testing.assert_array_equal(array[0, 3:20:2, ::-1], volume[0, 3:20:2, ::-1])
    # One pixel of another section: it is found when it is read.
    colours.reshape(sections, 40, 50, 3)[0, 7, 7, 1] ^= 1
    tifffile.imwrite(tmp_path / "b.tif", colours, photometric="rgb", compression=compression)
    with pytest.raises(DataError, match=r"b\.tif is a colour image: convert it to grey values"):
        open_image(tmp_path / "b.tif").array[0]


def test_channels_that_may_be_sections_have_a_remedy_for_both(tmp_path, volume):
    tifffile.imwrite(tmp_path / "a.tif", volume[:3], imagej=True, metadata={"axes": "CYX"})
    with pytest.raises(DataError, match=r"3 channels.*channel=0', or, .*Fiji"):
        open_image(tmp_path / "a.tif")
    tifffile.imwrite(tmp_path / "b.tif", volume, imagej=True, metadata={"axes": "TYX"})
    stored = open_image(tmp_path / "b.tif")
    assert stored.array.shape == volume.shape
    assert stored.notices == ("The 8 time points of b.tif are read as sections.",)
