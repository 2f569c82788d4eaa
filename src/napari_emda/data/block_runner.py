"""Who carries out work on the blocks of a volume: this process, or others for it."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import Any, Protocol, TypeVar

T = TypeVar("T")

Item = tuple[Any, ...]
"""The arguments of a call: a `napari_emda.data.box.Box`, and what else the work on it needs."""


class BlockRunner(Protocol):
    """Calls a function for each of many blocks, here or in other processes.

    Functions and arguments that go to other processes are pickled, and arrays on the disk go as
    their paths. A function writes whole chunks alone, so that no two calls write into one.
    """

    @property
    def may_repeat(self) -> bool:
        """Whether a call whose process has died is made again, after it has written a part."""

    def map(self, work: Callable[..., T], items: Sequence[Item]) -> Generator[T]:
        """Call a function with the arguments of each item; yields results in the order of items."""


class InTurn:
    """One block after another, in this process."""

    may_repeat = False

    def map(self, work: Callable[..., T], items: Sequence[Item]) -> Generator[T]:
        """See `BlockRunner`."""
        for item in items:
            yield work(*item)


IN_TURN = InTurn()
