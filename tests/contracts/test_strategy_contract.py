"""The contract of query strategies; every registered strategy is tested."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
import zarr

from napari_emda.active_learning.candidates import Candidates, Pool
from napari_emda.active_learning.measurement import candidate_features
from napari_emda.active_learning.strategy import Strategy, strategies
from napari_emda.active_learning.suggest import choose, suggest
from napari_emda.data.box import Box
from napari_emda.data.volume import Volume
from napari_emda.data.voxel_grid import VoxelGrid
from napari_emda.errors import SettingsError
from napari_emda.events import Notice, Suggested, result_of
from napari_emda.inference.device import Compute
from napari_emda.inference.model_header import ModelHeader
from napari_emda.inference.predictor import Predictor
from napari_emda.nn.networks.unet import UNet
from napari_emda.nn.normalisation import norms
from napari_emda.project.run_folder import RunFolder
from napari_emda.settings.suggestion import QuerySettings

NAMES = strategies.names()
VARIANTS = [(name, {}) for name in NAMES] + [("disagreement", {"between": "rounds"})]
# Their random numbers belong to positions in the list, so their choice depends on its order.
ORDER_DEPENDENT = {"random", "k_means"}
SIZES = [((1, 32, 32), 32), ((1, 40, 50), 16), ((4, 48, 64), 32)]


@pytest.fixture(
    params=VARIANTS,
    ids=["-".join([name, *map(str, values.values())]) for name, values in VARIANTS],
)
def strategy(request):
    name, values = request.param
    cls = strategies[name]
    few_samples = {"samples": 3} if "samples" in cls.Settings.model_fields else {}
    return cls(cls.Settings.parse({**values, **few_samples}))


def model(seed, context=0):
    torch.manual_seed(seed)
    settings = UNet.Settings(base_channels=8, depth=3, dropout=0.25)
    network = UNet(2, settings, 2 * context + 1)
    for layer in norms(network):
        layer.running_mean.normal_(0, 0.1)
    header = ModelHeader(
        method="source_only",
        classes=("background", "a"),
        network={"classes": 2, "channels": 2 * context + 1},
        pixel_size=4.0,
        context=context,
        section_distance=50.0,
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
    """A pool of n patches that do not overlap, with random uncertainties and embeddings."""
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


def chosen(strategy, pool, **values):
    """Indices of the chosen patches, best first."""
    return [index for index, _ in choose(strategy, Pool(**pool, **values))]


def test_its_docstring_starts_with_a_sentence(strategy):
    sentence = " ".join(type(strategy).__doc__.split("\n\n")[0].split())
    assert sentence.endswith(".")
    assert strategies[strategy.name] is type(strategy)
    assert isinstance(strategy, Strategy)


@pytest.mark.parametrize(("shape", "patch"), SIZES)
def test_it_suggests_one_patch_or_as_many_as_fit(models, strategy, shape, patch, tmp_path):
    one, notices = suggested(models, strategy, tmp_path, shape, patch, count=1)
    assert len(one) == 1
    assert notices == []
    as_many_as_fit, notices = suggested(
        models, strategy, tmp_path, shape, patch, count=100, section_distance=0
    )
    assert len(notices) == 1
    free = Candidates.of(shape, patch)
    for box, _ in as_many_as_fit:
        free = Candidates(free.starts[~free.near(box)], patch, 0)
    assert len(free) == 0


def test_what_it_measures_of_a_section_depends_on_the_neighbours_that_the_model_sees(
    strategy, tmp_path
):
    """Whatever the order of blocks: sections that see the same get the same score."""
    if strategy.required.model == "none" or strategy.name in ORDER_DEPENDENT:
        return
    rng = np.random.default_rng(0)
    one, other = rng.integers(0, 256, (2, 32, 32)).astype(np.uint8)
    # Sections 2 and 5 are alike, and so are their neighbours on both sides.
    image = np.stack([other, other, one, other, other, one, other, other])
    pooled = []
    for context in (0, 1):
        target = Volume("t", image, "target", VoxelGrid((50.0, 4.0, 4.0)))
        predictor = model(0, context)
        events = candidate_features(
            predictor,
            target,
            strategy,
            QuerySettings(strategy=strategy.name, patch=32, device="cpu"),
            RunFolder(tmp_path / str(context)),
            Candidates.of(image.shape, 32),
            [],
            model(1, context),
        )
        features = result_of(events)
        rows = [features.uncertainty[:, None]]
        rows += [] if features.embeddings is None else [features.embeddings]
        pooled.append(np.nan_to_num(np.concatenate(rows, axis=1)))
    alone, together = pooled
    if not strategy.required.dropout:
        np.testing.assert_allclose(together[2], together[5], atol=1e-5)
        # Section 0 sees only its like; 1 sees another section: alone, nothing tells them apart.
        np.testing.assert_allclose(alone[0], alone[1], atol=1e-5)
    assert not np.allclose(together[0], together[1], atol=1e-5)


def test_picks_keep_their_distance_and_do_not_overlap_annotated_patches(models, strategy, tmp_path):
    annotated = [Box((0, 0, 0), (1, 32, 40)), Box((2, 16, 0), (4, 48, 16))]
    picks, _ = suggested(
        models, strategy, tmp_path, (6, 48, 64), 16, excluded=annotated, count=6, section_distance=2
    )
    assert len(picks) == 6
    assert np.isfinite([score for _, score in picks]).all()
    boxes = [box for box, _ in picks]
    assert not any(box.overlaps(other) for box in boxes for other in annotated)
    for (z, *low), (w, *other) in itertools.combinations([box.start for box in boxes], 2):
        assert abs(z - w) > 2 or any(abs(a - b) >= 16 for a, b in zip(low, other, strict=True))


def test_the_seed_determines_the_picks(models, strategy, tmp_path):
    first, again = (
        suggested(models, strategy, tmp_path / str(i), (3, 48, 48), 16, seed=1)[0] for i in range(2)
    )
    assert first == again


def test_the_order_of_candidates_does_not_matter(strategy):
    """Random strategies pick every position of the list equally often."""
    if strategy.name in ORDER_DEPENDENT:
        picks = [
            chosen(strategy, synthetic(8, seed=seed, count=1), seed=seed)[0] for seed in range(320)
        ]
        # The chi-square statistic with 7 degrees of freedom exceeds 26 with p = 0.0005.
        assert sum((picks.count(i) - 40) ** 2 / 40 for i in range(8)) < 26
        return
    pool = synthetic(40)
    order = np.random.default_rng(1).permutation(40)
    shuffled = {
        **pool,
        "candidates": Candidates(pool["candidates"].starts[order], 16, 40),
        "uncertainty": pool["uncertainty"][order],
        "embeddings": pool["embeddings"][order],
    }
    assert [order[i] for i in chosen(strategy, shuffled, seed=5)] == chosen(strategy, pool, seed=6)


def test_ties_are_broken_at_random(strategy):
    equal = {
        "uncertainty": np.full(6, 0.5),
        "embeddings": np.ones((6, 2), np.float32),
        "annotated": None,
    }
    pool = {**synthetic(6, count=1), **equal}
    assert {chosen(strategy, pool, seed=seed)[0] for seed in range(60)} == set(range(6))


def test_its_requirements_state_the_model_that_it_uses(strategy):
    measures = type(strategy).uncertainty is not Strategy.uncertainty or strategy.needs_entropy
    expected = "classes" if measures else "features" if strategy.needs_embeddings else "none"
    assert strategy.requirements.model == expected


def test_patches_without_uncertainty_are_never_picked(strategy):
    measures = type(strategy).uncertainty is not Strategy.uncertainty or strategy.needs_entropy
    picks = chosen(strategy, synthetic(12, unknown=[0, 3, 11], count=12))
    assert sorted(picks) == [i for i in range(12) if not measures or i not in (0, 3, 11)]


def test_patches_without_embeddings_are_never_picked(strategy):
    pool = synthetic(12, count=12)
    pool["embeddings"][[2, 7]] = np.nan
    pool["annotated"][1] = np.nan
    assert sorted(chosen(strategy, pool)) == [i for i in range(12) if i not in (2, 7)]


def test_nothing_is_suggested_if_all_is_annotated(models, strategy, tmp_path):
    picks, notices = suggested(
        models, strategy, tmp_path, (2, 32, 32), 16, excluded=[Box.whole((2, 32, 32))]
    )
    assert picks == []
    assert len(notices) == 1


def test_all_patches_can_be_suggested(strategy):
    assert sorted(chosen(strategy, synthetic(9, count=9))) == list(range(9))
    assert sorted(chosen(strategy, synthetic(9, count=9, annotated=0))) == list(range(9))


def test_its_maps_are_stored_in_the_run_folder(models, strategy, tmp_path):
    suggested(models, strategy, tmp_path, (2, 48, 40), 16)
    if not strategy.needs_entropy and not strategy.measures:
        # Only what is suggested will be predicted.
        assert not (tmp_path / "probabilities.zarr").exists()
        return
    stored = zarr.open_array(tmp_path / "uncertainty.zarr" / "t", mode="r")
    measure = strategy.name if strategy.measures else "entropy"
    assert stored.attrs.get("measure", "entropy") == measure
    assert stored.shape == (2, 48, 40)
    assert np.asarray(stored[:]).std() > 0
    assert zarr.open_array(tmp_path / "probabilities.zarr" / "t", mode="r").shape == (1, 2, 48, 40)


def test_its_settings_are_checked(strategy):
    with pytest.raises(SettingsError, match="There is no setting"):
        type(strategy).Settings.parse({"no_such_setting": 1})
