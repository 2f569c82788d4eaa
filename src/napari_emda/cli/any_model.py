"""Models that a command names: of ours, or of another program."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from napari_emda.data.units import LARGEST_SIZE, SMALLEST_SIZE
from napari_emda.errors import JobError
from napari_emda.io.atomic import workspace
from napari_emda.project.foreign_package import LeftOpen, is_foreign
from napari_emda.project.model_file import SUFFIX, ModelFile, at_existing, model_at

ModelChannelOption = Annotated[
    list[int] | None,
    typer.Option(
        help="Channel of the output, from 0, that shows a class; one for each class. For packages "
        "of other programs.",
        min=0,
    ),
]
ModelPixelSizeOption = Annotated[
    float | None,
    typer.Option(
        help="Pixel size in nm at which the model works, where its package does not say it.",
        min=SMALLEST_SIZE,
        max=LARGEST_SIZE,
    ),
]


def chosen_channels(values: list[int] | None) -> tuple[int, ...] | None:
    """The channels of an option that may be given several times; None if it is not given."""
    return tuple(values) if values else None


@contextmanager
def any_model_at(
    path: Path,
    beside: Path,
    left_open: LeftOpen,
    pixel_size: float = 0,
    section_distance: float = 0,
) -> Iterator[tuple[ModelFile, list[str]]]:
    """A model, while the block runs.

    Args:
        path: as of `project.model_file.model_at`, or a package of another program.
        beside: where a package is unpacked for the time of the block.
        left_open: what a package of another program leaves open.
        pixel_size: of the image in nm, for such packages that state none; 0 if there is no image.
        section_distance: of the image, likewise.

    Yields:
        The model's file, and what the user should know of it.

    Raises:
        EmdaError: there is no model, or none that can be used.
        OSError: it cannot be read.
    """
    path = path.expanduser().resolve()
    if not is_foreign(path):
        if left_open.channels is not None or left_open.pixel_size is not None:
            raise JobError(
                "--model-channel and --model-pixel-size are about packages of other programs, and "
                "this is a model of napari-emda: leave them out."
            )
        with model_at(path, beside) as file:
            yield file, []
        return
    # It loads torch, which takes seconds.
    from napari_emda.jobs.foreign_model import convert

    with workspace(at_existing(beside.absolute())) as folder:
        converted = folder / f"model{SUFFIX}"
        notices = convert(path, converted, left_open, pixel_size, section_distance)
        yield replace(ModelFile.read(converted), origin=path.name), notices
