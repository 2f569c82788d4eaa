"""What long work says while it runs: small frozen events, each one JSON line.

``fit``, ``predict`` and ``suggest`` yield them; at each yield files and objects are consistent.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Generator
from dataclasses import dataclass, field
from typing import Any, ClassVar, TypeVar

from napari_emda.errors import JobError

_KINDS: dict[str, type[Event]] = {}
Result = TypeVar("Result")


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
    """A job begins: what it does, on which device, in how many steps or blocks (0: not known)."""

    what: str
    run: str
    device: str
    total: int


@dataclass(frozen=True)
class Stepped(Event):
    """Training went on; ``losses`` are means since the last such event, ``rate`` is steps per second."""

    step: int
    steps: int
    losses: dict[str, float]
    rate: float


@dataclass(frozen=True)
class Validated(Event):
    """Label-free quality of the target's prediction at a step; ``best`` is the best step so far, 0 without any."""

    step: int
    scores: dict[str, float]
    best: int = 0


@dataclass(frozen=True)
class Preview(Event):
    """A predicted piece of a section lies in ``path`` (.npy, uint8, C-1 x H x W); ``box`` in target voxels.

    ``classes`` are the names of the C - 1 classes.
    """

    step: int
    volume: str
    box: tuple[int, ...]
    path: str
    classes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Translated(Event):
    """A piece of a section and its translation to the other volume's look lie in ``path``; ``box`` in its voxels.

    .npy, uint8, 2 x H x W: from three standard deviations below a volume's mean to three above it.
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
    """The regions to annotate next, best first; each has ``volume``, ``box`` (text) and ``score``."""

    regions: tuple[dict[str, Any], ...]


@dataclass(frozen=True)
class Notice(Event):
    """Something the user should know, in one sentence."""

    text: str


@dataclass(frozen=True)
class Finished(Event):
    """The end: ``status`` is ``done`` or ``stopped``, ``text`` one sentence, ``result`` machine-readable."""

    status: str
    text: str
    result: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Failed(Event):
    """The end by an error: ``mistake`` tells whether the user can mend it."""

    text: str
    mistake: bool


def from_json(line: str) -> Event:
    """The event of a line written by `Event.to_json`; JobError when it is none."""
    try:
        values = json.loads(line)
        kind = _KINDS[values.pop("event")]
        names = {f.name: f for f in dataclasses.fields(kind)}
        return kind(
            **{
                key: tuple(v) if isinstance(v, list) and key in names else v
                for key, v in values.items()
            }
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        raise JobError(
            f"Not an event: {line[:80]!r}; the child process wrote something else."
        ) from None


def stage(
    events: Generator[TileDone, None, Result], index: int, of: int
) -> Generator[TileDone, None, Result]:
    """The events of one of several stages, each counted as an equal share of the whole; returns what that returns."""
    try:
        while True:
            event = next(events)
            yield dataclasses.replace(
                event, done=index * event.total + event.done, total=of * event.total
            )
    except StopIteration as end:
        result: Result = end.value
        return result
    finally:
        events.close()
