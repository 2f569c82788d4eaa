"""A fraction of the annotations has the given size, is nested and determined by the seed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
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
    """A volume with randomly annotated tiles, with holes in them, and the number of these tiles."""
    rng = np.random.default_rng(0)
    tiles = rng.random((3, 4, 5)) < share
    painted = np.kron(tiles, np.ones((1, TILE, TILE), bool))[:, : SHAPE[1], : SHAPE[2]]
    painted &= rng.random(SHAPE) < 0.3
    annotations = np.where(painted, rng.integers(1, 3, SHAPE), 0).astype(np.uint8)
    image = np.zeros(SHAPE, np.uint8)
    grid = VoxelGrid((50, 8, 8))
    volume = Volume("t", image, "target", grid, annotations=annotations, **values)
    return volume, tiles.sum()


def tiles_of(volume):
    """Tiles with an annotation, by brute force."""
    values = volume.annotations[:, :, :]
    return {
        (z, y, x)
        for z in range(SHAPE[0])
        for y in range(0, SHAPE[1], TILE)
        for x in range(0, SHAPE[2], TILE)
        if values[z, y : y + TILE, x : x + TILE].any()
    }


@settings(max_examples=25)
@given(st.floats(0.01, 1), st.floats(0.01, 1), st.integers(0, 5))
def test_a_larger_fraction_includes_all_of_a_smaller_one(a, b, seed):
    volume, count = annotated()
    fractions = sorted((a, b))
    small, large = (tiles_of(labelled_fraction(volume, f, seed=seed)) for f in fractions)
    assert small <= large
    for fraction, tiles in zip(fractions, (small, large), strict=True):
        assert len(tiles) == max(1, round(fraction * count))


def test_tiles_are_kept_as_a_whole():
    volume, _ = annotated()
    reduced = labelled_fraction(volume, 0.3)
    annotations = reduced.annotations[:, :, :]
    for z, y, x in tiles_of(reduced):
        tile = (z, slice(y, y + TILE), slice(x, x + TILE))
        np.testing.assert_array_equal(annotations[tile], volume.annotations[tile])
    assert not annotations[volume.annotations == 0].any()
    block = np.s_[1:3, 30:170, 5:299]
    np.testing.assert_array_equal(reduced.annotations[block], annotations[block])
    np.testing.assert_array_equal(reduced.read_labels(Box.whole(SHAPE)) != 255, annotations > 0)


def test_the_seed_determines_the_tiles():
    volume, _ = annotated()
    first, again, other = (tiles_of(labelled_fraction(volume, 0.3, seed=s)) for s in (0, 0, 1))
    assert first == again != other


def test_volumes_without_annotations_and_the_fraction_1_change_nothing():
    volume, _ = annotated()
    assert labelled_fraction(volume, 1.0) is volume
    unannotated = replace(volume, annotations=None)
    assert labelled_fraction(unannotated, 0.1) is unannotated


def test_tiles_are_counted_inside_the_box():
    volume, _ = annotated(share=1)
    box = Box((0, 0, 0), (1, TILE, 300))
    tiles = tiles_of(labelled_fraction(volume, 0.4, box))
    assert len(tiles) == 2
    assert all(z == 0 and y == 0 for z, y, _ in tiles)


def test_empty_annotations_stay_empty():
    volume, _ = annotated(share=0)
    assert not tiles_of(labelled_fraction(volume, 0.5))


def test_finetune_reduces_the_annotations_of_the_target_and_not_the_source():
    volume, count = annotated()
    finetune = methods["finetune"]
    settings = finetune.Settings(fraction=0.2)
    reduced = finetune.learns_from(volume, settings, TrainSettings(seed=3))
    assert len(tiles_of(reduced)) == round(0.2 * count)
    source = replace(volume, domain="source")
    assert finetune.learns_from(source, settings, TrainSettings()) is source


def test_the_fraction_changes_what_a_run_learns(project, phantoms, same_weights):
    project.annotations.require("target")[:] = phantoms["target"][1] + 1
    values = {"steps": 2, "patch": 32, "batch": 2, "device": "cpu", "validations": 0}
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
