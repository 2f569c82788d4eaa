"""Chunks read and written in the calling thread hold the same values and files as those of zarr."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from zarr.codecs import BloscCodec, BytesCodec, GzipCodec, ZstdCodec

from napari_emda.io.chunk_files import ChunkFiles

SHAPE = (3, 37, 50)
CHUNKS = (1, 16, 20)
PLAIN = {
    "zstd": {"compressors": ZstdCodec(level=1)},
    "blosc": {"compressors": BloscCodec()},
    "gzip": {"compressors": GzipCodec()},
    "version 2": {"zarr_format": 2},
}
OTHER = {
    "uncompressed": {"compressors": None},
    "shards": {"shards": (1, 32, 40)},
    "big-endian": {"serializer": BytesCodec(endian="big")},
    "version 2, uncompressed": {"zarr_format": 2, "compressors": None},
}


def values(dtype="uint16"):
    return np.random.default_rng(0).integers(0, 200, SHAPE).astype(dtype)


def create_array(path, dtype="uint16", **options):
    return zarr.create_array(path, shape=SHAPE, chunks=CHUNKS, dtype=dtype, **options)


def files(folder):
    return {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize("kind", [*PLAIN, *OTHER])
def test_any_slices_give_the_stored_values(kind, dtype, tmp_path):
    expected = values(dtype)
    create_array(tmp_path / "a", dtype, **(PLAIN | OTHER)[kind])[:] = expected
    chunk_files = ChunkFiles(zarr.open_array(tmp_path / "a", mode="r"))
    keys = [
        (slice(0, 3), slice(0, 37), slice(0, 50)),
        (slice(1, 2), slice(5, 33), slice(19, 21)),
        (1, slice(5, 33), slice(None)),
        (slice(0, 3, 2), slice(5, 33), slice(0, 9)),
        (-1, slice(30, 99), slice(-7, None)),
        (slice(1, 1), slice(4, 2), slice(0, 9)),
        2,
        ...,
    ]
    for key in keys:
        np.testing.assert_array_equal(chunk_files[key], expected[key])
        assert chunk_files[key].dtype == expected.dtype
    assert (chunk_files.shape, chunk_files.dtype, chunk_files.chunks) == (
        SHAPE,
        np.dtype(dtype),
        CHUNKS,
    )


@pytest.mark.parametrize("kind", PLAIN)
def test_plain_chunks_do_without_zarr(kind, tmp_path, monkeypatch):
    create_array(tmp_path / "a", "uint8", **PLAIN[kind])[:] = values("uint8")
    chunk_files = ChunkFiles(zarr.open_array(tmp_path / "a", mode="r"))
    monkeypatch.setattr(zarr.Array, "__getitem__", None)
    np.testing.assert_array_equal(chunk_files[1:3, 3:20, :], values("uint8")[1:3, 3:20])


def test_missing_chunks_have_the_fill_value(tmp_path):
    array = create_array(tmp_path / "a", fill_value=7)
    array[0, :16, :20] = 1
    box = ChunkFiles(array)[0:1, 10:20, 10:30]
    np.testing.assert_array_equal(box, array[0:1, 10:20, 10:30])
    assert set(box.ravel().tolist()) == {1, 7}


@settings(max_examples=15, deadline=None)
@given(cuts=st.lists(st.integers(1, 36), max_size=3), data=st.data())
def test_boxes_written_by_several_threads_make_the_files_of_zarr(tmp_path_factory, cuts, data):
    folder = tmp_path_factory.mktemp("written")
    expected = values("uint8")
    expected[0] = 0  # zarr writes no file for an empty chunk
    create_array(folder / "zarr", "uint8", compressors=ZstdCodec(level=1))[:] = expected
    array = create_array(folder / "ours", "uint8", compressors=ZstdCodec(level=1))
    chunk_files = ChunkFiles(array)
    rows = sorted({0, 37, *cuts})
    columns = sorted({0, 50, *data.draw(st.lists(st.integers(1, 49), max_size=3))})
    boxes = [
        (slice(0, 3), slice(a, b), slice(c, d))
        for a, b in pairwise(rows)
        for c, d in pairwise(columns)
    ]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda box: chunk_files.write(box, expected[box]), boxes))
    np.testing.assert_array_equal(array[:], expected)
    assert files(folder / "ours") == files(folder / "zarr")


@pytest.mark.parametrize("kind", [*PLAIN, *OTHER])
def test_boxes_are_written_however_the_array_is_stored(kind, tmp_path):
    array = create_array(tmp_path / "a", **(PLAIN | OTHER)[kind])
    expected = values()
    chunk_files = ChunkFiles(array)
    for z in range(3):
        chunk_files.write((slice(z, z + 1), slice(0, 37), slice(0, 50)), expected[z : z + 1])
    np.testing.assert_array_equal(array[:], expected)


def test_a_chunk_that_becomes_empty_is_removed(tmp_path):
    array = create_array(tmp_path / "a", compressors=ZstdCodec(level=1))
    array[:] = values()
    ChunkFiles(array).write((slice(0, 1), slice(0, 16), slice(0, 20)), np.zeros((1, 16, 20), "u2"))
    assert not (tmp_path / "a" / "c" / "0" / "0" / "0").exists()
    assert not array[0, :16, :20].any()
    np.testing.assert_array_equal(array[0, 16:], values()[0, 16:])
