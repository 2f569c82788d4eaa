"""The options that stand before any command."""

from __future__ import annotations

from importlib.metadata import version
from typing import Annotated

import typer

from napari_emda.cli.console import echo


def _print_version(is_asked: bool) -> None:
    if is_asked:
        echo(f"napari-emda {version('napari-emda')}")
        raise typer.Exit


def options(
    show_version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
) -> None:
    """Adapt, annotate, retrain and segment volume EM. 'napari-emda demo' shows the workflow."""
