"""Limits of what a file may ask for: shapes, numbers in headers, pixel sizes, chunks."""

from __future__ import annotations

import gzip
import json
import math
import os
import sys

import numpy as np
import pytest
import zarr
from numcodecs import Blosc, GZip, Zstd
from pydantic import ValidationError
from safetensors.torch import load_file, save_file
from zarr.codecs import BloscCodec, GzipCodec, ZstdCodec

from napari_emda.data.box import Box
from napari_emda.data.resampled import Resampled
from napari_emda.data.volume import Volume
from napari_emda.data.voxel_grid import VoxelGrid
from napari_emda.errors import DataError, JobError
from napari_emda.inference import checkpoint
from napari_emda.inference.model_header import ModelHeader
from napari_emda.io.chunk_files import ChunkFiles
from napari_emda.io.read import open_image
from napari_emda.io.unfolding import unfolded
from napari_emda.project.project import Project
from napari_emda.project.run_folder import RunFolder
from napari_emda.project.stored_prediction import StoredPrediction
from napari_emda.training.loop import fit

# -- shapes ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(4, 95, 96), (4, 97, 96), (3, 96, 96), (96, 96), (1, 4, 96, 96)])
def test_annotations_of_another_shape_are_refused(project, shape):
    folder = project.folder / "annotations"
    zarr.create_array(folder / "target.zarr", shape=shape, dtype="uint8", chunks=shape)
    with pytest.raises(DataError, match="annotations of 'target'"):
        project.volumes.open("target")
    with pytest.raises(DataError, match="annotations of 'target'"):
        project.annotations.require("target")


def test_annotations_of_another_type_are_refused(project):
    folder = project.folder / "annotations"
    zarr.create_array(folder / "target.zarr", shape=(4, 96, 96), dtype="float32")
    with pytest.raises(DataError, match="numbers of classes"):
        project.volumes.open("target")


def test_a_patch_outside_of_the_image_is_refused(project):
    region = project.regions.suggest(
        [{"volume": "target", "box": "0:1,80:112,0:32", "score": 1.0}], "random", ""
    )[0]
    with pytest.raises(DataError, match="does not lie in 'target'"):
        project.annotations.accept(region)


DAMAGED = [b"", bytes(64), b"{", b"null", b"[]", b"{}", b'{"zarr_format": 3}', b"\xff" * 9]


@pytest.mark.parametrize("text", DAMAGED)
def test_annotations_that_cannot_be_opened_are_one_sentence(project, text):
    project.annotations.require("target")
    (project.folder / "annotations" / "target.zarr" / "zarr.json").write_bytes(text)
    for call in (project.annotations.open, project.volumes.open):
        with pytest.raises(DataError, match=r"is damaged .*: mend it with 'napari-emda check"):
            call("target")


@pytest.mark.parametrize("text", DAMAGED)
@pytest.mark.parametrize("place", ["probabilities.zarr", "probabilities.zarr/target"])
def test_a_prediction_that_cannot_be_opened_is_made_again(tmp_path, place, text):
    run = RunFolder(tmp_path / "run")
    run.path.mkdir()
    stored = StoredPrediction(run, "target")
    header = {"model": "1", "uncertainty": False, "shape": [4, 96, 96]}
    for changed in (header, header | {"model": "2"}):
        stored.begin(changed, (1, 4, 96, 96), classes=("background", "x"), uncertainty=False)
        assert stored.probabilities.shape == (1, 4, 96, 96)
        (run.path / place / "zarr.json").write_bytes(text)


@pytest.mark.parametrize("shape", [(1, 4, 96, 95), (1, 5, 96, 96), (4, 96, 96)])
def test_a_prediction_of_another_shape_is_made_again(tmp_path, shape):
    run = RunFolder(tmp_path / "run")
    run.path.mkdir()
    stored = StoredPrediction(run, "target")
    header = {"model": "1", "uncertainty": False, "shape": [4, 96, 96]}
    whole = (1, 4, 96, 96)
    stored.begin(header, whole, classes=("background", "x"), uncertainty=False)
    with stored.recording():
        stored.box_done(Box.whole(whole[1:]))
    assert stored.complete({"model": "1", "shape": [*whole[1:]]})
    # The image has changed, or the array has.
    assert not stored.complete({"model": "1", "shape": [*(4, 96, 97)]})
    zarr.create_array(run.probabilities("target"), shape=shape, dtype="uint8", overwrite=True)
    assert not stored.complete({"model": "1", "shape": [*whole[1:]]})
    done = stored.begin(header, whole, classes=("background", "x"), uncertainty=False)
    assert done.share == 0
    assert stored.probabilities.shape == whole


# -- headers ---------------------------------------------------------------------------------------

HEADER = {
    "method": "source_only",
    "classes": ("background", "x"),
    "network": {"classes": 2},
    "pixel_size": 8.0,
}


@pytest.mark.parametrize(
    "change",
    [{"pixel_size": value} for value in (0, -1, 1e300, 1e-9, math.nan, math.inf)]
    + [{"step": -5}, {"step": 2**40}, {"selected": (-1,)}]
    + [{"z_smoothing": value} for value in (-0.1, 0.5, 5, math.nan)]
    + [{"classes": ("x",)}, {"classes": tuple(map(str, range(300)))}, {"classes": ("a", "\x1b[2J")}]
    + [{"network": {"classes": value}} for value in (0, 10**9)]
    + [{"network": {"classes": 2, "channels": 10**9}}]
    + [
        {"statistics": {"target": {"mean": mean, "std": std, "quantiles": (0.0,)}}}
        for mean, std in ((math.nan, 1.0), (0.0, 0.0), (0.0, math.inf))
    ],
)
def test_nonsense_in_the_header_of_a_model_is_refused(change):
    assert ModelHeader.model_validate(HEADER)
    with pytest.raises(ValidationError):
        ModelHeader.model_validate(HEADER | change)


@pytest.fixture
def model(make_training, source, tmp_path):
    """The file of a model of one step."""
    training = make_training([source], tmp_path / "run", steps=1)
    list(fit(training))
    return training.folder.checkpoint


def rewritten(path, change):
    from safetensors import safe_open

    with safe_open(path, "pt") as file:
        values = json.loads(file.metadata()["napari_emda"])
    change(values)
    save_file(load_file(path), path, {"napari_emda": json.dumps(values)})


def test_a_header_may_not_ask_for_more_weights_than_the_file_holds(model):
    assert checkpoint.load_method(model)
    network = {"base_channels": 64, "depth": 5}
    rewritten(model, lambda values: values["model"]["network"]["settings"].update(network))
    with pytest.raises(JobError, match="describes a network of"):
        checkpoint.load_method(model)


def test_counting_the_weights_of_a_model_does_not_load_torch_s_compiler(model, monkeypatch):
    # Importing it takes a second, before each prediction.
    monkeypatch.setitem(sys.modules, "torch._dynamo", None)
    assert checkpoint.load_method(model)


@pytest.mark.parametrize("version", [-1, 0, True, "3", None, 1.5])
def test_a_model_of_no_format_is_refused(model, version):
    rewritten(model, lambda values: values.update(format=version))
    with pytest.raises(JobError, match="not a model of napari-emda"):
        checkpoint.read_header(model)


# -- pixel sizes -----------------------------------------------------------------------------------


@pytest.mark.parametrize("pixel_size", [1e-3, 1e-9, 1e-4])
def test_a_pixel_size_that_takes_too_much_memory_is_refused(source, pixel_size):
    with pytest.raises(DataError, match="GiB: choose a pixel size near 8"):
        Resampled(source, pixel_size)


def test_a_large_image_may_be_enlarged_to_twice_its_sides():
    # An array with the shape of a large section, and the memory of one number.
    image = np.broadcast_to(np.uint8(0), (1, 30_000, 30_000))
    volume = Volume("large", image, "target", VoxelGrid((50, 4, 4)))
    assert Resampled(volume, 2.0).shape == (1, 60_000, 60_000)
    with pytest.raises(DataError, match="GiB"):
        Resampled(volume, 1.0)


# -- chunks ----------------------------------------------------------------------------------------

CODECS = {
    "zstd": (ZstdCodec(), Zstd()),
    "blosc": (BloscCodec(typesize=1), Blosc()),
    "gzip": (GzipCodec(), GZip()),
}


@pytest.mark.parametrize("name", CODECS)
@pytest.mark.parametrize("size", [0, 1, 255, 256, 4095, 4097, 2**20, 2**24])
def test_a_chunk_that_unfolds_to_more_than_it_should_is_not_unfolded(tmp_path, name, size):
    compressor, codec = CODECS[name]
    array = zarr.create_array(
        tmp_path / "a", shape=(1, 64, 64), dtype="uint8", chunks=(1, 64, 64), compressors=compressor
    )
    array[:] = np.random.default_rng(0).integers(1, 255, (1, 64, 64), np.uint8)
    assert np.array_equal(ChunkFiles(array)[0, 0:64, 0:64], array[0])
    (tmp_path / "a" / "c" / "0" / "0" / "0").write_bytes(codec.encode(bytes(size)))
    with pytest.raises(ValueError, match="a chunk"):
        ChunkFiles(array)[0, 0:64, 0:64]


@pytest.mark.parametrize("size", [0, 1, 255, 256, 300, 65_535, 65_792, 70_000, 2**20])
@pytest.mark.parametrize("name", CODECS)
def test_a_chunk_of_the_right_size_is_unfolded(name, size):
    _, codec = CODECS[name]
    values = np.random.default_rng(0).bytes(size)
    # Neither decodes what is empty, and no chunk is.
    if not size and name != "gzip":
        return
    assert bytes(unfolded(codec.encode(values), codec, size)) == values


def test_a_gzip_of_two_members_is_no_way_around(tmp_path):
    with pytest.raises(ValueError, match="a chunk"):
        unfolded(gzip.compress(bytes(10)) + gzip.compress(bytes(10**6)), GZip(), 20)


def frame_without_size(value, size):
    """A Zstandard frame (RFC 8878) of one value that does not state its size."""
    header = b"\x28\xb5\x2f\xfd\x00" + bytes([(17 - 10) << 3])  # a window of 128 KiB
    blocks = []
    while size:
        part = min(size, 2**17)
        size -= part
        # A block of one repeated byte; the lowest bit marks the last one.
        blocks.append((part << 3 | 1 << 1 | (not size)).to_bytes(3, "little") + bytes([value]))
    return header + b"".join(blocks)


@pytest.mark.parametrize("value", [0, 1, 7])
def test_a_frame_that_states_no_size_is_unfolded_and_bounded(value):
    size = 2**18 + 5
    assert bytes(unfolded(frame_without_size(value, size), Zstd(), size)) == bytes([value]) * size
    # The last one has 4 GiB in 128 KiB.
    for other in (size - 1, size + 1, 2**32):
        with pytest.raises(RuntimeError, match="decompress"):
            unfolded(frame_without_size(value, other), Zstd(), size)


def test_a_chunk_s_file_beyond_all_sizes_is_not_read(tmp_path):
    array = zarr.create_array(tmp_path / "a", shape=(1, 8, 8), dtype="uint8", chunks=(1, 8, 8))
    array[:] = 1
    os.truncate(tmp_path / "a" / "c" / "0" / "0" / "0", 2**34)
    with pytest.raises(ValueError, match="a chunk of"):
        ChunkFiles(array)[0, 0:8, 0:8]


def test_a_pipe_in_an_image_keeps_nobody_waiting(tmp_path):
    image = tmp_path / "image.zarr"
    image.mkdir()
    os.mkfifo(image / "zarr.json")
    with pytest.raises((DataError, JobError), match="neither a file nor a folder"):
        open_image(image)


def test_an_image_may_be_reached_by_links(tmp_path):
    zarr.create_array(tmp_path / "a.zarr", data=np.ones((2, 8, 8), np.uint8))
    (tmp_path / "linked.zarr").mkdir()
    for path in (tmp_path / "a.zarr").iterdir():
        (tmp_path / "linked.zarr" / path.name).symlink_to(path)
    assert open_image(tmp_path / "linked.zarr").array[0].all()


def test_projects_that_were_made_before_still_open(project):
    with Project.open(project.folder) as again:
        assert again.volumes.open("target").shape == (4, 96, 96)
