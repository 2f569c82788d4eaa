"""Which objects are probably wrong, and why: the order in which a person should look at them."""

from __future__ import annotations

import shutil
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from napari_emda.data.array import Array
from napari_emda.data.block_runner import IN_TURN, BlockRunner
from napari_emda.data.blocks import block_shape, blocks
from napari_emda.data.box import Box
from napari_emda.data.voxel_grid import VoxelGrid
from napari_emda.events import TileDone, stage
from napari_emda.objects.by_block import each_block
from napari_emda.objects.components import ids_in
from napari_emda.objects.contacts import Contacts, InsideContours, find_contacts
from napari_emda.objects.separation import separate
from napari_emda.objects.table import Table

# Necks narrower than this share of the narrower part are looked at, if they were not cut anyway.
_NECK = 0.8
_NECK_BEYOND = 0.15
# Smaller parts, as a share of the object, are bumps of its outline.
_BUMP = 0.05
# Robust deviations from the median at which an object begins to be an outlier, and is one for sure.
_UNUSUAL = 2.0
_EXTREME = 6.0
# Fewer objects say nothing about what is usual.
_FEWEST = 8
# The standard deviation of normal values in terms of their median absolute deviation.
_DEVIATION = 1.4826
# Mean probabilities of an object about which the model is sure, and of one about which it is not.
_SURE = 0.85
_UNSURE = 0.55
# Of an object in a single section, while most are in several.
_SINGLE = 0.6
# Reasons that a sentence names.
_NAMED = 2
# Factors from here on are said without decimals.
_COUNTED = 10
# A reason that is weaker is not worth reading.
_WEAK = 0.05


@dataclass(frozen=True)
class Usual:
    """Sizes and shapes of objects that are right, such as the labelled ones of the source.

    Attributes:
        sizes: volumes, or areas of independent sections, in the unit of the table's.
        solidity: of the same objects.
    """

    sizes: NDArray[np.float64]
    solidity: NDArray[np.float64]


def find_suspicious(
    folder: Path,
    objects: Array,
    table: Table,
    grid: VoxelGrid,
    probability: Array,
    *,
    neck: float = 0.0,
    maps: Array | None = None,
    usual: Usual | None = None,
    volume: str = "",
    runner: BlockRunner = IN_TURN,
) -> Generator[TileDone, None, Table]:
    """Score every object by how probably it is wrong.

    An object may be unlike the others in size or shape, the model may be unsure of it, it may have
    a neck (two objects in one), a twin (one object in two) or lie in a single section. Each reason
    has a strength from 0 to 1, and the score is the probability that one of them holds if they
    were independent probabilities: 1 - (1 - a) (1 - b) ... Time and memory are linear in the
    number of objects, and memory is bounded by a block besides.

    Args:
        folder: takes a temporary array, as large as that of the objects.
        objects: (Z, Y, X) ids 1 to n, 0 being background; read lazily.
        table: of the objects, see `napari_emda.objects.table.object_table`, with probabilities.
        grid: of the voxels.
        probability: (Z, Y, X) stored probability (uint8) of the objects' class.
        neck: at which the objects were separated already; 0 for not at all.
        maps: contours and distances of the model, (2, Z, Y, X) uint8; None if it predicts none.
        usual: objects to compare sizes and shapes with, besides the others.
        volume: name for the events.
        runner: carries out the work on the blocks.

    Yields:
        An event per block, in several passes.

    Returns:
        A row per object, in the order of the table: ``id``; ``score`` (0 to 1); ``twin`` (id of an
        object that may belong to it, 0 for none); ``reason`` (a sentence, or nothing).
    """
    count = len(table["id"])
    inside = probability if maps is None else InsideContours(probability, maps)
    contacts = yield from stage(find_contacts(objects, count, grid, inside, volume, runner), 0, 2)
    limit = min(1.0, max(_NECK, neck + _NECK_BEYOND))
    search = find_necks(folder, objects, count, grid, limit, volume, runner)
    shares = yield from stage(search, 1, 2)
    shape = (objects.shape[0], objects.shape[1], objects.shape[2])
    return rank(table, grid, shape, contacts, shares, usual)


def find_necks(
    folder: Path,
    objects: Array,
    count: int,
    grid: VoxelGrid,
    neck: float,
    volume: str = "",
    runner: BlockRunner = IN_TURN,
) -> Generator[TileDone, None, NDArray[np.float64]]:
    """The share of each object that is cut off if all objects are separated at their necks.

    Returns:
        Share of the second largest part, by id.
    """
    path = folder / "cut.zarr"
    cut = ids_in(path, objects.shape)
    parts = ids_in(folder / "bulges", objects.shape) if runner.may_repeat else None
    cutting = separate(objects, cut, grid, neck=neck, volume=volume, parts=parts, runner=runner)
    yield from stage(cutting, 0, 2)
    keys, counts = yield from stage(_count_parts(objects, cut, volume, runner), 1, 2)
    shutil.rmtree(path)
    if parts is not None:
        shutil.rmtree(folder / "bulges")
    shares = np.zeros(count + 1)
    ids = (keys >> np.uint64(32)).astype(np.int64)
    # The largest part of each object comes first.
    order = np.lexsort((-counts, ids))
    ids, counts = ids[order], counts[order]
    first = np.flatnonzero(np.r_[True, np.diff(ids) > 0]) if len(ids) else ids
    total = np.add.reduceat(counts, first) if len(ids) else counts
    second = first + 1
    has_second = (second < len(ids)) & (np.append(ids, -1)[second] == ids[first])
    shares[ids[first[has_second]]] = counts[second[has_second]] / total[has_second]
    return shares


_Counts = tuple[NDArray[np.uint64], NDArray[np.int64]]


def _count_parts(
    objects: Array, cut: Array, volume: str, runner: BlockRunner
) -> Generator[TileDone, None, _Counts]:
    """Voxels of each pair of an object and a part of it: keys, and counts."""
    sums: list[_Counts] = [(np.empty(0, np.uint64), np.empty(0, np.int64))]

    def add(more: _Counts) -> None:
        keys, counts = (np.concatenate(both) for both in zip(sums[0], more, strict=True))
        keys, index = np.unique(keys, return_inverse=True)
        sums[0] = keys, np.bincount(index, counts, len(keys)).astype(np.int64)

    boxes = blocks(Box.whole(objects.shape), block_shape(objects))
    work = _CountParts(objects, cut)
    yield from each_block(runner, work, [(box,) for box in boxes], add, volume)
    return sums[0]


@dataclass(frozen=True)
class _CountParts:
    """Counts the voxels of the pairs in a block."""

    objects: Array
    cut: Array

    def __call__(self, box: Box) -> _Counts:
        ids = np.asarray(self.objects[box.slices])
        inside = ids > 0
        parts = np.asarray(self.cut[box.slices])[inside].astype(np.uint64)
        keys = ids[inside].astype(np.uint64) << np.uint64(32) | parts
        return np.unique(keys, return_counts=True)


def rank(
    table: Table,
    grid: VoxelGrid,
    shape: tuple[int, int, int],
    contacts: Contacts,
    necks: NDArray[np.float64],
    usual: Usual | None = None,
) -> Table:
    """Score objects by what was measured; see `find_suspicious`.

    Args:
        table: of the objects.
        grid: of the voxels.
        shape: of the volume.
        contacts: of the objects.
        necks: by id, see `find_necks`.
        usual: see `find_suspicious`.
    """
    ids = table["id"].astype(np.int64)
    reasons = [
        *_unlike_others(table, touches_border(table, grid, shape), usual),
        _unsure(table),
        _with_neck(ids, necks),
        _with_twin(ids, contacts),
        _in_single_section(table, grid),
    ]
    strengths = np.stack([reason.strength for reason in reasons])
    score = 1 - np.prod(1 - strengths, axis=0)
    order = np.argsort(-strengths, axis=0, kind="stable")[:_NAMED]
    texts = []
    for row in range(len(ids)):
        named = [reasons[k] for k in order[:, row] if strengths[k, row] > _WEAK]
        texts.append(" ".join(reason.sentence(row) for reason in named))
    twins = next(reason for reason in reasons if isinstance(reason, _Twin)).others
    reason_column = np.array(texts, dtype=str) if texts else np.empty(0, "<U1")
    return {"id": ids, "score": score, "twin": twins, "reason": reason_column}


def touches_border(table: Table, grid: VoxelGrid, shape: tuple[int, int, int]) -> NDArray[np.bool_]:
    """Whether the border of the volume may cut each object of a table."""
    touches = np.zeros(len(table["id"]), bool)
    for name in grid.axes:
        low = table[f"{name} start (voxel)"].astype(np.int64)
        high = table[f"{name} stop (voxel)"].astype(np.int64)
        touches |= (low == 0) | (high == shape["zyx".index(name)])
    return touches


@dataclass(frozen=True)
class _Reason:
    """Why objects may be wrong: how strongly, by row, and a sentence with a value of each."""

    strength: NDArray[np.float64]
    text: str
    value: NDArray[np.generic]

    def sentence(self, row: int) -> str:
        return self.text.format(self.value[row])


@dataclass(frozen=True)
class _Size(_Reason):
    def sentence(self, row: int) -> str:
        factor = float(self.value[row])
        if factor >= _COUNTED:
            return f"It is {factor:,.0f} times as large as usual.".replace(",", " ")
        if factor >= 1:
            return f"It is {factor:.2g} times as large as usual."
        return f"It has {100 * factor:.2g} % of the usual size."


@dataclass(frozen=True)
class _Twin(_Reason):
    others: NDArray[np.int64]

    def sentence(self, row: int) -> str:
        return self.text.format(100 * self.value[row], self.others[row])


def _outliers(
    values: NDArray[np.float64], usual: NDArray[np.float64], floor: float
) -> NDArray[np.float64]:
    """How many robust deviations values lie from the median of usual ones; 0 if these are few."""
    if len(usual) < _FEWEST:
        return np.zeros(len(values))
    median = np.median(usual)
    deviation = max(float(_DEVIATION * np.median(np.abs(usual - median))), floor)
    return (values - median) / deviation


def _strength(deviations: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.clip((deviations - _UNUSUAL) / (_EXTREME - _UNUSUAL), 0, 1)


def _unlike_others(table: Table, cut_off: NDArray[np.bool_], usual: Usual | None) -> list[_Reason]:
    sizes = next(table[name] for name in table if name.startswith(("volume (", "area ("))).astype(
        float
    )
    solidity = table["solidity"].astype(float)
    logs = np.log(sizes)
    others = [(logs, solidity)]
    if usual is not None:
        others.append((np.log(usual.sizes), usual.solidity))
    # The floors keep objects that are all alike from being outliers by a voxel.
    size = np.mean([np.abs(_outliers(logs, some, 0.2)) for some, _ in others], axis=0)
    shape = np.mean([-_outliers(solidity, some, 0.03) for _, some in others], axis=0)
    median = float(np.median(np.exp(others[-1][0]))) if len(others[-1][0]) else 1.0
    # What the border of the volume cuts off is smaller than it is.
    size = np.where(cut_off & (sizes < median), 0.0, size)
    return [
        _Size(_strength(size), "", sizes / median),
        _Reason(
            _strength(shape),
            "Its shape is unusual: it fills {:.0f} % of its convex hull.",
            100 * solidity,
        ),
    ]


def _unsure(table: Table) -> _Reason:
    probability = table["mean probability"].astype(float)
    strength = np.clip((_SURE - probability) / (_SURE - _UNSURE), 0, 1)
    return _Reason(strength, "The model is unsure of it: mean probability {:.2f}.", probability)


def _with_neck(ids: NDArray[np.int64], necks: NDArray[np.float64]) -> _Reason:
    shares = necks[ids]
    # Two halves are the surest sign of two objects.
    strength = np.where(shares >= _BUMP, np.clip(2 * shares, 0.3, 0.95), 0)
    text = "It has a neck, beyond which lie {:.0f} % of it: perhaps two objects."
    return _Reason(strength, text, 100 * shares)


def _with_twin(ids: NDArray[np.int64], contacts: Contacts) -> _Twin:
    count = len(contacts.surface)
    strength = np.zeros(count)
    shares = np.zeros(count)
    others = np.zeros(count, np.int64)
    values = contacts.shares * contacts.probability
    # The strongest contact of each object is written last.
    for k in np.argsort(values, kind="stable"):
        a, b = contacts.pairs[k]
        for one, other in ((a, b), (b, a)):
            strength[one] = min(0.95, 3 * values[k])
            shares[one] = contacts.shares[k]
            others[one] = other
    text = (
        "It shares {:.0f} % of the smaller surface with object {}, with little contour between "
        "them: perhaps one object."
    )
    return _Twin(strength[ids], text, shares[ids], np.where(strength > _WEAK, others, 0)[ids])


def _in_single_section(table: Table, grid: VoxelGrid) -> _Reason:
    sections = table["z stop (voxel)"].astype(int) - table["z start (voxel)"].astype(int)
    is_single = sections == 1
    usual = len(sections) and np.median(sections) > 2
    strength = np.where(is_single & bool(usual and not grid.sections_are_independent), _SINGLE, 0.0)
    return _Reason(strength, "It lies in one section alone.", sections)
