"""Events of long work: small and frozen, each one JSON line.

``fit``, ``predict`` and ``suggest`` yield them. At each yield, files and objects are consistent, so
that the caller may stop there.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar, TypeVar

from napari_emda.errors import JobError
from napari_emda.json_text import parse_json

# Filled by `Event.__init_subclass__`, read by `from_json`.
_KINDS: dict[str, type[Event]] = {}
Result = TypeVar("Result")

# How long stopping a training takes: it ends its step, measures normalisation statistics, which
# takes as long as some steps, and writes the files, which takes a second or two.
_STEPS_TO_STOP = 4.0
_WRITING = 1.5


@dataclass(frozen=True)
class Event:
    """Base of all events."""

    kind: ClassVar[str]

    def __init_subclass__(cls) -> None:
        cls.kind = cls.__name__.lower()
        _KINDS[cls.kind] = cls

    def to_json(self) -> str:
        """One line, without a line break."""
        return json.dumps({"event": self.kind, **dataclasses.asdict(self)})


@dataclass(frozen=True)
class Started(Event):
    """A job begins: what it does, on which device, in how many steps or blocks (0: unknown)."""

    what: str
    run: str
    device: str
    total: int


@dataclass(frozen=True)
class Phase(Event):
    """The job goes on to another kind of work; ``name`` is for people.

    The amounts of work say how long the rest of the job takes, before all of it was seen once. All
    phases of a job count in one unit: in steps for a training, in any other unit for other jobs.

    ``work`` is what is left of this phase, 0 for an interruption that no plan foresees.
    ``ahead`` is expected after it, by the names of the phases. ``counted`` is true if `Stepped` or
    `TileDone` events say how much of the phase is done.
    """

    name: str
    work: float = 0.0
    ahead: dict[str, float] = field(default_factory=dict)
    counted: bool = False


@dataclass(frozen=True)
class Advanced(Event):
    """A part of a phase that is not counted is done: whoever stops need not wait for all of it.

    A phase may have several series of parts; ``share`` is that of the whole phase, from 0 to 1; 0
    if it is unknown.
    """

    done: int
    total: int
    share: float = 0.0


@dataclass(frozen=True)
class Stepped(Event):
    """Training made progress.

    ``losses`` are means since the last such event, ``rate`` is steps per second.
    """

    step: int
    steps: int
    losses: dict[str, float]
    rate: float


@dataclass(frozen=True)
class Validated(Event):
    """Label-free scores of the target's prediction.

    ``best`` is the best step so far, 0 if there is none.
    """

    step: int
    scores: dict[str, float]
    best: int = 0


@dataclass(frozen=True)
class Preview(Event):
    """A predicted part of a section is in ``path`` (.npy, uint8, C - 1 x H x W).

    ``box`` is in voxels of the target, ``classes`` are the names of the C - 1 classes.
    """

    step: int
    volume: str
    box: tuple[int, ...]
    path: str
    classes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Translated(Event):
    """A part of a section and its translation to the other volume's style are in ``path``.

    .npy, uint8, 2 x H x W, from three standard deviations below a volume's mean to three above it;
    ``box`` is in voxels of the volume.
    """

    step: int
    volume: str
    box: tuple[int, ...]
    path: str


@dataclass(frozen=True)
class Saved(Event):
    """A file is complete on disk."""

    path: str
    step: int = 0


@dataclass(frozen=True)
class TileDone(Event):
    """One block of a volume is done; ``box`` is z0, z1, y0, y1, x0, x1 in voxels."""

    volume: str
    box: tuple[int, ...]
    done: int
    total: int


@dataclass(frozen=True)
class Suggested(Event):
    """Regions to annotate next, best first; each has ``volume``, ``box`` (text) and ``score``."""

    regions: tuple[dict[str, Any], ...]


@dataclass(frozen=True)
class Notice(Event):
    """Something the user should know, in one sentence; ``details`` say why."""

    text: str
    details: str = ""


@dataclass(frozen=True)
class Stopping(Event):
    """A job was asked to stop: it saves its work, in about ``seconds``; 0 if that is unknown."""

    seconds: float = 0.0


@dataclass(frozen=True)
class Finished(Event):
    """The end of a job.

    ``status`` is ``done`` or ``stopped``, ``text`` says what happened and what to do next,
    ``details`` say why, and ``result`` is for programs.
    """

    status: str
    text: str
    result: dict[str, Any] = field(default_factory=dict)
    details: str = ""


@dataclass(frozen=True)
class Failed(Event):
    """The end by an error; ``mistake`` is true if the user can correct it."""

    text: str
    mistake: bool


def time_to_stop(rate: float) -> float:
    """Seconds in which a training saves its work and ends; 0 if its speed is not known yet.

    Args:
        rate: steps per second.
    """
    return _WRITING + _STEPS_TO_STOP / rate if rate else 0.0


def from_json(line: str) -> Event:
    """Read a line written by `Event.to_json`.

    Raises:
        JobError: the line is not an event.
    """
    try:
        values = parse_json(line)
        kind = _KINDS[values.pop("event")]
        # JSON has no tuples, which frozen events hold in place of lists.
        return kind(
            **{
                key: tuple(value) if isinstance(value, list) else value
                for key, value in values.items()
            }
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        raise JobError(
            f"Not an event: {line[:80]!r}; the child process wrote something else."
        ) from None


def phases(*kinds: tuple[str, float]) -> Iterator[Phase]:
    """The phases of a job that goes through them in this order, each with what is ahead of it.

    Args:
        kinds: names, and amounts of work in any one unit.
    """
    for number, (name, work) in enumerate(kinds, 1):
        ahead: dict[str, float] = {}
        for other, amount in kinds[number:]:
            ahead[other] = ahead.get(other, 0.0) + amount
        yield Phase(name, work, ahead, counted=True)


def result_of(events: Generator[Event, None, Result]) -> Result:
    """Go through events to their end; returns what their generator returns."""
    while True:
        try:
            next(events)
        except StopIteration as end:
            result: Result = end.value
            return result


E = TypeVar("E", bound=Event)


def stage(events: Generator[E, None, Result], index: int, count: int) -> Generator[E, None, Result]:
    """Pass on the events of one of several stages, with TileDone as progress of the whole.

    Each stage counts as an equal share, however long it takes.

    Args:
        events: of the stage.
        index: of the stage, from 0.
        count: number of stages.

    Returns:
        What the stage returns.
    """
    try:
        while True:
            event = next(events)
            if isinstance(event, TileDone):
                done = index * event.total + event.done
                event = dataclasses.replace(event, done=done, total=count * event.total)
            yield event
    except StopIteration as end:
        result: Result = end.value
        return result
    finally:
        events.close()
