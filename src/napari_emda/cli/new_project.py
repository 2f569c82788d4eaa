"""The command that makes a project: it checks everything, and prints what it found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer

from napari_emda.cli.any_model import (
    ModelChannelOption,
    ModelPixelSizeOption,
    any_model_at,
    chosen_channels,
)
from napari_emda.cli.console import JsonOption, NewFolderArgument, echo, print_result
from napari_emda.cli.label_options import BackgroundOption, IgnoreOption, label_meaning
from napari_emda.data.label_meaning import LabelMeaning
from napari_emda.data.voxel_grid import Spacing, VoxelGrid
from napari_emda.errors import JobError
from napari_emda.project.file import VolumeEntry
from napari_emda.project.foreign_package import LeftOpen
from napari_emda.project.project import Project
from napari_emda.settings.requirements import SOURCE_FREE, TAUGHT

if TYPE_CHECKING:
    from napari_emda.data.volume import Domain

DEFAULT_CLASSES = ("background", "foreground")


def new(
    project: NewFolderArgument,
    source: Annotated[
        tuple[Path, Path] | None,
        typer.Option(
            metavar="IMAGE LABELS", help="The labelled volume, if there is one: image and labels."
        ),
    ] = None,
    target: Annotated[Path | None, typer.Option(help="The image to be segmented.")] = None,
    model: Annotated[
        Path | None,
        typer.Option(
            help="A model to start from, without its source: the folder of a run or a project, a "
            "model's file, or a package of napari-emda or of another program (bioimage.io, ONNX)."
        ),
    ] = None,
    model_channel: ModelChannelOption = None,
    model_pixel_size: ModelPixelSizeOption = None,
    spacing: Annotated[
        Spacing | None, typer.Option(metavar="Z Y X", help="Voxel size of the source in nm.")
    ] = None,
    target_spacing: Annotated[
        Spacing | None, typer.Option(metavar="Z Y X", help="Voxel size of the target in nm.")
    ] = None,
    classes: Annotated[
        list[str] | None,
        typer.Option(help="Names of the classes, background first; by default those of a model."),
    ] = None,
    independent: Annotated[
        bool, typer.Option(help="The sections are independent images, such as fields of view.")
    ] = False,
    target_independent: Annotated[
        bool, typer.Option(help="Only the sections of the target are independent images.")
    ] = False,
    zero: Annotated[
        str,
        typer.Option(
            help="What 0 means in the source's labels: background, sections (background in "
            "sections that hold a label, unlabelled in the others), or unannotated (1 is then "
            "background and 2 the first class)."
        ),
    ] = "background",
    background: BackgroundOption = None,
    ignore: IgnoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a project of a labelled source and a new target.

    Either may be missing. With --model, a model takes the place of the source.
    """
    names = tuple(classes) if classes else None
    sections_are_independent: dict[Domain, bool] = {
        "source": independent,
        "target": independent or target_independent,
    }
    meaning = label_meaning(background, ignore, zero, one_is_background=True)
    _check_given(
        has_source=source is not None,
        has_target=target is not None,
        has_model=model is not None,
        of_source={
            "--spacing": spacing is not None,
            "--zero, --background or --ignore": meaning != LabelMeaning(),
        },
        of_target={
            "--target-spacing": target_spacing is not None,
            "--target-independent": target_independent,
        },
        of_model={
            "--model-channel": model_channel is not None,
            "--model-pixel-size": model_pixel_size is not None,
        },
    )
    if model is None:
        names = names or DEFAULT_CLASSES
        entries, notices = create(
            project,
            names,
            source,
            target,
            spacing,
            target_spacing,
            sections_are_independent,
            meaning,
        )
        result: dict[str, Any] = {"project": str(project), "classes": list(names)}
    else:
        assert target is not None
        alone = sections_are_independent["target"]
        result, entries, notices = create_from_model(
            project,
            model,
            target,
            target_spacing,
            LeftOpen(names, chosen_channels(model_channel), model_pixel_size),
            alone=alone,
        )
    result |= {"volumes": entries, "notices": notices}
    for notice in notices:
        echo(notice, err=True)
    print_result(
        result,
        as_json=as_json,
        print_text=lambda: _print_volumes(project, entries, result),
    )


def _check_given(
    *,
    has_source: bool,
    has_target: bool,
    has_model: bool,
    of_source: Mapping[str, bool],
    of_target: Mapping[str, bool],
    of_model: Mapping[str, bool],
) -> None:
    """JobError if what is given does not go together; options by name, whether they are given."""
    if has_model and (has_source or not has_target):
        raise JobError(
            "--model starts without a source: give the image to be segmented with --target, "
            "and leave out --source."
        )
    things = {
        "source": (has_source, of_source),
        "target": (has_target, of_target),
        "model": (has_model, of_model),
    }
    for volume, (is_there, options) in things.items():
        useless = [option for option, is_given in options.items() if is_given]
        if useless and not is_there:
            instead = ", or give --target-spacing for the target" * (useless[0] == "--spacing")
            raise JobError(
                f"{useless[0]} is about the {volume}, and there is none: leave it out{instead}."
            )


def _print_volumes(
    project: Path, entries: Sequence[dict[str, Any]], result: Mapping[str, Any]
) -> None:
    """Print what was taken for the volumes, so that a wrong file or number is seen at once."""
    volumes = ", ".join(f"{e['domain']} {e['name']} ({_nm(e['spacing'])} nm)" for e in entries)
    echo(f"Project {project}: {volumes}")
    for entry in entries:
        given = "from its file" if entry["spacing_from"] == "file" else "as given"
        echo(
            f"  {entry['domain']}: {_sections(entry['shape'])}, {entry['dtype']}; "
            f"voxel size {_nm(entry['spacing'])} nm (z, y, x) {given}"
        )
    if "run" in result:
        what = "let it teach a network" if result["method"] == TAUGHT else "adapt it to the target"
        echo(f"  model: {result['run']}; {what} with train --method {result['method']}")


def _nm(spacing: Spacing) -> str:
    return " x ".join(f"{v:g}" for v in spacing)


def _sections(shape: Sequence[int]) -> str:
    count, rows, columns = shape
    return f"{count} section{'' if count == 1 else 's'} of {rows} x {columns} pixels"


def create(
    folder: Path,
    classes: tuple[str, ...],
    source: tuple[Path, Path] | None,
    target: Path | None,
    spacing: Spacing | None,
    target_spacing: Spacing | None,
    sections_are_independent: dict[Domain, bool],
    meaning: LabelMeaning,
) -> tuple[list[dict[str, Any]], list[str]]:
    """Check everything, then make the project.

    Returns:
        The entries of its volumes with shape, dtype, and whether the voxel size is from the file or
        the user; and notices on anything unusual about them.
    """
    from napari_emda.io.checks import check_pair

    independent = [domain for domain, alone in sections_are_independent.items() if alone]
    notices = check_pair(source, target, classes, spacing, target_spacing, meaning, independent)
    with Project.create(folder, classes) as project:
        entries = []
        with project.volumes.added_together():
            if source is not None:
                image, labels = source
                entries.append(
                    project.volumes.add(
                        image,
                        "source",
                        labels=labels,
                        labels_meaning=meaning,
                        spacing=spacing,
                        sections_are_independent=sections_are_independent["source"],
                    )
                )
            if target is not None:
                entries.append(
                    project.volumes.add(
                        target,
                        "target",
                        spacing=target_spacing,
                        sections_are_independent=sections_are_independent["target"],
                    )
                )
        given = {"source": spacing, "target": target_spacing}
        described = [_described(project, entry, given[entry.domain]) for entry in entries]
    return described, notices


def create_from_model(
    folder: Path,
    path: Path,
    target: Path,
    spacing: Spacing | None,
    left_open: LeftOpen,
    *,
    alone: bool,
) -> tuple[dict[str, Any], list[dict[str, Any]], list[str]]:
    """Check everything, then make a project of a model and a target.

    Args:
        folder: of the project.
        path: of the model.
        target: the image to be segmented.
        spacing: voxel size (z, y, x) in nm; None to take it from the file.
        left_open: what a package of another program leaves open, and the names of the classes.
        alone: whether the sections are independent images.

    Returns:
        What to print of the project, the entry of its volume as of `create`, and notices.
    """
    from napari_emda.io.checks import check_pair, check_spacing
    from napari_emda.io.read import open_image
    from napari_emda.project.model_import import check_model, import_model

    independent: list[Domain] = ["target"] if alone else []
    stored = open_image(target)
    checked = check_spacing(target.name, spacing, stored, "--target-spacing", independent=alone)
    grid = VoxelGrid(checked)
    known = (grid.pixel_size, grid.spacing[0])
    with any_model_at(path, folder, left_open, *known) as (file, notices):
        names = left_open.classes or file.model.classes
        notices += check_pair(None, target, names, None, spacing, None, independent)
        notices += check_model(file.model, names, grid.pixel_size, target.name)
        with Project.create(folder, names) as project:
            with project.volumes.added_together():
                entry = project.volumes.add(
                    target,
                    "target",
                    spacing=spacing,
                    sections_are_independent=alone,
                )
                run, remark = import_model(project, file)
            described = _described(project, entry, spacing)
    notices.append(remark)
    result = {"project": str(folder), "classes": list(names), "run": run}
    result["method"] = TAUGHT if file.model.is_fixed else SOURCE_FREE
    return result, [described], notices


def _described(project: Project, entry: VolumeEntry, spacing: Spacing | None) -> dict[str, Any]:
    """An entry with shape and type, and whether the user has given its voxel size."""
    given = {"spacing_from": "file" if spacing is None else "user"}
    return entry.model_dump() | _array_of(project, entry.name) | given


def _array_of(project: Project, name: str) -> dict[str, Any]:
    """Shape and dtype of a volume as JSON has them."""
    image = project.volumes.open(name).image
    return {"shape": list(image.shape), "dtype": str(np.dtype(image.dtype))}
