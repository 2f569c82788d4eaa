"""The journal of a prediction lists the boxes that are on disk, and no others."""

import json

import numpy as np
import pytest

from napari_emda.data.blocks import blocks
from napari_emda.data.box import Box
from napari_emda.project.run_folder import RunFolder
from napari_emda.project.stored_prediction import StoredPrediction

HEADER = {"model": "400", "uncertainty": True, "z_smoothing": 0.1}
SHAPE = (2, 3, 40, 50)
# Twelve parts of the volume, which cover it.
BOXES = blocks(Box.whole(SHAPE[1:]), (1, 20, 25))
CLASSES = ("background", "mitochondria", "ER")


@pytest.fixture
def prediction(tmp_path):
    return StoredPrediction(RunFolder(tmp_path), "target")


def done(prediction, *numbers):
    with prediction.recording():
        for number in numbers:
            prediction.box_done(BOXES[number], is_empty=number % 2 == 0)


def begin(prediction, header=HEADER):
    """Begin or continue; returns which of the boxes are done."""
    predicted = prediction.begin(header, SHAPE, classes=CLASSES, uncertainty=True, tiles=BOXES)
    return {number for number, box in enumerate(BOXES) if predicted.covers(box)}


def of_an_older_version(prediction, lines, **changed):
    """Write a journal that lists the boxes by their numbers, one a line."""
    plan = {"tiles": 12, "first": [0, 1, 0, 20, 0, 25], "chunk": 512}
    journal = [json.dumps({**HEADER, **plan, **changed}), *map(str, lines)]
    prediction.journal.write_text("\n".join(journal) + "\n")


def test_tiles_that_are_done_are_not_predicted_again(prediction):
    assert begin(prediction) == set()
    box = Box((1, 0, 0), (2, 40, 50))
    values = np.random.default_rng(0).integers(0, 127, (2, *box.shape)).astype(np.uint8)
    prediction.writer(uncertainty=True)(box, values, values[0])
    for index in range(12):
        assert not prediction.complete({"model": "400"}, uncertainty=True)
        done(prediction, index)
    assert prediction.complete({"model": "400"}, uncertainty=True)
    assert not prediction.complete({"model": "500"})
    np.testing.assert_array_equal(prediction.probabilities[(slice(None), *box.slices)], values)
    np.testing.assert_array_equal(prediction.uncertainty[box.slices], values[0])
    assert prediction.probabilities.attrs["classes"] == list(CLASSES)
    assert begin(prediction) == set(range(12))


def test_what_a_killed_prediction_has_left_goes_when_it_goes_on(prediction):
    begin(prediction)
    names = (".zarr-0123abcd-partial.json", "c/0/0/0/.0-0123abcd-partial")
    for array in (prediction.run.probabilities("target"), prediction.run.uncertainty("target")):
        for path in (array.parent / names[0], *(array / name for name in names)):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
    begin(prediction)
    assert not list(prediction.run.path.rglob("*partial*"))
    assert prediction.probabilities.shape == SHAPE


def test_the_next_line_does_not_continue_an_incomplete_one(prediction):
    begin(prediction)
    done(prediction, 3)
    with prediction.journal.open("a") as file:
        file.write('{"boxes":')  # a crash
    assert begin(prediction) == {3}
    done(prediction, 1)
    assert begin(prediction) == {1, 3}


@pytest.mark.parametrize("line", ["12", "99999999999999999999", "-1", "1.0", "one", "²"])
def test_lines_that_are_no_tile_of_an_older_version_are_not_counted(prediction, line):
    begin(prediction)
    of_an_older_version(prediction, range(11))
    with prediction.journal.open("a", encoding="utf-8") as file:
        file.write(f"{line}\n")
    assert not prediction.complete({"model": "400"})
    assert begin(prediction) == set(range(11))


@pytest.mark.parametrize(
    "boxes",
    [
        [[2, 3, 20, 40, 25, 51]],
        [[2, 4, 20, 40, 25, 50]],
        [[-1, 3, 20, 40, 25, 50]],
        [[3, 2, 20, 40, 25, 50]],
        [[2, 3, 20, 40, 25, 10**30]],
        [[2, 3, 20, 40, 25, 50.0]],
        [[2, 3, 20, 40, 25, True]],
        [[2, 3, 20, 40, 25]],
        [2, 3, 20, 40, 25, 50],
        "2:3,20:40,25:50",
        None,
    ],
)
@pytest.mark.parametrize("kind", ["boxes", "empty", "tiles"])
def test_lines_that_are_no_box_of_the_volume_are_not_counted(prediction, kind, boxes):
    begin(prediction)
    done(prediction, *range(11))
    with prediction.journal.open("a") as file:
        file.write(json.dumps({kind: boxes}) + "\n")
    assert not prediction.complete({"model": "400"})
    assert begin(prediction) == set(range(11))


def test_a_forged_journal_does_not_fill_the_memory(tmp_path):
    prediction = StoredPrediction(RunFolder(tmp_path), "target")
    shape = (1, 1000, 2000, 2000)
    prediction.begin({"uncertainty": False}, shape, classes=("a", "b"), uncertainty=False)
    with prediction.recording():
        for i in range(1000):
            prediction.box_done(Box((i, i, i), (i + 1, i + 1, i + 1)))
    assert not prediction.predicted.cells.any()
    assert prediction.predicted.cells.size < 10**6


def test_a_part_is_known_to_be_predicted(prediction):
    begin(prediction)
    done(prediction, 0, 1, 4)
    assert prediction.complete({"model": "400"}, box=Box((0, 0, 0), (1, 20, 50)))
    assert prediction.complete({"model": "400"}, box=Box((1, 3, 3), (2, 4, 25)))
    assert not prediction.complete({"model": "400"}, box=Box((0, 0, 0), (1, 21, 50)))
    assert not prediction.complete({"model": "500"}, box=Box((0, 0, 0), (1, 20, 50)))
    assert prediction.predicted.share == pytest.approx(3 / 12)


@pytest.mark.parametrize(
    "header",
    [
        *("", "5", "[]", "null", "{}", '{"model": "400"}'),
        '{"model": "400", "uncertainty": false, "tiles": null}',
    ],
)
def test_a_journal_with_an_invalid_header_lists_nothing(prediction, header):
    begin(prediction)
    prediction.journal.write_text(header + "\n" + "\n".join(map(str, range(12))) + "\n")
    assert not prediction.complete({"model": "400"})
    assert begin(prediction) == set()


def test_a_journal_of_the_first_version_is_read(prediction):
    begin(prediction)
    header = {key: value for key, value in HEADER.items() if key != "z_smoothing"}
    lines = [json.dumps({**header, "tiles": 12, "neighbours": 0.1}), *map(str, range(12))]
    prediction.journal.write_text("\n".join(lines) + "\n")
    assert prediction.complete({"model": "400"}, uncertainty=True)
    assert begin(prediction) == set(range(12))


def test_a_prediction_with_a_deleted_array_is_not_complete(prediction, tmp_path):
    begin(prediction)
    done(prediction, *range(12))
    (tmp_path / "uncertainty.zarr" / "target" / "zarr.json").unlink()
    assert not prediction.complete({"model": "400"})


def test_another_measure_of_uncertainty_is_named(prediction):
    begin(prediction)
    assert prediction.measure == ""
    prediction.begin_uncertainty(SHAPE[1:], "bald")[...] = 7
    assert prediction.measure == "bald"
    assert (prediction.uncertainty[...] == 7).all()
