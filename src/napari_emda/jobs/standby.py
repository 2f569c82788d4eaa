"""A process that has loaded what jobs need, and waits for one: python -m napari_emda.jobs.standby.

Importing torch and all methods takes seconds. Once done, the process writes a line, and then reads
one, a JSON object with the job file as ``job``. From then on it is the process of that job, as that
of ``napari-emda run JOB --json``. It ends when its standard input does.
"""

from __future__ import annotations

import os
import sys
import threading
from importlib import import_module
from pathlib import Path

from napari_emda.json_text import parse_json
from napari_emda.project.job_folder import READY, JobFolder

# Higher numbers give way to others; the user is working in the viewer meanwhile.
_NICE = 10


def main() -> int:
    """Load everything, wait for a job file, and run the job; returns its exit code."""
    # In a thread, so that the end of input is noticed while the modules load.
    threading.Thread(target=_load, daemon=True, name="napari-emda load").start()
    line = sys.stdin.readline()
    if not line:
        # The viewer is gone, or needs no job: there is nothing to save.
        os._exit(0)
    job = Path(parse_json(line)["job"])
    from napari_emda.jobs import worker

    # What libraries print goes to the log of the job, whose folder was not known at the start.
    log = os.open(JobFolder(job.parent).log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(log, sys.stderr.fileno())
    os.close(log)
    return worker.run(job)


def _load() -> None:
    _give_way()
    # The order matters little; all kinds of jobs and all that they look up by name.
    for kind in ("worker", "train", "predict", "suggest", "export", "score"):
        import_module(f"napari_emda.jobs.{kind}")
    from napari_emda.active_learning.strategy import strategies
    from napari_emda.export.base import exporters
    from napari_emda.methods.base import methods
    from napari_emda.nn.network import networks

    for registry in (methods, strategies, networks, exporters):
        registry.names()
    sys.stdout.write(READY + "\n")
    sys.stdout.flush()


def _give_way() -> None:
    """Load after whatever else wants the processor, where a single thread can do so."""
    # On Linux a thread has a priority of its own. Elsewhere the whole process would, and could not
    # take it back for the job.
    if sys.platform == "linux":
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICE)


if __name__ == "__main__":
    sys.exit(main())
