"""How long a job still takes, learnt from its events."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass

from napari_emda.events import Advanced, Event, Phase, Started, Stepped, TileDone

# Share of a phase after which a measurement counts half as much: long enough to average uneven
# steps, short enough to follow a method whose second half is slower.
_HALF_LIFE = 0.15

# Share of a phase that is measured at a time, if the phase says how far it is. Its first parts are
# often slower or faster than the rest: they measure statistics on small patches.
_PART = 0.2

# What was measured before a measurement of a phase that comes again counts half as much.
_HALF = 0.5

# Weight of the first measurement: the first steps also start threads and fill caches.
_FIRST_WEIGHT = 0.25

# What takes longer than expected is expected to need this share of its time once more.
_OVERDUE = 0.1

# Seconds of work that have to be measured before more than a few seconds are promised: the first
# calls of a process load code and fill caches, and say little of those that follow.
_SETTLED = 3.0

# The time on view counts down evenly, unless the estimate differs by more than this factor and
# these seconds.
_TOLERANCE = 1.15
_TOLERATED_SECONDS = 1.0

# Seconds up to which a time is given in seconds and in minutes. Rounding changes it by less than a
# third.
_LONGEST_IN_SECONDS = 90
_LONGEST_IN_MINUTES = 90 * 60

# Above this, seconds are given in steps of five: numbers that change all the time are not read.
_SINGLE_SECONDS = 20

# Below this, a number would promise more than is known: one phase that takes two seconds longer
# than expected makes it wrong by far.
A_FEW_SECONDS = 10


def left_in_words(seconds: float) -> str:
    """A time left: a few seconds, 45 s, 3 min, 2 h 30 min."""
    return "a few seconds" if seconds < A_FEW_SECONDS else duration(seconds)


def duration(seconds: float) -> str:
    """A time in words: 8 s, 45 s, 3 min, 2 h 30 min."""
    if seconds < _SINGLE_SECONDS:
        return f"{max(1, round(seconds))} s"
    if seconds < _LONGEST_IN_SECONDS:
        return f"{5 * round(seconds / 5)} s"
    minutes = round(seconds / 60)
    if seconds < _LONGEST_IN_MINUTES:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if minutes else f"{hours} h"


@dataclass
class _Pace:
    """Seconds per unit of work in one kind of phase; recent measurements count more."""

    seconds: float = 0.0
    work: float = 0.0

    def add(self, seconds: float, work: float, decay: float) -> None:
        """Add a measurement; what was measured before it counts ``decay`` times as much."""
        weight = 1.0 if self.work else _FIRST_WEIGHT
        self.seconds = self.seconds * decay + weight * seconds
        self.work = self.work * decay + weight * work

    @property
    def rate(self) -> float:
        """Seconds per unit of work."""
        return self.seconds / self.work


class TimeLeft:
    """Follows the events of a job and estimates the seconds until its end.

    Every kind of phase has its own pace. One that has not been seen yet is expected to be as fast
    as others like it. Interruptions, such as previews, are expected to take the
    same share of the time as before.

    Args:
        clock: seconds from any zero; tests give their own.

    Attributes:
        phase: name of the current phase; empty before the first.
        done: steps or blocks that are done.
        total: how many there are; 0 while that is unknown.
        unit: ``steps`` or ``blocks``.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self.restart()

    def restart(self) -> None:
        """Forget everything, for the next job."""
        self.phase = ""
        self.done = 0
        self.total = 0
        self.unit = "steps"
        self._current = Phase("")
        self._rest = 0.0  # work that is left of the current phase
        self._left: dict[str, float] = {}  # steps or blocks of counted phases, at the last count
        self._paces: dict[str, _Pace] = {}
        # Seconds in counted phases since their last count: a phase may be interrupted between two.
        self._pending: defaultdict[str, float] = defaultdict(float)
        self._counting = 0.0  # seconds in counted phases
        self._measured = 0.0  # seconds whose work is known
        self._interrupting = 0.0
        self._earlier = 0.0  # work that was done before this job, which continues it
        self._fraction = 0.0
        self._shown: tuple[float, float] | None = None  # seconds left, and when they were shown
        self._pause: float | None = None  # when it began
        self._away = 0.0  # seconds of all pauses
        self._began = self._phase_began = self._since = self._now()

    def _now(self) -> float:
        """The time without pauses."""
        return (self._clock() if self._pause is None else self._pause) - self._away

    # -- what has happened -------------------------------------------------------------------------

    def see(self, event: Event) -> None:
        """Learn from an event."""
        if isinstance(event, Started):
            # What came before has no part in the work.
            self._began = self._since = self._now()
            self._interrupting = 0.0
        elif isinstance(event, Phase):
            self._enter(event)
        elif isinstance(event, Advanced):
            self._advance(event.share)
        elif isinstance(event, Stepped):
            self.unit = "steps"
            self._count(event.step, event.steps, event.rate)
        elif isinstance(event, TileDone):
            self.unit = "blocks"
            self._count(event.done, event.total)

    def pause(self, paused: bool) -> None:
        """Leave out the time from now on, until the pause ends."""
        if paused and self._pause is None:
            self._pause = self._clock()
        elif not paused and self._pause is not None:
            self._away += self._clock() - self._pause
            self._pause = None

    def _spent(self) -> float:
        """Seconds since the last call."""
        now = self._now()
        spent = now - self._since
        self._since = now
        return spent

    def _enter(self, phase: Phase) -> None:
        spent = self._spent()
        before = self._current
        if before.counted:
            self._pending[before.name] += spent
            self._counting += spent
        elif before.work:
            self._measure(spent, self._rest)
        else:
            self._interrupting += spent
        if phase.name != before.name:
            self._phase_began = self._since
        self.phase = phase.name
        self._current = phase
        self._rest = phase.work

    def _advance(self, share: float) -> None:
        """A share of the current phase is done."""
        whole = self._current.work
        done = share * whole - (whole - self._rest)
        if not self._current.counted and done >= _PART * whole > 0:
            self._measure(self._spent(), done)
            self._rest -= done

    def _measure(self, seconds: float, work: float) -> None:
        """Note how long work of the current phase has taken, which only its end or share says."""
        whole = self._current.work
        self._measured += seconds
        # Parts of a phase soon count more than what was measured before it.
        half_lives = 1.0 if work == whole else work / (_HALF_LIFE * whole)
        if work > 0:
            self._pace(self._current.name).add(seconds, work, _HALF**half_lives)

    def _count(self, done: int, total: int, rate: float = 0.0) -> None:
        spent = self._spent()
        current = self._current
        left = total - done
        if not current.counted:
            # A child of an older version, or of another package, says nothing of its phases.
            gained = min(float(done), max(1.0, rate * spent))
            self.phase = self.phase or ("Training" if self.unit == "steps" else "Working")
            current = self._current = Phase(self.phase, left + gained, counted=True)
            self._rest = current.work
        name = current.name
        self._counting += spent
        seconds = self._pending[name] + spent
        self._pending[name] = 0.0
        before = self._left.get(name, 0)
        if before < left or not before:
            # The first count of a series; a phase may have several. Blocks come one by one, and
            # steps are the unit of work.
            self._rest = self._rest or current.work
            before = self._rest if self.unit == "steps" else left + 1.0
            self._earlier += self._rest * max(0.0, total - before) / max(1.0, before)
        # A training that is complete when it is continued has no step left.
        work = self._rest * (before - left) / before if before else 0.0
        if work > 0:
            self._rest -= work
            self._measured += seconds
            half_lives = work / (_HALF_LIFE * (work + self._rest))
            self._pace(name).add(seconds, work, _HALF**half_lives)
        self._left[name] = left
        self.done = done
        self.total = total

    def _pace(self, name: str) -> _Pace:
        return self._paces.setdefault(name, _Pace())

    # -- what is to come ---------------------------------------------------------------------------

    @property
    def counting(self) -> bool:
        """Whether steps or blocks say how much of the current phase is done."""
        return self._current.counted

    @property
    def in_phase(self) -> float:
        """Seconds since the current phase began."""
        return self._now() - self._phase_began

    def seconds(self) -> float | None:
        """Estimated seconds until the end; None before anything was measured."""
        if not self._paces:
            return None
        # Interruptions come while a counted phase goes on.
        share = 1.0 + (self._interrupting / self._counting if self._counting else 0.0)
        left = 0.0
        for name, work in self._current.ahead.items():
            left += work * self._rate(name) * (share if name in self._pending else 1.0)
        expected = self._rest * self._rate(self._current.name)
        spent = self._now() - self._since
        if self._current.counted:
            expected *= share
            spent += self._pending[self._current.name]
        if self._current.work:
            left += expected - spent if spent < expected else _OVERDUE * spent
        return left

    def _rate(self, name: str) -> float:
        """Seconds per unit of work of a kind of phase."""
        if name in self._paces:
            return self._paces[name].rate
        # Steps go forward and back, all else mostly forward: it has more in common with its like.
        alike = [pace for other, pace in self._paces.items() if other not in self._pending]
        alike = alike or list(self._paces.values())
        return sum(pace.seconds for pace in alike) / sum(pace.work for pace in alike)

    def shown_seconds(self) -> float | None:
        """The estimate as it is shown: it counts down, and changes only if it was far off.

        None as long as a number would promise more than is known.
        """
        left = self.seconds()
        if left is None or (left >= A_FEW_SECONDS and self._measured < _SETTLED):
            return None
        now = self._now()
        if self._shown is not None:
            counted_down = self._shown[0] - (now - self._shown[1])
            difference = abs(left - counted_down)
            factor = max(left, counted_down) / max(min(left, counted_down), 1e-9)
            if counted_down > 0 and (difference < _TOLERATED_SECONDS or factor < _TOLERANCE):
                return counted_down
        self._shown = (left, now)
        return left

    def fraction(self) -> float | None:
        """Share of the job that is done, from 0 to 1 and never falling; None if unknown."""
        left = self.seconds()
        if left is None:
            return None
        spent = self._now() - self._began + self._earlier * self._rate(self.phase)
        if spent + left > 0:
            self._fraction = max(self._fraction, spent / (spent + left))
        return self._fraction
