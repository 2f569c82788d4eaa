"""Connected components of a predicted class, found block by block."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import zarr
from numpy.typing import NDArray
from scipy import ndimage
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from napari_emda.data.array import Array, WritableArray
from napari_emda.data.block_runner import IN_TURN, BlockRunner, Item
from napari_emda.data.blocks import block_shape, blocks
from napari_emda.data.box import Box
from napari_emda.data.probabilities import class_ids
from napari_emda.errors import DataError
from napari_emda.events import TileDone
from napari_emda.io.checked_store import CheckedStore
from napari_emda.objects.by_block import Numbering, Renumber, each_block, lower_face, nothing
from napari_emda.settings.objects import ObjectSettings

T = TypeVar("T")

# Ids are stored as uint32. The limit counts components before small ones are dropped.
MOST_OBJECTS = 2**32 - 1
# 1 Mvoxel, 4 MiB of uint32: small enough to decode for a single object, and near a cube at
# the usual five-fold anisotropy, so that the box of an object meets few chunks.
_CHUNK = (16, 256, 256)


def find_objects(
    probabilities: Array,
    out: WritableArray,
    *,
    threshold: float = 0.5,
    minimum_size: int = 0,
    connectivity: int = 1,
    class_id: int = 1,
    volume: str = "",
    sections_are_independent: bool = False,
    parts: WritableArray | None = None,
    runner: BlockRunner = IN_TURN,
) -> Generator[TileDone, None, int]:
    """Number the connected components of a class.

    Memory is bounded by one block and the number of components.

    The result equals ``skimage.measure.label`` on the whole volume, except for the order of the
    ids: components are found in each block, and those that touch across a block's face are merged.

    Args:
        probabilities: (C - 1, Z, Y, X) uint8, channel c being class c + 1; read lazily.
        out: (Z, Y, X) uint32, overwritten; ids are consecutive from 1, 0 is background. It is
            complete after the last event.
        threshold: see `ObjectSettings`, as the next two.
        minimum_size: in voxels.
        connectivity: 1, 2 or 3.
        class_id: the class whose objects are found, from 1.
        volume: name for the events.
        sections_are_independent: whether objects end with their section.
        parts: as ``out``; takes the components of the blocks. By default ``out`` does, which a
            runner that repeats calls cannot use.
        runner: carries out the work on the blocks.

    Yields:
        An event per block, in three passes.

    Returns:
        The number of objects.

    Raises:
        SettingsError: a setting is out of range.
        DataError: the shapes differ, there is no such class, or there are more components than
            uint32 can number.
    """
    values = {"threshold": threshold, "minimum_size": minimum_size, "connectivity": connectivity}
    settings = ObjectSettings.parse(values)
    _check(probabilities, out, class_id)
    return (
        yield from _Components(
            probabilities,
            out,
            out if parts is None else parts,
            settings,
            class_id,
            volume,
            sections_are_independent,
            runner,
        ).run()
    )


def find_objects_in(
    folder: Path,
    probabilities: Array,
    settings: ObjectSettings,
    class_id: int = 1,
    volume: str = "",
    sections_are_independent: bool = False,
    runner: BlockRunner = IN_TURN,
) -> Generator[TileDone, None, tuple[zarr.Array[Any], int]]:
    """`find_objects` into a new zarr array in ``folder``; returns the array and its count."""
    shape = probabilities.shape[1:]
    objects = ids_in(folder / f"{class_id}.zarr", shape)
    before = folder / f"{class_id}-parts"
    parts = ids_in(before, shape) if runner.may_repeat else None
    count = yield from find_objects(
        probabilities,
        objects,
        threshold=settings.threshold,
        minimum_size=settings.minimum_size,
        connectivity=settings.connectivity,
        class_id=class_id,
        volume=volume,
        sections_are_independent=sections_are_independent,
        parts=parts,
        runner=runner,
    )
    if parts is not None:
        shutil.rmtree(before)
    return objects, count


def ids_in(path: Path, shape: tuple[int, ...]) -> zarr.Array[Any]:
    """A new zarr array for the ids of objects, all 0."""
    chunks = tuple(max(1, min(side, n)) for side, n in zip(_CHUNK, shape, strict=True))
    return zarr.create_array(
        CheckedStore(path), shape=shape, dtype=np.uint32, chunks=chunks, fill_value=0
    )


def _check(probabilities: Array, out: Array, class_id: int) -> None:
    if tuple(out.shape) != tuple(probabilities.shape[1:]):
        raise DataError(
            f"The object array has shape {tuple(out.shape)} and the prediction "
            f"{tuple(probabilities.shape[1:])}: make them equal."
        )
    if not 1 <= class_id <= probabilities.shape[0]:
        raise DataError(
            f"There is no class {class_id} in the prediction: choose 1 to {probabilities.shape[0]}."
        )


class _Components:
    """The three passes of `find_objects` and their state.

    Pass 1 labels each block. Pass 2 collects the pairs of block components that touch across a
    face. Pass 3 writes the final ids. Only sizes and pairs are kept between the passes, so memory
    grows with the number of components and not with the volume.
    """

    def __init__(
        self,
        probabilities: Array,
        out: WritableArray,
        parts: WritableArray,
        settings: ObjectSettings,
        class_id: int,
        volume: str,
        sections_are_independent: bool,
        runner: BlockRunner,
    ) -> None:
        self.out = out
        self.settings = settings
        self.volume = volume
        self.runner = runner
        # Objects of independent sections are not joined along z.
        self.axes = (1, 2) if sections_are_independent else (0, 1, 2)
        self.label = _Label(probabilities, parts, settings, class_id, self.axes)
        block = block_shape(out)
        self.boxes = blocks(Box.whole(out.shape), block)
        self.numbers = Numbering.of(parts, block)
        # Component 0 is the background; its size is never asked for.
        self.sizes = [np.zeros(1, np.int64)]
        # The empty first entry lets a volume of one block be concatenated like any other.
        self.pairs: list[NDArray[np.int64]] = [np.empty((0, 2), np.int64)]

    def run(self) -> Generator[TileDone, None, int]:
        boxes = [(box,) for box in self.boxes]
        yield from self._pass(self.label, boxes, self._count, 0)
        touching = _FindTouching(self.numbers, self.axes, self.settings.connectivity)
        yield from self._pass(touching, boxes, self.pairs.append, 1)
        ids = self._final_ids()
        found = [len(sizes) for sizes in self.sizes[1:]]
        renumber = Renumber(self.numbers.parts, self.out)
        items = self.numbers.renumbered(self.boxes, found, ids)
        yield from self._pass(renumber, items, nothing, 2)
        return int(ids.max())

    def _pass(
        self, work: Callable[..., T], items: Sequence[Item], take: Callable[[T], None], number: int
    ) -> Iterator[TileDone]:
        yield from each_block(self.runner, work, items, take, self.volume, number, 3)

    def _count(self, sizes: NDArray[np.int64]) -> None:
        """Number the components of the next block after those of the blocks before."""
        # Checked before adding, because uint32 would wrap around without a word.
        if self.numbers.count + len(sizes) > MOST_OBJECTS:
            raise DataError(
                f"There are more than {MOST_OBJECTS} objects: choose a higher threshold."
            )
        self.numbers.add(self.boxes[len(self.sizes) - 1], len(sizes))
        self.sizes.append(sizes)

    def _final_ids(self) -> NDArray[np.uint32]:
        """The final id of each block component: in order of first block, 0 if too small."""
        pairs = np.concatenate(self.pairs)
        links = (np.ones(len(pairs), bool), (pairs[:, 0], pairs[:, 1]))
        count = self.numbers.count + 1
        graph = coo_array(links, shape=(count, count))
        object_of = connected_components(graph, directed=False)[1]
        sizes = np.bincount(object_of, np.concatenate(self.sizes))
        # The background is an object of size 0, so a minimum of one voxel drops it.
        large_enough = sizes >= max(self.settings.minimum_size, 1)
        ids = np.zeros(len(sizes), np.uint32)
        objects, first = np.unique(object_of, return_index=True)
        in_order = objects[np.argsort(first)]
        in_order = in_order[large_enough[in_order]]
        ids[in_order] = np.arange(1, len(in_order) + 1)
        return ids[object_of]


@dataclass(frozen=True)
class _Label:
    """Pass 1: labels one block from 1; returns the voxels of its components."""

    probabilities: Array
    parts: WritableArray
    settings: ObjectSettings
    class_id: int
    axes: tuple[int, ...]

    def __call__(self, box: Box) -> NDArray[np.int64]:
        block = np.asarray(self.probabilities[(slice(None), *box.slices)])
        mask = class_ids(block, self.settings.threshold) == self.class_id
        structure = ndimage.generate_binary_structure(3, self.settings.connectivity)
        # Without z among the axes, voxels above and below are no neighbours.
        structure[[0, 2]] &= 0 in self.axes
        labels = np.empty(box.shape, np.uint32)
        found = ndimage.label(mask, structure, output=labels)
        self.parts[box.slices] = labels
        return np.bincount(labels.ravel(), minlength=found + 1)[1:]


@dataclass(frozen=True)
class _FindTouching:
    """Pass 2: pairs of components that touch across the block's lower faces.

    Two layers are read, one on each side of a face. They reach one voxel beyond it, for neighbours
    across its edges and corners.
    """

    numbers: Numbering
    axes: tuple[int, ...]
    connectivity: int

    def __call__(self, box: Box) -> NDArray[np.int64]:
        pairs = [np.empty((0, 2), np.int64)]
        for axis in self.axes:
            if box.start[axis] == 0:
                continue  # the face lies on the border of the volume
            face = lower_face(box, axis).clip(self.numbers.parts.shape)
            layers = np.moveaxis(self.numbers.read(face), axis, 0)
            # The rows of a face across y or x are sections, which may be independent.
            rows = int(0 in self.axes)
            pairs.append(_neighbours(layers[0], layers[1], self.connectivity, rows))
        return np.concatenate(pairs)


def _neighbours(
    low: NDArray[Any], high: NDArray[Any], connectivity: int, rows: int
) -> NDArray[np.int64]:
    """Pairs of ids that are neighbours across two layers.

    Args:
        low: ids of the lower layer, (rows, columns).
        high: ids of the upper layer.
        connectivity: 1 across faces, 2 also across edges, 3 also across corners.
        rows: how many rows apart neighbours may be, 0 or 1.

    Returns:
        n x 2, each pair once.
    """
    pairs = []
    for dy, dx in itertools.product(range(-rows, rows + 1), (-1, 0, 1)):
        if 1 + abs(dy) + abs(dx) > connectivity:
            continue
        below = low[_shifted(dy), _shifted(dx)]
        above = high[_shifted(-dy), _shifted(-dx)]
        both = (below > 0) & (above > 0)
        # Two uint32 in one uint64: np.unique sorts numbers far faster than rows.
        pairs.append(np.unique(below[both].astype(np.uint64) << np.uint64(32) | above[both]))
    keys = np.unique(np.concatenate(pairs))
    return np.stack([keys >> np.uint64(32), keys & np.uint64(2**32 - 1)], axis=1).astype(np.int64)


def _shifted(by: int) -> slice:
    """What overlaps of an axis when another array is moved along it by ``by``."""
    return slice(max(by, 0), min(by, 0) or None)
