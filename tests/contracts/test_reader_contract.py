"""The contract of readers; every registered reader is tested."""

from __future__ import annotations

import tracemalloc
import zipfile
from importlib import import_module

import h5py
import mrcfile
import nibabel
import nrrd as pynrrd
import numpy as np
import pytest
import tensorstore
import tifffile
import zarr
from PIL import Image

from napari_emda import registry
from napari_emda.errors import DataError, EmdaError
from napari_emda.io.read import open_image, open_labels
from napari_emda.io.reader import all_readers, reader_of, readers
from tests.io.czi_file import write_czi
from tests.io.dm_file import write_dm
from tests.io.lif_file import write_lif

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


def hdf5(folder, volume):
    with h5py.File(folder / "a.h5", "w") as file:
        file.create_dataset("raw", data=volume, compression="gzip", chunks=(1, 16, 16))
    return folder / "a.h5", volume


def mrc(folder, volume):
    with mrcfile.new(folder / "a.mrc") as file:
        file.set_data(volume.astype(np.int16))
    return folder / "a.mrc", volume.astype(np.int16)


def nrrd(folder, volume):
    pynrrd.write(str(folder / "a.nrrd"), volume, {"encoding": "raw"}, index_order="C")
    return folder / "a.nrrd", volume


def nifti(folder, volume):
    nibabel.Nifti1Image(volume.T, np.eye(4)).to_filename(folder / "a.nii")
    return folder / "a.nii", volume


def npy(folder, volume):
    np.save(folder / "a.npy", volume)
    return folder / "a.npy", volume


def created(driver, path, volume, **options):
    """An array that tensorstore has written, with x as its first axis."""
    values = volume.T[..., None] if driver == "neuroglancer_precomputed" else volume.T
    spec = {"driver": driver, "kvstore": {"driver": "file", "path": str(path)}, **options}
    tensorstore.open(spec, create=True).result()[...] = values
    return path


def n5(folder, volume):
    metadata = {"dataType": volume.dtype.name, "dimensions": volume.shape[::-1]}
    metadata |= {"blockSize": [16, 16, 1], "compression": {"type": "gzip"}}
    return created("n5", folder / "a.n5", volume, metadata=metadata), volume


def precomputed(folder, volume):
    scale = {"size": volume.shape[::-1], "encoding": "raw", "resolution": [4, 4, 50]}
    scale["chunk_size"] = [16, 16, 1]
    info = {"data_type": volume.dtype.name, "num_channels": 1, "type": "image"}
    options = {"multiscale_metadata": info, "scale_metadata": scale}
    return created("neuroglancer_precomputed", folder / "a", volume, **options), volume


def lif(folder, volume):
    return write_lif(folder / "a.lif", {"one": (volume, "zyx")}), volume


def czi(folder, volume):
    return write_czi(folder / "a.czi", volume[None]), volume


def dm(folder, volume):
    return write_dm(folder / "a.dm4", [volume]), volume


EXAMPLES = {
    "tiff": tiff,
    "ome_zarr": ome_zarr,
    "pictures": pictures,
    "sections": sections,
    "hdf5": hdf5,
    "mrc": mrc,
    "nrrd": nrrd,
    "nifti": nifti,
    "npy": npy,
    "n5": n5,
    "precomputed": precomputed,
    "lif": lif,
    "dm": dm,
    "czi": czi,
}


def as_file(folder, path):
    """The example, of which a folder is packed."""
    if path.is_file():
        return path
    with zipfile.ZipFile(folder / "a.zarr.zip", "w") as file:
        for entry in path.rglob("*"):
            file.write(entry, entry.relative_to(path))
    return folder / "a.zarr.zip"


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
    """A volume of two MiB opens in less than one."""
    volume = np.random.default_rng(0).integers(0, 256, (2, 1024, 1024), np.uint8)
    path, _ = EXAMPLES[name](tmp_path, volume)
    open_image(path)  # so that imports are not measured
    tracemalloc.start()
    open_image(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**20


@pytest.mark.parametrize("name", [name for name in readers.names() if readers[name].suffixes])
def test_damaged_files_raise_a_data_error(name, tmp_path):
    path = as_file(tmp_path, EXAMPLES[name](tmp_path, VOLUME)[0])
    assert reader_of(path) is readers[name]
    content = path.read_bytes()
    for damaged in (b"", b"nothing", content[: len(content) // 2]):
        path.write_bytes(damaged)
        with pytest.raises(DataError, match=path.name):
            np.asarray(open_image(path).array[:])


@pytest.mark.parametrize("name", readers.names())
def test_changed_bytes_are_read_or_refused(name, tmp_path):
    """Whatever a file holds, it ends in values or in a sentence."""
    path, _ = EXAMPLES[name](tmp_path, VOLUME)
    files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
    # The files that describe an image come first: zarr.json, attributes.json, info.
    files.sort(key=lambda file: (len(file.relative_to(tmp_path).parts), -len(file.suffix)))
    rng = np.random.default_rng(0)
    refused = 0
    for count in range(40):
        file = files[0] if count % 2 else files[rng.integers(len(files))]
        content = file.read_bytes()
        changed = bytearray(content)
        # Most of what can lie is at the beginning.
        for place in rng.integers(0, min(len(content), 600), rng.integers(1, 6)):
            changed[place] = rng.integers(0, 256)
        if count % 3 == 0:
            cut = rng.integers(0, len(changed))
            del changed[cut : cut + rng.integers(1, 30)]
        file.write_bytes(changed)
        try:
            np.asarray(open_image(path).array[:2])
        except EmdaError:
            refused += 1
        file.write_bytes(content)
    assert refused


@pytest.mark.parametrize("name", [name for name in readers.names() if readers[name].library])
def test_a_library_that_is_not_installed_is_named(name, tmp_path, monkeypatch):
    path, _ = EXAMPLES[name](tmp_path, VOLUME)
    monkeypatch.setattr("napari_emda.io.reader.find_spec", lambda library: None)
    library = readers[name].library
    with pytest.raises(DataError, match=rf"{library}: install it with .*napari-emda\[formats\]"):
        open_image(path)


def test_the_error_for_unknown_files_lists_all_formats(tmp_path):
    (tmp_path / "a.doc").write_bytes(b"?")
    with pytest.raises(DataError) as error:
        open_image(tmp_path / "a.doc")
    for reader in all_readers():
        for name in reader.formats:
            assert name in str(error.value)


PLAIN = '''
import numpy as np
from napari_emda.io.reader import Reader, readers
from napari_emda.io.units import Stored

@readers.register("plain")
class Plain(Reader):
    """Square sections of bytes, 8 x 8 each."""
    formats = ("plain bytes",)
    suffixes = (".raw8",)
    sections = True

    @classmethod
    def open(cls, path):
        return Stored(np.memmap(path, np.uint8, "r").reshape(-1, 8, 8))
'''


def test_a_reader_of_another_package_is_one_file(tmp_path, monkeypatch):
    class Entry:
        name = "plain"
        value = "plain_reader"

        def load(self):
            return import_module("plain_reader")

    (tmp_path / "plain_reader.py").write_text(PLAIN)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(registry, "entry_points", lambda group: [Entry()])
    monkeypatch.setattr(readers, "_complete", False)
    monkeypatch.setattr(readers, "_entries", dict(readers._entries))
    volume = VOLUME[:, :8, :8]
    volume.tofile(tmp_path / "a.raw8")
    np.testing.assert_array_equal(np.asarray(open_image(tmp_path / "a.raw8").array[:]), volume)
    # It knows nothing of parts, and need not.
    with pytest.raises(DataError, match=r"a\.raw8 is one image, in which '\?channel=0' chooses"):
        open_image(tmp_path / "a.raw8?channel=0")
    for damaged in (b"", b"no array"):
        (tmp_path / "a.raw8").write_bytes(damaged)
        with pytest.raises(DataError, match=r"a\.raw8 cannot be read as plain bytes"):
            open_image(tmp_path / "a.raw8")
    (tmp_path / "many").mkdir()
    for number, section in enumerate(volume):
        section.tofile(tmp_path / "many" / f"{number}.raw8")
    np.testing.assert_array_equal(np.asarray(open_image(tmp_path / "many").array[:]), volume)
    (tmp_path / "a.doc").write_bytes(b"?")
    with pytest.raises(DataError, match="plain bytes"):
        open_image(tmp_path / "a.doc")
