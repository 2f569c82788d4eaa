"""What there is to choose from: asked of a child process, since only that one may load torch."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from napari_emda.errors import JobError
from napari_emda.project.project import Project
from napari_emda.settings.requirements import Requirements

COMMAND = (sys.executable, "-m", "napari_emda", "methods", "--json")


@dataclass(frozen=True)
class Choice:
    """A method, strategy or network: name, sentence, JSON schema of its settings, what it needs."""

    name: str
    summary: str = ""
    schema: dict[str, Any] = field(default_factory=dict)
    requirements: Requirements = field(default_factory=Requirements)
    profiles: dict[str, dict[str, Any]] = field(default_factory=dict)

    def missing(self, project: Project) -> str:
        """What a project lacks that this needs, in one sentence; empty when it has all."""
        return self.requirements.missing(self.name, project.available)


@dataclass(frozen=True)
class Export:
    """What can be exported: as `napari_emda.export.base.Exporter` declares it."""

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
        """Whether a run was trained with labels, so that it tells classes apart and no clusters."""
        job = project.run(run).training()
        method = self.methods.get(job.method) if job is not None else None
        return method is None or method.requirements.labels != "unused"


def parse(line: str) -> Catalogue:
    """Read the line that ``napari-emda methods --json`` ends with."""
    values = json.loads(line)
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
    profiles = entry.get("profiles", {})
    return Choice(entry["name"], entry["summary"], entry["schema"], requirements, profiles)


_known: dict[tuple[str, ...], Catalogue] = {}


def fetch(stop: threading.Event, command: Sequence[str] = COMMAND) -> Catalogue:
    """Ask, once per process; importing torch takes seconds, so call it from a worker thread.

    Raises:
        JobError: no answer, or ``stop`` was set.
    """
    key = tuple(command)
    if key not in _known:
        _known[key] = _answer(key, stop)
    return _known[key]


def _answer(command: tuple[str, ...], stop: threading.Event) -> Catalogue:
    why = "it gave no answer"
    try:
        with subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            errors="replace",
        ) as process:
            while True:
                try:
                    output, errors = process.communicate(timeout=0.1)
                    break
                except subprocess.TimeoutExpired:
                    if stop.is_set():
                        process.kill()
        why = errors.strip().splitlines()[-1][:160] if errors.strip() else why
        return parse(output.strip().splitlines()[-1])
    except (OSError, IndexError, ValueError, KeyError, TypeError) as error:
        why = str(error) if isinstance(error, OSError) else why
        raise JobError(
            f"The methods could not be read ({why}): check the installation of torch."
        ) from None
