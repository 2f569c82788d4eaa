"""A command in a process of its own, from the very start of Python, and a signal meanwhile."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from tests.faults.server import LONGEST, ROOT, Outcome, Request, cpu_of

# Seconds between two looks at the process.
_LOOK = 0.001


@dataclass(frozen=True)
class Started(Outcome):
    """How a command ended that was started anew.

    Attributes:
        is_pythons: whether the signal came before our code had taken it over, so that Python, or
            the system, has ended the process.
    """

    is_pythons: bool = False


def start(request: Request, number: int, after: float) -> Started:
    """Start a command, and send it a signal.

    Args:
        request: without faults and limits.
        number: of the signal.
        after: seconds of the processor until then.
    """
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(ROOT / "src"),
        "NAPARI_EMDA_CACHE": str(Path(request.folder).parent / "cache"),
    }
    environment.pop("LD_PRELOAD", None)
    begun = time.monotonic()
    signalled = None
    hung = False
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        process = subprocess.Popen(
            [sys.executable, "-m", "napari_emda", *request.arguments],
            cwd=request.folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
        )
        while True:
            done, status, usage = os.wait4(process.pid, os.WNOHANG)
            if done:
                break
            if signalled is None and (used := cpu_of(process.pid)) >= after:
                signalled = used
                os.kill(process.pid, number)
            if time.monotonic() - begun > LONGEST and not hung:
                hung = True
                os.kill(process.pid, signal.SIGKILL)
            time.sleep(_LOOK)
        process.returncode = os.waitstatus_to_exitcode(status)
        texts = []
        for file in (out, err):
            file.seek(0)
            texts.append(file.read())
    return Started(
        status=process.returncode,
        out=texts[0],
        err=texts[1],
        cpu=usage.ru_utime + usage.ru_stime,
        memory=usage.ru_maxrss / 1024,
        hung=hung,
        signalled=signalled,
        is_pythons=_is_pythons(process.returncode, texts[1], number),
    )


def _is_pythons(status: int, err: str, number: int) -> bool:
    """Whether nothing of ours was running that could have ended the process in order."""
    # The function that takes the signals over, and everything that it calls.
    if "in main" in err and "napari_emda" in err:
        return False
    return status == -number or (status == 1 and "KeyboardInterrupt" in err)
