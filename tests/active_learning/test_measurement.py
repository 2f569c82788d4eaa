"""Only what holds candidates is predicted and measured."""

from __future__ import annotations

import numpy as np
import pytest

from napari_emda.active_learning.candidates import Candidates
from napari_emda.active_learning.patch_features import patch_features, windows_of
from napari_emda.active_learning.strategy import strategies
from napari_emda.active_learning.suggest import suggest
from napari_emda.data.box import Box
from napari_emda.data.volume import Volume
from napari_emda.data.voxel_grid import VoxelGrid
from napari_emda.events import Notice, TileDone
from napari_emda.project.run_folder import RunFolder
from napari_emda.project.stored_prediction import StoredPrediction
from napari_emda.settings.suggestion import QuerySettings
from tests.contracts.test_strategy_contract import model

SHAPE = (9, 1100, 1200)


@pytest.fixture(scope="module")
def large():
    image = np.random.default_rng(0).integers(0, 256, SHAPE).astype(np.uint8)
    return Volume("t", image, "target", VoxelGrid((50.0, 4.0, 4.0)))


def asked(target, folder, name, **values):
    """The events of a suggestion, and what is predicted afterwards."""
    cls = strategies[name]
    settings = QuerySettings.parse(
        {"strategy": name, "patch": 128, "count": 3, "device": "cpu", **values}
    )
    strategy = cls(cls.Settings.parse({"samples": 2} if name == "bald" else {}))
    events = list(suggest(model(0), target, strategy, settings, RunFolder(folder), []))
    return events, StoredPrediction(RunFolder(folder), "t")


def test_of_a_large_volume_only_a_sample_is_predicted_and_said(large, tmp_path):
    events, stored = asked(large, tmp_path, "entropy", voxels=1)
    boxes = [Box.parse(region["box"], SHAPE) for region in events[-1].regions]
    assert len(boxes) == 3
    assert all(stored.complete({}, box=box) for box in boxes)
    tiles = [Box.from_bounds(event.box) for event in events if isinstance(event, TileDone)]
    predicted = stored.predicted.inside(Box.whole(SHAPE)).sum()
    assert predicted == sum(tile.size for tile in tiles) <= 10**6
    (notice,) = [event.text for event in events if isinstance(event, Notice)]
    assert "are ranked, in squares of 512 pixels spread evenly over all sections: raise" in notice
    # The same again asks the network nothing.
    again, _ = asked(large, tmp_path, "entropy", voxels=1)
    assert not any(isinstance(event, TileDone) for event in again)
    assert again[-1] == events[-1]


def test_where_the_candidates_lie_in_a_box_only_that_is_predicted(large, tmp_path):
    _, stored = asked(large, tmp_path, "entropy", box="4:5,600:900,0:300")
    inside = np.zeros(SHAPE, bool)
    inside[4, 512:1024, :512] = True
    np.testing.assert_array_equal(stored.predicted.inside(Box.whole(SHAPE)), inside)


def test_what_is_measured_of_a_part_does_not_take_the_place_of_the_entropy(large, tmp_path):
    box = "4:5,600:760,0:160"
    _, stored = asked(large, tmp_path, "entropy", box=box)
    before = stored.uncertainty[4]
    asked(large, tmp_path, "bald", box=box)
    assert stored.measure == ""
    np.testing.assert_array_equal(stored.uncertainty[4], before)


def test_the_share_that_is_done_never_falls(large, tmp_path):
    """Coverage first asks for a prediction, then for embeddings."""
    events, _ = asked(large, tmp_path, "coverage", box="3:4,600:760,0:160")
    shares = [event.done / event.total for event in events if isinstance(event, TileDone)]
    assert len(shares) > 1
    assert shares == sorted(shares)
    assert shares[-1] == 1


@pytest.mark.parametrize("name", ["random", "bald", "core_set"])
def test_nothing_is_predicted_for_strategies_that_ask_for_no_entropy(name, large, tmp_path):
    asked(large, tmp_path, name, box="4:5,600:760,0:160")
    assert not (tmp_path / "probabilities.zarr").exists()


def test_features_are_measured_in_blocks_with_windows_only(large):
    candidates = Candidates.of(SHAPE, 128, box="2:4,0:140,1050:1200")
    features = patch_features(
        model(0),
        large,
        windows_of(candidates, []),
        uncertainty=lambda outputs: outputs.probabilities[:, 0],
        embeddings=True,
        seed=0,
    )
    tiles = [Box.from_bounds(event.box) for event in features]
    assert sum(tile.size for tile in tiles) == 2 * 512 * (1200 - 1024)
