"""The journal vouches for tiles that are on disk, and for no others."""

import json

import numpy as np
import pytest

from napari_emda.data.box import Box
from napari_emda.project.run_folder import RunFolder
from napari_emda.project.stored_prediction import StoredPrediction

HEAD = {"model": "400", "tiles": 12, "uncertainty": True, "z_smoothing": 0.1}
SHAPE = (2, 3, 40, 50)
CLASSES = ("background", "mitochondria", "ER")


@pytest.fixture
def prediction(tmp_path):
    return StoredPrediction(RunFolder(tmp_path), "target")


def begin(prediction, head=HEAD):
    return prediction.begin(head, SHAPE, classes=CLASSES, uncertainty=True)


def test_what_was_done_is_done(prediction):
    assert begin(prediction) == set()
    box = Box((1, 0, 0), (2, 40, 50))
    values = np.random.default_rng(0).integers(0, 127, (2, *box.shape)).astype(np.uint8)
    prediction.writer(uncertainty=True)(box, values, values[0])
    for index in range(12):
        assert not prediction.complete("400", uncertainty=True)
        prediction.tile_done(index)
    assert prediction.complete("400", uncertainty=True)
    assert not prediction.complete("500")
    np.testing.assert_array_equal(prediction.probabilities[(slice(None), *box.slices)], values)
    np.testing.assert_array_equal(prediction.uncertainty[box.slices], values[0])
    assert prediction.probabilities.attrs["classes"] == list(CLASSES)
    assert begin(prediction) == set(range(12))


def test_a_torn_line_does_not_run_into_the_next(prediction):
    begin(prediction)
    prediction.tile_done(3)
    with prediction.journal.open("a") as file:
        file.write("1")  # the crash came before "0\n"
    assert begin(prediction) == {3}
    prediction.tile_done(1)
    assert begin(prediction) == {1, 3}


@pytest.mark.parametrize("line", ["12", "99999999999999999999", "-1", "1.0", "one", "²"])
def test_tiles_that_there_are_not_do_not_count(prediction, line):
    begin(prediction)
    for index in range(11):
        prediction.tile_done(index)
    with prediction.journal.open("a", encoding="utf-8") as file:
        file.write(f"{line}\n")
    assert not prediction.complete("400")


@pytest.mark.parametrize(
    "head", ["", "5", "[]", "null", "{}", '{"model": "400"}', '{"model": "400", "tiles": null}']
)
def test_a_journal_without_a_head_vouches_for_nothing(prediction, head):
    begin(prediction)
    prediction.journal.write_text(head + "\n" + "\n".join(map(str, range(12))) + "\n")
    assert not prediction.complete("400")
    assert begin(prediction) == set()


def test_the_journal_of_the_version_before_still_counts(prediction):
    begin(prediction)
    head = {key: value for key, value in HEAD.items() if key != "z_smoothing"}
    lines = [json.dumps({**head, "neighbours": 0.1}), *map(str, range(12))]
    prediction.journal.write_text("\n".join(lines) + "\n")
    assert prediction.complete("400", uncertainty=True)
    assert begin(prediction) == set(range(12))


def test_an_array_that_was_deleted_is_not_vouched_for(prediction, tmp_path):
    begin(prediction)
    for index in range(12):
        prediction.tile_done(index)
    (tmp_path / "uncertainty.zarr" / "target" / "zarr.json").unlink()
    assert not prediction.complete("400")


def test_another_measure_of_uncertainty_is_named(prediction):
    begin(prediction)
    assert prediction.measure == ""
    prediction.begin_uncertainty(SHAPE[1:], "bald")[...] = 7
    assert prediction.measure == "bald"
    assert (prediction.uncertainty[...] == 7).all()
