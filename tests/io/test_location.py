"""One image of several in a file: channels, times, scenes and paths."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile

from napari_emda.io.identity import image_identity
from napari_emda.io.location import Part, located
from napari_emda.io.read import open_image
from napari_emda.io.reader import volume_name
from tests.io.opening import SIZES, append, refused, same

# ---------------------------------------------------------------- TIFF


@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("axes", ["TZCYX", "TCZYX", "ZCYX", "CZYX", "TZYX"])
def test_channels_and_times_of_tiff(tmp_path, compression, axes):
    sizes = {"T": 2 if "T" in axes else 1, "Z": 4, "C": 3 if "C" in axes else 1}
    full = np.arange(2 * 4 * 3 * 6 * 7, dtype=np.uint16).reshape(2, 4, 3, 6, 7)
    full = full[: sizes["T"], :, : sizes["C"]]
    left = [axis for axis in "TZCYX" if axis in axes]
    missing = tuple(number for number, axis in enumerate("TZCYX") if axis not in axes)
    values = np.squeeze(full, missing).transpose([left.index(axis) for axis in axes])
    path = tmp_path / "a.ome.tif"
    tifffile.imwrite(path, values, metadata={"axes": axes}, compression=compression)
    text = refused(path)
    assert ("time=0" in text, "channel=0" in text) == ("T" in axes, "C" in axes)
    channel = sizes["C"] - 1
    time = sizes["T"] - 1
    choice = "&".join([f"time={time}"] * ("T" in axes) + [f"channel={channel}"] * ("C" in axes))
    stored = open_image(tmp_path / f"a.ome.tif?{choice}")
    expected = full[time, :, channel]
    np.testing.assert_array_equal(stored.array[:], expected)
    np.testing.assert_array_equal(stored.array[3:0:-2, 2:5, 1:], expected[3:0:-2, 2:5, 1:])


def test_a_channel_of_few_and_a_scene(tmp_path, volume):
    tifffile.imwrite(tmp_path / "c.tif", volume[:2], imagej=True, metadata={"axes": "CYX"})
    np.testing.assert_array_equal(open_image(tmp_path / "c.tif?channel=1").array[:], volume[1:2])
    with tifffile.TiffWriter(tmp_path / "s.ome.tif", ome=True) as file:
        for number, unit in enumerate(("nm", "um")):
            metadata = {"axes": "ZYX", "PhysicalSizeX": 4.0, "PhysicalSizeY": 4.5}
            metadata |= {f"PhysicalSize{axis}Unit": unit for axis in "XYZ"} | {"PhysicalSizeZ": 50}
            file.write(volume + number, photometric="minisblack", metadata=metadata)
    assert "as in 's.ome.tif?scene=0'" in refused(tmp_path / "s.ome.tif")
    same(tmp_path / "s.ome.tif?scene=0", volume, SIZES)
    same(tmp_path / "s.ome.tif?scene=1", volume + 1, tuple(1000 * size for size in SIZES))
    assert "has the scenes 0 to 1, and 2 is none" in refused(tmp_path / "s.ome.tif?scene=2")
    assert "has no 'level' to choose" in refused(tmp_path / "s.ome.tif?scene=1&level=0")


# ---------------------------------------------------------------- parts


def test_names_that_look_like_parts_are_files(tmp_path, volume):
    tifffile.imwrite(tmp_path / "a?channel=1", volume)
    assert located(tmp_path / "a?channel=1").part == Part()
    (tmp_path / "a:b").mkdir()
    np.save(tmp_path / "a:b" / "c.npy", volume)
    same(tmp_path / "a:b" / "c.npy", volume)
    np.save(tmp_path / "a:b" / "d.npy", np.stack([volume, volume]))
    same(tmp_path / "a:b" / "d.npy?axis0=1", volume)
    missing = tmp_path / "missing.h5:/raw"
    assert refused(missing).startswith(f"{missing} does not exist")
    assert "chooses 'channel' twice" in refused(tmp_path / "x.npy?channel=1&c=2")


def test_volumes_are_named_after_their_part(tmp_path, volume):
    append(tmp_path / "sample.h5", **{"volumes/raw": volume})
    assert volume_name(tmp_path / "sample.h5:/volumes/raw") == "sample_raw"
    np.save(tmp_path / "a.npy", volume)
    assert volume_name(tmp_path / "a.npy?channel=1&time=2") == "a_channel1_time2"


def test_parts_of_one_file_have_identities_of_their_own(tmp_path, volume):
    append(tmp_path / "a.h5", raw=volume, other=volume)
    whole = image_identity(tmp_path / "a.h5")
    raw = image_identity(tmp_path / "a.h5:/raw")
    assert raw == {**whole, "part": ":/raw"}
    assert raw != image_identity(tmp_path / "a.h5:/other")
    append(tmp_path / "a.h5", more=volume)
    assert raw["hash"] != image_identity(tmp_path / "a.h5:/raw")["hash"]
