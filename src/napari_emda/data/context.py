"""The neighbouring sections that a network sees with each section of a volume.

They are chosen by their distance in nanometres, so that volumes with sections of different
thickness show the same depth.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from napari_emda.data.box import Box
from napari_emda.data.intensity import Statistics
from napari_emda.data.resampled import Resampled
from napari_emda.data.volume import Volume
from napari_emda.data.voxel_grid import VoxelGrid
from napari_emda.errors import DataError, listed

# Most runs of sections that a sentence names.
_NAMED = 8
# A place half-way between two sections must get the same one of them in every unit of length.
_ROUNDING = 1e-6


@dataclass(frozen=True)
class Context:
    """Which sections are seen with each section of a volume.

    Attributes:
        sections: depth x channels; row z holds the sections that are seen with section z, from the
            lowest to the highest place, with z itself in the middle.
        spoilt: sections that are seen with no other one.
    """

    sections: NDArray[np.int64]
    spoilt: tuple[int, ...] = ()

    @classmethod
    def of(
        cls,
        grid: VoxelGrid,
        depth: int,
        neighbours: int,
        distance: float,
        spoilt: tuple[int, ...] = (),
    ) -> Context:
        """The sections nearest to the wanted places, mirrored at both ends of the volume.

        Independent sections have no neighbours, and are seen several times.

        Args:
            grid: of the volume.
            depth: number of its sections.
            neighbours: wanted on each side.
            distance: from one to the next, in the unit of the grid.
            spoilt: sections that are seen with no other section; the nearest other one takes
                their place, of two as near the one towards the section itself.
        """
        middle = np.arange(depth)[:, None]
        if grid.sections_are_independent:
            return cls(np.repeat(middle, 2 * neighbours + 1, axis=1))
        # Mirrored without repeating the end: the neighbour on the other side is another section.
        # All places repeat themselves after this many sections; a single one is its own neighbour.
        period = max(1, 2 * (depth - 1))
        numbers = range(-neighbours, neighbours + 1)
        offsets = [_offset(number, distance / grid.spacing[0]) % period for number in numbers]
        places = (middle + np.array(offsets)) % period
        sections = np.minimum(places, period - places) % depth
        good = np.setdiff1d(np.arange(depth), list(spoilt))
        # The nearest good section, of two as near the one before (0) and the one after (1).
        replacements = np.stack([np.arange(depth)] * 2)
        for z in np.setdiff1d(np.arange(depth), good) if len(good) else ():
            off = np.abs(good - z)
            replacements[:, z] = good[np.flatnonzero(off == off.min())[[0, -1]]]
        # Towards the middle: augmentation, too, puts the middle in the place of what is missing.
        towards = (sections < middle).astype(int)
        is_middle = np.array(numbers) == 0
        # The middle itself stays: that section is labelled and predicted.
        sections = np.where(is_middle, sections, replacements[towards, sections])
        return cls(sections, spoilt)

    @classmethod
    def none(cls, depth: int, spoilt: tuple[int, ...] = ()) -> Context:
        """Every section alone, and the nearest good one in the place of a spoilt one."""
        sections = np.arange(depth)[:, None]
        good = np.setdiff1d(sections, list(spoilt))
        if len(good):
            for z in spoilt:
                sections[z] = good[np.abs(good - z).argmin()]
        return cls(sections, spoilt)

    @cached_property
    def is_plain(self) -> bool:
        """Whether every section is seen as it is, and alone."""
        numbers = np.arange(len(self.sections))[:, None]
        return np.array_equal(self.sections, numbers)

    @property
    def channels(self) -> int:
        """Number of sections that the network sees at once, one channel for each."""
        return self.sections.shape[1]

    def remarks(self, volume: str) -> list[str]:
        """What a user should know of the context of a volume with this name, in sentences."""
        if self.channels > 1 and (self.sections == self.sections[:, :1]).all():
            kind = "only one" if len(self.sections) == 1 else "independent"
            noun = "section" if len(self.sections) == 1 else "sections"
            return [
                f"'{volume}' has {kind} {noun}: in place of neighbours, the network sees the "
                "section itself again."
            ]
        if not self.spoilt:
            return []
        names = [str(z0) if z1 == z0 + 1 else f"{z0} to {z1 - 1}" for z0, z1 in runs(self.spoilt)]
        if len(names) > _NAMED:
            names = [*names[:_NAMED], f"{len(names) - _NAMED} more"]
        subject, verb = ("Sections", "are") if len(self.spoilt) > 1 else ("Section", "is")
        return [
            f"{subject} {listed(names)} of '{volume}' {verb} empty or unlike the neighbours: "
            "beside other sections, the network sees the nearest good one instead."
        ]

    def seen(self, first: int, stop: int) -> list[int]:
        """All sections that are seen with sections ``first`` to ``stop - 1``, ascending."""
        seen: list[int] = np.unique(self.sections[first:stop]).tolist()
        return seen

    def part(self, first: int, stop: int) -> tuple[list[int], Context]:
        """The sections that ``first`` to ``stop - 1`` are seen with, and the context among them.

        In the volume of these sections alone, ``first`` to ``stop - 1`` see what they see in this
        one. Others among them see only themselves.
        """
        seen = self.seen(first, stop)
        sections = np.repeat(np.arange(len(seen))[:, None], self.channels, axis=1)
        begin = seen.index(first)
        sections[begin : begin + stop - first] = np.searchsorted(seen, self.sections[first:stop])
        return seen, Context(sections)

    def read(self, view: Resampled, statistics: Statistics, box: Box) -> NDArray[np.float32]:
        """Standardised grey values of a box with its neighbours, (z, channel, y, x) float32."""
        if self.is_plain:
            return statistics.read(view, box)[:, None]
        first = box.start[0]
        stop = box.stop[0]
        seen = self.seen(first, stop)
        parts = [statistics.read(view, box.in_sections(z0, z1)) for z0, z1 in runs(seen)]
        return np.concatenate(parts)[np.searchsorted(seen, self.sections[first:stop])]


def _offset(number: int, sections: float) -> int:
    """Sections to the place of a neighbour, from ``sections`` to the first; half-way is further."""
    nearest = math.floor(abs(number) * sections + 0.5 + _ROUNDING)
    return nearest if number >= 0 else -nearest


def runs(sections: Iterable[int]) -> list[tuple[int, int]]:
    """Ascending section numbers as runs of consecutive ones: first, and one past the last."""
    found: list[tuple[int, int]] = []
    for z in sections:
        if found and found[-1][1] == z:
            found[-1] = (found[-1][0], z + 1)
        else:
            found.append((z, z + 1))
    return found


def section_step(grid: VoxelGrid, distance: float) -> int:
    """Sections of a volume from one that is seen to the next, at least 1.

    Args:
        grid: of the volume.
        distance: wanted, in the unit of the grid.
    """
    return max(1, _offset(1, distance / grid.spacing[0]))


def stack_around(
    z: int, count: int, step: int, span: tuple[int, int], rng: np.random.Generator
) -> list[int]:
    """The sections of a stack that holds section z, at any place in it.

    Args:
        z: a section within the span.
        count: number of sections.
        step: from one to the next.
        span: first section that may be seen, and one past the last. Where they are fewer than the
            stack needs, they are continued by their mirror image.
        rng: draws the place.
    """
    low, high = span
    depth = high - low
    # How many sections of the stack come before z: as many as there are, and enough that the stack
    # ends within the span.
    lacking = z - high + step * (count - 1) + 1
    fewest = max(0, -(-lacking // step))
    most = min(count - 1, (z - low) // step)
    if fewest > most:
        fewest = 0
        most = count - 1
    first = z - low - step * int(rng.integers(fewest, most + 1))
    period = max(1, 2 * (depth - 1))
    numbers = (first + step * np.arange(count)) % period
    sections: list[int] = (low + np.minimum(numbers, period - numbers)).tolist()
    return sections


def check_stacks(volume: Volume) -> None:
    """DataError if a volume has no neighbouring sections, which 3-D networks need."""
    if volume.shape[0] > 1 and not volume.grid.sections_are_independent:
        return
    reason = "has one section" if volume.shape[0] == 1 else "consists of independent images"
    raise DataError(
        f"'{volume.name}' {reason}, and 3-D networks see neighbouring sections: choose the network "
        "unet."
    )


def common_section_distance(volumes: Sequence[Volume]) -> float:
    """The coarsest distance between sections among volumes, in their unit.

    Every volume can show this depth. Where all have independent sections, 1: none has neighbours.
    """
    distances = [
        volume.grid.spacing[0] for volume in volumes if not volume.grid.sections_are_independent
    ]
    return max(distances, default=1.0)
