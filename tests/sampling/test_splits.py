"""Where training may look: nothing of a part kept for testing, nor of the guard band, reaches it."""

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
    """Height, width, last row to learn from, first row to test on, pixel size over voxel size."""
    height, width = draw(st.integers(160, 260)), draw(st.integers(80, 200))
    learnt = draw(st.integers(80, height - 60))
    guard = draw(st.integers(0, 20))
    return height, width, learnt, learnt + guard, draw(st.sampled_from([1, 2]))


@settings(max_examples=12)
@given(splits())
def test_nothing_beyond_the_learnt_part_is_ever_drawn_or_measured(split):
    height, width, learnt, test, factor = split
    boxes = {"target": f"0:2,0:{learnt},0:{width}"}
    assert not Box.parse(boxes["target"], (2, height, width)).overlaps(
        Box((0, test, 0), (2, height, width))
    )
    rows = np.broadcast_to(np.arange(height, dtype=np.float32)[None, :, None], (2, height, width))
    annotations = np.ones((2, height, width), np.uint8)
    volume = Volume("v", rows, "target", VoxelGrid((50, 8, 8)), annotations=annotations)
    sampler = PatchSampler([volume], PATCH, 4, pixel_size=8 * factor, boxes=boxes)
    statistics = sampler.statistics["v"]
    drawn = torch.cat([sampler.batch(step)["target"].image for step in range(4)])
    drawn = torch.cat([drawn, *(sampler.anywhere("target", index).image for index in range(4))])
    highest = float(drawn.max()) * statistics.std + statistics.mean
    assert highest < learnt + 0.01
    assert statistics.quantiles[-1] * statistics.std + statistics.mean < learnt + 0.01


def test_the_last_learnt_row_can_be_drawn():
    rows = np.broadcast_to(np.arange(160, dtype=np.float32)[None, :, None], (1, 160, 64))
    sampler = PatchSampler(
        [Volume("v", rows, "target", VoxelGrid((50, 8, 8)))],
        PATCH,
        8,
        boxes={"target": "0:1,0:80,0:64"},
    )
    statistics = sampler.statistics["v"]
    highest = max(float(sampler.batch(step)["target"].image.max()) for step in range(40))
    assert round(highest * statistics.std + statistics.mean) == 79
