"""Batches in parts: nothing is lost, and stacks stay together."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from napari_emda.training.micro_batches import part_of


@given(st.integers(1, 12), st.integers(1, 12), st.integers(1, 5))
def test_parts_are_the_whole_and_cut_no_stack(patches, count, stack):
    entries = list(range(patches * stack))
    parts = [part_of(index, count, entries, stack) for index in range(count)]
    assert [entry for part in parts for entry in part] == entries
    assert all(len(part) % stack == 0 for part in parts)
    sizes = [len(part) // stack for part in parts]
    assert max(sizes) - min(sizes) <= 1
