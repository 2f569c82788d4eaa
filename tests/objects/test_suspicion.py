"""Suspicious objects: each kind is found, and nothing depends on the blocks."""

from __future__ import annotations

import re

import numpy as np
import pytest
import zarr
from skimage.measure import label

from napari_emda.data.voxel_grid import VoxelGrid
from napari_emda.events import result_of
from napari_emda.objects import contacts as contacts_module
from napari_emda.objects.contacts import find_contacts
from napari_emda.objects.suspicion import Usual, find_suspicious
from napari_emda.objects.table import object_table

GRID = VoxelGrid((2.0, 1.0, 1.0))


def stored(array, chunks=(5, 16, 16)):
    return zarr.create_array({}, data=array, chunks=chunks)


@pytest.mark.parametrize("independent", [False, True])
def test_contacts_agree_with_counting_voxel_by_voxel(monkeypatch, independent):
    grid = VoxelGrid((2.0, 1.0, 3.0), "nm", independent)
    rng = np.random.default_rng(0)
    ids = rng.integers(0, 5, (6, 9, 10)).astype(np.uint32)
    ids[rng.random(ids.shape) < 0.5] = 0
    probability = rng.integers(0, 256, ids.shape).astype(np.uint8)
    areas, seen = {}, {}
    surface = np.zeros(5)
    for axis in range(1 if independent else 0, 3):
        face = 6.0 / grid.spacing[axis]
        lines = np.moveaxis(ids, axis, -1).reshape(-1, ids.shape[axis])
        values = np.moveaxis(probability, axis, -1).reshape(lines.shape)
        for line, stored_line in zip(lines, values, strict=True):
            for i in range(len(line) - 1):
                if line[i] != line[i + 1]:
                    surface[line[i]] += face
                    surface[line[i + 1]] += face
                # The next voxel of an object, at most two voxels of background further on.
                following = [j for j in range(i + 1, min(i + 4, len(line))) if line[j]]
                if line[i] and following and line[following[0]] != line[i]:
                    j = following[0]
                    pair = tuple(sorted((int(line[i]), int(line[j]))))
                    lowest = stored_line[i : j + 1].min() / 255
                    areas[pair] = areas.get(pair, 0) + face
                    seen[pair] = seen.get(pair, 0) + face * lowest
    monkeypatch.setattr(contacts_module, "_BLOCK_VOXELS", 30)
    found = result_of(
        find_contacts(stored(ids, (2, 4, 3)), 4, grid, stored(probability, (2, 4, 3)))
    )
    assert list(map(tuple, found.pairs.tolist())) == sorted(areas)
    np.testing.assert_allclose(found.area, [areas[pair] for pair in sorted(areas)])
    expected = [seen[pair] / areas[pair] for pair in sorted(areas)]
    np.testing.assert_allclose(found.probability, expected)
    np.testing.assert_allclose(found.surface[1:], surface[1:])


def scene():
    """Twelve balls, apart from: two that are joined, one cut in two, a speck, a large one."""
    shape = (20, 140, 180)
    z, y, x = np.indices(shape)
    mask = np.zeros(shape, bool)
    probability = np.zeros(shape, np.uint8)

    def ball(cy, cx, radius, value=240):
        inside = (2 * (z - 10)) ** 2 + (y - cy) ** 2 + (x - cx) ** 2 <= radius**2
        mask[inside] = True
        probability[inside] = value

    for cy in (20, 50, 80):
        for cx in (20, 50, 80, 110):
            ball(cy, cx, 10)
    ball(20, 145, 10)
    ball(20, 160, 10)  # joined with the one before
    ball(55, 150, 10)  # cut in two below
    ball(85, 150, 10, 140)  # unsure
    ball(115, 120, 20)  # large
    mask[10, 110:114, 20:24] = True  # in one section
    probability[10, 110:114, 20:24] = 240
    ids = label(mask, connectivity=1).astype(np.uint32)
    cut = ids == ids[10, 55, 150]
    ids[cut & (x > 152)] = ids.max() + 1
    return ids, probability


@pytest.fixture(scope="module")
def ranked(tmp_path_factory):
    ids, probability = scene()
    table = object_table(ids, GRID, probability)
    folder = tmp_path_factory.mktemp("cut")
    ranking = find_suspicious(folder, stored(ids), table, GRID, stored(probability), neck=0.0)
    queue = result_of(ranking)
    assert not any(folder.iterdir())
    return ids, queue


@pytest.mark.parametrize(
    ("place", "words"),
    [
        ((10, 20, 145), "It has a neck, beyond which lie"),
        ((10, 55, 145), "with little contour between them: perhaps one object"),
        ((10, 85, 150), "The model is unsure of it: mean probability 0.55"),
        ((10, 115, 120), "times as large as usual"),
        ((10, 111, 21), "in one section alone"),
    ],
)
def test_each_kind_of_fault_is_suspected_and_explained(ranked, place, words):
    ids, queue = ranked
    row = int(ids[place]) - 1
    assert words in queue["reason"][row]
    sound = [int(ids[10, cy, cx]) - 1 for cy in (20, 50, 80) for cx in (20, 50, 80, 110)]
    assert queue["score"][row] > 0.3 > queue["score"][sound].max()
    assert not any(queue["reason"][sound])


def test_reasons_say_how_much_in_numbers_that_can_be_read(ranked, tmp_path):
    ids, queue = ranked
    reason = queue["reason"][int(ids[10, 20, 145]) - 1]
    beyond = int(re.search(r"beyond which lie (\d+) % of it", reason)[1])
    # The balls are alike.
    assert 40 <= beyond <= 50
    one_large = np.zeros((20, 60, 160), np.uint32)
    for number in range(1, 13):
        one_large[5, 50, 10 * number] = number
    one_large[:, :45, :] = 13
    sure = np.full(one_large.shape, 240, np.uint8)
    table = object_table(one_large, GRID, sure)
    large = result_of(
        find_suspicious(tmp_path, stored(one_large), table, GRID, stored(sure), neck=0.0)
    )
    assert "It is 144 000 times as large as usual." in large["reason"][12]


def test_twins_name_each_other(ranked):
    ids, queue = ranked
    halves = [int(ids[10, 55, 145]), int(ids[10, 55, 156])]
    assert [queue["twin"][k - 1] for k in halves] == halves[::-1]


def test_the_order_does_not_depend_on_the_blocks(ranked, tmp_path):
    ids, queue = ranked
    _, probability = scene()
    table = object_table(ids, GRID, probability)
    other = result_of(find_suspicious(tmp_path, ids, table, GRID, probability))
    for name in queue:
        if name in ("score",):
            np.testing.assert_allclose(other[name], queue[name])
        else:
            assert other[name].tolist() == queue[name].tolist()


def test_neighbours_with_a_contour_between_them_are_no_twins(tmp_path):
    ids, probability = scene()
    table = object_table(ids, GRID, probability)
    halves = [int(ids[10, 55, 145]), int(ids[10, 55, 156])]
    maps = np.zeros((2, *ids.shape), np.uint8)
    maps[0, :, 45:65, 152:154] = 250
    ranking = find_suspicious(tmp_path, ids, table, GRID, probability, maps=maps)
    queue = result_of(ranking)
    assert not any("perhaps one object" in queue["reason"][k - 1] for k in halves)


def test_labelled_objects_say_what_is_usual(tmp_path):
    # Nothing but fragments: among themselves they are not unusual.
    ids = np.zeros((4, 60, 60), np.uint32)
    for k in range(25):
        y, x = 12 * (k // 5), 12 * (k % 5)
        ids[1:3, y + 2 : y + 6, x + 2 : x + 6] = k + 1
    probability = np.where(ids > 0, 250, 0).astype(np.uint8)
    table = object_table(ids, GRID, probability)
    usual = Usual(np.full(30, 4000.0), np.full(30, 0.95))
    alone, compared = (
        result_of(find_suspicious(tmp_path, ids, table, GRID, probability, usual=some))
        for some in (None, usual)
    )
    assert alone["score"].max() == 0
    assert compared["score"].min() > 0.5
    assert compared["reason"][0] == "It has 1.6 % of the usual size."


@pytest.mark.parametrize("count", [0, 1])
def test_few_objects_are_no_problem(tmp_path, count):
    ids = np.zeros((3, 8, 8), np.uint32)
    ids[1, 2:4, 2:4] = count
    probability = np.full(ids.shape, 200, np.uint8)
    table = object_table(ids, GRID, probability)
    queue = result_of(find_suspicious(tmp_path, ids, table, GRID, probability))
    assert [len(column) for column in queue.values()] == [count] * 4
