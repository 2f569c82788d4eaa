"""Images of tiles with the sections that a network sees beside each one, read once (2.5-D)."""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
import torch
from torch import Tensor

from napari_emda.data.context import Context, runs
from napari_emda.data.prefetch import prefetched
from napari_emda.inference.empty_chunks import Empty, empty_chunks
from napari_emda.inference.tiles import BlockReader, Tile


@dataclass(frozen=True)
class _Reading:
    """What is read for a tile, and what of it and of earlier tiles is forgotten afterwards.

    Attributes:
        parts: runs of consecutive sections that no earlier tile at this place has read.
        forgotten: sections that no later tile at this place needs.
    """

    parts: tuple[Tile, ...]
    forgotten: tuple[int, ...]


@dataclass(frozen=True)
class SeenImage:
    """What the network sees of a tile.

    Attributes:
        image: standardised, on the device, B x channels x H x W, one entry for each section.
        empty: which chunks of each section are empty in all that is seen with it.
    """

    image: Tensor
    empty: Empty


def images(
    reader: BlockReader, tiles: Sequence[Tile], context: Context, threads: int = 1
) -> Generator[SeenImage]:
    """The images of tiles.

    While tiles follow each other at the same place, every section is read once, and kept as long as
    a later tile needs it.

    Args:
        reader: of the volume.
        tiles: in the order in which they are predicted.
        context: the sections that are seen with each one.
        threads: that read ahead.
    """
    is_plain = context.is_plain
    readings = _planned(tiles, context)

    def read(part: Tile) -> tuple[Tensor, Empty]:
        # In the reading threads, and before anything is on the device: a GPU waits for no result.
        values = reader.read(part)
        return values, empty_chunks(reader.view, part, reader.seen_of(values), reader.reach)

    stored = prefetched(
        lambda i: [read(part) for part in readings[i].parts],
        0,
        len(readings),
        ahead=threads + 1,
        threads=threads,
    )
    window: dict[int, tuple[Tensor, Empty]] = {}
    with contextlib.closing(stored):
        for tile, reading, values in zip(tiles, readings, stored, strict=True):
            new = [
                (reader.on_device(image, part), empty)
                for (image, empty), part in zip(values, reading.parts, strict=True)
            ]
            if is_plain:
                yield SeenImage(*new[0])
                continue
            for part, (image, empty) in zip(reading.parts, new, strict=True):
                sections = range(part.seen.start[0], part.seen.stop[0])
                window.update(zip(sections, zip(image, empty, strict=True), strict=True))
            seen = context.sections[tile.seen.start[0] : tile.seen.stop[0]].tolist()
            stacks = torch.stack([torch.cat([window[z][0] for z in row]) for row in seen])
            empties = np.stack([np.all([window[z][1] for z in row], axis=0) for row in seen])
            for z in reading.forgotten:
                del window[z]
            yield SeenImage(stacks, empties)


def _planned(tiles: Sequence[Tile], context: Context) -> list[_Reading]:
    """What to read for each tile. It is known beforehand, so that threads can read ahead."""
    if context.is_plain:
        return [_Reading((tile,), ()) for tile in tiles]
    readings: list[_Reading] = []
    for _, group in groupby(tiles, key=_place):
        same_place = list(group)
        needed = [set(context.seen(tile.seen.start[0], tile.seen.stop[0])) for tile in same_place]
        last_use = {z: index for index, sections in enumerate(needed) for z in sections}
        held: set[int] = set()
        for index, (tile, sections) in enumerate(zip(same_place, needed, strict=True)):
            parts = tuple(_at(tile, z0, z1) for z0, z1 in runs(sorted(sections - held)))
            held |= sections
            forgotten = tuple(z for z in held if last_use[z] == index)
            held.difference_update(forgotten)
            readings.append(_Reading(parts, forgotten))
    return readings


def _place(tile: Tile) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Where in the plane a tile lies."""
    return tile.seen.start[1:], tile.seen.stop[1:]


def _at(tile: Tile, first: int, stop: int) -> Tile:
    """Other sections at the place of a tile."""
    return Tile(tile.native.in_sections(first, stop), tile.seen.in_sections(first, stop))
