"""Nothing outside the training box reaches training: neither test rows nor the guard band."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_emda.data.box import Box
from napari_emda.data.volume import Volume
from napari_emda.data.voxel_grid import VoxelGrid
from napari_emda.sampling.sampler import PatchSampler

PATCH = 32


@st.composite
def splits(draw):
    """Height, width, end of the training rows, first test row, pixel size over voxel size."""
    height = draw(st.integers(160, 260))
    width = draw(st.integers(80, 200))
    end = draw(st.integers(80, height - 60))
    guard = draw(st.integers(0, 20))
    return height, width, end, end + guard, draw(st.sampled_from([1, 2]))


@settings(max_examples=12)
@given(splits())
def test_nothing_outside_the_training_box_is_drawn_or_measured(split):
    height, width, end, first_test_row, factor = split
    boxes = {"target": f"0:2,0:{end},0:{width}"}
    test_box = Box((0, first_test_row, 0), (2, height, width))
    assert not Box.parse(boxes["target"], (2, height, width)).overlaps(test_box)
    rows = np.broadcast_to(np.arange(height, dtype=np.float32)[None, :, None], (2, height, width))
    annotations = np.ones((2, height, width), np.uint8)
    volume = Volume("v", rows, "target", VoxelGrid((50, 8, 8)), annotations=annotations)
    sampler = PatchSampler([volume], PATCH, 4, pixel_size=8 * factor, boxes=boxes)
    statistics = sampler.statistics["v"]
    balanced = [sampler.batch(step)["target"].image for step in range(4)]
    unbalanced = [sampler.anywhere("target", index).image for index in range(4)]
    highest = float(torch.cat(balanced + unbalanced).max()) * statistics.std + statistics.mean
    assert highest < end + 0.01
    assert statistics.quantiles[-1] * statistics.std + statistics.mean < end + 0.01


def test_the_last_training_row_can_be_drawn():
    rows = np.broadcast_to(np.arange(160, dtype=np.float32)[None, :, None], (1, 160, 64))
    volume = Volume("v", rows, "target", VoxelGrid((50, 8, 8)))
    sampler = PatchSampler([volume], PATCH, 8, boxes={"target": "0:1,0:80,0:64"})
    statistics = sampler.statistics["v"]
    highest = max(float(sampler.batch(step)["target"].image.max()) for step in range(40))
    assert round(highest * statistics.std + statistics.mean) == 79
