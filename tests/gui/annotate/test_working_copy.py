"""Annotations under the brush: always what is on disk, and there at once."""

import numpy as np
import pytest
import zarr

from napari_emda._gui.annotate.draft import Draft
from napari_emda._gui.annotate.working_copy import WorkingCopy

SHAPE = (3, 50, 70)


@pytest.fixture
def stored(tmp_path):
    return zarr.create_array(
        tmp_path / "a.zarr", shape=SHAPE, dtype="uint8", chunks=(1, 16, 16), fill_value=0
    )


def test_it_reads_and_writes_as_an_array_does_and_all_is_on_disk_at_once(stored, noise):
    copy = WorkingCopy(stored)
    expected = np.zeros(SHAPE, np.uint8)
    for _ in range(60):
        start = [int(noise.integers(0, n)) for n in SHAPE]
        key = tuple(
            slice(a, int(noise.integers(a, n + 1))) for a, n in zip(start, SHAPE, strict=True)
        )
        values = noise.integers(0, 4, expected[key].shape).astype(np.uint8)
        copy[key] = expected[key] = values
        assert np.array_equal(stored[:], expected)
        other = tuple(slice(int(noise.integers(0, n)), n) for n in SHAPE)
        assert np.array_equal(copy[other], expected[other])
    points = tuple(noise.integers(0, n, 9) for n in SHAPE)
    copy[points] = expected[points] = 5
    assert np.array_equal(copy[points], expected[points])
    assert np.array_equal(copy[:, ::2, :], expected[:, ::2, :])
    assert np.array_equal(stored[:], expected)


def test_a_stroke_is_written_when_it_ends(stored, noise):
    copy = WorkingCopy(stored)
    expected = np.zeros(SHAPE, np.uint8)
    copy.in_stroke = True
    for x in range(12):
        dab = (slice(1, 2), slice(10, 20), slice(10 + x, 20 + x))
        copy[dab] = expected[dab] = 2
        assert np.array_equal(copy[dab], expected[dab])
    assert not stored[:].any()
    # Reading what lies partly in memory shows the stroke all the same.
    assert np.array_equal(copy[1:2, :, :], expected[1:2])
    copy[1:2, 40:50, 60:70] = expected[1:2, 40:50, 60:70] = 3
    copy.in_stroke = False
    assert np.array_equal(stored[:], expected)


def test_what_a_full_disk_has_not_taken_is_written_the_next_time(stored, monkeypatch):
    copy = WorkingCopy(stored)
    with monkeypatch.context() as patch:
        patch.setattr(zarr.Array, "__setitem__", lambda *_: (_ for _ in ()).throw(OSError(28, "")))
        with pytest.raises(OSError):
            copy[0:1, 0:20, 0:20] = 2
    assert copy[0:1, 19:20, 0:20].all()
    copy.forget()
    assert (stored[0, :20, :20] == 2).all()


def test_writes_of_others_are_read_after_forget(stored):
    copy = WorkingCopy(stored)
    copy[0:1, 0:2, 0:2] = 1
    stored[0, 5, 5] = 3
    copy.forget()
    copy[0:1, 9:10, 9:10] = 2
    assert (stored[0, 0, 0], stored[0, 5, 5], stored[0, 9, 9]) == (1, 3, 2)


def test_only_the_first_dab_of_a_stroke_reads_from_disk(stored, monkeypatch):
    draft = Draft(WorkingCopy(stored))
    reads = []
    plain = zarr.Array.__getitem__
    monkeypatch.setattr(
        zarr.Array, "__getitem__", lambda self, key: reads.append(key) or plain(self, key)
    )
    for x in range(4):
        assert draft[0].dtype == np.uint8  # as napari asks
        dab = (slice(1, 2), slice(20, 23), slice(20 + x, 23 + x))
        draft[dab] = np.maximum(draft[dab], 2)
    assert len(reads) <= 3
    assert np.count_nonzero(plain(stored, slice(None))) == 3 * 6
