"""The voxels that an import of labels changed, kept so that the import can be taken back.

Labels that come of a decision on an object are imported the same way.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from napari_emda.data.blocks import strips
from napari_emda.data.box import Box
from napari_emda.errors import DataError
from napari_emda.io.atomic import make_folder
from napari_emda.io.checked_store import DurableStore, open_array
from napari_emda.io.leftovers import clear_tree
from napari_emda.io.safe_files import inside

# Marks voxels that an import left as they were. Class ids + 1 stay below it.
_UNCHANGED = 255


class ImportRecord:
    """Values before and after an import, in ``undo/``; compressed, and empty where nothing changed.

    Args:
        folder: of the project.
        region: id of the import's region.
    """

    def __init__(self, folder: Path, region: str) -> None:
        self._path = inside(folder, "undo", f"{region}.zarr")

    def create(self, array: zarr.Array[Any]) -> None:
        """Make the files for annotations of this shape."""
        make_folder(self._path.parent)
        # An import that was killed is never written to again.
        clear_tree(self._path.parent)
        zarr.open_group(DurableStore(self._path), mode="w")
        for name, fill in (("before", 0), ("after", _UNCHANGED)):
            zarr.create_array(
                DurableStore(inside(self._path, name)),
                shape=array.shape,
                dtype="uint8",
                chunks=array.chunks,
                fill_value=fill,
            )

    def note(self, box: Box, before: NDArray[np.uint8], after: NDArray[np.uint8]) -> None:
        """Keep the annotations in a box before and after the import, uint8 of its shape."""
        changed = before != after
        self._array("before")[box.slices] = np.where(changed, before, 0).astype(np.uint8)
        self._array("after")[box.slices] = np.where(changed, after, _UNCHANGED).astype(np.uint8)

    def swap(self, annotations: zarr.Array[Any], box: Box, *, back: bool) -> None:
        """Take the import back, or repeat it; voxels that were painted since stay as they are.

        Args:
            annotations: of the volume.
            box: that holds all of the import.
            back: whether to take it back.
        """
        if not self._path.exists():
            return
        before, after = self._array("before"), self._array("after")
        if before.shape != annotations.shape or after.shape != annotations.shape:
            raise DataError(
                "The import was into an image of another size: put that image back to undo it."
            )
        # Section by section, because labels may be larger than memory.
        for part in strips(box.clip(annotations.shape)):
            imported = np.asarray(after[part.slices])
            changed = imported != _UNCHANGED
            if not changed.any():
                continue
            replaced = np.asarray(before[part.slices])
            old, new = (imported, replaced) if back else (replaced, imported)
            now = np.asarray(annotations[part.slices])
            swapped = np.where(changed & (now == old), new, now).astype(np.uint8)
            annotations[part.slices] = swapped

    def remove(self) -> None:
        """Delete the files, because the import can no longer be repeated."""
        shutil.rmtree(self._path, ignore_errors=True)

    def _array(self, name: str) -> zarr.Array[Any]:
        return open_array(inside(self._path, name), "r+", durable=True)
