"""Batches in parts: nothing is lost, stacks stay together, and statistics change as in one step."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from napari_emda.training.micro_batches import BufferChanges, part_of


@given(st.integers(1, 12), st.integers(1, 12), st.integers(1, 5))
def test_parts_are_the_whole_and_cut_no_stack(patches, count, stack):
    entries = list(range(patches * stack))
    parts = [part_of(index, count, entries, stack) for index in range(count)]
    assert [entry for part in parts for entry in part] == entries
    assert all(len(part) % stack == 0 for part in parts)
    sizes = [len(part) // stack for part in parts]
    assert max(sizes) - min(sizes) <= 1


def test_running_statistics_change_by_the_mean_of_the_parts_and_not_by_one_after_the_other():
    layer = torch.nn.BatchNorm1d(2)
    layer.running_mean.copy_(torch.tensor([3.0, -1.0]))
    before = layer.running_mean.clone()
    images = torch.randn(8, 2, generator=torch.Generator().manual_seed(0))
    changes = BufferChanges(layer)
    for part in (images[:6], images[6:]):
        layer(part)
        changes.take(len(part) / 8)
        assert torch.equal(layer.running_mean, before)
    changes.apply()
    # torch's momentum is 0.1. Parts of unequal size have the mean of the whole.
    torch.testing.assert_close(layer.running_mean, 0.9 * before + 0.1 * images.mean(0))
