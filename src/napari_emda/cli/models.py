"""The command for models that belong to the user, not to a project."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from napari_emda.cli.any_model import (
    ModelChannelOption,
    ModelPixelSizeOption,
    any_model_at,
    chosen_channels,
)
from napari_emda.cli.console import JsonOption, echo, print_result, print_table
from napari_emda.data.model_description import ModelDescription
from napari_emda.data.voxel_grid import Spacing
from napari_emda.errors import SettingsError
from napari_emda.project.foreign_package import LeftOpen
from napari_emda.project.model_file import SUFFIX

if TYPE_CHECKING:
    from napari_emda.data.volume import Volume
    from napari_emda.project.my_models import ListedModel


def models(
    target: Annotated[
        Path | None, typer.Option(help="An image: the models that know its look come first.")
    ] = None,
    target_spacing: Annotated[
        Spacing | None,
        typer.Option(metavar="Z Y X", help="Voxel size of the image in nm, if it states none."),
    ] = None,
    add: Annotated[
        Path | None,
        typer.Option(
            help="Add a model: the folder of a run or a project, a model's file, or a package of "
            "napari-emda or of another program."
        ),
    ] = None,
    name: Annotated[str, typer.Option(help="Name of the model that is added.")] = "",
    tissue: Annotated[str, typer.Option(help="Tissue and preparation that it knows.")] = "",
    licence: Annotated[str, typer.Option(help="Licence under which others may use it.")] = "",
    score: Annotated[
        float | None, typer.Option(help="IoU on labels that it had not seen, 0 to 1.")
    ] = None,
    model_channel: ModelChannelOption = None,
    model_pixel_size: ModelPixelSizeOption = None,
    to: Annotated[
        Path | None,
        typer.Option(help="Write the model to this file (.safetensors), not to your models."),
    ] = None,
    image_pixel_size: Annotated[float, typer.Option(hidden=True)] = 0.0,
    image_section_distance: Annotated[float, typer.Option(hidden=True)] = 0.0,
    as_json: JsonOption = False,
) -> None:
    """List your own models, or add one. With --target, those that know its look come first."""
    from napari_emda.project.my_models import add_model, by_gap, folder_of_models, my_models

    if add is not None and target is not None:
        raise SettingsError("--add and --target are two things: give one of them.")
    of_added = (name, tissue, licence, score, model_channel, model_pixel_size, to)
    if add is None and any(value not in ("", None) for value in of_added):
        raise SettingsError(
            "--name, --tissue, --licence, --score, --to and --model-… are about a model that is "
            "added: name it with --add."
        )
    if target is None and target_spacing is not None:
        raise SettingsError("--target-spacing is about an image: name it with --target.")
    if add is not None:
        description = _description(name, tissue, licence, score)
        left_open = LeftOpen(None, chosen_channels(model_channel), model_pixel_size)
        beside = folder_of_models() if to is None else to
        if to is not None and to.suffix != SUFFIX:
            raise SettingsError(f"Cannot write '{to.name}': the name must end in {SUFFIX}.")
        with any_model_at(add, beside, left_open, image_pixel_size, image_section_distance) as (
            file,
            notices,
        ):
            path = add_model(file, description, add.resolve().stem, to)
        for notice in notices:
            echo(notice, err=True)
        print_result(
            {"path": str(path), "notices": notices},
            as_json=as_json,
            print_text=lambda: echo(f"Added {path}."),
        )
        return
    listed, unreadable = my_models()
    if target is not None:
        listed = by_gap(listed, _opened(target, target_spacing))
    for sentence in unreadable:
        echo(sentence, err=True)
    result = {
        "folder": str(folder_of_models()),
        "models": [_as_json(model) for model in listed],
    }
    print_result(result, as_json=as_json, print_text=lambda: _print(listed))


def _description(name: str, tissue: str, licence: str, score: float | None) -> ModelDescription:
    from pydantic import ValidationError

    try:
        return ModelDescription(name=name, tissue=tissue, licence=licence, score=score)
    except ValidationError as error:
        fault = error.errors()[0]
        raise SettingsError(
            f"--{fault['loc'][0]} = {fault['input']!r} is not allowed: "
            f"{fault['msg'].removeprefix('Value error, ').replace('Input should', 'it should')}."
        ) from None


def _opened(path: Path, spacing: Spacing | None) -> Volume:
    """The image as a target."""
    from napari_emda.data.volume import Volume
    from napari_emda.data.voxel_grid import VoxelGrid
    from napari_emda.io.checks import check_image, check_spacing
    from napari_emda.io.read import open_image

    stored = open_image(path)
    check_image(path.name, stored.array)
    grid = VoxelGrid(check_spacing(path.name, spacing, stored, "--target-spacing"))
    return Volume(path.name, stored.array, "target", grid)


def _as_json(listed: ListedModel) -> dict[str, Any]:
    domain_gap = listed.domain_gap
    return {
        "path": str(listed.path),
        **listed.model.description.model_dump(),
        "name": listed.name,
        "classes": list(listed.model.classes),
        "pixel_size": listed.model.pixel_size,
        "unit": listed.model.unit,
        "gap": None
        if domain_gap is None
        else {"size": domain_gap.size, "distance": round(domain_gap.distance, 3)},
    }


def _print(listed: list[ListedModel]) -> None:
    if not listed:
        echo("There is no model yet: add one with napari-emda models --add PROJECT --name NAME.")
        return
    columns = ["name", "structure", "tissue", "pixel", "licence", "IoU", "gap", "file"]
    rows = []
    for one in listed:
        about = one.model.description
        rows.append(
            [
                one.name,
                ", ".join(one.model.classes[1:]),
                about.tissue or "-",
                f"{one.model.pixel_size:g} {one.model.unit}",
                about.licence or "-",
                "-" if about.score is None else f"{about.score:.2f}",
                "-"
                if one.domain_gap is None
                else f"{one.domain_gap.size} ({one.domain_gap.distance:.1f})",
                str(one.path),
            ]
        )
    print_table("My models", columns, rows)
