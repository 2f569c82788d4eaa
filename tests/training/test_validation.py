"""Validation without labels: which tiles, how often, and scores against scikit-image."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from skimage.measure import label, regionprops
from torch import nn

from napari_emda.data.blocks import spread
from napari_emda.data.box import Box
from napari_emda.data.intensity import Statistics
from napari_emda.data.volume import Volume
from napari_emda.data.voxel_grid import VoxelGrid
from napari_emda.events import result_of
from napari_emda.inference.device import Compute
from napari_emda.inference.model_header import ModelHeader
from napari_emda.settings.training import TrainSettings
from napari_emda.training.validation import (
    TILES,
    Validator,
    source_priors,
    tile_side,
    validation_steps,
)

CPU = Compute(torch.device("cpu"), bf16=False)
SPACING = (50.0, 8.0, 8.0)


class Painted(nn.Module):
    """A network that maps grey values to classes: 1 from 1.5 on, 2 from 2.5 on."""

    bytes_per_pixel = 256
    stride = 8
    halo = 16
    stack = 1
    maps_objects = False

    def __init__(self, classes=2):
        super().__init__()
        self.classes = classes

    def forward(self, image):
        ids = (image[:, 0] > 1.5).long() + ((image[:, 0] > 2.5) & (self.classes > 2)).long()
        return 20.0 * nn.functional.one_hot(ids, self.classes).movedim(-1, 1)


def header(classes=("background", "a")):
    return ModelHeader(
        method="source_only",
        classes=classes,
        network={"classes": 2},
        pixel_size=8.0,
        statistics={"target": Statistics(0.0, 1.0, (0.0,))},
    )


@pytest.fixture
def pair(phantoms):
    """The phantom, its target's grey values replaced by class + 1, which `Painted` reads."""
    image, labels = phantoms["source"]
    source = Volume("source", image, "source", VoxelGrid(SPACING), labels=labels)
    return source, Volume("target", phantoms["target"][1] + 1.0, "target", VoxelGrid(SPACING))


# -- where and when --------------------------------------------------------------------------------


@given(
    st.tuples(*[st.integers(0, 20)] * 3),
    st.tuples(*[st.integers(1, 300)] * 3),
    st.integers(1, 20),
    st.integers(1, 100),
)
def test_tiles_lie_in_their_box_and_differ(start, shape, count, side):
    box = Box(start, tuple(a + n for a, n in zip(start, shape, strict=True)))
    tiles = spread(box, count, side)
    assert len(set(tiles)) == len(tiles) <= count
    for tile in tiles:
        assert tile.clip_to(box) == tile
        assert tile.shape == (1, min(side, shape[1]), min(side, shape[2]))


def test_tiles_reach_all_parts_of_a_volume():
    tiles = spread(Box.whole((80, 1000, 1000)), TILES, 100)
    assert len(tiles) == TILES
    for axis in range(3):
        starts = [tile.start[axis] for tile in tiles]
        assert sum(2 * start < (80, 900, 900)[axis] for start in starts) in (3, 4, 5)
        assert len(set(starts)) == TILES
    assert [tile.start[0] for tile in tiles] == list(range(5, 80, 10))


def test_the_last_step_is_validated_and_short_trainings_are_less_often():
    long = TrainSettings(steps=1000, validations=20)
    assert validation_steps(long) == tuple(range(50, 1001, 50))
    assert validation_steps(long.model_copy(update={"steps": 100}))[-1] == 100
    assert len(validation_steps(long.model_copy(update={"steps": 100}))) < 20
    assert validation_steps(long.model_copy(update={"steps": 1})) == (1,)
    assert validation_steps(long.model_copy(update={"validations": 0})) == ()


@given(st.integers(1, 20_000), st.integers(1, 64), st.integers(1, 16), st.integers(1, 200))
def test_validations_are_a_tenth_of_the_work(steps, batch, patch, validations):
    """Counted in pixels that pass the network, three times as many in a training step."""
    settings = TrainSettings(steps=steps, batch=batch, patch=32 * patch, validations=validations)
    times = len(validation_steps(settings))
    side = tile_side(settings)
    assert side % 32 == 0 and side >= min(settings.patch, 512)
    if times > 1:
        assert times * 2 * TILES * side**2 <= 0.1 * 3 * steps * batch * settings.patch**2


# -- what is seen ----------------------------------------------------------------------------------


def test_a_prediction_is_scored_as_scikit_image_measures_it(pair):
    source, target = pair
    validator = Validator.of([source], [target], header(), TrainSettings(patch=96, batch=8))
    scores = result_of(validator.scores(Painted(), header(), CPU))
    truth = [np.asarray(target.image[z]) > 1.5 for z in range(4)]
    found = [r for mask in truth for r in regionprops(label(mask, connectivity=2)) if r.area > 10]
    prior = [
        r
        for mask in source.labels
        for r in regionprops(label(mask > 0, connectivity=2))
        if r.area > 10
    ]
    least = np.percentile([r.area for r in prior], 1) // 4
    assert scores["objects"] == sum(r.area > least for r in found) > 2
    assert scores["solidity"] == pytest.approx(np.mean([r.solidity for r in found]))
    assert scores["solidity_gap"] == pytest.approx(
        abs(np.mean([r.solidity for r in found]) - np.mean([r.solidity for r in prior]))
    )
    assert scores["foreground_fraction"] == pytest.approx(np.mean(truth))
    assert scores["foreground_ratio"] == pytest.approx(np.mean(truth) / np.mean(source.labels > 0))
    assert scores["flip_disagreement"] == 0


def test_it_does_not_depend_on_the_order_of_sections(pair):
    source, target = pair
    flipped = replace(target, image=target.image[::-1]), replace(source, labels=source.labels[::-1])
    settings = TrainSettings(patch=96)
    scores, others = (
        result_of(
            Validator.of([labelled], [image], header(), settings).scores(Painted(), header(), CPU)
        )
        for labelled, image in ((source, target), (flipped[1], flipped[0]))
    )
    assert others == pytest.approx(scores)


def test_three_classes_are_averaged_and_the_worst_one_counts_for_the_alarm(pair):
    source, target = pair
    names = ("background", "a", "b")
    halved = np.where(
        np.asarray(source.labels) > 0, np.where(np.arange(4)[:, None, None] < 2, 1, 2), 0
    )
    source = replace(source, labels=halved, classes=3)
    validator = Validator.of([source], [target], header(names), TrainSettings())
    scores = result_of(validator.scores(Painted(3), header(names), CPU))
    one = validator.priors
    assert len(one) == 2 and all(one)
    assert scores["foreground_ratio"] == 0  # class 2 is nowhere predicted
    assert scores["flip_disagreement"] == 0.5  # class 1 agrees, agreeing on nothing counts as 1
    both = replace(
        target, image=np.where(np.arange(96) >= 48, 1, 0) * (target.image > 1.5) + target.image
    )
    validator = Validator.of([source], [both], header(names), TrainSettings())
    better = result_of(validator.scores(Painted(3), header(names), CPU))
    assert better["score"] < scores["score"]


def test_priors_are_measured_in_the_source_box(pair):
    source, _ = pair
    (prior,) = source_priors([source], header(), TrainSettings(source_box=":,0:48,:"))
    assert prior.fraction == pytest.approx(np.mean(source.labels[:, :48] > 0))


def test_tiles_lie_in_the_target_box(pair):
    source, target = pair
    blank = np.array(target.image)
    blank[:, 48:] = 0
    settings = TrainSettings(target_box=":,48:96,:", patch=32)
    validator = Validator.of([source], [replace(target, image=blank)], header(), settings)
    scores = result_of(validator.scores(Painted(), header(), CPU))
    assert scores["objects"] == 0


def test_tiles_include_the_neighbouring_sections(pair):
    """So that whatever prediction does with neighbouring sections counts."""
    source, target = pair
    numbered = np.broadcast_to(np.arange(4.0)[:, None, None], target.shape)
    target = replace(target, image=numbered)
    validator = Validator.of([source], [target], header(), TrainSettings(patch=32))
    seen = {
        tile.section + int(tile.volume.image[0, 0, 0]): list(tile.volume.image[:, 0, 0])
        for tile in validator.tiles
    }
    assert seen == {0: [0, 1], 1: [0, 1, 2], 2: [1, 2, 3], 3: [2, 3]}


def test_without_a_target_or_objects_in_the_source_there_is_no_validator(pair):
    source, target = pair
    assert Validator.of([source], [], header(), TrainSettings()) is None
    blank = replace(source, labels=0 * source.labels)
    assert Validator.of([blank], [target], header(), TrainSettings()) is None
