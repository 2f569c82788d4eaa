"""What tests of formats share: files compared with what they should hold."""

from __future__ import annotations

import h5py
import numpy as np
import pytest

from napari_emda.errors import DataError
from napari_emda.io.read import open_image

SIZES = (50.0, 4.5, 4.0)
REGION = (slice(1, 4), slice(30, 3, -2), slice(5, 9))
DTYPES = [np.uint8, np.int16, np.uint16, np.float32]


def same(path, expected, sizes=None):
    """Whether a file holds these voxels, as a whole and in part, and states these sizes in nm."""
    stored = open_image(path)
    assert stored.array.shape == expected.shape
    assert stored.array.dtype == expected.dtype
    np.testing.assert_array_equal(stored.array[:], expected)
    np.testing.assert_array_equal(stored.array[REGION], expected[REGION])
    assert stored.nanometres == (None if sizes is None else pytest.approx(sizes))
    return stored


def refused(path, reader=open_image):
    with pytest.raises(DataError) as error:
        np.asarray(reader(path).array[:])
    return str(error.value)


def append(path, **datasets):
    """Add datasets to an HDF5 file."""
    with h5py.File(path, "a") as file:
        for name, values in datasets.items():
            file[name] = values
