"""The outlines of objects as a model of IMOD."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from pydantic import Field

from napari_emda.data.units import nanometres
from napari_emda.data.volume import Volume
from napari_emda.errors import DataError
from napari_emda.events import TileDone, stage
from napari_emda.export.base import Exporter, Result, exporters
from napari_emda.io.atomic import replacing_file, workspace
from napari_emda.objects.contours import Contour, find_contours_of
from napari_emda.settings.objects import SeparationSettings

if TYPE_CHECKING:
    import imodmodel.models

# Outlines of a file: the library takes some 2 kB for each, and nobody looks at more.
_MOST = 500_000
# IMOD's code for a pixel size in nm, and bytes of the name of an object.
_NM = -9
_LONGEST_NAME = 63
# As 3dmod writes them: middles of sections are whole numbers.
_Z_FROM_MINUS_HALF = 1 << 10
# Colours of classes; 3dmod's own objects begin with green, too.
_COLOURS = ((0, 1, 0), (0, 1, 1), (1, 0, 1), (1, 1, 0), (1, 0, 0), (0.3, 0.5, 1))


@exporters.register("outlines")
class OutlinesExporter(Exporter):
    """The outlines of objects in each section, as a model that IMOD's 3dmod shows on the volume.

    Each class is an object of IMOD, and the numbers of the export ``objects`` with the same
    settings are the numbers of its surfaces. Holes have outlines of their own. Coordinates are
    pixels.
    """

    formats: ClassVar = {"IMOD": (".mod",)}
    classes: ClassVar = "all or one"

    class Settings(SeparationSettings):
        """What counts as foreground and as an object, and where y begins."""

        flip_y: bool = Field(
            False,
            description="Count y from the last row, as 3dmod does in TIFF files; in MRC files it "
            "counts from the first.",
        )

    def check(self, path: Path, classes: Sequence[str]) -> None:
        """Raise DataError if the library is missing."""
        if find_spec("imodmodel") is None:
            raise DataError(
                "IMOD's models need the library imodmodel: install it with pip install "
                "'napari-emda[formats]'."
            )

    def lost(self, result: Result, path: Path) -> str:
        """What a model cannot state."""
        grid = result.volume.grid
        sentences = ["The model counts pixels of this volume, and states no position in space."]
        if not self.settings.flip_y:
            sentences.append("It fits MRC files; for TIFF files, set flip_y=true.")
        if nanometres(grid.unit) is None:
            sentences.append("It states no pixel size, because the volume has no unit.")
        elif not np.isclose(grid.spacing[1], grid.spacing[2]):
            sentences.append("Its pixel size is that along x, and the one along y differs.")
        return " ".join(sentences)

    def write(self, result: Result, path: Path) -> Iterator[TileDone]:
        """Find the objects of each class, then their outlines: two passes over the volume each.

        Raises:
            DataError: there are no objects, or too many outlines.
        """
        volume = result.volume
        passes = 2 * len(result.class_ids)
        outlines: list[list[Contour]] = []
        sentences: list[str] = []
        for number, class_id in enumerate(result.class_ids):
            with workspace(path) as folder:
                search = replace(result, class_ids=(class_id,)).find_objects(self.settings, folder)
                objects, _ = yield from stage(search, 2 * number, passes)
                finding = find_contours_of(objects, volume.name)
                outlines.append((yield from stage(finding, 2 * number + 1, passes)))
            sentences.append(result.edits.sentence)
            result.edits.sentence = ""
        result.edits.sentence = " ".join(filter(None, sentences))
        _check_number(sum(map(len, outlines)), volume)
        names = [result.classes[class_id - 1] for class_id in result.class_ids]
        model = _model(names, outlines, volume, flip_y=self.settings.flip_y)
        with replacing_file(path) as partial:
            model.to_file(partial)


def _check_number(count: int, volume: Volume) -> None:
    """Raise DataError for nothing, or for more outlines than anybody can look at."""
    if not count:
        raise DataError(
            f"There are no objects in '{volume.name}': choose a lower threshold or a smaller size."
        )
    if count > _MOST:
        raise DataError(
            f"'{volume.name}' has {count} outlines, and a model holds at most {_MOST}: raise "
            "minimum_size, or export one class."
        )


def _model(
    names: Sequence[str], outlines: Sequence[Sequence[Contour]], volume: Volume, *, flip_y: bool
) -> imodmodel.models.ImodModel:
    from imodmodel.models import ImodModel, ModelHeader, Object, ObjectHeader

    rows = volume.shape[1]
    objects = []
    for number, (name, contours) in enumerate(zip(names, outlines, strict=True)):
        red, green, blue = _COLOURS[number % len(_COLOURS)]
        header = ObjectHeader(name=_ascii(name), red=red, green=green, blue=blue, flags=0)
        header.surfsize = max((contour.object_id for contour in contours), default=0)
        imod_contours = [_contour(contour, rows if flip_y else None) for contour in contours]
        objects.append(Object(header=header, contours=imod_contours))
    z, y, x = volume.shape
    return ImodModel(
        header=ModelHeader(xmax=x, ymax=y, zmax=z, flags=_Z_FROM_MINUS_HALF, **_pixel_size(volume)),
        objects=objects,
    )


def _contour(contour: Contour, rows: int | None) -> imodmodel.models.Contour:
    """An outline as IMOD has it: the centre of the first pixel is at 0.5, of a section at 0."""
    from imodmodel.models import Contour as ImodContour
    from imodmodel.models import ContourFlags, ContourHeader

    y, x = contour.corners.T + 0.5
    if rows is not None:
        y = rows - y
    points = np.stack([x, y, np.full_like(x, contour.section)], axis=1)
    # Not checked by the library, which takes a hundred times as long as all else does.
    header = ContourHeader.model_construct(
        psize=len(points), flags=ContourFlags.model_construct(), time=0, surf=contour.object_id
    )
    return ImodContour.model_construct(header=header, points=points.astype(np.float32))


def _pixel_size(volume: Volume) -> dict[str, Any]:
    """Size along x, and how much thicker sections are."""
    grid = volume.grid
    z, _, x = grid.spacing
    thickness = {"zscale": z / x} if "z" in grid.axes else {}
    factor = nanometres(grid.unit)
    return thickness if factor is None else {**thickness, "pixelsize": x * factor, "units": _NM}


def _ascii(name: str) -> str:
    """A name for IMOD, which knows no others."""
    return name.encode("ascii", "replace")[:_LONGEST_NAME].decode()
