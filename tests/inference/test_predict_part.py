"""Parts of a volume: only what is asked for is predicted, and it is known what is not."""

from __future__ import annotations

import json
from unittest.mock import patch

import numpy as np
import pytest
import torch

from napari_emda.data.box import Box
from napari_emda.data.coverage import Coverage
from napari_emda.events import TileDone
from napari_emda.inference.predict import part_around, predict
from napari_emda.inference.predictor import outputs_smoothed_along_z
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


@pytest.mark.parametrize(("pixel_size", "make"), [(4.0, Identity), (6.0, unet)])
def test_smoothed_along_z_a_part_is_as_in_the_whole(pixel_size, make, tmp_path):
    image = normal((6, 640, 560))
    model = predictor(make(), pixel_size=pixel_size)
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


# -- empty blocks ----------------------------------------------------------------------------------


def emptied(shape=(5, 1100, 600)):
    """An image, and the chunks in which it is constant: a section, a column and an island."""
    image = normal(shape) + 1
    empty = np.zeros((shape[0], 3, 2), bool)
    empty[1] = empty[:, 1, 1] = empty[3:, 0, 0] = True
    for z, row, column in np.argwhere(empty):
        chunk = (z, slice(512 * row, 512 * row + 512), slice(512 * column, 512 * column + 512))
        image[chunk] = 2.5 + z
    # A constant part of a chunk is none.
    image[0, :512, :300] = 7
    return image, empty


def voxels(empty, shape):
    return empty.repeat(512, 1).repeat(512, 2)[:, : shape[1], : shape[2]]


@pytest.mark.parametrize("pixel_size", [4.0, 2.9, 6.5])
@pytest.mark.parametrize("values", [{}, {"block": 512}, {"memory": 0.15}])
def test_empty_chunks_are_background_and_no_network_is_asked(values, pixel_size, tmp_path):
    image, empty = emptied()
    model = predictor(Identity(), pixel_size=pixel_size)
    with patch.object(model, "outputs", wraps=model.outputs) as outputs:
        probabilities, uncertainty, _ = predicted(model, volume(image), tmp_path, **values)
    background = voxels(empty, image.shape)
    assert not probabilities[0][background].any()
    assert not uncertainty[background].any()
    # Identity predicts a foreground of 0.92 of what is constant but not a whole chunk.
    assert probabilities[0, 0, 20:500, 20:280].min() > 230
    assert (probabilities[0] > 0)[~background].mean() > 0.95
    if values.get("block") == 512 and pixel_size == 4:
        assert len(outputs.call_args_list) == (~empty).sum()


@pytest.mark.parametrize("pixel_size", [4.0, 2.9])
def test_which_chunks_are_empty_does_not_depend_on_the_blocks(pixel_size, tmp_path):
    image, _ = emptied((2, 1100, 600))
    model = predictor(Identity(), pixel_size=pixel_size)
    plans = [{"block": 768}, {"memory": 0.3}, {"block": 128}]
    first, *others = (
        predicted(model, volume(image), tmp_path / str(number), **plan)[0].astype(int)
        for number, plan in enumerate(plans)
    )
    for other in others:
        assert np.abs(first - other).max() <= 1
        np.testing.assert_array_equal(first == 0, other == 0)


@pytest.mark.parametrize("block", [0, 512])
def test_beside_an_empty_section_smoothing_sees_what_the_network_says_of_it(block, tmp_path):
    """Zeros in the empty section would pull the sections beside it to the background."""
    image = normal((6, 40, 48))
    image[2] = image[3] = 0.5
    model = predictor(unet())
    model.header = model.header.model_copy(update={"z_smoothing": 0.2})
    stored, *_ = predicted(model, volume(image), tmp_path, memory=0.05, block=block)
    whole = model.outputs(torch.from_numpy(image)[:, None], "source")
    expected = np.round(255 * outputs_smoothed_along_z(whole, 2, 0.2)[:, 1].detach().numpy())
    expected[2:4] = 0
    assert np.abs(stored[0] - expected).max() <= 1


def test_a_few_voxels_at_the_edge_are_not_empty_by_chance(tmp_path):
    image = normal((1, 513, 520))
    image[0, 512:, 512:] = 3
    probabilities, *_ = predicted(predictor(Identity()), volume(image), tmp_path)
    assert probabilities[0, 0, 512, 512:].min() > 230


def test_the_journal_says_which_blocks_are_empty(target, tmp_path):
    image = normal((3, 600, 500))
    image[1] = 4
    predicted(predictor(Identity()), volume(image), tmp_path, block=512)
    stored = StoredPrediction(RunFolder(tmp_path), "v")
    lines = [json.loads(line) for line in stored.journal.read_text().splitlines()[1:]]
    boxes = [Box.from_bounds(ends) for line in lines for ends in line.get("empty", [])]
    assert {box.in_sections(1, 2) for box in boxes} == set(boxes)
    assert sum(box.size for box in boxes) == 600 * 500
    assert stored.predicted.is_all


def test_clusters_have_no_background_to_be_taken_for(tmp_path):
    model = predictor(Identity())
    model.header = model.header.model_copy(update={"method": "iic"})
    probabilities, *_ = predicted(model, volume(np.full((1, 40, 40), 3.0)), tmp_path)
    assert probabilities.min() > 230
