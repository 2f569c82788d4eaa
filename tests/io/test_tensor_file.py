"""Headers of models that lie are refused with an error that says so."""

from __future__ import annotations

import json

import numpy as np
import pytest
from safetensors.numpy import save_file

from napari_emda.io.tensor_file import read_tensor_header


def test_a_header_is_read_as_safetensors_wrote_it(tmp_path):
    path = tmp_path / "model.safetensors"
    save_file({"a": np.zeros((3, 4), np.float32)}, path, metadata={"key": "value"})
    header = read_tensor_header(path)
    assert header.metadata == {"key": "value"}
    assert header.whole
    path.write_bytes(path.read_bytes()[:-1])
    assert not read_tensor_header(path).whole


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
