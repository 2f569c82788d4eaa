"""Units of work over the workers of a dask client, with what is done, lost and failed."""

from __future__ import annotations

import queue
import time
from collections import deque
from collections.abc import Callable, Generator, Sequence
from typing import Any

from distributed import Client, Future, KilledWorker

from napari_emda.data.box import Box
from napari_emda.errors import EmdaError, JobError, explained
from napari_emda.events import Event, Notice
from napari_emda.inference.work_units import BlockDone, Unit
from napari_emda.jobs.workers.on_worker import RESOURCE, Task, predict_unit

# Seconds between two looks whether the scheduler and any worker are still there.
_LOOK = 1.0
# Seconds without any worker after which the user is told.
_ALONE = 60.0
# Seconds between two looks whether workers must be replaced.
_RENEW = 30.0
# Blocks that fail before the job gives up: by then it is not the blocks that are at fault.
_MOST_FAILED = 10


class Spread:
    """Units of one job on the workers of a client.

    A unit whose worker dies is begun again by another one, which dask does up to three times; then
    the unit may be what kills them. A unit that fails is cut into its tiles, so that only the tile
    is left out that is at fault.

    Args:
        client: of the scheduler.
        task: what to do with the units.
        renew: called now and then, to replace workers that have ended.
    """

    def __init__(self, client: Client, task: Task, renew: Callable[[], None]) -> None:
        self._client = client
        self._task = task
        self._renew = renew
        # Units that nobody has yet. Dask counts the deaths of a worker for all that wait at it, and
        # where workers come and go that is no fault of theirs.
        self._waiting: deque[Unit] = deque()
        self._pending: dict[Any, tuple[Future[Any], Unit]] = {}
        # Futures that have ended, and blocks that are done.
        self._messages: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._reported: set[Box] = set()
        self._failed: list[tuple[Box, BaseException]] = []
        self._total = 0
        self._last_worker = self._renewed = self._looked = time.monotonic()

    def run(self, units: Sequence[Unit]) -> Generator[BlockDone | Event]:
        """Carry out all units.

        Yields:
            Each block once it is on the disk; a Notice if all workers are gone.

        Raises:
            EmdaError: a block has failed. All others are done, unless many have failed.
            JobError: the scheduler is gone.
        """
        self._total = sum(map(len, units))
        self._client.subscribe_topic(self._task.name, self._hear)
        try:
            self._waiting.extend(units)
            while self._waiting or self._pending:
                self._hand_out()
                yield from self._next()
        finally:
            self._client.unsubscribe_topic(self._task.name)
            self._client.cancel([future for future, _ in self._pending.values()], force=True)
        if self._failed:
            raise self._failure()

    def _hear(self, event: tuple[float, dict[str, Any]]) -> None:
        """For `Client.subscribe_topic`; called in the client's own thread."""
        self._messages.put(event[1]["blocks"])

    def _hand_out(self) -> None:
        """Give each worker a unit."""
        workers = max(1, len(self._client.nthreads())) if self._waiting else 0
        while self._waiting and len(self._pending) < workers:
            self._submit(self._waiting.popleft())

    def _submit(self, unit: Unit) -> None:
        future = self._client.submit(
            predict_unit, self._task, unit, pure=False, resources={RESOURCE: 1}
        )
        self._pending[future.key] = future, unit
        future.add_done_callback(self._messages.put)

    def _next(self) -> Generator[BlockDone | Event]:
        """Wait for the next message, and pass on what it says."""
        yield from self._look()
        try:
            message = self._messages.get(timeout=_LOOK)
        except queue.Empty:
            return
        if isinstance(message, Future):
            _, unit = self._pending.pop(message.key)
            if message.status == "finished":
                yield from self._new(message.result())
            elif message.status == "error":
                self._retry(unit, message.exception())
            else:
                raise self._gone()
            return
        yield from self._new([(Box.from_bounds(bounds), is_empty) for bounds, is_empty in message])

    def _new(self, blocks: Sequence[BlockDone]) -> Generator[BlockDone]:
        """Blocks that are new: a unit reports them as it goes on, and all of them in the end."""
        for box, is_empty in blocks:
            if box not in self._reported:
                self._reported.add(box)
                yield box, is_empty

    def _retry(self, unit: Unit, error: BaseException) -> None:
        """Begin what is missing of a unit again, tile by tile; note a tile that fails alone."""
        missing = [tile for tile in unit if tile.native not in self._reported]
        if len(unit) > 1:
            self._waiting.extendleft([tile] for tile in reversed(missing))
            return
        self._failed += [(tile.native, error) for tile in missing]
        if len(self._failed) >= _MOST_FAILED:
            raise self._failure()

    def _look(self) -> Generator[Event]:
        """Whether the scheduler and a worker are there."""
        now = time.monotonic()
        if now - self._looked < _LOOK:
            return
        self._looked = now
        if self._client.status != "running":
            raise self._gone()
        if now - self._renewed > _RENEW:
            self._renewed = now
            self._renew()
        if self._client.nthreads():
            self._last_worker = now
        elif now - self._last_worker > _ALONE:
            self._last_worker = now
            yield Notice("There is no worker at the moment: the job goes on when one comes.")

    def _gone(self) -> JobError:
        return JobError("The scheduler has ended: start it again, and predict again for the rest.")

    def _failure(self) -> EmdaError:
        """What has failed, as one error."""
        box, error = self._failed[0]
        count = len(self._failed)
        if count >= _MOST_FAILED:
            return JobError(
                f"The prediction of '{self._task.volume}' was given up after {count} blocks had "
                f"failed, the first one at {box}: {reason_of(error)} What is done is kept."
            )
        blocks = "1 block" if count == 1 else f"{count} blocks"
        first = "at" if count == 1 else "the first one at"
        return JobError(
            f"{blocks} of {self._total} of '{self._task.volume}' cannot be predicted, {first} "
            f"{box}: {reason_of(error)} All others are done and kept."
        )


def reason_of(error: BaseException) -> str:
    """Why work on a worker has failed, as a sentence."""
    if isinstance(error, KilledWorker):
        return (
            "each worker that tried has died, perhaps for lack of memory; lower the setting "
            "'memory', or use fewer workers."
        )
    sentence = explained(error)
    return str(sentence) if sentence is not None else f"{type(error).__name__}: {error}."
