"""What runs in a worker: it sets itself up, and carries out one unit of work at a time."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import re
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from distributed import Worker, WorkerPlugin, get_worker

from napari_emda import __version__
from napari_emda.data.block_runner import Item
from napari_emda.data.context import Context
from napari_emda.data.resampled import Resampled
from napari_emda.errors import JobError
from napari_emda.inference import device
from napari_emda.inference.device import Compute
from napari_emda.inference.openvino_engine import OpenVino, installed
from napari_emda.inference.predict_tiles import predict_tiles
from napari_emda.inference.predictor import Predictor
from napari_emda.inference.work_units import BlockDone, Unit
from napari_emda.io.safe_files import read_file
from napari_emda.project.owner import Owner
from napari_emda.project.project import Project
from napari_emda.project.run_folder import RunFolder
from napari_emda.project.stored_prediction import StoredPrediction, Write
from napari_emda.settings.prediction import PredictSettings

RESOURCE = "napari-emda"
"""A unit needs one, and a worker has one: its threads belong to the network of a single unit."""

# Seconds between two reports of a worker. So much of its work is lost at most if it is killed.
_REPORT_EVERY = 2.0
# Seconds between two looks whether a unit that was stopped has ended.
_LOOK = 0.02

# Units of one worker follow each other, also where several workers live in one process.
_turn = threading.Lock()
_stopped: set[str] = set()
_running: list[str] = []


@dataclass(frozen=True)
class Task:
    """What a job wants to be predicted. It is sent instead of models and volumes.

    Attributes:
        name: of the job, which no other job has; the blocks that are done are reported under it.
        project: its folder.
        run: name of the run.
        model: path of the model's file.
        volume: name of the volume.
        settings: of the prediction, as JSON.
        owner: the process that owns the prediction.
        version: of napari-emda there.
    """

    name: str
    project: str
    run: str
    model: str
    volume: str
    settings: str
    owner: Owner
    version: str = __version__


class Stopped(JobError):
    """The job of a unit has ended: nothing more may be written."""


class WorkerSetup(WorkerPlugin):
    """Sets up every worker, also those that come later.

    Args:
        belongs_to: the process that started the workers; None if a scheduler had them already.
    """

    name = "napari-emda"

    def __init__(self, belongs_to: Owner | None) -> None:
        self._belongs_to = belongs_to

    async def setup(self, worker: Worker) -> None:
        """Called by dask, once in each worker."""
        if RESOURCE not in worker.state.total_resources:
            await worker.set_resources(**{RESOURCE: 1})
        if self._belongs_to == Owner.of():
            return
        device.configure_process(worker.state.nthreads)
        choose_gpu(worker.name)
        if self._belongs_to is not None:
            # Ctrl-C reaches all processes of a terminal; the job's process ends the others. Events
            # are written to standard output, which its children inherit.
            sys.stdout = sys.stderr
            signal.signal(signal.SIGINT, signal.SIG_IGN)


def choose_gpu(name: object) -> None:
    """Let "cuda" mean another GPU in each worker of a computer.

    Args:
        name: of the worker; those of one computer are numbered, as 0, 1 or gpu-0, gpu-1.
    """
    number = re.search(r"[0-9]+$", str(name))
    # An address ends in a port, which numbers nothing.
    if torch.cuda.is_available() and number is not None and "://" not in str(name):
        torch.cuda.set_device(int(number[0]) % torch.cuda.device_count())


def compute_of(device: str, precision: str) -> tuple[str, bool, str]:
    """The kind of device of this worker, whether it would use bfloat16, and OpenVINO's version."""
    compute = Compute.choose(device, precision)
    return compute.device.type, compute.bf16, installed()


class _SharedPrediction(StoredPrediction):
    """A prediction that another process owns: written only as long as it does.

    Args:
        run: the run whose model predicts.
        task: its owner, and the volume.
    """

    def __init__(self, run: RunFolder, task: Task) -> None:
        super().__init__(run, task.volume)
        self._task = task

    def check(self) -> None:
        """Stopped if the owner has stopped the job, or is gone."""
        if self._task.name in _stopped or self.run.predicting(self.volume) != self._task.owner:
            raise Stopped("The prediction was stopped: predict again for the rest.")

    def writer(self, *, uncertainty: bool, object_maps: bool = False) -> Write:
        """As `StoredPrediction.writer`, but nothing is written once the job has ended."""
        write = super().writer(uncertainty=uncertainty, object_maps=object_maps)

        def checked(*arguments: Any) -> None:
            self.check()
            write(*arguments)

        return checked


@dataclass(frozen=True)
class _Opened:
    """What is loaded once for all units of a job."""

    predictor: Predictor
    view: Resampled
    settings: PredictSettings
    context: Context
    prediction: _SharedPrediction


@functools.lru_cache(maxsize=1)
def _opened(task: Task) -> _Opened:
    """Load the model and open the volume; JobError if they are not those of the job."""
    if task.version != __version__:
        raise JobError(
            f"A worker has napari-emda {__version__}, and the job {task.version}: install the same "
            "version for both."
        )
    settings = PredictSettings.model_validate_json(task.settings)
    project = Project.open(task.project)
    run = RunFolder.of(task.project, task.run)
    predictor = Predictor.load(Path(task.model), settings.device, settings.precision)
    if settings.engine == "openvino":
        if not installed():
            raise JobError(
                "A worker lacks OpenVINO, with which the job predicts: install it there with "
                "pip install 'napari-emda[openvino]', or choose engine=torch."
            )
        predictor.engine = OpenVino(bf16=predictor.compute.bf16)
    volume = project.volumes.open(task.volume)
    prediction = _SharedPrediction(run, task)
    here = {
        "model_file": predictor.model_file,
        "shape": list(volume.shape),
        "precision": "bf16" if predictor.compute.bf16 else "32",
    }
    if settings.engine == "openvino":
        here["engine"] = settings.engine
    header = prediction.header
    if any(header.get(key) != value for key, value in here.items()):
        raise JobError(
            f"A worker finds other files in '{task.project}' than the job: give all computers the "
            "same project folder."
        )
    view = Resampled(volume, predictor.header.pixel_size)
    return _Opened(predictor, view, settings, predictor.header.context_of(view), prediction)


def predict_unit(task: Task, unit: Unit) -> list[BlockDone]:
    """Predict and write the tiles of a unit, and report those that are on the disk.

    A unit whose worker died is begun by another one, which leaves out what the journal lists.

    Returns:
        The tiles that were written, and whether the image of each is empty.
    """
    worker = get_worker()
    with _turn:
        _running.append(task.name)
        try:
            opened = _opened(task)
            opened.prediction.check()
            predicted = opened.prediction.predicted
            tiles = [tile for tile in unit if not predicted.covers(tile.native)]
            reported = []
            for blocks in _on_disk(opened, tiles):
                message = [(box.bounds, is_empty) for box, is_empty in blocks]
                worker.log_event(task.name, {"blocks": message})
                reported += blocks
            return reported
        finally:
            _running.remove(task.name)


def _on_disk(opened: _Opened, tiles: Unit) -> Iterator[list[BlockDone]]:
    """Predict tiles; yields those that are surely on the disk, now and then."""
    waiting: list[BlockDone] = []
    last = time.monotonic()
    predicting = predict_tiles(
        opened.predictor, opened.view, tiles, opened.settings, opened.context, opened.prediction
    )
    with contextlib.closing(predicting):
        for done in predicting:
            waiting.append(done)
            if time.monotonic() - last > _REPORT_EVERY:
                opened.prediction.sync_written()
                yield waiting
                waiting = []
                last = time.monotonic()
    opened.prediction.sync_written()
    yield waiting


def compute_blocks(
    name: str, owner: Owner, work: Callable[..., Any], items: Sequence[Item]
) -> list[Any]:
    """What a function returns for each of some blocks, see `napari_emda.data.block_runner`.

    Args:
        name: of the job.
        owner: the process of the job; nothing more is begun once it has ended.
        work: the function.
        items: its arguments.
    """
    with _turn:
        _running.append(name)
        try:
            results = []
            for item in items:
                if name in _stopped or not owner.alive:
                    raise Stopped("The job was stopped: begin it again.")
                results.append(work(*item))
            return results
        finally:
            _running.remove(name)


async def stop(name: str) -> None:
    """Stop the unit of a job; returns when nothing more is written."""
    _stopped.add(name)
    while name in _running:
        await asyncio.sleep(_LOOK)
    # The model of a job that has ended would stay in the memory.
    _opened.cache_clear()


def reads(path: str) -> bytes:
    """What this worker reads in a file; nothing if it cannot."""
    try:
        return read_file(Path(path))
    except (OSError, JobError):
        return b""


def seen_of(project: str) -> bytes:
    """What this worker sees of ``project.json``; nothing if it cannot read it."""
    return reads(str(Path(project) / "project.json"))
