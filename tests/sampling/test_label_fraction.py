"""A fraction of the labels: of the size asked for, nested, decided by the seed, and what finetune learns from."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_emda.data.box import Box
from napari_emda.data.volume import Volume
from napari_emda.data.voxel_grid import VoxelGrid
from napari_emda.inference import checkpoint
from napari_emda.jobs.execute import execute
from napari_emda.methods.base import methods
from napari_emda.project.job_files import TrainJob
from napari_emda.sampling.label_fraction import TILE, labelled_fraction
from napari_emda.settings.training import TrainSettings

SHAPE = (3, 200, 300)


def annotated(share=0.5, **values):
    """A volume whose tiles are annotated at random, here and there with holes."""
    rng = np.random.default_rng(0)
    tiles = rng.random((3, 4, 5)) < share
    painted = np.kron(tiles, np.ones((1, TILE, TILE), bool))[:, : SHAPE[1], : SHAPE[2]]
    painted &= rng.random(SHAPE) < 0.3
    annotations = np.where(painted, rng.integers(1, 3, SHAPE), 0).astype(np.uint8)
    return Volume(
        "t",
        np.zeros(SHAPE, np.uint8),
        "target",
        VoxelGrid((50, 8, 8)),
        annotations=annotations,
        **values,
    ), tiles.sum()


def tiles_of(volume):
    """Tiles that hold an annotation, found by looking at each."""
    values = volume.annotations[:, :, :]
    return {
        (z, y, x)
        for z in range(SHAPE[0])
        for y in range(0, SHAPE[1], TILE)
        for x in range(0, SHAPE[2], TILE)
        if values[z, y : y + TILE, x : x + TILE].any()
    }


@given(st.floats(0.01, 1), st.floats(0.01, 1), st.integers(0, 5))
def test_a_larger_fraction_holds_all_of_a_smaller_one(a, b, seed):
    volume, count = annotated()
    small, large = (tiles_of(labelled_fraction(volume, f, seed=seed)) for f in sorted((a, b)))
    assert small <= large
    for fraction, tiles in zip(sorted((a, b)), (small, large), strict=True):
        assert len(tiles) == max(1, round(fraction * count))


def test_what_is_kept_is_kept_whole():
    volume, _ = annotated()
    part = labelled_fraction(volume, 0.3)
    ours, all_ = part.annotations[:, :, :], volume.annotations
    for z, y, x in tiles_of(part):
        tile = (z, slice(y, y + TILE), slice(x, x + TILE))
        np.testing.assert_array_equal(ours[tile], all_[tile])
    assert not ours[all_ == 0].any()
    np.testing.assert_array_equal(part.annotations[1:3, 30:170, 5:299], ours[1:3, 30:170, 5:299])
    np.testing.assert_array_equal(part.read_labels(Box.whole(SHAPE)) != 255, ours > 0)


def test_the_seed_decides_and_all_of_it_is_the_volume_itself():
    volume, _ = annotated()
    draws = [tiles_of(labelled_fraction(volume, 0.3, seed=seed)) for seed in (0, 0, 1)]
    assert draws[0] == draws[1] != draws[2]
    assert labelled_fraction(volume, 1.0) is volume
    bare = replace(volume, annotations=None)
    assert labelled_fraction(bare, 0.1) is bare


def test_tiles_are_counted_inside_the_box():
    volume, _ = annotated(share=1)
    box = Box((0, 0, 0), (1, TILE, 300))
    tiles = tiles_of(labelled_fraction(volume, 0.4, box))
    assert len(tiles) == 2
    assert all(z == 0 and y == 0 for z, y, _ in tiles)


def test_where_nothing_is_annotated_nothing_is_kept():
    volume, _ = annotated(share=0)
    assert not tiles_of(labelled_fraction(volume, 0.5))


def test_finetune_learns_from_the_fraction_asked_for_and_leaves_the_source_alone():
    volume, count = annotated()
    finetune = methods["finetune"]
    part = finetune.learns_from(volume, finetune.Settings(fraction=0.2), TrainSettings(seed=3))
    assert len(tiles_of(part)) == round(0.2 * count)
    source = replace(volume, domain="source")
    assert finetune.learns_from(source, finetune.Settings(fraction=0.2), TrainSettings()) is source


def test_a_run_with_a_fraction_sees_that_much(project, phantoms, same_weights):
    project.annotations.require("target")[:] = phantoms["target"][1] + 1
    values = {
        "steps": 2,
        "patch": 32,
        "batch": 2,
        "device": "cpu",
        "validations": 0,
    }
    weights = []
    for fraction in (0.01, 1.0):
        job = TrainJob(
            project=str(project.folder),
            method="finetune",
            settings=TrainSettings(**values),
            network_settings={"base_channels": 8},
            method_settings={"fraction": fraction, "source_stage": 0},
        )
        list(execute(job))
        weights.append(checkpoint.load_method(project.run().checkpoint)[1])
    assert not same_weights(*weights)


@pytest.mark.parametrize("fraction", [0, 1.5])
def test_a_fraction_outside_its_limits_is_refused(fraction):
    with pytest.raises(ValueError, match="fraction"):
        methods["finetune"].Settings(fraction=fraction)
