"""The commands that pack a project into one file, and unpack it."""

from __future__ import annotations

import sys
from collections.abc import Generator
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, TypeVar

import typer

from napari_emda.cli.console import JsonOption, ProjectArgument, echo, print_result
from napari_emda.cli.progress import Progress
from napari_emda.data.names import in_one_line
from napari_emda.errors import SettingsError, listed
from napari_emda.events import Phase
from napari_emda.project.packing.crops import remark_on_crops
from napari_emda.project.packing.manifest import IMAGES, Images
from napari_emda.project.packing.pack import Packed, pack
from napari_emda.project.packing.unpack import folder_for, missing_images, unpacked
from napari_emda.project.project import Project
from napari_emda.registry import did_you_mean

T = TypeVar("T")


def pack_project(
    project: ProjectArgument,
    to: Annotated[Path, typer.Option(help="The file to write; its name ends in .zip.")],
    images: Annotated[
        str,
        typer.Option(
            help="Which images go into it: none, crops (around the annotated patches, without "
            "predictions), or whole."
        ),
    ] = "none",
    overwrite: Annotated[bool, typer.Option(help="Replace an existing file.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Pack a project into one file, to hand it on or publish it."""
    chosen = _images(images)
    with Project.open(project, exclusive=True) as opened:
        packed = _watched(pack(opened, to, chosen, overwrite=overwrite))
    result = asdict(packed) | {"path": str(packed.path), "left_out": list(packed.left_out)}
    print_result(result, as_json=as_json, print_text=lambda: _print_packed(packed))


def _images(name: str) -> Images:
    for images in IMAGES:
        if images == name:
            return images
    raise SettingsError(f"'{name}' is not a value of --images. {did_you_mean(name, IMAGES)}")


def _print_packed(packed: Packed) -> None:
    echo(f"{packed.path}: {packed.files} files, {packed.size / 1e6:.1f} MB.")
    if packed.left_out:
        names = in_one_line(listed([path.removeprefix("../") for path in packed.left_out]))
        echo(f"Not in it: {names}. Whoever unpacks it puts them beside the project's folder.")


def unpack_project(
    file: Annotated[Path, typer.Argument(help="A packed project.", show_default=False)],
    to: Annotated[
        Path | None,
        typer.Option(help="The project's new folder; by default beside the file, under its name."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Unpack a project; every file in it is checked."""
    folder = unpack(file, to)
    result = {"project": str(folder), "missing": missing_images(folder)}
    print_result(result, as_json=as_json)


def unpack(file: Path, folder: Path | None = None) -> Path:
    """The folder of a packed project, unpacked if need be, with a notice on what is missing."""
    new = not (folder_for(file) if folder is None else folder).exists()
    folder = _watched(unpacked(file, folder))
    done = "was unpacked to" if new else "is unpacked in"
    echo(f"{file} {done} {folder}.", err=True)
    if missing := missing_images(folder):
        beside = listed([path.removeprefix("../") for path in missing])
        echo(in_one_line(f"Put {beside} beside that folder: images are not packed."), err=True)
    with Project.open(folder) as opened:
        if remark := remark_on_crops(opened):
            echo(remark, err=True)
    return folder


def _watched(work: Generator[Phase, None, T]) -> T:
    """Do some work with its phases on standard error; returns its result."""
    progress = Progress(sys.stderr)
    with progress.of("Reading"):
        while True:
            try:
                phase = next(work)
            except StopIteration as end:
                result: T = end.value
                return result
            # In a file, a line for each tenth would say nothing.
            if sys.stderr.isatty():
                progress.show(phase)
