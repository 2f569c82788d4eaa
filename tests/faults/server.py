"""A warm process that forks for each command: thousands of commands take minutes.

python -m tests.faults.server    # reads a request a line, see `Request`, and answers each

The process has imported everything before. A fork has its own standard streams, working folder,
limits and fault, runs one command line as `napari_emda.cli.main` does, and ends as Python ends.
"""

from __future__ import annotations

import contextlib
import fcntl
import gc
import io
import json
import os
import resource
import signal
import subprocess
import sys
import threading
import time
import traceback
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tests.faults.running import end, run
from tests.faults.shim import Fault, arm

ROOT = Path(__file__).parents[2]

# Seconds after which a command counts as hanging. Its own time decides (see `Outcome.cpu`), but one
# that waits uses none; on a busy machine a command of one second may take ten.
LONGEST = 150.0
# Bytes that a command may print before it waits for ever.
_MOST_PRINTED = 2**20
# Seconds between two looks at the forks: a command takes at least a hundred times as long.
_LOOK = 0.004


@dataclass(frozen=True)
class Request:
    """A command to run.

    Attributes:
        arguments: of the command line; ``scenario:NAME`` is a function of `tests.faults.scenarios`.
        folder: whose changes are counted, and in which the command runs.
        fault: what happens.
        record: a folder for the list of changes; empty for none.
        copies: whether to keep what is synced there as well.
        limits: ``AS`` (MiB more than now), ``NOFILE``, ``FSIZE``.
        kill_after: seconds until SIGKILL; 0 for never.
        signal_after: seconds of the processor until ``signal``; 0 for never.
        signal: number.
        rehearsed: whether it is run in the warm process itself, to warm it up; nothing is said of
            how it ends.
    """

    arguments: list[str]
    folder: str
    fault: dict[str, Any] = field(default_factory=dict)
    record: str = ""
    copies: bool = False
    limits: dict[str, int] = field(default_factory=dict)
    kill_after: float = 0.0
    signal_after: float = 0.0
    signal: int = 0
    rehearsed: bool = False


@dataclass(frozen=True)
class Outcome:
    """How a command ended.

    Attributes:
        status: exit status; negative for the signal that ended it.
        out: standard output.
        err: standard error.
        cpu: seconds of the processor.
        memory: peak, in MiB.
        hung: whether it was ended because it did not end by itself.
        signalled: seconds of the processor at ``Request.signal``; None if it was not sent.
    """

    status: int
    out: str
    err: str
    cpu: float
    memory: float
    hung: bool
    signalled: float | None = None


def limit(limits: dict[str, int]) -> None:
    """Set limits of this process."""
    for name, value in limits.items():
        if name == "AS":
            pages = int(Path("/proc/self/statm").read_text().split()[0])
            value = pages * resource.getpagesize() + value * 2**20
        number = getattr(resource, f"RLIMIT_{name}")
        resource.setrlimit(number, (value, value))


@dataclass(frozen=True)
class Fork:
    """A command that runs.

    Attributes:
        request: that it carries out.
        pid: process id.
        out: end of the pipe from standard output, for reading.
        err: likewise, of standard error.
    """

    request: Request
    pid: int
    out: int
    err: int

    def texts(self) -> tuple[str, str]:
        """What it has printed; once, after its end."""
        texts = []
        for descriptor in (self.out, self.err):
            with os.fdopen(descriptor, "rb") as file:
                texts.append(file.read().decode(errors="replace"))
        return texts[0], texts[1]


def fork(request: Request) -> Fork | None:
    """Start a command. Returns None in the process of the command itself."""
    sys.stdout.flush()
    # Not files: a limit of their size would count for these as well.
    pipes = os.pipe(), os.pipe()
    pid = os.fork()
    if pid:
        for _, end_to_write in pipes:
            os.close(end_to_write)
        return Fork(request, pid, pipes[0][0], pipes[1][0])
    try:
        os.chdir(request.folder)
        # Standard input is at its end, as in a batch system.
        nothing = os.open(os.devnull, os.O_RDONLY)
        for number, descriptor in enumerate((nothing, pipes[0][1], pipes[1][1])):
            os.dup2(descriptor, number)
        for descriptor in (nothing, *pipes[0], *pipes[1]):
            os.close(descriptor)
        for number in (1, 2):
            fcntl.fcntl(number, fcntl.F_SETPIPE_SZ, _MOST_PRINTED)
        # Those of the server may be files, and would look for their position.
        sys.stdout = os.fdopen(1, "w", closefd=False)
        sys.stderr = os.fdopen(2, "w", buffering=1, errors="backslashreplace", closefd=False)
        limit(request.limits)
        fault = Fault.of(request.fault)
        arm(os.environ["LD_PRELOAD"], request.folder, fault, request.record, copies=request.copies)
    except BaseException:  # noqa: BLE001 - a fork that cannot be set up must not go on as a server
        traceback.print_exc()
        os._exit(99)
    return None


def cpu_of(pid: int) -> float:
    """Seconds of the processor that a process has used, to a hundredth."""
    # Behind the name, which may hold anything: fields 14 and 15 (proc_pid_stat(5)).
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def wait(forks: list[Fork]) -> list[Outcome]:
    """Wait for the ends of forks, and end those that hang."""
    begun = time.monotonic()
    outcomes: dict[int, Outcome] = {}
    ended: set[int] = set()
    signalled: dict[int, float] = {}
    while len(outcomes) < len(forks):
        for one in forks:
            pid = one.pid
            if pid in outcomes:
                continue
            done, status, usage = os.wait4(pid, os.WNOHANG)
            if done:
                out, err = one.texts()
                outcomes[pid] = Outcome(
                    status=os.waitstatus_to_exitcode(status),
                    out=out,
                    err=err,
                    cpu=usage.ru_utime + usage.ru_stime,
                    memory=usage.ru_maxrss / 1024,
                    hung=pid in ended,
                    signalled=signalled.get(pid),
                )
                continue
            request = one.request
            if request.signal_after and pid not in signalled:
                used = cpu_of(pid)
                if used >= request.signal_after:
                    signalled[pid] = used
                    os.kill(pid, request.signal)
            passed = time.monotonic() - begun
            if request.kill_after and passed > request.kill_after:
                os.kill(pid, signal.SIGKILL)
            elif passed > LONGEST and pid not in ended:
                ended.add(pid)
                os.kill(pid, signal.SIGKILL)
        time.sleep(_LOOK)
    return [outcomes[one.pid] for one in forks]


def warm_up(*, with_packages: bool) -> None:
    """Import what commands import; no thread may be started, because a fork would lack it.

    Args:
        with_packages: also what model packages need, which takes as long as torch.
    """
    import napari_emda.cli
    import napari_emda.jobs.execute
    import napari_emda.jobs.export
    import napari_emda.jobs.predict
    import napari_emda.jobs.score
    import napari_emda.jobs.suggest
    import napari_emda.jobs.train
    import napari_emda.jobs.worker
    from napari_emda.active_learning.strategy import strategies
    from napari_emda.export.base import exporters
    from napari_emda.methods.base import methods
    from napari_emda.nn.network import networks
    from tests.faults import scenarios

    assert scenarios
    napari_emda.cli.make_app()
    # Looked up once, so that a fork does not import all of them.
    for registry, name in ((methods, "finetune"), (networks, "unet"), (exporters, "mask")):
        registry[name]
    strategies["entropy"]
    import ome_zarr_models.v05.image
    import torch

    if with_packages:
        import bioimageio.spec  # noqa: F401
    assert ome_zarr_models
    torch.set_num_threads(1)
    # A job lets other programs go first: here, others would wait for it.
    napari_emda.inference.device.configure_process = lambda *_, **__: None
    # What is there now is never freed: looking for garbage would copy its pages in each fork.
    gc.collect()
    gc.freeze()


def rehearse(request: Request) -> None:
    """Run a command in this process, so that forks find ready what it makes once and keeps.

    Half of the time of a short command goes into schemas, registries and regular expressions. A
    backward pass must not be among it: torch refuses it in forks then.
    """
    import zarr.core.sync

    from napari_emda.jobs.stop_signals import stop_signals

    stop_signals.install()
    os.chdir(request.folder)
    nothing = io.StringIO()
    with (
        contextlib.redirect_stdout(nothing),
        contextlib.redirect_stderr(nothing),
        contextlib.suppress(SystemExit),
    ):
        run(request.arguments)
    os.chdir(ROOT)
    # Its threads would be missing in forks.
    zarr.core.sync.cleanup_resources()
    for thread in threading.enumerate():
        if thread is not threading.main_thread():
            thread.join(LONGEST)
    assert threading.active_count() == 1, threading.enumerate()
    stop_signals.release()
    gc.collect()
    gc.freeze()


def main() -> None:
    """Answer requests until there are no more."""
    warm_up(with_packages=len(sys.argv) > 1)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    while line := sys.stdin.readline():
        requests = [Request(**values) for values in json.loads(line)]
        if requests[0].rehearsed:
            for request in requests:
                rehearse(request)
            sys.stdout.write("[]\n")
            sys.stdout.flush()
            continue
        forks = []
        for request in requests:
            one = fork(request)
            if one is None:
                end(request.arguments)
            else:
                forks.append(one)
        outcomes = wait(forks)
        sys.stdout.write(json.dumps([asdict(outcome) for outcome in outcomes]) + "\n")
        sys.stdout.flush()


class Server:
    """The other end: starts the process, sends it requests, and returns outcomes.

    Args:
        built: the library of `tests.faults.shim`.
        folder: for what the commands keep in the cache.
        with_packages: whether model packages are exported, too.
    """

    def __init__(self, built: Path, folder: Path, *, with_packages: bool = False) -> None:
        self.with_packages = with_packages
        environment = {
            **os.environ,
            "LD_PRELOAD": str(built),
            "OMP_NUM_THREADS": "1",
            "NAPARI_EMDA_CACHE": str(folder / "cache"),
            "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)]),
            # Else sets of names are in another order in each process.
            "PYTHONHASHSEED": "0",
        }
        self._process = subprocess.Popen(
            [
                *(sys.executable, "-m", "tests.faults.server"),
                *(["packages"] if with_packages else []),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env=environment,
        )
        self._is_ready = False

    def run(self, *requests: Request) -> list[Outcome]:
        """Run commands at the same time; returns their outcomes in order."""
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        if not self._is_ready:
            assert stdout.readline() == "ready\n", "The server did not start."
            self._is_ready = True
        stdin.write(json.dumps([asdict(request) for request in requests]) + "\n")
        stdin.flush()
        return [Outcome(**values) for values in json.loads(stdout.readline())]

    def close(self) -> None:
        """End the process."""
        with contextlib.suppress(OSError):
            if self._process.stdin is not None:
                self._process.stdin.close()
        if self._process.stdout is not None:
            self._process.stdout.close()
        self._process.wait(30)


if __name__ == "__main__":
    main()
