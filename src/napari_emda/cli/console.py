"""What the verbs share: their common options, carrying out a job, and answering."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Generator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from napari_emda.cli.progress import watch
from napari_emda.events import Event, Notice, Started

if TYPE_CHECKING:
    from napari_emda.project.job_files import Job

ProjectArgument = Annotated[Path, typer.Argument(help="The project's folder.", show_default=False)]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object on the last line.")]
RunOption = Annotated[
    str | None, typer.Option(help="A run, such as 003-ynet; by default the latest.")
]
CheckpointOption = Annotated[
    str, typer.Option(help="Which model of the run: selected, last, or a step that it has kept.")
]
VolumeOption = Annotated[
    str | None, typer.Option(help="A volume's name; by default the first target.")
]


def carry_out(job: Job, note: str = "") -> dict[str, Any]:
    """The result of a job, carried out here with its progress on the screen; the note is said once it has begun."""
    from napari_emda.inference.device import configure_process
    from napari_emda.jobs.execute import execute

    configure_process()
    return watch(_noted(execute(job), note) if note else execute(job))


def _noted(events: Generator[Event], note: str) -> Generator[Event]:
    with closing(events):
        for event in events:
            yield event
            if isinstance(event, Started):
                yield Notice(note)


def answer(
    result: dict[str, Any], *, as_json: bool, text: Callable[[], None] | None = None
) -> None:
    """Say a result: one JSON object on the last line, or text."""
    if as_json:
        typer.echo(json.dumps(result))
    elif text is not None:
        text()


def table(title: str, columns: list[str], rows: list[list[str]]) -> None:
    """Print a table; numbers to the right."""
    table = Table(title=title, title_justify="left")
    for column in columns:
        numbers = all(
            row[columns.index(column)].replace(".", "").replace("-", "").isdigit() for row in rows
        )
        table.add_column(column, justify="right" if rows and numbers else "left")
    for row in rows:
        table.add_row(*row)
    Console(width=None if sys.stdout.isatty() else 110).print(table)
