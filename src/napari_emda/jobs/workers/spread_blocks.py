"""Work on the blocks of a volume over the workers of a dask client: objects, tables, images."""

from __future__ import annotations

import contextlib
import queue
import time
import uuid
from collections import deque
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from distributed import Client, Future

from napari_emda.data.block_runner import Item
from napari_emda.errors import JobError
from napari_emda.jobs.workers import on_worker
from napari_emda.jobs.workers.on_worker import RESOURCE
from napari_emda.jobs.workers.spread import reason_of
from napari_emda.project.owner import Owner

T = TypeVar("T")

# Seconds between two looks whether the scheduler and any worker are still there.
_LOOK = 1.0
# Seconds without any worker after which this process works itself.
_ALONE = 60.0
# Seconds between two looks whether workers must be replaced.
_RENEW = 30.0
# Blocks that are sent together: those beside each other share chunks, and sending costs some
# milliseconds. Few, so that a stop waits for little, and no worker long for the last one.
_MOST_TOGETHER = 8
_BATCHES_PER_WORKER = 8
# Batches for each worker whose results may wait for those of a block before them.
_AHEAD = 4


@dataclass(frozen=True)
class _Batch:
    """Items that one worker gets, and the number of the first one."""

    first: int
    items: Sequence[Item]


class SpreadBlocks:
    """Calls a function for each of many blocks, on the workers of a client.

    What a worker that has died was to do is begun again by another one, and so is a block that
    fails, alone. Without any worker, this process works itself until one comes.

    Args:
        client: of the scheduler.
        volume: name for messages.
        renew: called now and then, to replace workers that have ended.
    """

    may_repeat = True

    def __init__(self, client: Client, volume: str, renew: Callable[[], None]) -> None:
        self._client = client
        self._volume = volume
        self._renew = renew

    def map(self, work: Callable[..., T], items: Sequence[Item]) -> Generator[T]:
        """See `napari_emda.data.block_runner.BlockRunner`.

        Raises:
            JobError: a block has failed twice, or the scheduler is gone.
        """
        if len(items) < 2:
            for item in items:
                yield work(*item)
            return
        yield from _Pass(self._client, self._volume, self._renew, work, items).run()


class _Pass:
    """A pass over all blocks."""

    def __init__(
        self,
        client: Client,
        volume: str,
        renew: Callable[[], None],
        work: Callable[..., Any],
        items: Sequence[Item],
    ) -> None:
        self._client = client
        self._volume = volume
        self._renew = renew
        self._work = work
        self._count = len(items)
        size = len(items) // (_BATCHES_PER_WORKER * max(1, len(client.nthreads())))
        size = min(_MOST_TOGETHER, max(1, size))
        self._waiting = deque(
            _Batch(first, items[first : first + size]) for first in range(0, len(items), size)
        )
        self._ahead = size * _AHEAD
        self._name = f"napari-emda {uuid.uuid4().hex}"
        self._owner = Owner.of()
        self._pending: dict[Any, tuple[Future[Any], _Batch]] = {}
        self._ended: queue.SimpleQueue[Future[Any]] = queue.SimpleQueue()
        # By number of the item, until those before have come.
        self._results: dict[int, Any] = {}
        self._next = 0
        self._last_worker = self._renewed = time.monotonic()

    def run(self) -> Generator[Any]:
        """Carry out the pass; yields the results in the order of the items."""
        try:
            while self._next < self._count:
                self._hand_out()
                self._receive()
                while self._next in self._results:
                    result = self._results.pop(self._next)
                    self._next += 1
                    yield result
        finally:
            if self._pending:
                self._stop()

    def _hand_out(self) -> None:
        """Give each worker a batch, but none that is far ahead of the others."""
        workers = len(self._client.nthreads())
        end = self._next + self._ahead * max(1, workers)
        while self._waiting and len(self._pending) < workers and self._waiting[0].first < end:
            batch = self._waiting.popleft()
            future = self._client.submit(
                on_worker.compute_blocks,
                self._name,
                self._owner,
                self._work,
                batch.items,
                pure=False,
                resources={RESOURCE: 1},
            )
            self._pending[future.key] = future, batch
            future.add_done_callback(self._ended.put)

    def _receive(self) -> None:
        """Wait for the next batch that has ended, and take its results."""
        try:
            future = self._ended.get(timeout=_LOOK)
        except queue.Empty:
            self._look()
            return
        _, batch = self._pending.pop(future.key)
        if future.status == "finished":
            self._results.update(enumerate(future.result(), batch.first))
        elif future.status == "error":
            self._retry(batch, future.exception())
        else:
            raise _gone()

    def _retry(self, batch: _Batch, error: BaseException) -> None:
        """Begin the items of a batch again, each alone; JobError if it was alone."""
        if len(batch.items) == 1:
            raise JobError(
                f"The block {batch.items[0][0]} of '{self._volume}' cannot be worked on: "
                f"{reason_of(error)} Nothing of the result is kept; what was predicted is."
            )
        alone = [_Batch(batch.first + k, [item]) for k, item in enumerate(batch.items)]
        self._waiting.extendleft(reversed(alone))

    def _look(self) -> None:
        """Whether the scheduler and a worker are there; work here if none is for long."""
        now = time.monotonic()
        if self._client.status != "running":
            raise _gone()
        if now - self._renewed > _RENEW:
            self._renewed = now
            self._renew()
        if self._client.nthreads():
            self._last_worker = now
        elif now - self._last_worker > _ALONE and self._waiting and not self._pending:
            batch = self._waiting.popleft()
            values = [self._work(*item) for item in batch.items]
            self._results.update(enumerate(values, batch.first))

    def _stop(self) -> None:
        """End what is begun; afterwards, nothing more is written."""
        self._client.cancel([future for future, _ in self._pending.values()], force=True)
        with contextlib.suppress(Exception):
            self._client.run(on_worker.stop, self._name)


def _gone() -> JobError:
    return JobError("The scheduler has ended: start it again, and repeat the command.")
