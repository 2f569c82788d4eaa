"""A job that goes on without the viewer that has started it, found again by another one."""

from __future__ import annotations

import time
from typing import Any

from napari_emda._gui.process.child import keep_log, last_words
from napari_emda.errors import EmdaError
from napari_emda.events import (
    Failed,
    Finished,
    Preview,
    Stepped,
    TileDone,
    Translated,
    Validated,
    from_json,
)
from napari_emda.project.job_folder import JobFolder
from napari_emda.project.run_folder import RunFolder

# Seconds between two looks for new events.
_LOOK = 0.1
# Seconds after which a process that was told to end is taken not to listen. It looks for commands
# five times a second.
_DEAF = 5.0
# The last event of a job is one of these.
_LAST = (Finished.kind, Failed.kind)
# Of these, only the latest is news to a viewer that has just been opened.
_PROGRESS = (Stepped.kind, Validated.kind, Preview.kind, Translated.kind, TileDone.kind)


class LeftChild:
    """A job that another viewer has left: events and commands go through files.

    It has the methods of `Child`. No signal is sent to the process, because its id is only known
    from a file.

    Args:
        folder: of the job.
    """

    def __init__(self, folder: JobFolder) -> None:
        self.folder = folder
        self._position = 0
        self._ended = False

    @property
    def alive(self) -> bool:
        """Whether the process is still there."""
        owner = self.folder.owner
        return owner is not None and owner.alive

    def launch(self) -> None:
        """Nothing to start."""

    def say(self, command: str, **values: Any) -> None:
        """Send a command."""
        self.folder.say(command, values)

    def take(self, seconds: float) -> list[str] | None:
        """The lines that have come, after waiting at most ``seconds``; None at the end."""
        if self._ended:
            return None
        until = time.monotonic() + seconds
        while True:
            # Asked before the lines are read: those that it writes until it ends are then there.
            gone = not self.alive
            lines = self._lines()
            # Of a process on another computer, only its last event says that it has ended.
            self._ended = gone or any(_kind(line) in _LAST for line in lines)
            if lines or self._ended or time.monotonic() >= until:
                return lines
            time.sleep(min(_LOOK, seconds))

    def _lines(self) -> list[str]:
        """The lines since the last call; at first, of all reports of progress only the latest."""
        try:
            with self.folder.events.open("rb") as file:
                file.seek(self._position)
                text = file.read()
        except (OSError, EmdaError):
            return []
        # The process may be writing the last line just now.
        whole = text[: text.rfind(b"\n") + 1]
        lines = whole.decode(errors="replace").splitlines()
        if not self._position:
            lines = _without_old_progress(lines)
        self._position += len(whole)
        return lines

    # -- the end ---------------------------------------------------------------------------------

    def leave(self) -> None:
        """It goes on by itself already."""

    def hang_up(self) -> None:
        """It goes on by itself: it does not need this viewer."""

    def discard(self) -> None:
        """End the process without saving; returns when it has ended, or does not listen."""
        self.say("discard")
        until = time.monotonic() + _DEAF
        while self.alive and time.monotonic() < until:
            time.sleep(_LOOK)

    @property
    def process_id(self) -> int | None:
        """The id of the running process; None if it has ended."""
        owner = self.folder.owner
        return owner.pid if owner is not None and owner.alive and not self._ended else None

    def exit_reason(self) -> str:
        """How the process ended, as the end of a sentence."""
        return f"ended unexpectedly while napari was closed{last_words(self.folder)}"

    def keep_log(self, run: RunFolder) -> None:
        """Append the log to that of the run."""
        keep_log(self.folder, run)

    def clean(self) -> None:
        """Remove the folder of the job."""
        self.folder.remove()


def _without_old_progress(lines: list[str]) -> list[str]:
    """Without what a night of training has reported, except for the latest of each kind.

    The curves are drawn from the log of the run, and a picture is replaced by the next one.
    """
    kinds = [_kind(line) for line in lines]
    latest = {kind: index for index, kind in enumerate(kinds)}
    return [
        line
        for index, (line, kind) in enumerate(zip(lines, kinds, strict=True))
        if kind not in _PROGRESS or latest[kind] == index
    ]


def _kind(line: str) -> str:
    try:
        return from_json(line).kind
    except EmdaError:
        return ""
