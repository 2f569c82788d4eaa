"""Headers of models that lie are refused with an error that says so."""

from __future__ import annotations

import json

import numpy as np
import pytest
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load_file, save_file

from napari_emda.io.tensor_file import copy_tensors, read_tensor_header


def test_a_header_is_read_as_safetensors_wrote_it(tmp_path):
    path = tmp_path / "model.safetensors"
    save_file({"a": np.zeros((3, 4), np.float32)}, path, metadata={"key": "value"})
    header = read_tensor_header(path)
    assert header.metadata == {"key": "value"}
    assert header.whole
    path.write_bytes(path.read_bytes()[:-1])
    assert not read_tensor_header(path).whole


def test_a_copy_holds_the_wanted_tensors_and_other_metadata(tmp_path, noise):
    tensors = {
        "kept": noise.normal(size=(3, 5)).astype(np.float32),
        "left.out": np.arange(7, dtype=np.int64),
        "zeroed": np.ones(9, np.float16),
        "empty": np.zeros((0, 2), np.uint8),
    }
    source = tmp_path / "model.safetensors"
    copy = tmp_path / "copy.safetensors"
    save_file(tensors, source, metadata={"key": "value"})
    copy_tensors(
        source,
        copy,
        {"other": "é"},
        lambda name: name != "left.out",
        lambda name, entry, content: bytes(len(content)) if name == "zeroed" else content,
    )
    loaded = load_file(copy)
    assert loaded.keys() == {"kept", "zeroed", "empty"}
    np.testing.assert_array_equal(loaded["kept"], tensors["kept"])
    np.testing.assert_array_equal(loaded["zeroed"], np.zeros(9, np.float16))
    with safe_open(copy, "np") as file:
        assert file.metadata() == {"other": "é"}


@pytest.mark.parametrize(
    "entry",
    [
        {"data_offsets": [12, 8]},
        {"data_offsets": [4, 12]},
        {"data_offsets": [8, 20]},
        {"data_offsets": [1e999, 16]},
        {"data_offsets": [True, 16]},
        {"shape": [9]},
        {"shape": [-2, -4]},
        {"shape": [2**70]},
        {"shape": [9] * 10**6},
        {"shape": 8},
        {"shape": None},
        {"dtype": "F32"},
        {"dtype": "x"},
        {"dtype": []},
    ],
)
def test_tensors_that_lie_are_refused_as_by_the_library(tmp_path, entry):
    path = tmp_path / "model.safetensors"
    entries = {
        "a": {"dtype": "U8", "shape": [8], "data_offsets": [0, 8]},
        "b": {"dtype": "U8", "shape": [2, 4], "data_offsets": [8, 16]} | entry,
    }
    header = json.dumps(entries)
    path.write_bytes(len(header).to_bytes(8, "little") + header.encode() + bytes(16))
    with pytest.raises(SafetensorError):
        load_file(path)
    with pytest.raises(ValueError, match="damaged"):
        read_tensor_header(path)


def test_a_copy_of_what_was_cut_short_is_refused(tmp_path):
    source = tmp_path / "model.safetensors"
    save_file({"a": np.zeros(9, np.uint8)}, source)
    source.write_bytes(source.read_bytes()[:-1])
    with pytest.raises(ValueError, match="cut short"):
        copy_tensors(source, tmp_path / "copy", {}, lambda name: True)


@pytest.mark.parametrize(
    "header",
    [
        '{"a": {"data_offsets": [0, 1e999]}}',
        '{"a": {"data_offsets": [0, NaN]}}',
        '{"a": {"data_offsets": []}}',
        '{"a": 1}',
        "[" * 5000,
        json.dumps([1]),
    ],
)
def test_a_header_that_lies_is_damaged(tmp_path, header):
    path = tmp_path / "model.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header.encode())
    with pytest.raises(ValueError, match="damaged"):
        read_tensor_header(path)
