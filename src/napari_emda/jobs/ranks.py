"""Training on several devices: the processes of all of them but the first, which is the job's own.

Each of them reads the project itself and gets one line, the job. It ends with its standard input,
so that none is left behind however the job ends. It writes nothing: what is learnt, the first has.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Self

import torch
import torch.distributed as dist

from napari_emda.errors import ExitCode, JobError, SettingsError
from napari_emda.inference.device import Compute, threads_of
from napari_emda.json_text import parse_json
from napari_emda.methods.base import methods
from napari_emda.project.job_files import TrainJob
from napari_emda.project.run_folder import RunFolder
from napari_emda.training.ranks import RankLost, joined
from napari_emda.training.trainer import Training

COMMAND = (sys.executable, "-m", "napari_emda.jobs.rank_process")

# What keeps Ctrl-C away on Windows.
_NEW_GROUP = getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0)
# Seconds between two looks whether the other processes are ready, or have ended.
_LOOK = 0.02
# Seconds for a process whose connection is closed to end, and so to say why.
_LAST_WORDS = 10.0


def check_devices(job: TrainJob) -> None:
    """SettingsError if the job cannot be shared among so many devices."""
    count = job.devices or 1
    if count == 1:
        return
    compute = Compute.choose(job.settings.device, job.settings.precision)
    if not dist.is_available():
        raise SettingsError("This torch trains on one device only: choose 1 device.")
    if reason := methods[job.method].one_device:
        raise SettingsError(
            f"{job.method} trains on one device, because {reason}: choose 1 device."
        )
    if count > compute.count:
        kind = {"cuda": "GPU", "cpu": "processor core"}.get(compute.device.type, "such device")
        there_are = f"there is 1 {kind}" if compute.count == 1 else f"there are {compute.count}"
        plural = "" if compute.count == 1 else f" {kind}s"
        up_to = "" if compute.count == 1 else f" to {compute.count}"
        raise SettingsError(
            f"{count} devices are asked for, and {there_are}{plural} here: choose 1{up_to}."
        )
    batch = job.settings.batch
    if batch < count:
        raise SettingsError(
            f"A batch of {batch} cannot be shared among {count} devices: choose at most {batch}, "
            f"or a batch of {count} or more."
        )


def devices_left(job: TrainJob) -> int:
    """How many of the devices of a run there are here, where it goes on."""
    compute = Compute.choose(job.settings.device, job.settings.precision)
    return min(job.devices or 1, compute.count)


class OtherRanks:
    """The processes that train together with this one; a context manager, which ends them.

    Args:
        job: a training, whose devices have been checked.
        run: the folder of the run to continue; None for a new one.
    """

    def __init__(self, job: TrainJob, run: RunFolder | None) -> None:
        self.count = job.devices or 1
        self._job = job
        self._run = run
        self._threads = threads_of(self.count)
        self._before = torch.get_num_threads()
        self._folder = tempfile.TemporaryDirectory(prefix="napari-emda-")
        self._meeting = Path(self._folder.name) / "ranks"
        self._others: list[_Other] = []

    def __enter__(self) -> Self:
        """Start them; they prepare themselves while this process does so."""
        try:
            for rank in range(1, self.count):
                self._others.append(_Other(rank, self._environment(rank), self._config(rank)))
        except BaseException:
            self.__exit__()
            raise
        torch.set_num_threads(self._threads)
        return self

    def __exit__(self, *_: object) -> None:
        for other in self._others:
            other.end()
        self._folder.cleanup()
        torch.set_num_threads(self._before)

    def _config(self, rank: int) -> dict[str, object]:
        return {
            "job": self._job.model_dump_json(),
            "run": None if self._run is None else self._run.name,
            "meeting": str(self._meeting),
            "rank": rank,
            "ranks": self.count,
            "threads": self._threads,
        }

    def _environment(self, rank: int) -> dict[str, str]:
        # The current folder may hold anything: Python is to look for modules elsewhere.
        environment = {**os.environ, "PYTHONSAFEPATH": "1", "TORCH_CPP_LOG_LEVEL": "ERROR"}
        if Compute.choose(self._job.settings.device).device.type == "cuda":
            environment["CUDA_VISIBLE_DEVICES"] = own_gpu_first(os.environ, rank)
        return environment

    def wait_until_ready(self) -> None:
        """Wait until all have prepared themselves; JobError if one fails."""
        while not all(other.is_ready for other in self._others):
            if any(other.has_ended for other in self._others):
                raise self._failure("start the training again")
            time.sleep(_LOOK)

    @contextlib.contextmanager
    def training_with(self, training: Training) -> Iterator[None]:
        """A block in which a training takes its steps with all of them.

        Raises:
            JobError: one of them has ended.
        """
        try:
            with joined(self._meeting, 0, self.count, training.compute.device) as ranks:
                training.ranks = ranks
                yield
        except RankLost:
            saved = training.folder.saved_step
            raise self._failure(
                f"the work up to step {saved} is kept, resume the run {training.folder.name}"
                if saved
                else "start the training again"
            ) from None

    def _failure(self, remedy: str) -> JobError:
        """Which of them has ended and why, as one error."""
        until = time.monotonic() + _LAST_WORDS
        while time.monotonic() < until and not any(other.is_culprit for other in self._others):
            time.sleep(_LOOK)
        culprits = [other for other in self._others if other.is_culprit]
        which = f"process {culprits[0].rank + 1}" if culprits else "another one"
        reason = culprits[0].reason if culprits else "does not answer"
        return JobError(
            f"Of the {self.count} processes of the training, {which} {reason}: {remedy}."
        )


class _Other:
    """One of the processes.

    Args:
        rank: of it.
        environment: of it.
        config: the line that it reads.
    """

    def __init__(
        self, rank: int, environment: dict[str, str], config: Mapping[str, object]
    ) -> None:
        self.rank = rank
        self.is_ready = False
        self._said = ""
        self._process = subprocess.Popen(
            COMMAND,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            text=True,
            # Ctrl-C in a terminal is for the job's process, which ends this one. No new session:
            # among sessions, Linux shares the processor whatever their priority is.
            process_group=0,
            creationflags=_NEW_GROUP,
        )
        self._reader = threading.Thread(target=self._read, daemon=True, name="rank")
        self._reader.start()
        assert self._process.stdin is not None
        # If it has ended already, that is found out where it is waited for.
        with contextlib.suppress(OSError):
            self._process.stdin.write(json.dumps(config) + "\n")
            self._process.stdin.flush()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            with contextlib.suppress(ValueError, AttributeError):
                values = parse_json(line)
                self.is_ready = self.is_ready or bool(values.get("ready"))
                self._said = str(values.get("error", self._said))

    @property
    def has_ended(self) -> bool:
        """Whether it has ended, and all is heard that it had to say."""
        return self._process.poll() is not None and not self._reader.is_alive()

    @property
    def is_culprit(self) -> bool:
        """Whether it has ended for a reason of its own, and not because another one has."""
        return self.has_ended and self._process.returncode not in (ExitCode.DONE, ExitCode.STOPPED)

    @property
    def reason(self) -> str:
        """Why it has ended, as the end of a clause."""
        if self._said:
            return f"has failed ({self._said.rstrip('.')})"
        with contextlib.suppress(ValueError):
            name = signal.Signals(-self._process.returncode).name
            return f"was killed ({name}), perhaps for lack of memory"
        return f"has ended with exit code {self._process.returncode}"

    def end(self) -> None:
        """End it at once: it has nothing to save."""
        self._process.kill()
        self._process.wait()
        self._reader.join()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                # What it has not read is of no use to anybody.
                with contextlib.suppress(OSError):
                    pipe.close()


def own_gpu_first(environment: Mapping[str, str], rank: int) -> str:
    """The value of CUDA_VISIBLE_DEVICES with which "cuda" is the GPU of a rank.

    The others stay visible, because GPUs of one computer exchange numbers directly.

    >>> own_gpu_first({"CUDA_VISIBLE_DEVICES": "4,5,7"}, 1)
    '5,7,4'
    """
    visible = environment.get("CUDA_VISIBLE_DEVICES")
    names = (
        [str(number) for number in range(torch.cuda.device_count())]
        if visible is None
        else [name.strip() for name in visible.split(",")]
    )
    return ",".join([*names[rank:], *names[:rank]])
