"""The available methods, strategies, networks and exports.

A child process lists them, because importing them loads torch, which the viewer must not.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from napari_emda._gui.process import catalogue_file
from napari_emda._gui.process.asking import ask
from napari_emda.errors import JobError
from napari_emda.json_text import parse_json
from napari_emda.project.project import Project
from napari_emda.settings.requirements import Available, Requirements

# The interpreter of the viewer, so that the child finds the same packages.
COMMAND = (sys.executable, "-m", "napari_emda", "methods", "--json")


@dataclass(frozen=True)
class Choice:
    """A method, strategy or network: name, summary, JSON schema of its settings, requirements.

    ``recommended`` is its place among those that are offered first, from 1; 0 for the others.
    """

    name: str
    summary: str = ""
    schema: dict[str, Any] = field(default_factory=dict)
    requirements: Requirements = field(default_factory=Requirements)
    profiles: dict[str, dict[str, Any]] = field(default_factory=dict)
    recommended: int = 0

    def missing(self, project: Project) -> str:
        """What a project lacks for it, in one sentence; empty if it has everything."""
        return self.requirements.missing(self.name, project.available)


@dataclass(frozen=True)
class Export:
    """An exporter, as `napari_emda.export.base.Exporter` declares it."""

    name: str
    summary: str
    schema: dict[str, Any]
    formats: dict[str, list[str]]
    classes: str

    @property
    def suffix(self) -> str:
        """The usual ending of its files."""
        return next(iter(self.formats.values()))[0]


@dataclass(frozen=True)
class Catalogue:
    """All methods, strategies, networks and exports by name, and the device of the jobs."""

    methods: dict[str, Choice]
    strategies: dict[str, Choice]
    networks: dict[str, Choice]
    exports: dict[str, Export] = field(default_factory=dict)
    device: str = "cpu"

    def learns_classes(self, project: Project, run: str) -> bool:
        """Whether a run was trained with labels, so that it predicts classes and not clusters."""
        job = project.run(run).training()
        method = self.methods.get(job.method) if job is not None else None
        return method is None or method.requirements.predicts_classes


def offered(
    choices: Mapping[str, Choice], available: Available | None
) -> tuple[list[str], list[str]]:
    """Names to offer first, and the names of the others.

    Args:
        choices: methods or strategies by name.
        available: what the project offers; None if nothing is known of it.

    Returns:
        The recommended ones that can be used, the best first: those that learn from annotations
        come before those that can do without. Then all others, by name.
    """

    def usable(choice: Choice) -> bool:
        return available is None or not choice.requirements.missing(choice.name, available)

    def place(choice: Choice) -> tuple[bool, int]:
        annotated = available is not None and choice.requirements.annotations
        return not annotated, choice.recommended

    recommended = (c for c in choices.values() if c.recommended and usable(c))
    first = sorted(recommended, key=place)
    names = [choice.name for choice in first]
    return names, [name for name in choices if name not in names]


def summaries(choices: Mapping[str, Choice]) -> dict[str, str]:
    """What each of them does, in a sentence."""
    return {name: choice.summary for name, choice in choices.items()}


def parse(line: str) -> Catalogue:
    """Parse the last line of ``napari-emda methods --json``."""
    values = parse_json(line)
    choices = {
        kind: {entry["name"]: _choice(entry) for entry in values[kind]}
        for kind in ("methods", "strategies", "networks")
    }
    exports = {
        entry["name"]: Export(**{f.name: entry[f.name] for f in fields(Export)})
        for entry in values["exporters"]
    }
    return Catalogue(**choices, exports=exports, device=values.get("device", "cpu"))


def _choice(entry: dict[str, Any]) -> Choice:
    requirements = Requirements.model_validate(entry.get("requirements", {}))
    return Choice(
        entry["name"],
        entry["summary"],
        entry["schema"],
        requirements,
        entry.get("profiles", {}),
        entry.get("recommended", 0),
    )


# By command, for the whole viewer process: a second dock opens without a wait.
_fetched: dict[tuple[str, ...], Catalogue] = {}
# Commands whose child has answered in this process.
_asked: set[tuple[str, ...]] = set()


def fetch(stop: threading.Event, command: Sequence[str] = COMMAND) -> Catalogue:
    """The catalogue: the one kept from before, or from a child process the first time.

    Importing torch takes seconds there, so call it from a worker thread. What was kept is read at
    once; `fetch_again` asks whether it still holds.

    Args:
        stop: set to give up waiting.
        command: prints the catalogue as JSON.

    Raises:
        JobError: there was no answer, or ``stop`` was set.
    """
    key = tuple(command)
    if key not in _fetched:
        kept = _kept(key)
        _fetched[key] = kept or _ask(key, stop)
        if kept is None:
            _asked.add(key)
    return _fetched[key]


def fetch_again(stop: threading.Event, command: Sequence[str] = COMMAND) -> Catalogue | None:
    """The catalogue of a child process, if `fetch` has found another one that was kept.

    Args:
        stop: set to give up waiting.
        command: prints the catalogue as JSON.

    Returns:
        None if nothing has changed, or if the child has answered before.

    Raises:
        JobError: there was no answer, or ``stop`` was set.
    """
    key = tuple(command)
    before = _fetched.get(key)
    if key in _asked:
        return None
    _fetched[key] = _ask(key, stop)
    _asked.add(key)
    return None if _fetched[key] == before else _fetched[key]


def _kept(command: tuple[str, ...]) -> Catalogue | None:
    """What was kept for the program itself; other commands are for tests."""
    line = catalogue_file.read(catalogue_file.installed()) if command == COMMAND else None
    try:
        return None if line is None else parse(line)
    # A damaged file, or one of another version.
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def _ask(command: tuple[str, ...], stop: threading.Event) -> Catalogue:
    # Before the child starts: what is installed while it runs must not count as seen.
    name = catalogue_file.installed() if command == COMMAND else ""
    line, catalogue = _answer(command, stop)
    if name:
        catalogue_file.write(name, line)
    return catalogue


def _answer(command: tuple[str, ...], stop: threading.Event) -> tuple[str, Catalogue]:
    reason = "it gave no answer"
    try:
        asked = ask(command, stop)
        errors = asked.stderr.strip()
        # The last line of a traceback is the error; the rest would fill the dock.
        reason = errors.splitlines()[-1][:160] if errors else reason
        # Libraries may print warnings first; the answer is the last line.
        line = asked.stdout.strip().splitlines()[-1]
        return line, parse(line)
    except (OSError, IndexError, ValueError, KeyError, TypeError) as error:
        reason = str(error) if isinstance(error, OSError) else reason
        raise JobError(
            f"The methods could not be read ({reason}): PyTorch may be missing or damaged, so "
            "install napari-emda again."
        ) from None
