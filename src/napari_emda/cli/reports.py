"""The command that writes the report of a project."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from napari_emda.cli.console import JsonOption, ProjectArgument, echo, print_result
from napari_emda.data.names import in_one_line
from napari_emda.project.project import Project


def report(
    project: ProjectArgument,
    to: Annotated[Path, typer.Option(help="The page to write; its name ends in .html.")],
    overwrite: Annotated[bool, typer.Option(help="Replace an existing file.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Write a page on a project for a paper's supplement.

    It has data, models, scores, a draft of the methods section, and citations.
    """
    # Loads torch, which takes seconds: not for ``--help``.
    from napari_emda.reporting.page import write_report

    with Project.open(project) as opened:
        contents = write_report(opened, to, overwrite=overwrite)
    for reason in contents.reasons:
        echo(in_one_line(reason), err=True)
    result = {"project": str(project), "report": str(to), "missing": contents.reasons}
    print_result(result, as_json=as_json, print_text=lambda: echo(f"The report is in {to}."))
