"""The command that looks for damage in a project, and repairs it."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from napari_emda.cli.console import JsonOption, ProjectArgument, echo, folder_of, print_result
from napari_emda.cli.progress import Progress
from napari_emda.data.names import in_one_line
from napari_emda.errors import ExitCode, JobError, listed
from napari_emda.events import Phase
from napari_emda.io.allowed_code import allow_code
from napari_emda.io.known_servers import allow, server_of
from napari_emda.project.checking.check import Checked, check, repair
from napari_emda.project.checking.damage import Reading
from napari_emda.project.model_code import code_in
from napari_emda.project.project import Project


@dataclass(frozen=True)
class _Line:
    """A damage as JSON has it."""

    place: str
    problem: str
    remedy: str
    repaired: bool
    outcome: str


def check_project(
    project: ProjectArgument,
    repair_it: Annotated[
        bool,
        typer.Option(
            "--repair", help="Mend what can be mended; what is replaced goes to 'rescued'."
        ),
    ] = False,
    restore: Annotated[
        str | None,
        typer.Option(
            help="Instead, put annotations and patches back as they were in this backup, or in "
            "the latest; what is replaced goes to 'rescued'."
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Say what is damaged in a project, and what to do about it."""
    if restore is not None:
        _restore(project, restore, as_json=as_json)
        return
    progress = Progress(sys.stderr)
    found: list[Checked] = []
    rescued: Path | None = None
    with contextlib.suppress(StopIteration), progress.of("Checking"):
        findings = repair(project) if repair_it else _only_checked(project)
        while True:
            try:
                finding = next(findings)
            except StopIteration as end:
                rescued = end.value
                raise
            if isinstance(finding, Reading):
                progress.show(Phase(f"Reading {finding.place or project}"))
            else:
                found.append(finding)
    result = _result(project, found, rescued)
    for checked in found:
        echo(in_one_line(str(checked)), err=as_json)
    print_result(
        result, as_json=as_json, print_text=lambda: _print_summary(project, found, rescued)
    )
    if any(not checked.mended for checked in found):
        raise typer.Exit(ExitCode.INVALID_INPUT)


def allow_files(
    path: Annotated[
        Path,
        typer.Argument(
            help="The project's folder, or a model: the folder of a run, a model's file, or a "
            "package.",
            metavar="PROJECT|MODEL",
            show_default=False,
        ),
    ],
    as_json: JsonOption = False,
) -> None:
    """Allow servers that a project names, or a TorchScript model.

    A project from somebody else contacts no server before. TorchScript can run any program while
    it loads.
    """
    code = code_in(path)
    if code is not None:
        digest = allow_code(code)
        text = f"The model with SHA-256 {digest} may be loaded on this computer from now on."
        print_result({"sha256": digest}, as_json=as_json, print_text=lambda: echo(text))
        return
    project = folder_of(path)
    with Project.open(project) as opened:
        servers = sorted({server_of(address) for address in opened.volumes.addresses()})
    for server in servers:
        allow(server)
    if servers:
        text = f"Images may be read from {listed(servers)} on this computer from now on."
    else:
        text = "All images of this project are files; there is nothing to allow."
    result = {"project": str(project), "servers": servers}
    print_result(result, as_json=as_json, print_text=lambda: echo(in_one_line(text)))


def _restore(folder: Path, name: str, *, as_json: bool) -> None:
    """Put back what a backup holds."""
    with Project.open(folder, exclusive=True) as project:
        backups = project.backups.all()
        if not backups:
            raise JobError(f"'{folder}' has no backups: they are made after each round.")
        names = [backup.name for backup in backups]
        if name not in ("latest", *names):
            choices = listed(["latest", *names], "or")
            raise JobError(f"There is no backup '{name}': choose {choices}.")
        backup = backups[0 if name == "latest" else names.index(name)]
        rescued = project.backups.restore(backup)
    result = {"project": str(folder), "backup": backup.name, "rescued": str(rescued)}
    text = (
        f"Annotations and patches are those of the backup {backup.name}. What was replaced is in "
        f"{rescued}."
    )
    print_result(result, as_json=as_json, print_text=lambda: echo(text))


def _only_checked(project: Path) -> Iterator[Reading | Checked]:
    for finding in check(project):
        yield finding if isinstance(finding, Reading) else Checked(finding)


def _result(project: Path, found: list[Checked], rescued: Path | None) -> dict[str, Any]:
    lines = [
        _Line(one.damage.place, one.damage.problem, one.damage.remedy, one.mended, one.outcome)
        for one in found
    ]
    return {
        "project": str(project),
        "damages": [asdict(line) for line in lines],
        "rescued": None if rescued is None else str(rescued),
    }


def _print_summary(project: Path, found: list[Checked], rescued: Path | None) -> None:
    left = sum(not checked.mended for checked in found)
    if not found:
        echo(f"Nothing is wrong with {project}.")
    elif not left:
        echo("All of that was repaired.")
    elif any(one.damage.mend is not None and not one.outcome for one in found):
        echo("Repair what can be repaired with --repair; nothing is deleted by that.")
    if rescued is not None:
        echo(f"What was replaced is in {rescued}.")
