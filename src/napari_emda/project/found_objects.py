"""The objects that were found in a volume, as they are kept in the folder of a run."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from napari_emda.data.names import FileName, ShownName
from napari_emda.errors import DataError, JobError
from napari_emda.io.checked_store import CheckedArray, open_array
from napari_emda.io.safe_files import inside, read_file
from napari_emda.objects.edited import Extents
from napari_emda.objects.table import Table
from napari_emda.objects.table_file import read_csv
from napari_emda.project.file import MOST_CLASSES
from napari_emda.project.run_folder import RunFolder
from napari_emda.registry import did_you_mean
from napari_emda.settings.objects import SeparationSettings

DESCRIPTION = "objects.json"


def queue_file(class_id: int) -> str:
    """The name of the file that says how suspicious each object of a class is."""
    return f"{class_id}-queue.csv"


_ClassId = Annotated[int, Field(ge=1, le=MOST_CLASSES)]
_REMEDY = "find the objects again with 'napari-emda objects'"


class Description(BaseModel):
    """``objects.json``: how the objects of a volume were found.

    Attributes:
        run: whose prediction they are of.
        checkpoint: the model of the run that was asked for.
        prediction: of which model and image the prediction is, see
            `napari_emda.inference.origin`.
        clusters: class by cluster, if the run predicts clusters.
        volume: name of the volume.
        settings: what counts as an object.
        classes: names of the classes whose objects were found, by their ids.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)

    run: FileName
    checkpoint: str = "selected"
    prediction: dict[str, Any] = Field(default_factory=dict)
    clusters: dict[int, str] = Field(default_factory=dict)
    volume: FileName
    settings: SeparationSettings
    classes: dict[_ClassId, ShownName]

    def identity(self, class_id: int) -> str:
        """Differs for objects that may have other voxels or ids, see `identity_of`."""
        return identity_of(
            self.prediction, self.clusters, self.settings, self.volume, self.classes[class_id]
        )


def identity_of(
    prediction: dict[str, Any],
    clusters: dict[int, str],
    settings: SeparationSettings,
    volume: str,
    class_name: str,
) -> str:
    """A hash of all that the ids of objects follow from; see `Description`."""
    # Exporters add nothing to the settings, but have classes of their own.
    names = SeparationSettings.model_fields
    values = [
        prediction,
        {str(cluster): clusters[cluster] for cluster in sorted(clusters)},
        {name: getattr(settings, name) for name in sorted(names)},
        volume,
        class_name,
    ]
    text = json.dumps(values, sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


@dataclass(frozen=True)
class FoundObjects:
    """The objects of a volume by the prediction of a run.

    Attributes:
        folder: ``objects/<volume>`` of the run.
        description: how they were found.
    """

    folder: Path
    description: Description

    @classmethod
    def of(cls, run: RunFolder, volume: str) -> FoundObjects:
        """Those of a run and a volume.

        Raises:
            JobError: none were found yet, or their description is damaged.
        """
        folder = run.objects(volume)
        path = inside(folder, DESCRIPTION)
        try:
            description = Description.model_validate_json(read_file(path))
        except FileNotFoundError:
            raise JobError(
                f"No objects were found in '{volume}' by run '{run.name}' yet: find them first "
                "with 'napari-emda objects'."
            ) from None
        except (OSError, ValidationError):
            raise JobError(f"'{path}' cannot be read: {_REMEDY}.") from None
        if description.volume != volume or description.run != run.name:
            raise JobError(f"'{path}' is of another volume or run: {_REMEDY}.")
        return cls(folder, description)

    def class_id(self, name: str | None = None) -> int:
        """The id of a class, by default the only one.

        Raises:
            JobError: its objects were not found, or there are several classes.
        """
        names = self.description.classes
        if name is None:
            if len(names) != 1:
                raise JobError(
                    f"There are objects of {len(names)} classes: choose one of "
                    f"{', '.join(names.values())} (--class)."
                )
            return next(iter(names))
        for class_id, other in names.items():
            if other == name:
                return class_id
        raise JobError(
            f"There are no objects of a class '{name}'. {did_you_mean(name, list(names.values()))}"
        )

    def ids(self, class_id: int) -> CheckedArray:
        """Ids of the objects of a class, uint32 (z, y, x), read lazily.

        Raises:
            DataError: they are damaged.
        """
        path = inside(self.folder, f"{class_id}.zarr")
        array = open_array(path)
        if array.ndim != 3 or array.dtype != np.uint32:
            raise DataError(f"'{path}' holds no ids of objects: {_REMEDY}.")
        return array

    def table(self, class_id: int) -> ObjectTable:
        """The table of the objects of a class.

        Raises:
            DataError: it is damaged.
        """
        path = inside(self.folder, f"{class_id}.csv")
        try:
            columns = read_csv(path)
        except OSError as error:
            raise DataError(f"'{path}' cannot be read ({error.strerror}): {_REMEDY}.") from None
        table = ObjectTable(columns)
        if not table.is_whole(self.ids(class_id).shape):
            raise DataError(f"'{path}' is damaged: {_REMEDY}.")
        return table

    def queue(self, class_id: int, ids: NDArray[np.int64]) -> Table:
        """How suspicious each object is, see `napari_emda.objects.suspicion`.

        Objects that an older version has found all have the score 0.

        Args:
            class_id: of the objects.
            ids: in the table of the objects.

        Raises:
            DataError: the file is damaged.
        """
        path = inside(self.folder, queue_file(class_id))
        nothing = np.zeros(len(ids))
        try:
            columns = read_csv(path)
        except FileNotFoundError:
            texts = np.full(len(ids), "", dtype=str)
            return {"id": ids, "score": nothing, "twin": nothing.astype(int), "reason": texts}
        except OSError as error:
            raise DataError(f"'{path}' cannot be read ({error.strerror}): {_REMEDY}.") from None
        if not _is_queue(columns, ids):
            raise DataError(f"'{path}' is damaged: {_REMEDY}.")
        twins = columns["twin"].astype(np.int64)
        return {**columns, "id": ids, "twin": twins}


def _is_queue(columns: Table, ids: NDArray[np.int64]) -> bool:
    if any(name not in columns for name in ("id", "score", "twin", "reason")):
        return False
    scores = columns["score"].astype(np.float64)
    twins = columns["twin"].astype(np.float64)
    return (
        np.array_equal(columns["id"], ids)
        and bool(((scores >= 0) & (scores <= 1)).all())
        and bool(((twins >= 0) & (twins <= len(ids))).all())
    )


@dataclass(frozen=True)
class ObjectTable:
    """A table of objects as it was read from a file, see `napari_emda.objects.table`.

    Attributes:
        columns: by name, a row per object.
    """

    columns: Table

    def is_whole(self, shape: tuple[int, ...]) -> bool:
        """Whether ids are 1, 2 and so on, and all objects lie in a volume of this shape."""
        names = ["id", "voxels", *(f"{axis} {end} (voxel)" for axis in "zyx" for end in _ENDS)]
        if any(name not in self.columns for name in names):
            return False
        ids = self.columns["id"]
        if not np.array_equal(ids, np.arange(1, len(ids) + 1)):
            return False
        low, high = self._corners()
        voxels = self.columns["voxels"].astype(np.float64)
        inside = (low >= 0) & (low < high) & (high <= np.asarray(shape))
        capacity = (high - low).prod(axis=1)
        return bool(inside.all() and (voxels >= 1).all() and (voxels <= capacity).all())

    def _corners(self) -> tuple[NDArray[Any], NDArray[Any]]:
        low, high = (
            np.stack([self.columns[f"{axis} {end} (voxel)"] for axis in "zyx"], axis=1)
            for end in _ENDS
        )
        return low, high

    @cached_property
    def extents(self) -> Extents:
        """Voxels and boxes of the objects."""
        low, high = self._corners()
        ids, voxels = (self.columns[name].astype(np.int64) for name in ("id", "voxels"))
        return Extents.of(ids, voxels, low.astype(np.int64), high.astype(np.int64))


_ENDS = ("start", "stop")
