"""Stacks of consecutive sections, which 3-D networks see as volumes.

Everything outside of a 3-D network knows batches of sections alone, B x C x H x W. The sections of
a stack are consecutive entries of such a batch. Losses, adaptation and augmentation, which work
pixel by pixel or map by map, therefore need not know how many axes a network has.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor, nn


class Stacked(nn.Module):
    """A module that sees several sections at once.

    Attributes:
        stack: number of consecutive entries of a batch that are the sections of one stack.
    """

    def __init__(self, stack: int = 1) -> None:
        super().__init__()
        self.stack = stack


@contextmanager
def in_stacks_of(module: nn.Module, sections: int) -> Iterator[None]:
    """A block in which so many consecutive entries of a batch are one stack."""
    parts = [part for part in module.modules() if isinstance(part, Stacked)]
    before = [part.stack for part in parts]
    for part in parts:
        part.stack = sections
    try:
        yield
    finally:
        for part, sections_before in zip(parts, before, strict=True):
            part.stack = sections_before


def as_volumes(sections: Tensor, stack: int) -> Tensor:
    """(B * stack) x C x H x W to B x C x stack x H x W; no copy of channels-last maps."""
    return sections.unflatten(0, (-1, stack)).transpose(1, 2)


def as_sections(volumes: Tensor) -> Tensor:
    """B x C x D x H x W to (B * D) x C x H x W; no copy of channels-last maps."""
    return volumes.transpose(1, 2).flatten(0, 1)


def of_each_section(values: Tensor, stack: int) -> Tensor:
    """One value for each stack to one for each of its sections: the same for all of them."""
    return values.repeat_interleave(stack, dim=0) if stack > 1 else values
