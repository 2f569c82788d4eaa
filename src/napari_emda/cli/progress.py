"""The events of a job on a terminal or in a log: progress with the time left."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Generator, Iterator
from typing import IO, Any

from napari_emda.data.names import in_print
from napari_emda.events import (
    Event,
    Finished,
    Notice,
    Phase,
    Started,
    Stepped,
    TileDone,
    Validated,
)
from napari_emda.jobs.stop_signals import stop_signals
from napari_emda.jobs.time_left import A_FEW_SECONDS, TimeLeft, left_in_words

# Seconds between two updates. A line on a terminal is rewritten, so it can follow the work. In a
# file each update is a line of its own: at every step, a night of training would fill the log.
_TERMINAL_SECONDS = 0.2
_LOG_SECONDS = 10.0
# Back to the start of the terminal's line, and clear it (ANSI: CSI K).
_CLEAR_LINE = "\r\x1b[K"


class Stopped(Exception):
    """The user asked to stop; the work so far is kept."""


class Progress:
    """Prints progress with the time left.

    Args:
        stream: a terminal, on which one line is rewritten, or a file, which gets a line now and
            then.
        clock: seconds from any zero; tests give their own.
    """

    def __init__(self, stream: IO[str], clock: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream
        self._is_terminal = stream.isatty()
        self._clock = clock
        self._left = TimeLeft(clock)
        # The first update is due at once: a file would else be empty for seconds.
        self._last_update = float("-inf")
        self._best = ""
        self._phases: set[str] = set()

    @contextlib.contextmanager
    def of(self, preparing: str) -> Iterator[None]:
        """Show what a job does before it has started; at the end of the block, nothing is left.

        In a file nothing is written: invalid input is one line, and nothing else.
        """
        if self._is_terminal and preparing:
            self._rewrite(f"{preparing} …")
        try:
            yield
        finally:
            if self._is_terminal:
                self._rewrite("")

    def show(self, event: Event) -> None:
        """Print an event, if it is one that a user wants to know about."""
        self._left.see(event)
        if isinstance(event, Stepped):
            losses = ", ".join(f"{name} {loss:.3f}" for name, loss in event.losses.items())
            text = f"step {event.step} of {event.steps}: {losses}{self._best}"
            self._advance(text, last=event.step == event.steps)
        elif isinstance(event, TileDone):
            text = f"{event.volume}: block {event.done} of {event.total}"
            self._advance(text, last=event.done == event.total)
        elif isinstance(event, Validated):
            self._best = f", best so far step {event.best}" if event.best else ""
        elif isinstance(event, Phase):
            self._enter(event)
        elif isinstance(event, Started):
            self._best = ""
            self._print_line(f"{event.what} {event.run} on {event.device}")
        elif isinstance(event, Notice | Finished):
            self._print_line(event.text)
            if event.details:
                self._print_line(event.details)

    def _enter(self, phase: Phase) -> None:
        """Print the name of a phase; in a file only once, because phases alternate."""
        if self._is_terminal:
            self._rewrite(f"{phase.name} …{self._time_left()}")
        elif phase.name not in self._phases:
            self._print_line(f"{phase.name} …")
        self._phases.add(phase.name)

    def _advance(self, text: str, *, last: bool) -> None:
        now = self._clock()
        interval = _TERMINAL_SECONDS if self._is_terminal else _LOG_SECONDS
        # The last update is always printed, so that the progress ends at its total.
        if not last and now - self._last_update < interval:
            return
        self._last_update = now
        text += self._time_left()
        if self._is_terminal:
            self._rewrite(text)
        else:
            self._print_line(text)

    def _time_left(self) -> str:
        seconds = self._left.shown_seconds()
        # At the very end, nothing is left to be waited for.
        if seconds is None or seconds < 1:
            return ""
        about = "about " if seconds >= A_FEW_SECONDS else ""
        return f", {about}{left_in_words(seconds)} left"

    def _rewrite(self, text: str) -> None:
        self._stream.write(_CLEAR_LINE + in_print(text))
        self._stream.flush()

    def _print_line(self, text: str) -> None:
        self._stream.write((_CLEAR_LINE if self._is_terminal else "") + in_print(text) + "\n")
        self._stream.flush()


def watch(events: Generator[Event], preparing: str = "") -> dict[str, Any]:
    """Run a job to its end with progress on standard error; returns its result.

    Args:
        events: of the job.
        preparing: what it does before it has started.

    Raises:
        Stopped: on Ctrl-C or SIGTERM; of a training, after the current step.
    """
    progress = Progress(sys.stderr)
    result: dict[str, Any] = {}
    kept = "Stopped on request; the work so far is kept."
    try:
        with progress.of(preparing), stop_signals.noted() as keep, contextlib.closing(events):
            for event in events:
                progress.show(event)
                if isinstance(event, Started) and event.what == "train":
                    kept += f" To go on, train again with --resume {event.run}."
                    keep()
                if isinstance(event, Finished):
                    result = event.result
                elif stop_signals.asked:
                    progress.show(Phase("Stopping: saving what was done"))
                    # Closing the generator lets the job save its work.
                    events.close()
                    raise KeyboardInterrupt
    except KeyboardInterrupt:
        progress.show(Notice(kept))
        raise Stopped from None
    return result
