"""The objects of a class as an image."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import numpy as np
from pydantic import Field

from napari_emda.events import TileDone, stage
from napari_emda.export.base import ImageExporter, Result, exporters, save_image
from napari_emda.io.atomic import workspace
from napari_emda.io.writer import Surface
from napari_emda.objects.mesh import Mesh, find_meshes
from napari_emda.settings.objects import SeparationSettings

# Each mesh is two files of one folder.
_MOST_MESHES = 100_000


@exporters.register("objects")
class ObjectsExporter(ImageExporter):
    """The objects of one class, numbered from 1; 0 is background.

    Connected voxels of a class form an object. With ``separate``, objects that touch are split at
    their necks (`napari_emda.objects.separation.separate`). The image is uint32;
    a TIFF is uint16 up to 65 535 objects, because ImageJ's format has no uint32. Edits of the
    objects are carried out: what was deleted is missing among the numbers, and what was split off
    has those after the last. Neuroglancer's format holds their surfaces as well (``meshes``).
    """

    classes: ClassVar = "one"

    class Settings(SeparationSettings):
        """What counts as foreground and as an object, and whether surfaces are written."""

        meshes: bool = Field(
            True,
            description="Write the surface of each object, too, where the format holds it, which "
            "is Neuroglancer's.",
        )

    _without_meshes = ""

    def lost(self, result: Result, path: Path) -> str:
        """What the format cannot state of the voxels, and why there are no surfaces."""
        return " ".join(filter(None, [super().lost(result, path), self._without_meshes]))

    def write(self, result: Result, path: Path) -> Iterator[TileDone]:
        """Find the objects, then their surfaces if they are written, then save all.

        Each is a pass over the volume.
        """
        volume = result.volume
        wants_meshes = self.settings.meshes and self.writer(path).takes_surfaces
        # Independent images have no surfaces, and nobody expects any.
        wants_meshes = wants_meshes and not volume.grid.sections_are_independent
        passes = 2 + wants_meshes
        with workspace(path) as folder:
            search = result.find_objects(self.settings, folder)
            objects, highest = yield from stage(search, 0, passes)
            meshes: dict[int, Mesh] = {}
            if wants_meshes and not self._too_many(highest):
                finding = find_meshes(objects, volume.grid.in_nanometres(), volume.name)
                meshes = yield from stage(finding, 1, passes)
            surfaces = {k: Surface(mesh.corners, mesh.triangles) for k, mesh in meshes.items()}
            # The smallest type that holds all ids, so that ImageJ can open the file where possible.
            is_small = self.writer(path).small_ids and highest < 2**16
            dtype = np.uint16 if is_small else np.uint32
            saving = save_image(
                [objects], path, dtype, volume, labels=True, surfaces=surfaces, runner=result.runner
            )
            yield from stage(saving, passes - 1, passes)

    def _too_many(self, count: int) -> bool:
        """Whether there are more objects than files that a folder should hold."""
        if os.name == "nt":
            self._without_meshes = (
                "Windows has no file names such as Neuroglancer wants for meshes: there are none."
            )
        elif count > _MOST_MESHES:
            self._without_meshes = (
                f"Meshes are written of at most {_MOST_MESHES} objects, and there are {count}: "
                "raise minimum_size to have them."
            )
        return bool(self._without_meshes)
