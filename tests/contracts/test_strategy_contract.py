"""What every query strategy keeps, whoever wrote it."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
import zarr

from napari_emda.active_learning.candidates import Candidates, Pool
from napari_emda.active_learning.strategy import Strategy, strategies
from napari_emda.active_learning.suggest import choose, suggest
from napari_emda.data.box import Box
from napari_emda.data.volume import Volume
from napari_emda.data.voxel_grid import VoxelGrid
from napari_emda.errors import SettingsError
from napari_emda.events import Notice, Suggested
from napari_emda.inference.device import Compute
from napari_emda.inference.model_header import ModelHeader
from napari_emda.inference.predictor import Predictor
from napari_emda.nn.networks.unet import UNet
from napari_emda.nn.normalisation import norms
from napari_emda.project.run_folder import RunFolder
from napari_emda.settings.suggestion import QuerySettings

NAMES = strategies.names()
VARIANTS = [(name, {}) for name in NAMES] + [("disagreement", {"between": "rounds"})]
LOTTERY = {"random", "k_means"}
"""What these choose depends on the order of the candidates by way of the lot."""
SIZES = [((1, 32, 32), 32), ((1, 40, 50), 16), ((4, 48, 64), 32)]


@pytest.fixture(
    params=VARIANTS, ids=["-".join([name, *map(str, own.values())]) for name, own in VARIANTS]
)
def strategy(request):
    name, own = request.param
    cls = strategies[name]
    own = {**own, **({"samples": 3} if "samples" in cls.Settings.model_fields else {})}
    return cls(cls.Settings.parse(own))


def model(seed):
    torch.manual_seed(seed)
    network = UNet(2, UNet.Settings(base_channels=8, depth=3, dropout=0.25))
    for layer in norms(network):
        layer.running_mean.normal_(0, 0.1)
    header = ModelHeader(
        method="source_only",
        classes=("background", "a"),
        network={"classes": 2},
        pixel_size=4.0,
    )
    return Predictor(network, header, Compute(torch.device("cpu"), bf16=False))


@pytest.fixture(scope="module")
def models():
    return model(0), model(1)


def suggested(models, strategy, folder, shape, patch, *, excluded=(), **values):
    image = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    target = Volume("t", image, "target", VoxelGrid((50.0, 4.0, 4.0)))
    settings = QuerySettings.parse(
        {"strategy": strategy.name, "patch": patch, "device": "cpu", **values}
    )
    *events, last = suggest(
        models[0], target, strategy, settings, RunFolder(folder), list(excluded), models[1]
    )
    assert isinstance(last, Suggested)
    notices = [event.text for event in events if isinstance(event, Notice)]
    return [(Box.parse(region["box"], shape), region["score"]) for region in last.regions], notices


def synthetic(n, *, seed=0, dimensions=6, unknown=(), count=5, annotated=3):
    """A pool of n patches side by side, none in another's way, with invented measurements."""
    noise = np.random.default_rng(seed)
    starts = np.stack([np.zeros(n), np.zeros(n), 16 * np.arange(n)], axis=1).astype(np.int64)
    uncertainty = noise.random(n)
    uncertainty[list(unknown)] = np.nan
    points = noise.normal(size=(n + annotated, dimensions)).astype(np.float32)
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    return {
        "candidates": Candidates(starts, 16, n),
        "count": count,
        "uncertainty": uncertainty,
        "embeddings": points[:n],
        "annotated": points[n:],
    }


def chosen(strategy, given, **values):
    return [index for index, _ in choose(strategy, Pool(**given, **values))]


def test_it_introduces_itself_in_a_sentence(strategy):
    first = " ".join(type(strategy).__doc__.split("\n\n")[0].split())
    assert first.endswith(".")
    assert strategies[strategy.name] is type(strategy)
    assert isinstance(strategy, Strategy)


@pytest.mark.parametrize(("shape", "patch"), SIZES)
def test_one_patch_and_all_of_them_also_of_one_section_and_one_patch(
    models, strategy, shape, patch, tmp_path
):
    one, notices = suggested(models, strategy, tmp_path, shape, patch, count=1)
    assert len(one) == 1
    assert notices == []
    every, notices = suggested(
        models, strategy, tmp_path, shape, patch, count=100, section_distance=0
    )
    assert len(notices) == 1
    free = Candidates.of(shape, patch)
    for box, _ in every:
        free = Candidates(free.starts[~free.near(box)], patch, 0)
    assert len(free) == 0


def test_picks_do_not_overlap_keep_their_distance_and_leave_out_the_annotated(
    models, strategy, tmp_path
):
    done = [Box((0, 0, 0), (1, 32, 40)), Box((2, 16, 0), (4, 48, 16))]
    picks, _ = suggested(
        models, strategy, tmp_path, (6, 48, 64), 16, excluded=done, count=6, section_distance=2
    )
    assert len(picks) == 6
    assert np.isfinite([score for _, score in picks]).all()
    boxes = [box for box, _ in picks]
    assert not any(box.overlaps(other) for box in boxes for other in done)
    for (z, *low), (w, *other) in itertools.combinations([box.start for box in boxes], 2):
        assert abs(z - w) > 2 or any(abs(a - b) >= 16 for a, b in zip(low, other, strict=True))


def test_the_seed_decides(models, strategy, tmp_path):
    one, again = (
        suggested(models, strategy, tmp_path / str(i), (3, 48, 48), 16, seed=1)[0] for i in range(2)
    )
    assert one == again


def test_it_chooses_what_it_is_to_choose_whatever_their_order(strategy):
    """Permutation-fair: other positions in the list, same patches; by lot, every position as often as the others."""
    if strategy.name in LOTTERY:
        first = [
            chosen(strategy, synthetic(8, seed=seed, count=1), seed=seed)[0] for seed in range(320)
        ]
        assert (
            sum((first.count(i) - 40) ** 2 / 40 for i in range(8)) < 26
        )  # chi-square, 7 degrees: p = 0.0005
        return
    given, order = synthetic(40), np.random.default_rng(1).permutation(40)
    shuffled = {
        **given,
        "candidates": Candidates(given["candidates"].starts[order], 16, 40),
        "uncertainty": given["uncertainty"][order],
        "embeddings": given["embeddings"][order],
    }
    assert [order[i] for i in chosen(strategy, shuffled, seed=5)] == chosen(strategy, given, seed=6)


def test_where_all_are_alike_the_lot_decides(strategy):
    alike = {
        "uncertainty": np.full(6, 0.5),
        "embeddings": np.ones((6, 2), np.float32),
        "annotated": None,
    }
    given = {**synthetic(6, count=1), **alike}
    assert {chosen(strategy, given, seed=seed)[0] for seed in range(60)} == set(range(6))


def test_it_requires_the_model_that_it_asks(strategy):
    measures = type(strategy).uncertainty is not Strategy.uncertainty or strategy.needs_entropy
    asks = "classes" if measures else "features" if strategy.needs_embeddings else "none"
    assert strategy.requirements.model == asks


def test_what_is_not_known_is_never_picked(strategy):
    measures = type(strategy).uncertainty is not Strategy.uncertainty or strategy.needs_entropy
    picks = chosen(strategy, synthetic(12, unknown=[0, 3, 11], count=12))
    assert sorted(picks) == [i for i in range(12) if not measures or i not in (0, 3, 11)]


def test_what_the_network_cannot_describe_is_never_picked(strategy):
    given = synthetic(12, count=12)
    given["embeddings"][[2, 7]] = np.nan
    given["annotated"][1] = np.nan
    assert sorted(chosen(strategy, given)) == [i for i in range(12) if i not in (2, 7)]


def test_nothing_is_asked_for_where_all_is_annotated(models, strategy, tmp_path):
    picks, notices = suggested(
        models, strategy, tmp_path, (2, 32, 32), 16, excluded=[Box.whole((2, 32, 32))]
    )
    assert picks == []
    assert len(notices) == 1


def test_all_can_be_asked_for(strategy):
    assert sorted(chosen(strategy, synthetic(9, count=9))) == list(range(9))
    assert sorted(chosen(strategy, synthetic(9, count=9, annotated=0))) == list(range(9))


def test_its_map_lies_where_the_dock_looks_for_it(models, strategy, tmp_path):
    suggested(models, strategy, tmp_path, (2, 48, 40), 16)
    if strategy.requirements.model == "none":
        return
    stored = zarr.open_array(tmp_path / "uncertainty.zarr" / "t", mode="r")
    measures = type(strategy).uncertainty is not Strategy.uncertainty
    assert stored.attrs.get("measure", "entropy") == (strategy.name if measures else "entropy")
    assert stored.shape == (2, 48, 40)
    assert np.asarray(stored[:]).std() > 0
    assert zarr.open_array(tmp_path / "probabilities.zarr" / "t", mode="r").shape == (1, 2, 48, 40)


def test_its_settings_are_checked(strategy):
    with pytest.raises(SettingsError, match="There is no setting"):
        type(strategy).Settings.parse({"no_such_setting": 1})
