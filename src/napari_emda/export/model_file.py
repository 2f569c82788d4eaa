"""The model as one file, from which other projects can start."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

from pydantic import Field

from napari_emda.data.model_description import ModelDescription, OptionalText
from napari_emda.events import Event
from napari_emda.export.base import Exporter, Result, exporters
from napari_emda.io.atomic import replacing_file
from napari_emda.project.model_file import SUFFIX, ModelFile
from napari_emda.settings import base


@exporters.register("model_file")
class ModelFileExporter(Exporter):
    """The model as one file, from which another project can start without the source.

    It holds weights and what the model knows of its volumes: grey values, spectrum, class shares
    and shapes, but no image. *My models* lists such files.
    """

    formats: ClassVar = {"Model": (SUFFIX,)}
    needs_prediction: ClassVar = False

    class Settings(base.Settings):
        """What the file says of the model."""

        name: OptionalText = Field("", description="Name of the model in lists.")
        tissue: OptionalText = Field(
            "", description="Tissue and preparation, such as 'mouse cortex, FIB-SEM'."
        )
        licence: OptionalText = Field(
            "", description="Licence under which others may use the model, such as CC-BY-4.0."
        )

    def write(self, result: Result, path: Path) -> Iterator[Event]:
        """Copy the checkpoint without what belongs to the training and its volumes alone."""
        file = ModelFile.read(result.model)
        given = {key: value for key, value in self.settings.model_dump().items() if value}
        values = file.model.description.model_dump() | given
        values["name"] = values["name"] or f"{file.model.classes[-1]} {result.run}"
        with replacing_file(path) as partial:
            file.share(partial, ModelDescription.model_validate(values))
        # A generator without events: there is no share to report.
        yield from ()
