"""The contract of readers; every registered reader is tested."""

from __future__ import annotations

import tracemalloc
from importlib import import_module

import numpy as np
import pytest
import tifffile
import zarr
from PIL import Image

from napari_emda import registry
from napari_emda.errors import DataError
from napari_emda.io.read import open_image, open_labels
from napari_emda.io.reader import all_readers, reader_of, readers

VOLUME = np.random.default_rng(0).integers(0, 256, (5, 40, 30), np.uint8)


def tiff(folder, volume):
    tifffile.imwrite(folder / "a.tif", volume, photometric="minisblack")
    return folder / "a.tif", volume


def ome_zarr(folder, volume):
    zarr.save_array(folder / "a.zarr", volume)
    return folder / "a.zarr", volume


def pictures(folder, volume):
    Image.fromarray(volume[0]).save(folder / "a.png")
    return folder / "a.png", volume[:1]


def sections(folder, volume):
    (folder / "a").mkdir()
    for number, section in enumerate(volume):
        Image.fromarray(section).save(folder / "a" / f"{number}.png")
    return folder / "a", volume


EXAMPLES = {"tiff": tiff, "ome_zarr": ome_zarr, "pictures": pictures, "sections": sections}


def test_every_reader_has_an_example():
    assert set(EXAMPLES) == set(readers.names())


@pytest.mark.parametrize("name", readers.names())
def test_a_reader_has_a_docstring_formats_and_suffixes(name):
    reader = readers[name]
    assert reader.formats
    assert reader.__doc__
    assert all(suffix.startswith(".") and suffix.islower() for suffix in reader.suffixes)


@pytest.mark.parametrize("name", readers.names())
def test_a_reader_opens_its_example(name, tmp_path):
    path, expected = EXAMPLES[name](tmp_path, VOLUME)
    assert reader_of(path) is readers[name]
    for opened in (open_image(path), open_labels(path)):
        assert opened.array.shape == expected.shape
        assert opened.array.dtype == expected.dtype
        np.testing.assert_array_equal(np.asarray(opened.array[:]), expected)
        np.testing.assert_array_equal(
            np.asarray(opened.array[-1:, 3:20:2, 5:9]), expected[-1:, 3:20:2, 5:9]
        )


@pytest.mark.parametrize("name", readers.names())
def test_opening_reads_no_voxels(name, tmp_path):
    """A volume of four MiB opens in less than one."""
    volume = np.random.default_rng(0).integers(0, 256, (4, 1024, 1024), np.uint8)
    path, _ = EXAMPLES[name](tmp_path, volume)
    open_image(path)  # so that imports are not measured
    tracemalloc.start()
    open_image(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**20


@pytest.mark.parametrize("name", [name for name in readers.names() if readers[name].suffixes])
def test_damaged_files_raise_a_data_error(name, tmp_path):
    path, _ = EXAMPLES[name](tmp_path, VOLUME)
    content = path.read_bytes()
    for damaged in (b"", b"nothing", content[: len(content) // 2]):
        path.write_bytes(damaged)
        with pytest.raises(DataError, match=path.name):
            np.asarray(open_image(path).array[:])


def test_the_error_for_unknown_files_lists_all_formats(tmp_path):
    (tmp_path / "a.doc").write_bytes(b"?")
    with pytest.raises(DataError) as error:
        open_image(tmp_path / "a.doc")
    for reader in all_readers():
        for name in reader.formats:
            assert name in str(error.value)


NPY = '''
import numpy as np
from napari_emda.io.reader import Reader, readers
from napari_emda.io.units import Stored

@readers.register("npy")
class Npy(Reader):
    """NumPy arrays."""
    formats = ("NPY",)
    suffixes = (".npy",)
    sections = True

    @classmethod
    def open(cls, path):
        array = np.load(path, mmap_mode="r", allow_pickle=False)
        return Stored(array.reshape((-1, *array.shape[-2:])))
'''


def test_a_reader_of_another_package_is_one_file(tmp_path, monkeypatch):
    class Entry:
        name = "npy"
        value = "npy_reader"

        def load(self):
            return import_module("npy_reader")

    (tmp_path / "npy_reader.py").write_text(NPY)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(registry, "entry_points", lambda group: [Entry()])
    monkeypatch.setattr(readers, "_complete", False)
    monkeypatch.setattr(readers, "_entries", dict(readers._entries))
    np.save(tmp_path / "a.npy", VOLUME)
    np.testing.assert_array_equal(np.asarray(open_image(tmp_path / "a.npy").array[:]), VOLUME)
    for damaged in (b"", b"no array"):
        (tmp_path / "a.npy").write_bytes(damaged)
        with pytest.raises(DataError, match=r"a\.npy cannot be read as NPY"):
            open_image(tmp_path / "a.npy")
    (tmp_path / "many").mkdir()
    for number, section in enumerate(VOLUME):
        np.save(tmp_path / "many" / f"{number}.npy", section)
    np.testing.assert_array_equal(np.asarray(open_image(tmp_path / "many").array[:]), VOLUME)
    (tmp_path / "a.doc").write_bytes(b"?")
    with pytest.raises(DataError, match="NPY"):
        open_image(tmp_path / "a.doc")
