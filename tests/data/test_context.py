"""Neighbouring sections are the nearest ones to places in nanometres, by brute force."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare

from napari_emda.data.box import Box
from napari_emda.data.context import Context, common_section_distance, runs, stack_around
from napari_emda.data.intensity import Statistics
from napari_emda.data.resampled import Resampled
from napari_emda.data.volume import Volume
from napari_emda.data.voxel_grid import VoxelGrid

AS_IT_IS = Statistics(0.0, 1.0, (0.0,))


def grid(section=50.0, *, independent=False):
    return VoxelGrid((section, 4.0, 4.0), "nm", independent)


def nearest_sections(depth, section, neighbours, distance):
    """For each section, the ones nearest to the wanted places of a stack that is mirrored."""
    reach = 12 * depth
    mirrored = np.pad(np.arange(depth), reach, mode="reflect")
    places = section * (np.arange(len(mirrored)) - reach)
    rows = []
    for z in range(depth):
        row = []
        for number in range(-neighbours, neighbours + 1):
            off = np.abs(places - (z * section + number * distance))
            ties = np.flatnonzero(np.isclose(off, off.min()))
            # Half-way between two sections, the one further from the middle.
            row.append(mirrored[ties[0 if number < 0 else -1]])
        rows.append(row)
    return np.array(rows)


@given(
    depth=st.integers(1, 9),
    section=st.sampled_from([10.0, 20.0, 29.0, 50.0]),
    neighbours=st.integers(0, 3),
    distance=st.sampled_from([10.0, 20.0, 30.0, 50.0]),
)
def test_the_sections_are_the_nearest_to_their_places(depth, section, neighbours, distance):
    context = Context.of(grid(section), depth, neighbours, distance)
    expected = nearest_sections(depth, section, neighbours, distance)
    np.testing.assert_array_equal(context.sections, expected)
    assert context.channels == 2 * neighbours + 1


def test_the_unit_of_length_changes_nothing():
    for section, distance in ((20.0, 50.0), (29.0, 43.5), (0.3, 0.45)):
        here = Context.of(grid(section), 30, 3, distance).sections
        there = Context.of(grid(section * 1e-3), 30, 3, distance * 1e-3).sections
        np.testing.assert_array_equal(here, there)


def test_two_volumes_show_the_depth_of_the_one_with_thicker_sections():
    thin, thick, fields = (
        Volume("v", np.zeros((9, 8, 8)), "target", grid(section, independent=independent))
        for section, independent in ((20.0, False), (50.0, False), (900.0, True))
    )
    assert common_section_distance([thin, thick, fields]) == 50
    assert common_section_distance([fields]) == 1
    assert Context.of(thick.grid, 9, 1, 50).sections[4].tolist() == [3, 4, 5]
    assert Context.of(thin.grid, 9, 2, 40).sections[4].tolist() == [0, 2, 4, 6, 8]


@pytest.mark.parametrize(("depth", "independent"), [(1, False), (6, True)])
def test_without_neighbours_a_section_is_repeated_and_that_is_said(depth, independent):
    context = Context.of(grid(independent=independent), depth, 2, 50)
    np.testing.assert_array_equal(context.sections, np.arange(depth)[:, None].repeat(5, axis=1))
    (sentence,) = context.remarks("v")
    assert "the network sees the section itself again." in sentence
    assert Context.none(depth).remarks("v") == []


@given(
    depth=st.integers(2, 12),
    spoilt=st.sets(st.integers(0, 14)),
    neighbours=st.integers(1, 3),
)
def test_the_nearest_good_section_takes_the_place_of_a_spoilt_one(depth, spoilt, neighbours):
    context = Context.of(grid(), depth, neighbours, 50, tuple(sorted(spoilt)))
    whole = Context.of(grid(), depth, neighbours, 50)
    good = [z for z in range(depth) if z not in spoilt]
    for middle, (row, expected) in enumerate(zip(context.sections, whole.sections, strict=True)):
        for channel, (z, wanted) in enumerate(zip(row, expected, strict=True)):
            if channel == neighbours or not good:
                assert z == wanted
            else:
                assert abs(z - wanted) == min(abs(other - wanted) for other in good)
                # Of two as near, the one on the side of the middle.
                mirrored = 2 * wanted - z
                assert mirrored not in good or abs(z - middle) <= abs(mirrored - middle)
                assert z in good


def test_spoilt_sections_are_named():
    (sentence,) = Context.of(grid(), 30, 1, 50, (3, 7, 8, 9)).remarks("v")
    assert sentence.startswith("Sections 3 and 7 to 9 of 'v' are empty or unlike the neighbours")
    (sentence,) = Context.of(grid(), 30, 1, 50, (3,)).remarks("v")
    assert sentence.startswith("Section 3 of 'v' is empty")
    (sentence,) = Context.of(grid(), 99, 1, 50, tuple(range(0, 99, 2))).remarks("v")
    assert sentence.startswith("Sections 0, 2, 4, 6, 8, 10, 12, 14 and 42 more of 'v' are")
    assert Context.of(grid(), 30, 1, 50).remarks("v") == []


class Counting:
    """An array that notes which sections are read."""

    def __init__(self, values):
        self.values = values
        self.shape = values.shape
        self.dtype = values.dtype
        self.read = []

    def __getitem__(self, key):
        self.read += range(*key[0].indices(self.shape[0]))
        return self.values[key]


@pytest.mark.parametrize("pixel_size", [4.0, 8.0])
def test_every_section_of_a_box_is_read_once(pixel_size):
    values = np.random.default_rng(0).normal(size=(12, 20, 24)).astype(np.float32)
    image = Counting(values)
    view = Resampled(Volume("v", image, "target", grid(20.0)), pixel_size)
    context = Context.of(grid(20.0), 12, 2, 50.0, (4,))
    box = Box((3, 2, 1), (7, 10, 9))
    stacks = context.read(view, AS_IT_IS, box)
    needed = {z for row in context.sections[3:7].tolist() for z in row}
    assert sorted(image.read) == sorted(needed)
    plain = Resampled(replace(view.volume, image=values), pixel_size)
    for z, stack in enumerate(stacks, 3):
        for other, section in zip(context.sections[z], stack, strict=True):
            expected = plain.read(Box((other, 2, 1), (other + 1, 10, 9)))[0]
            np.testing.assert_array_equal(section, expected)


@pytest.mark.parametrize(("first", "stop"), [(0, 1), (0, 2), (4, 7), (9, 10)])
def test_a_part_of_a_volume_shows_the_same_sections(first, stop):
    context = Context.of(grid(20.0), 10, 2, 50.0, (3,))
    seen, part = context.part(first, stop)
    names = np.array(seen)
    own = [seen.index(z) for z in range(first, stop)]
    np.testing.assert_array_equal(names[part.sections[own]], context.sections[first:stop])
    assert seen == sorted(set(context.sections[first:stop].ravel().tolist()))


@given(st.sets(st.integers(0, 30)))
def test_runs_hold_every_section_once(sections):
    found = runs(sorted(sections))
    assert [z for first, stop in found for z in range(first, stop)] == sorted(sections)
    assert all(stop < first for (_, stop), (first, _) in itertools.pairwise(found))


@given(
    st.integers(2, 30), st.integers(1, 16), st.integers(1, 4), st.integers(0, 5), st.integers(0, 99)
)
def test_a_stack_holds_its_section_and_stays_in_its_span(depth, count, step, low, seed):
    rng = np.random.default_rng(seed)
    z = low + int(rng.integers(depth))
    span = (low, low + depth)
    sections = stack_around(z, count, step, span, rng)
    assert len(sections) == count
    assert z in sections
    assert all(low <= section < low + depth for section in sections)
    # From one section to the next: so many on, or back from an end as from a mirror.
    mirror = np.concatenate([np.arange(depth), np.arange(depth - 2, 0, -1)])
    walks = [low + mirror[(first + step * np.arange(count)) % len(mirror)] for first in range(60)]
    assert any(walk.tolist() == sections for walk in walks)
    straight = low + np.arange(0, depth - step * (count - 1)) if depth > step * (count - 1) else []
    starts = [s for s in straight if (z - s) % step == 0 and 0 <= (z - s) // step < count]
    if starts:
        assert sections[0] in starts
        assert np.all(np.diff(sections) == step)


def test_every_place_of_a_stack_is_as_likely():
    rng = np.random.default_rng(0)
    places = [stack_around(50, 8, 2, (0, 100), rng).index(50) for _ in range(4000)]
    assert chisquare(np.bincount(places, minlength=8)).pvalue > 1e-3


def test_a_spoilt_section_of_a_stack_is_seen_as_the_nearest_good_one():
    context = Context.none(6, (0, 3, 4))
    assert context.sections[:, 0].tolist() == [1, 1, 2, 2, 5, 5]
    assert not context.is_plain
    assert Context.none(6).is_plain
    # Without any good one, all stay as they are.
    assert Context.none(2, (0, 1)).is_plain
