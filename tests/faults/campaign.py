"""Attacks, each by a name from which it can be repeated, and what is wrong after each.

``fault:annotate:fail:ENOSPC:17``, ``kill:train:torn kill:3``, ``power:decide:names:40``,
``signal:predict:SIGTERM:9``, ``stop:predict:SIGINT:1``, ``start:train:SIGTERM:2``,
``disk:score:EIO:5`` (reading), ``moment:train:12``, ``input:4711``,
``pair:predict:predict last:1``, ``limit:train:AS:60``
"""

from __future__ import annotations

import random
import shutil
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.faults.cases import COMMANDS, CUT_OFF, RUN, Case, wrong_with
from tests.faults.mutations import mutate
from tests.faults.power import Tree, after_power_failure
from tests.faults.server import Outcome
from tests.faults.shim import ERRORS, Change, Fault, changes
from tests.faults.starting import start
from tests.faults.template import Template

# Seconds of the processor within which a command ends after a signal.
MOST_TO_STOP = 3.0

# Seconds of the processor after which a command has begun: before, it is Python that starts.
LONGEST_START = 0.5

DECIDING = ("decide", "take back", "careless")
"""Commands that cannot be repeated: what is decided is decided."""

# Which commands read a file, by a part of its path.
READERS = (
    ("annotations/", ("annotate", "annotate all", "decide", "take back", "suggest", "train")),
    ("regions.jsonl", ("suggest", "annotate", "annotate all", "decide", "take back", "read")),
    ("undo.jsonl", ("suggest", "annotate", "decide", "take back", "read")),
    (f"{CUT_OFF}/log.jsonl", ("resume", "read")),
    (f"{CUT_OFF}/", ("resume", "predict", "predict last", "read", "predict")),
    ("predicted-target", ("score", "export tif", "suggest", "table", "predict again", "read")),
    (".zarr/target", ("score", "export tif", "suggest", "table", "predict again", "annotate")),
    (f"{RUN}/", ("predict again", "suggest", "score", "export tif", "read", "run", "audit")),
    ("project.json", ("suggest", "annotate", "score", "export tif", "read", "predict", "audit")),
    ("predict.json", ("run",)),
    ("brain.zip", ("unpack",)),
    ("given.safetensors", ("start",)),
    ("old.zarr", ("replace zarr",)),
    ("labels.tif", ("annotate", "annotate all", "score", "new", "train")),
    (".tif", ("new", "predict again", "predict", "train", "suggest", "annotate all")),
    ("", ("read", "suggest", "decide", "take back")),
)


@dataclass(frozen=True)
class Problem:
    """Something that is wrong after an attack.

    Attributes:
        kind: ``lost``, ``outside``, ``traceback``, ``hang``, ``silent``, ``sentence``, ``stuck``,
            ``left`` or ``cost``.
        text: what it is.
    """

    kind: str
    text: str


def _kind_of(text: str) -> str:
    starts = {"a traceback": "traceback", "it hung": "hang", "exit status": "traceback"}
    for beginning, kind in starts.items():
        if text.startswith(beginning):
            return kind
    return "cost" if text.endswith(("processor", "MiB")) else "sentence"


def _problems_of(outcome: Outcome, **more: Any) -> list[Problem]:
    return [Problem(_kind_of(text), text) for text in wrong_with(outcome, **more)]


def _late(outcome: Outcome, signalled: float | None) -> list[Problem]:
    """Whether a command has gone on for too long after a signal, in seconds of the processor."""
    taken = 0.0 if signalled is None else outcome.cpu - signalled
    late = Problem("cost", f"{taken:.1f} s of the processor to stop")
    return [late] if taken > MOST_TO_STOP else []


@dataclass(frozen=True)
class Reference:
    """A command as it runs without an attack.

    Attributes:
        changes: that it makes, with those that only read if that was asked.
        result: see `Command.result`.
        cpu: seconds of the processor.
    """

    changes: list[Change]
    result: Any
    cpu: float


class Campaign:
    """Carries out attacks on copies of a project.

    Args:
        template: the project.
    """

    def __init__(self, template: Template) -> None:
        self.template = template
        self._references: dict[tuple[str, bool], Reference] = {}

    def reference(self, name: str, *, reads: bool = False) -> Reference:
        """The command without an attack.

        Args:
            name: of the command.
            reads: whether reading counts as a change.
        """
        if (name, reads) not in self._references:
            case = self.template.copy()
            record = case.folder / "record"
            record.mkdir()
            fault = Fault(reads=reads)
            outcome = case.run(self.template.server, name, fault, record=str(record))
            assert outcome.status == 0, (name, outcome)
            changed = changes(record) if (record / "record").exists() else []
            result = COMMANDS[name].result(case)
            self._references[name, reads] = Reference(changed, result, outcome.cpu)
            self.template.remove(case)
        return self._references[name, reads]

    def attack(self, name: str, keep: str = "") -> list[Problem]:
        """Carry out one attack.

        Args:
            name: of it.
            keep: a name of the copy, which is then kept.
        """
        kind, *parts = name.split(":")
        carry_out: Callable[..., list[Problem]] = getattr(self, f"_{kind}")
        case = self.template.copy(keep)
        try:
            return carry_out(case, *parts)
        finally:
            if not keep:
                self.template.remove(case)

    # -- attacks on writing ------------------------------------------------------------------------

    def _fault(self, case: Case, command: str, action: str, error: str, at: str) -> list[Problem]:
        fault = Fault(action, int(at), ERRORS[error])
        return self._attacked(case, command, fault)

    def _disk(self, case: Case, command: str, error: str, at: str) -> list[Problem]:
        return self._attacked(case, command, Fault("fail", int(at), ERRORS[error], reads=True))

    def _kill(self, case: Case, command: str, action: str, at: str) -> list[Problem]:
        return self._attacked(case, command, Fault(action, int(at)), killed=True)

    def _moment(self, case: Case, command: str, seed: str) -> list[Problem]:
        seconds = random.Random(int(seed)).uniform(0.01, 2.0)
        return self._attacked(case, command, Fault(), killed=True, kill_after=seconds)

    def _signal(self, case: Case, command: str, which: str, at: str) -> list[Problem]:
        record = case.folder / "record"
        record.mkdir()
        fault = Fault("signal", int(at), int(getattr(signal, which)))
        before = case.untouchable()
        outcome = case.run(self.template.server, command, fault, record=str(record))
        found = _problems_of(outcome, allowed=(0, 3))
        sent = [change for change in changes(record) if change.call == "signal"]
        found += _late(outcome, float(sent[0].path) if sent else None)
        return found + self._afterwards(case, command, outcome, before)

    def _stop(self, case: Case, command: str, which: str, seed: str) -> list[Problem]:
        """A signal at a random time of the command's work."""
        number = int(getattr(signal, which))
        after = random.Random(int(seed)).uniform(0, self.reference(command).cpu)
        before = case.untouchable()
        outcome = case.run(self.template.server, command, signal_after=after, signal=number)
        found = _problems_of(outcome, allowed=(0, 3))
        return (
            found
            + _late(outcome, outcome.signalled)
            + self._afterwards(case, command, outcome, before)
        )

    def _start(self, case: Case, command: str, which: str, seed: str) -> list[Problem]:
        """A signal while Python starts, which ends as Python does until it runs our code."""
        after = random.Random(int(seed)).uniform(0, LONGEST_START)
        before = case.untouchable()
        outcome = start(case.request(command), int(getattr(signal, which)), after)
        found = [] if outcome.is_pythons else _problems_of(outcome, allowed=(0, 3))
        return (
            found
            + _late(outcome, outcome.signalled)
            + self._afterwards(case, command, outcome, before)
        )

    def _limit(self, case: Case, command: str, which: str, value: str) -> list[Problem]:
        return self._attacked(case, command, Fault(), limits={which: int(value)})

    def _attacked(
        self, case: Case, command: str, fault: Fault, *, killed: bool = False, **more: Any
    ) -> list[Problem]:
        before = case.untouchable()
        outcome = case.run(self.template.server, command, fault, **more)
        found = []
        if not killed or outcome.status not in (-signal.SIGKILL,):
            found = _problems_of(outcome)
        return found + self._afterwards(case, command, outcome, before)

    def _afterwards(
        self, case: Case, command: str, outcome: Outcome, before: dict[str, str]
    ) -> list[Problem]:
        """What is wrong with a project after a command, and with the same command once more."""
        found = self._kept(case, before)
        expected = self.reference(command).result
        if outcome.status == 0:
            found += self._same(case, command, expected, "the result is another")
        # What is decided cannot be decided once more.
        again = "read" if command in DECIDING else command
        second = case.run(self.template.server, again)
        wrong = _problems_of(second, allowed=(0,))
        if second.status == 2 and not self._same(case, command, expected, ""):
            wrong = _problems_of(second)  # all is done: one sentence says so
        found += [Problem("stuck", f"then: {problem.text}") for problem in wrong]
        if again == command and not wrong:
            found += self._same(case, command, expected, "then the result is another")
        found += self._kept(case, before)
        # Only who writes again clears what was left.
        return found if command in DECIDING else found + _left_behind(case)

    def _kept(self, case: Case, before: dict[str, str]) -> list[Problem]:
        """Whether all that was accepted is there, and nothing else was touched."""
        found = [Problem("lost", text) for text in case.lost(self.template.before)]
        if case.untouchable() != before:
            found.append(Problem("outside", "images, or files outside of the project, changed"))
        return found

    def _same(self, case: Case, command: str, expected: Any, text: str) -> list[Problem]:
        try:
            result = COMMANDS[command].result(case)
        except Exception as error:  # noqa: BLE001 - whatever is wrong with the result
            return [Problem("silent", f"{text} ({type(error).__name__}: {error})")]
        return [] if result == expected else [Problem("silent", text)]

    # -- loss of power -----------------------------------------------------------------------------

    def _power(self, case: Case, command: str, variant: str, at: str) -> list[Problem]:
        record = case.folder / "record"
        record.mkdir()
        before = Tree.of(case.here)
        untouched = case.untouchable()
        case.run(
            self.template.server, command, Fault("kill", int(at)), record=str(record), copies=True
        )
        left = after_power_failure(before, Tree.of(case.here), record, variant)
        shutil.rmtree(case.here)
        left.write(case.here)
        killed = Outcome(-signal.SIGKILL, "", "", 0.0, 0.0, False)
        return self._afterwards(case, command, killed, untouched)

    # -- files that lie ----------------------------------------------------------------------------

    def victim(self, seed: int) -> tuple[Path, str, str]:
        """The file that a seed changes, relative; the command that then reads it; a second one."""
        rng = random.Random(seed)
        here = self.template.whole.here
        files = sorted(path for path in here.rglob("*") if path.is_file() and path.name != ".lock")
        # Each kind of file as often as the others: there are many chunks.
        kinds: dict[str, list[Path]] = {}
        for path in files:
            kinds.setdefault(_file_kind(path), []).append(path)
        path = rng.choice(kinds[rng.choice(sorted(kinds))]).relative_to(here)
        name = path.as_posix()
        if name.startswith("inputs/"):
            command = f"new {path.parts[1]}"
            return path, command, command
        readers = next(readers for part, readers in READERS if part in name)
        return path, rng.choice(readers), rng.choice(readers)

    def _input(self, case: Case, seed: str) -> list[Problem]:
        path, command, second = self.victim(int(seed))
        mutate(case.here / path, int(seed), case.folder / "outside" / "thesis.txt")
        before = case.untouchable()
        outcome = case.run(self.template.server, command)
        found = _problems_of(outcome)
        if second != command:
            found += _problems_of(case.run(self.template.server, second))
        project_files = ("annotations", "regions.jsonl", "undo.jsonl", "labels.tif", "project.json")
        is_other_file = not any(part in path.parts for part in project_files)
        found += self._lost_to_lies(case) if is_other_file else []
        if "inputs" not in path.parts:
            repaired = case.run(self.template.server, "mend")
            found += _problems_of(repaired, allowed=(0, 2))
            # A backup has what was accepted.
            is_in_backup = "annotations" in path.parts and repaired.status == 0
            found += self._lost_to_lies(case) if is_other_file or is_in_backup else []
        if case.untouchable() != before:
            found.append(Problem("outside", "images, or files outside of the project, changed"))
        return found

    def _lost_to_lies(self, case: Case) -> list[Problem]:
        lost = case.lost(self.template.before)
        # What is newly accepted may come from labels that lie.
        return [Problem("lost", text) for text in lost if "without its" not in text]

    # -- two at once -------------------------------------------------------------------------------

    def _pair(self, case: Case, first: str, second: str, _: str) -> list[Problem]:
        before = case.untouchable()
        requests = case.request(first), case.request(second)
        outcomes = self.template.server.run(*requests)
        found = [problem for outcome in outcomes for problem in _problems_of(outcome)]
        found += self._kept(case, before)
        possible = [self._in_turn(names) for names in _orders(first, second)]
        for name, outcome in zip((first, second), outcomes, strict=True):
            if outcome.status == 0 and self._result(case, name) not in [
                results[name] for results in possible if name in results
            ]:
                found.append(Problem("silent", f"{name}: the result is that of neither order"))
        found += _problems_of(case.run(self.template.server, "read"), allowed=(0,))
        return found + _left_behind(case)

    def _result(self, case: Case, command: str) -> Any:
        try:
            return COMMANDS[command].result(case)
        except Exception as error:  # noqa: BLE001 - whatever is wrong with the result
            return f"{type(error).__name__}: {error}"

    def _in_turn(self, names: tuple[str, ...]) -> dict[str, Any]:
        """The results of commands one after the other."""
        case = self.template.copy()
        for name in names:
            case.run(self.template.server, name)
        results = {name: self._result(case, name) for name in names}
        self.template.remove(case)
        return results


def _orders(first: str, second: str) -> Iterator[tuple[str, ...]]:
    yield (first, second)
    yield (second, first)
    # One of them may be refused.
    yield (first,)
    yield (second,)


def _file_kind(path: Path) -> str:
    """Files of one kind are read in the same way."""
    if "inputs" in path.parts:
        return f"input {path.parts[path.parts.index('inputs') + 1]} {path.suffix}"
    if path.name.isdecimal():
        return "chunk of " + next(part for part in path.parts if part.endswith(".zarr"))
    if path.suffix == ".zarr" or path.name == "zarr.json":
        return "metadata of " + next(part for part in path.parts if part.endswith(".zarr"))
    return path.name


def _left_behind(case: Case) -> list[Problem]:
    """Hidden files and folders that nobody will remove."""
    hidden = [path for path in case.here.rglob(".*") if not path.name.endswith(".lock")]
    hidden += case.here.rglob("*.partial")  # zarr's
    return [Problem("left", f"{path.relative_to(case.here)} is left behind") for path in hidden[:1]]
