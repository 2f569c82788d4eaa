"""Events on a terminal: progress with time left."""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Generator
from typing import IO, Any

from napari_emda.events import Event, Finished, Notice, Started, Stepped, TileDone, Validated


class Stopped(Exception):
    """The user asked to stop; what was done is kept."""


class Progress:
    """Progress with time left: one line that is rewritten on a terminal, else a line now and then."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream, self._terminal = stream, stream.isatty()
        self._began = self._last = time.perf_counter()
        self._first: int | None = None
        self._best = ""

    def show(self, event: Event) -> None:
        """Say what an event means."""
        if isinstance(event, Stepped):
            losses = ", ".join(f"{name} {loss:.3f}" for name, loss in event.losses.items())
            self._advance(
                event.step, event.steps, f"step {event.step} of {event.steps}: {losses}{self._best}"
            )
        elif isinstance(event, TileDone):
            self._advance(
                event.done, event.total, f"{event.volume}: block {event.done} of {event.total}"
            )
        elif isinstance(event, Validated):
            self._best = f", kept so far step {event.best}" if event.best else ""
        elif isinstance(event, Started):
            self._began, self._first, self._best = time.perf_counter(), None, ""
            self._line(f"{event.what} {event.run} on {event.device}")
        elif isinstance(event, Notice | Finished):
            self._line(event.text)

    def _advance(self, done: int, total: int, text: str) -> None:
        now = time.perf_counter()
        self._first = done if self._first is None or done < self._first else self._first
        if done < total and now - self._last < (0.2 if self._terminal else 10):
            return
        self._last = now
        gained = done - self._first
        left = (
            f", {_duration((now - self._began) / gained * (total - done))} left"
            if gained and done < total
            else ""
        )
        if self._terminal:
            self._stream.write(f"\r\x1b[K{text}{left}")
            self._stream.flush()
        else:
            self._line(text + left)

    def _line(self, text: str) -> None:
        self._stream.write(("\r\x1b[K" if self._terminal else "") + text + "\n")
        self._stream.flush()


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return (
        f"{hours} h {minutes} min"
        if hours
        else f"{minutes} min {seconds} s"
        if minutes
        else f"{seconds} s"
    )


def watch(events: Generator[Event]) -> dict[str, Any]:
    """Iterate to the end with progress; returns the result.

    Ctrl-C and SIGTERM raise `Stopped` after the step at hand.
    """
    asked = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: asked.set())
    progress, result = Progress(sys.stderr), {}
    for event in events:
        progress.show(event)
        if isinstance(event, Finished):
            result = event.result
        elif asked.is_set():
            events.close()
            progress.show(Notice("Stopped as asked; what was done is kept."))
            raise Stopped
    return result
