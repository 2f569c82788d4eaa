"""What a command does in its process, from its arguments to its end."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import traceback
from typing import NoReturn


def end(arguments: list[str]) -> None:
    """Run a command in this process, and end as Python ends, but for freeing the memory.

    That takes four times as long as a short command.
    """
    status = 1
    try:
        run(arguments)
    except SystemExit as exited:
        status = exited.code if isinstance(exited.code, int) else 0
    except BaseException:  # noqa: BLE001 - Python prints whatever nobody catches, and exits with 1
        traceback.print_exc()
    # What Python does at its end: it waits for the threads that work.
    threading._shutdown()  # type: ignore[attr-defined]
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(status)


def run(arguments: list[str]) -> None:
    """Run a command in this process; ends with SystemExit."""
    from napari_emda import cli

    if arguments[0].startswith("scenario:"):
        _act(arguments[0].removeprefix("scenario:"), arguments[1:])
    cli.main(arguments)


def _act(name: str, arguments: list[str]) -> NoReturn:
    """Run a scenario behind the edges that the dock and the command line have."""
    from napari_emda import cli
    from napari_emda.data.names import in_one_line
    from napari_emda.errors import ExitCode, explained
    from napari_emda.jobs.stop_signals import stop_signals
    from tests.faults import scenarios

    stop_signals.install()
    try:
        cli._check_open_files()
        getattr(scenarios, name)(*arguments)
        stop_signals.ignore()
    except KeyboardInterrupt:
        stop_signals.ignore()
        sys.exit(ExitCode.STOPPED)
    except Exception as error:
        if stop_signals.asked:
            sys.exit(ExitCode.STOPPED)
        sentence = explained(error)
        if sentence is None:
            raise
        sys.stderr.write(f"{in_one_line(str(sentence))}\n")
        sys.exit(ExitCode.INVALID_INPUT)
    sys.exit(ExitCode.DONE)
