"""Units of work: no two of them share a chunk, and any order of them gives the same prediction."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from napari_emda.data.box import Box
from napari_emda.data.resampled import Resampled
from napari_emda.events import TileDone
from napari_emda.inference.predict import part_around, predict
from napari_emda.inference.predict_tiles import predict_tiles
from napari_emda.inference.section_stacks import SectionStacks
from napari_emda.inference.tiles import Tile
from napari_emda.inference.work_units import work_units
from napari_emda.project.run_folder import RunFolder
from napari_emda.project.stored_prediction import CHUNK, StoredPrediction
from napari_emda.settings.prediction import PredictSettings
from tests.inference.test_predict import Identity, normal, predicted, predictor, unet, volume


@pytest.fixture
def threads():
    """Sets the number of torch's threads, until the end of the test."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


class BackwardsWorkers:
    """Units one by one, the last one first, each with writers of its own."""

    def __init__(self, volume, count):
        self._volume = volume
        self.count = count
        self.units = 0

    def predict(self, predictor, prediction, settings, units):
        view = Resampled(self._volume, predictor.header.pixel_size)
        self.units = len(units)
        for unit in reversed(units):
            stored = StoredPrediction(prediction.run, prediction.volume)
            context = predictor.header.context_of(view)
            yield from predict_tiles(predictor, view, unit, settings, context, stored)


@pytest.mark.parametrize(
    ("block", "pixel_size", "smoothing"), [(512, 6.0, 0.2), (200, 4.0, 0.2), (0, 4.0, 0.0)]
)
def test_units_in_any_order_predict_the_same_bytes(block, pixel_size, smoothing, tmp_path, threads):
    # The libraries behind torch choose how to compute by the number of images and of threads.
    target = volume(normal((9, 560, 90)))
    model = predictor(unet(), pixel_size=pixel_size)
    model.header = model.header.model_copy(update={"z_smoothing": smoothing})
    expected, entropy, _ = predicted(model, target, tmp_path / "whole", block=block)
    workers = BackwardsWorkers(target, 2)
    run = RunFolder(tmp_path / "units")
    model.workers = workers
    threads(2)
    events = list(predict(model, target, PredictSettings(block=block), run))
    assert workers.units > 1
    stored = StoredPrediction(run, "v")
    np.testing.assert_array_equal(stored.probabilities[:], expected)
    np.testing.assert_array_equal(stored.uncertainty[:], entropy)
    blocks = [event for event in events if isinstance(event, TileDone)]
    assert [event.done for event in blocks] == list(range(1, len(blocks) + 1))
    assert {event.total for event in blocks} == {len(blocks)}
    assert stored.predicted.is_all


def test_workers_go_on_with_what_one_process_has_left(tmp_path):
    target = volume(normal((9, 560, 40)))
    model = predictor(Identity())
    expected, *_ = predicted(model, target, tmp_path / "whole")
    run = RunFolder(tmp_path / "parts")
    settings = PredictSettings(block=200)
    part = part_around(target, [Box((2, 500, 0), (5, 530, 10))])
    before = predict(model, target, settings, run, part)
    done = [next(before).box for _ in range(4)]
    before.close()
    model.workers = BackwardsWorkers(target, 2)
    rest = predict(model, target, settings, run)
    new = [event.box for event in rest if isinstance(event, TileDone)]
    sizes = [Box.from_bounds(bounds).size for bounds in done + new]
    assert sum(sizes) == 9 * 560 * 40
    np.testing.assert_array_equal(StoredPrediction(run, "v").probabilities[:], expected)


@st.composite
def cut_volumes(draw):
    """A shape, and boxes that cover it once: at chunks, or not."""
    depth = draw(st.integers(1, 40))
    sides = [draw(st.integers(1, 1600)) for _ in range(2)]
    edges = []
    for side in sides:
        step = draw(st.sampled_from([CHUNK, 2 * CHUNK, 300, 176]))
        edges.append([*range(0, side, step), side])
    boxes = []
    for (y0, y1), (x0, x1) in itertools.product(*map(itertools.pairwise, edges)):
        thickness = draw(st.integers(1, 40))
        for z0 in range(0, depth, thickness):
            boxes.append(Box((z0, y0, x0), (min(z0 + thickness, depth), y1, x1)))
    return (depth, *sides), boxes


@given(cut_volumes(), st.integers(1, 8), st.integers(0, 1), st.booleans())
def test_no_two_units_share_a_chunk_and_nothing_is_lost(cut, workers, sections, deep):
    shape, boxes = cut
    stacks = SectionStacks(halo=2) if deep else SectionStacks()
    units = work_units([Tile(box, box) for box in boxes], shape, workers, sections, stacks)
    owner = {}
    for number, unit in enumerate(units):
        for tile in unit:
            z0, z1, y0, y1, x0, x1 = tile.native.bounds
            rows = range(y0 // CHUNK, -(-y1 // CHUNK))
            columns = range(x0 // CHUNK, -(-x1 // CHUNK))
            for chunk in itertools.product(range(z0, z1), rows, columns):
                assert owner.setdefault(chunk, number) == number
            low = tile.seen.start[0]
            high = tile.seen.stop[0]
            assert low <= z0 < z1 <= high
            whole = next(box for box in boxes if box.clip_to(tile.native) == tile.native)
            if tile.native != whole:
                assert low == max(0, z0 - sections)
                assert high == min(shape[0], z1 + sections)
    assert sum(tile.native.size for unit in units for tile in unit) == np.prod(shape)
