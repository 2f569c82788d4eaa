"""The workers of a job: started on this computer, asked of a queue, or those of a scheduler."""

from __future__ import annotations

import contextlib
import importlib.util
import math
import time
import uuid
from collections.abc import Callable, Generator, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Self, TypeVar

from napari_emda.data.block_runner import IN_TURN, BlockRunner
from napari_emda.data.blocks import BLOCK_VOXELS
from napari_emda.data.volume import Volume
from napari_emda.errors import JobError, SettingsError
from napari_emda.events import Event, Notice, Phase
from napari_emda.inference.openvino_engine import installed
from napari_emda.inference.predictor import Predictor
from napari_emda.inference.work_units import BlockDone, Unit
from napari_emda.io.atomic import workspace
from napari_emda.project.owner import Owner
from napari_emda.project.stored_prediction import StoredPrediction
from napari_emda.settings.prediction import PredictSettings
from napari_emda.settings.where import Where

if TYPE_CHECKING:
    from distributed import Client

T = TypeVar("T")

# Seconds between two looks for the first worker of a queue.
_LOOK = 0.2
# Times that all workers are asked something before the job gives up.
_TRIES = 5
# Seconds between two attempts to replace workers that have died at their start.
_RENEW = 10.0
# Voxels of a volume that is one block, in which there is nothing to share.
_ONE_BLOCK = BLOCK_VOXELS
# Seconds without any worker after which the user is told where to look.
_PATIENCE = 60.0


class Workers:
    """Processes that compute for a job, see `open_workers`.

    Args:
        client: of their scheduler.
        where: the settings.
        project: its folder, which all of them see.

    Attributes:
        openvino: see `napari_emda.inference.work_units.PredictingWorkers`; set by `load`.
    """

    def __init__(self, client: Client, where: Where, project: Path) -> None:
        self._client = client
        self._where = where
        self._project = project
        self.openvino = False

    @property
    def count(self) -> int:
        """How many there are, or were asked for."""
        return self.answering if self._where.scheduler else self._where.workers

    @property
    def answering(self) -> int:
        """How many there are now."""
        return len(self._client.nthreads())

    def __str__(self) -> str:
        if self._where.scheduler:
            return f"the workers of {self._where.scheduler}"
        return "1 worker" if self.count == 1 else f"{self.count} workers"

    def load(self, model: Path, settings: PredictSettings) -> Generator[Event, None, Predictor]:
        """A model whose workers these are, once there is one.

        They only agree if all of them use one number format: bfloat16 where all have it.

        Args:
            model: its file.
            settings: device and precision.

        Yields:
            A Phase while there is no worker.

        Raises:
            EmdaError: a worker has other versions, does not see the project, or lacks the device.
        """
        from napari_emda.jobs.workers import on_worker

        yield from self.prepare()
        answers = yield from self.answered(
            lambda: self._client.run(on_worker.compute_of, settings.device, settings.precision)
        )
        bf16 = all(answer[1] for answer in answers.values())
        self.openvino = all(
            device == "cpu" and version == installed() for device, _, version in answers.values()
        )
        predictor = Predictor.load(model, "cpu", "bf16" if bf16 else "32")
        predictor.workers = self
        return predictor

    def prepare(self) -> Generator[Event]:
        """Wait for the first worker, check all that there are, and set them up; see `load`."""
        from napari_emda.jobs.workers import checks, on_worker

        owner = None if self._where.scheduler else Owner.of()
        setup = on_worker.WorkerSetup(owner)
        yield from self.answered(lambda: checks.check_workers(self._client, self._project))
        yield from self.answered(lambda: self._client.register_plugin(setup))

    def answered(self, ask: Callable[[], T]) -> Generator[Event, None, T]:
        """What all workers answer. If one of them dies meanwhile, they are asked again."""
        for _ in range(_TRIES):
            yield from self._some()
            try:
                return ask()
            except OSError:
                time.sleep(_LOOK)
        raise JobError(
            "Workers end again and again as soon as they have started: look into their logs, and "
            "whether there is memory for so many."
        )

    def _some(self) -> Generator[Event]:
        """Wait until there is a worker."""
        began = renewed = time.monotonic()
        is_announced = False
        if not self._client.nthreads():
            yield Phase(f"Waiting for {self}")
        while not self._client.nthreads():
            if not is_announced and time.monotonic() - began > _PATIENCE:
                is_announced = True
                yield Notice(
                    "No worker has come so far: look whether the jobs wait in the queue, and into "
                    "their logs if they have ended."
                )
            time.sleep(_LOOK)
            if time.monotonic() - renewed > _RENEW:
                renewed = time.monotonic()
                self._renew()

    def _renew(self) -> None:
        """Replace workers that have ended, as those do whose jobs reach their time limit."""
        from napari_emda.jobs.workers import clusters

        if self._client.cluster is not None:
            clusters.renew(self._client.cluster, self._where.workers)

    def predict(
        self,
        predictor: Predictor,
        prediction: StoredPrediction,
        settings: PredictSettings,
        units: Sequence[Unit],
    ) -> Generator[BlockDone | Event]:
        """See `napari_emda.inference.work_units.PredictingWorkers`."""
        from napari_emda.jobs.workers import on_worker
        from napari_emda.jobs.workers.spread import Spread

        if not units:
            return
        precision = "bf16" if predictor.compute.bf16 else "32"
        task = on_worker.Task(
            name=f"napari-emda {uuid.uuid4().hex}",
            project=str(self._project),
            run=prediction.run.name,
            model=str(predictor.path),
            volume=prediction.volume,
            settings=settings.model_copy(update={"precision": precision}).model_dump_json(),
            owner=Owner.of(),
        )
        try:
            yield from Spread(self._client, task, self._renew).run(units)
        finally:
            # Before this process gives up the prediction; workers that it has started are killed.
            if self._where.scheduler:
                with contextlib.suppress(Exception):
                    self._client.run(on_worker.stop, task.name)

    def runner(self, volume: str) -> BlockRunner:
        """Carries out work on the blocks of a volume; the workers are prepared."""
        from napari_emda.jobs.workers.spread_blocks import SpreadBlocks

        return SpreadBlocks(self._client, volume, self._renew)

    def see(self, folder: Path) -> bool:
        """Whether all workers read what this process writes beside a path."""
        from napari_emda.jobs.workers import on_worker

        with workspace(folder / "seen") as beside:
            path = beside / "by-workers"
            path.write_text(uuid.uuid4().hex)
            answers = self._client.run(on_worker.reads, str(path.absolute())).values()
            return all(answer == path.read_bytes() for answer in answers)


class JobWorkers:
    """The workers of a job, which come when they are needed, and stay until its end.

    A context manager.

    Args:
        where: the settings.
        project: its folder.
    """

    def __init__(self, where: Where, project: Path) -> None:
        self._where = where
        self._project = project
        self._stack = contextlib.ExitStack()
        self._workers: Workers | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def open(self) -> Workers | None:
        """Those of `open_workers`; None if the job computes in its own process."""
        if self._workers is None:
            self._workers = self._stack.enter_context(open_workers(self._where, self._project))
        return self._workers

    def runner(self, volume: Volume, folder: Path) -> Generator[Event, None, BlockRunner]:
        """Who works on the blocks of a volume, and writes into a folder.

        Args:
            volume: a small one is worked on by this process.
            folder: its disk.

        Yields:
            A Phase while there is no worker; a Notice if the workers do not see the folder.
        """
        if not self._where.elsewhere or math.prod(volume.shape) <= _ONE_BLOCK:
            return IN_TURN
        workers = self.open()
        # There are some, see above.
        assert workers is not None
        yield from workers.prepare()
        if self._where.scheduler or self._where.cluster:
            sees = yield from workers.answered(lambda: workers.see(folder))
            if not sees:
                yield Notice(
                    f"The workers do not see the folder '{folder}', so that this process works "
                    "alone: choose one that all computers share under the same path."
                )
                return IN_TURN
        return workers.runner(volume.name)


@contextlib.contextmanager
def open_workers(where: Where, project: Path) -> Iterator[Workers | None]:
    """A block with the workers of a job; None if it computes in its own process.

    At the end of the block, workers that were started are ended.

    Args:
        where: the settings.
        project: its folder.

    Raises:
        EmdaError: the settings contradict each other, dask is not installed, the scheduler does not
            answer or cannot be used, or the cluster file is wrong.
    """
    where.check()
    if not where.elsewhere:
        yield None
        return
    if importlib.util.find_spec("distributed") is None:
        raise SettingsError(
            "Several processes need dask: install it with pip install 'napari-emda[cluster]', or "
            "choose 1 worker."
        )
    # It takes a second to load.
    from napari_emda.jobs.workers import checks, clusters

    if where.scheduler:
        with checks.connected(where.scheduler) as client:
            if client.nthreads():
                checks.check_workers(client, project)
            yield Workers(client, where, project)
    elif where.cluster:
        with clusters.of_queue(Path(where.cluster), where.workers, project) as client:
            yield Workers(client, where, project)
    else:
        with clusters.on_this_computer(where.workers) as client:
            yield Workers(client, where, project)
