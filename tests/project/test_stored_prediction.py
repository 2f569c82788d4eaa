"""The journal of a prediction lists the tiles that are on disk, and no others."""

import json

import numpy as np
import pytest

from napari_emda.data.box import Box
from napari_emda.project.run_folder import RunFolder
from napari_emda.project.stored_prediction import StoredPrediction

HEADER = {"model": "400", "tiles": 12, "uncertainty": True, "z_smoothing": 0.1}
SHAPE = (2, 3, 40, 50)
CLASSES = ("background", "mitochondria", "ER")


@pytest.fixture
def prediction(tmp_path):
    return StoredPrediction(RunFolder(tmp_path), "target")


def done(prediction, *tiles):
    with prediction.recording():
        for tile in tiles:
            prediction.tile_done(tile)


def begin(prediction, header=HEADER):
    return prediction.begin(header, SHAPE, classes=CLASSES, uncertainty=True)


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
        file.write("1")  # a crash, before "0\n" of tile 10
    assert begin(prediction) == {3}
    done(prediction, 1)
    assert begin(prediction) == {1, 3}


@pytest.mark.parametrize("line", ["12", "99999999999999999999", "-1", "1.0", "one", "²"])
def test_lines_that_are_no_tile_are_not_counted(prediction, line):
    begin(prediction)
    done(prediction, *range(11))
    with prediction.journal.open("a", encoding="utf-8") as file:
        file.write(f"{line}\n")
    assert not prediction.complete({"model": "400"})


@pytest.mark.parametrize(
    "header", ["", "5", "[]", "null", "{}", '{"model": "400"}', '{"model": "400", "tiles": null}']
)
def test_a_journal_with_an_invalid_header_lists_nothing(prediction, header):
    begin(prediction)
    prediction.journal.write_text(header + "\n" + "\n".join(map(str, range(12))) + "\n")
    assert not prediction.complete({"model": "400"})
    assert begin(prediction) == set()


def test_a_journal_of_the_first_version_is_read(prediction):
    begin(prediction)
    header = {key: value for key, value in HEADER.items() if key != "z_smoothing"}
    lines = [json.dumps({**header, "neighbours": 0.1}), *map(str, range(12))]
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
