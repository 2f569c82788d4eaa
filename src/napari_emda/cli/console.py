"""What the commands share: common options, running a job, and printing the result."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Generator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console, JustifyMethod
from rich.table import Table
from rich.text import Text

from napari_emda.cli.progress import watch
from napari_emda.data.names import in_print
from napari_emda.events import Event, Notice, Started
from napari_emda.jobs.stop_signals import stop_signals
from napari_emda.settings.where import Where

if TYPE_CHECKING:
    from napari_emda.project.job_files import Job


def folder_of(project: Path) -> Path:
    """The folder of a project, which is unpacked if its file was given."""
    if project.suffix.lower() != ".zip":
        return project
    # Only here: it imports this module.
    from napari_emda.cli.packing import unpack
    from napari_emda.project.packing.unpack import is_pack

    return unpack(project) if is_pack(project) else project


ProjectArgument = Annotated[
    Path,
    typer.Argument(
        help="The project's folder, or the file of a packed one, which is unpacked beside it.",
        show_default=False,
        callback=folder_of,
    ),
]
NewFolderArgument = Annotated[
    Path, typer.Argument(help="The new folder of the project.", show_default=False)
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object on the last line.")]
RunOption = Annotated[
    str | None, typer.Option(help="A run, such as 003-ynet; by default the latest.")
]
CheckpointOption = Annotated[
    str, typer.Option(help="Which model of the run: selected, last, or a step that was kept.")
]
VolumeOption = Annotated[
    str | None, typer.Option(help="A volume's name; by default the first target.")
]
ThresholdOption = Annotated[
    float | None, typer.Option(help="Minimum probability of a foreground voxel.")
]
MinimumSizeOption = Annotated[int | None, typer.Option(help="Leave out objects of fewer voxels.")]
SEPARATE = typer.Option(
    help="Separate found objects at necks narrower than this share of the narrower part; 0 "
    "separates none."
)

WorkersOption = Annotated[
    int, typer.Option(help="Compute in so many processes; with --cluster, on its nodes.")
]
SchedulerOption = Annotated[
    str, typer.Option(help="Compute on the workers of this dask scheduler, tcp://HOST:PORT.")
]
ClusterOption = Annotated[
    Path | None, typer.Option(help="Ask the queue of a cluster for workers: a YAML file.")
]

BOX = typer.Option(help="z0:z1,y0:y1,x0:x1 in voxels; by default the whole volume.")

# Columns of a table in a file or a pipe, where rich would assume 80: too few for the scores of a
# class with its objects, or for a setting with its limits and description.
_TABLE_WIDTH = 110


def where_of(workers: int, scheduler: str, cluster: Path | None) -> Where:
    """Where a job computes; SettingsError if the options contradict each other."""
    # Absolute, so that a job file means the same wherever it is run.
    file = "" if cluster is None else str(cluster.absolute())
    where = Where.parse({"workers": workers, "scheduler": scheduler, "cluster": file})
    where.check()
    return where


def carry_out(job: Job, note: str = "") -> dict[str, Any]:
    """Run a job in this process with its progress on standard error; returns its result.

    Args:
        job: of any kind.
        note: printed once the job has started, and so not before an error about its settings.
    """
    # Both load torch, which takes seconds: not for ``--help`` and invalid arguments.
    from napari_emda.inference.device import configure_process
    from napari_emda.jobs.execute import execute
    from napari_emda.jobs.preview import PreviewRequest

    configure_process()
    events = execute(job, PreviewRequest(lambda: stop_signals.asked))
    return watch(_with_note(events, note) if note else events, job.preparing)


def _with_note(events: Generator[Event], note: str) -> Generator[Event]:
    # Closing this generator, to stop the job, must close the job's as well: it then saves its work.
    with closing(events):
        for event in events:
            yield event
            if isinstance(event, Started):
                yield Notice(note)


def echo(text: str, *, err: bool = False) -> None:
    """Print a text; what a file is called cannot move the cursor or change colours in it."""
    typer.echo(in_print(text), err=err)  # noqa: TID251


def print_result(
    result: dict[str, Any], *, as_json: bool, print_text: Callable[[], None] | None = None
) -> None:
    """Print a result as one JSON object on the last line, or as text.

    Args:
        result: of the command.
        as_json: whether ``--json`` was given.
        print_text: prints it for people; by default nothing is printed.
    """
    if as_json:
        echo(json.dumps(result))
    elif print_text is not None:
        print_text()


def print_table(title: str, columns: list[str], rows: list[list[str]]) -> None:
    """Print a table; columns that hold only numbers are aligned to the right."""
    table = Table(title=Text(in_print(title)), title_justify="left")
    for index, column in enumerate(columns):
        numeric = all(row[index].replace(".", "").replace("-", "").isdigit() for row in rows)
        # Folded and not cut: a path must be whole to be copied.
        justify: JustifyMethod = "right" if rows and numeric else "left"
        table.add_column(column, justify=justify, overflow="fold")
    for row in rows:
        # As text: a name in square brackets is no markup, and one with escapes is no command.
        table.add_row(*(Text(in_print(cell)) for cell in row))
    Console(width=None if sys.stdout.isatty() else _TABLE_WIDTH).print(table)
