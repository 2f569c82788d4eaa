"""The surfaces of the objects of a class, for 3-D viewers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import ClassVar

import numpy as np

from napari_emda.errors import DataError
from napari_emda.events import TileDone, stage
from napari_emda.export.base import Exporter, Result, exporters
from napari_emda.io.atomic import replacing_file, workspace
from napari_emda.objects.mesh import Mesh, find_meshes
from napari_emda.settings.objects import SeparationSettings


@exporters.register("meshes")
class MeshesExporter(Exporter):
    """The surfaces of the objects of one class as triangles, in nm, for 3-D viewers.

    All objects are in one file. In OBJ each of them has its own name, ``object 12``; in PLY the
    corners have a property ``object``. The numbers are those of the export ``objects`` with the
    same settings. An STL file holds triangles alone.
    """

    formats: ClassVar = {"PLY": (".ply",), "STL": (".stl",), "OBJ": (".obj",)}
    classes: ClassVar = "one"

    class Settings(SeparationSettings):
        """What counts as foreground and as an object."""

    def write(self, result: Result, path: Path) -> Iterator[TileDone]:
        """Find the objects, then their surfaces: two passes over the volume.

        Raises:
            DataError: there are no objects, or the sections are independent images.
        """
        volume = result.volume
        if volume.grid.sections_are_independent:
            raise DataError(
                f"The sections of '{volume.name}' are independent images, and their objects have "
                "no surface: export objects or a table."
            )
        with workspace(path) as folder:
            search = result.find_objects(self.settings, folder)
            objects, _ = yield from stage(search, 0, 2)
            finding = find_meshes(objects, volume.grid.in_nanometres(), volume.name)
            meshes = yield from stage(finding, 1, 2)
            if not meshes:
                raise DataError(
                    f"There are no objects in '{volume.name}': choose a lower threshold or a "
                    "smaller size."
                )
            with replacing_file(path) as partial:
                _write(meshes, partial)


def _write(meshes: Mapping[int, Mesh], path: Path) -> None:
    # It takes a while to load, and few need it.
    import trimesh

    if path.suffix == ".obj":
        scene = trimesh.Scene()
        for object_id, mesh in meshes.items():
            part = trimesh.Trimesh(mesh.corners, mesh.triangles, process=False)
            scene.add_geometry(part, geom_name=f"object {object_id}")
        scene.export(path, include_normals=False)
        return
    surfaces = list(meshes.values())
    counts = [len(mesh.corners) for mesh in surfaces]
    first = np.cumsum([0, *counts[:-1]])
    whole = trimesh.Trimesh(
        np.concatenate([mesh.corners for mesh in surfaces]),
        np.concatenate([mesh.triangles + n for mesh, n in zip(surfaces, first, strict=True)]),
        # As they are: corners that objects share stay apart.
        process=False,
    )
    if path.suffix == ".ply":
        whole.vertex_attributes["object"] = np.repeat(np.array(list(meshes), np.int32), counts)
    whole.export(path)
