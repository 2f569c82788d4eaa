"""Parts of a volume: only what is asked for is predicted, and it is known what is not."""

from __future__ import annotations

from unittest.mock import patch

import numpy as np
import pytest

from napari_emda.data.box import Box
from napari_emda.data.coverage import Coverage
from napari_emda.events import TileDone
from napari_emda.inference.predict import part_around, predict
from napari_emda.project.run_folder import RunFolder
from napari_emda.project.stored_prediction import CHUNK, StoredPrediction
from napari_emda.settings.prediction import PredictSettings
from tests.inference.test_predict import Identity, normal, predicted, predictor, unet, volume

SHAPE = (3, 1100, 600)
WHOLE = Box.whole(SHAPE)
BOX = Box((1, 500, 100), (3, 530, 520))


@pytest.fixture(scope="module")
def target():
    return volume(normal(SHAPE))


@pytest.fixture(scope="module")
def whole(target, tmp_path_factory):
    return predicted(predictor(Identity()), target, tmp_path_factory.mktemp("whole"))


def parts(model, target, folder, boxes, **values):
    """Predict the parts around some boxes; returns the boxes of the tiles."""
    settings = PredictSettings.parse(values)
    events = predict(model, target, settings, RunFolder(folder), part_around(target, boxes))
    return [Box.from_bounds(event.box) for event in events if isinstance(event, TileDone)]


def chunks_around(box):
    """The chunks that a box touches, as one box of the volume."""
    start = (box.start[0], *(low // CHUNK * CHUNK for low in box.start[1:]))
    stop = (box.stop[0], *(-(-high // CHUNK) * CHUNK for high in box.stop[1:]))
    return Box(start, stop).clip(SHAPE)


@pytest.mark.parametrize("block", [0, 512, 200])
def test_only_the_chunks_of_a_box_are_predicted_and_known(block, target, whole, tmp_path):
    tiles = parts(predictor(Identity()), target, tmp_path, [BOX], block=block)
    around = chunks_around(BOX)
    assert sum(tile.size for tile in tiles) == around.size
    assert all(tile.clip_to(around) == tile for tile in tiles)
    stored = StoredPrediction(RunFolder(tmp_path), "v")
    inside = Coverage.of(SHAPE, [around]).inside(WHOLE)
    np.testing.assert_array_equal(stored.predicted.inside(WHOLE), inside)
    np.testing.assert_array_equal(stored.probabilities[0][inside], whole[0][0][inside])
    np.testing.assert_array_equal(stored.uncertainty[:][inside], whole[1][inside])
    assert not stored.probabilities[0][~inside].any()
    assert not stored.complete({"model": "1"})
    assert stored.complete({"model": "1"}, box=BOX)


def test_what_is_missing_is_predicted_later_and_nothing_twice(target, whole, tmp_path):
    model = predictor(Identity())
    first = parts(model, target, tmp_path, [BOX, Box((0, 0, 0), (1, 10, 10))])
    assert parts(model, target, tmp_path, [BOX]) == []
    rest = parts(model, target, tmp_path, [WHOLE])
    done = Coverage.of(SHAPE, first)
    assert sum(box.size for box in first + rest) == WHOLE.size
    assert not any(done.touches(box) for box in rest)
    np.testing.assert_array_equal(
        StoredPrediction(RunFolder(tmp_path), "v").probabilities[:], whole[0]
    )


def test_another_size_of_block_goes_on_with_what_is_done(target, whole, tmp_path):
    model = predictor(Identity())
    parts(model, target, tmp_path, [BOX], block=100)
    tiles = parts(model, target, tmp_path, [WHOLE], memory=0.2)
    assert sum(tile.size for tile in tiles) == WHOLE.size - chunks_around(BOX).size
    np.testing.assert_array_equal(
        StoredPrediction(RunFolder(tmp_path), "v").probabilities[:], whole[0]
    )


def test_a_stopped_part_goes_on(target, tmp_path):
    model = predictor(Identity())
    settings = PredictSettings(block=128)
    wanted = part_around(target, [BOX])
    events = predict(model, target, settings, RunFolder(tmp_path), wanted)
    first = [next(events) for _ in range(5)]
    events.close()
    rest = list(predict(model, target, settings, RunFolder(tmp_path), wanted))[:-1]
    total = first[0].total
    assert [event.done for event in first + rest] == list(range(1, total + 1))
    assert {event.total for event in first + rest} == {total}
    assert sum(Box.from_bounds(event.box).size for event in first + rest) == chunks_around(BOX).size


@pytest.mark.parametrize("pixel_size", [4.0, 6.0])
def test_smoothed_along_z_a_part_is_as_in_the_whole(pixel_size, tmp_path):
    image = normal((6, 640, 560))
    model = predictor(unet(), pixel_size=pixel_size)
    model.header = model.header.model_copy(update={"z_smoothing": 0.2})
    expected, *_ = predicted(model, volume(image), tmp_path / "whole", block=512)
    box = Box((2, 520, 30), (4, 600, 40))
    boxes = [box, Box((0, 0, 550), (1, 9, 560)), Box((5, 0, 550), (6, 9, 560))]
    with patch.object(model, "outputs", wraps=model.outputs) as outputs:
        tiles = parts(model, volume(image), tmp_path / "part", boxes)
    # Two sections and their neighbours; then the first and the last with a neighbour each.
    assert sum(len(call.args[0]) for call in outputs.call_args_list) == 4 + 2 + 2
    stored = StoredPrediction(RunFolder(tmp_path / "part"), "v").probabilities[:]
    for tile in tiles:
        where = (0, *tile.slices)
        assert np.abs(stored[where].astype(int) - expected[where]).max() <= 1
