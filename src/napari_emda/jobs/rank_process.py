"""A further process of a training on several devices: python -m napari_emda.jobs.rank_process.

It reads one line, the job and its rank in it, writes one as soon as it has prepared itself, and
takes part in the steps, see `napari_emda.jobs.ranks`.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import traceback
from pathlib import Path
from typing import Any, TextIO

from napari_emda.data.names import in_one_line
from napari_emda.errors import ExitCode, explained
from napari_emda.inference.device import configure_process
from napari_emda.io import error_log
from napari_emda.jobs.prepare_training import prepare
from napari_emda.jobs.teaching import is_taught, returned_by, taught_volumes
from napari_emda.json_text import parse_json
from napari_emda.project.job_files import TrainJob
from napari_emda.project.project import Project
from napari_emda.training.loop import follow
from napari_emda.training.ranks import RankLost, joined


def main() -> int:
    """Take part in a training; returns the exit code."""
    # A batch system may ask all processes of a job to end. The first one saves, and ends this one.
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    # What a library prints is no message.
    output = sys.stdout
    sys.stdout = sys.stderr
    line = sys.stdin.readline()
    if not line:
        return ExitCode.STOPPED
    threading.Thread(target=_end_with_input, daemon=True).start()
    try:
        _take_part(parse_json(line), output)
    except RankLost:
        return ExitCode.STOPPED
    except Exception as error:  # noqa: BLE001 - whatever it is, the user must hear of it
        error_for_user = explained(error)
        if error_for_user is not error:
            traceback.print_exception(error)
        text = error_log.internal(error) if error_for_user is None else str(error_for_user)
        _say(output, {"error": in_one_line(text)})
        return ExitCode.INTERNAL_ERROR if error_for_user is None else ExitCode.INVALID_INPUT
    return ExitCode.DONE


def _take_part(config: dict[str, Any], output: TextIO) -> None:
    configure_process(config["threads"])
    job = TrainJob.model_validate_json(config["job"])
    rank = config["rank"]
    ranks = config["ranks"]
    with Project.open(job.project) as project:
        folder = None if config["run"] is None else project.run(config["run"])
        # The first one has let the teacher predict: here its answers are opened.
        volumes_of = returned_by(taught_volumes(project, job)) if is_taught(job) else None
        training, _ = prepare(project, job, folder, volumes_of, rank, ranks)
        # Before the first one may write another checkpoint.
        begin = training.load() if folder is not None else 0
        _say(output, {"ready": True})
        with joined(Path(config["meeting"]), rank, ranks, training.compute.device) as joint:
            training.ranks = joint
            follow(training, begin)


def _say(output: TextIO, message: dict[str, Any]) -> None:
    output.write(json.dumps(message) + "\n")
    output.flush()


def _end_with_input() -> None:
    """End when the first process has ended, however that was."""
    while sys.stdin.read(1):
        pass
    os._exit(ExitCode.STOPPED)


if __name__ == "__main__":
    sys.exit(main())
