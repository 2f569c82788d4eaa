"""How consecutive sections of a volume become the stacks that a 3-D network sees."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from napari_emda.data.context import check_stacks, section_step
from napari_emda.data.volume import Volume
from napari_emda.nn.network import Network
from napari_emda.nn.stacks import in_stacks_of

EachSection = Callable[[Tensor], Tensor]
"""Brings maps of stacks, of any number of pooled sections, back to one entry for each section."""


@dataclass(frozen=True)
class SectionStacks:
    """What a network needs along z to predict sections of a volume.

    Networks that see single sections need nothing, and take sections as they come.

    Attributes:
        step: sections from one of a stack to the next; those in between are in stacks of their own.
        multiple: of which the number of sections of a stack is a multiple.
        halo: sections of the volume before and after one that can change its prediction.
        trained: sections of the volume that a stack covered in training.
    """

    step: int = 1
    multiple: int = 1
    halo: int = 0
    trained: int = 1

    @classmethod
    def of(cls, network: Network, volume: Volume, distance: float) -> SectionStacks:
        """For a network and a volume.

        Args:
            network: of any kind.
            volume: whose sections are predicted.
            distance: from one section of a stack to the next, in the volume's unit.

        Raises:
            DataError: a 3-D network, and a volume without neighbouring sections.
        """
        if network.stack == 1:
            return cls()
        check_stacks(volume)
        step = section_step(volume.grid, distance)
        return cls(step, network.section_stride, step * network.section_halo, step * network.stack)

    @property
    def deep(self) -> bool:
        """Whether sections are seen together."""
        return self.multiple > 1 or self.halo > 0

    def span(self, first: int, stop: int, depth: int, more: int = 0) -> tuple[int, int]:
        """The sections that must be seen to predict ``first`` to ``stop - 1``.

        Args:
            first: of the sections that are wanted.
            stop: one past the last.
            depth: of the volume.
            more: sections on each side that are wanted as well.

        Returns:
            First, on the grid of the network's poolings, and one past the last.
        """
        grid = self.step * self.multiple
        low = max(0, first - more - self.halo) // grid * grid
        return low, min(depth, stop + more + self.halo)

    def part(self, first: int, stop: int, depth: int) -> tuple[int, int]:
        """As `span`, for an estimate: as far as a stack of the training around a section."""
        more = self.trained // 2
        if not self.deep:
            return first, stop
        grid = self.step * self.multiple
        return max(0, first - more) // grid * grid, min(depth, stop + more)

    @contextlib.contextmanager
    def around(self, network: Network, image: Tensor) -> Iterator[tuple[Tensor, EachSection]]:
        """A block in which a network sees consecutive sections as stacks.

        Args:
            network: sees them.
            image: of the sections, B x channels x H x W; the first one on the grid of poolings.

        Yields:
            What to give to the network, and what brings its maps back to the sections.
        """
        if not self.deep:
            yield image, lambda maps: maps
            return
        count = len(image)
        length = -(-count // (self.step * self.multiple)) * self.multiple
        sections = torch.arange(count, device=image.device)
        # Entry of each section: stack after stack.
        entries = sections % self.step * length + sections // self.step
        # The last section of each stack is repeated, to the end of the grid.
        places = torch.arange(length, device=image.device) * self.step
        offsets = torch.arange(self.step, device=image.device).unsqueeze(1)
        last = (count - 1 - offsets) // self.step * self.step + offsets
        order = torch.minimum(places + offsets, last).flatten().clamp(0, count - 1)

        def back(maps: Tensor) -> Tensor:
            pooled = self.step * length // len(maps)
            return maps[entries // pooled]

        with in_stacks_of(network, length):
            yield image[order], back
