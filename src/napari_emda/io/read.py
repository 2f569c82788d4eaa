"""Images and labels from TIFF, zarr, OME-Zarr and folders of sections, and TIFF back out."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from napari_emda.errors import DataError
from napari_emda.io.image_folder import PICTURES, TIFF_SUFFIXES, open_picture, open_sections
from napari_emda.io.ome_zarr import is_zarr, open_zarr
from napari_emda.io.tiff import open_tiff, write_tiff
from napari_emda.io.units import Stored, nanometres

__all__ = ["Stored", "nanometres", "open_image", "open_labels", "write_tiff"]


def open_image(path: Path | str) -> Stored:
    """Open grey values without reading them.

    Args:
        path: a TIFF, PNG or JPEG file, a zarr array or OME-Zarr image, or a folder of sections.

    Returns:
        The (z, y, x) array of its own real dtype (a single image is one section), voxel size and unit where stated.

    Raises:
        DataError: nothing there, an unknown kind of file, damaged, coloured, or not a volume.
    """
    stored = _open(Path(path))
    if np.dtype(stored.array.dtype).kind not in "buif":
        raise DataError(
            f"{Path(path).name} holds {stored.array.dtype}, which are no grey values: save real numbers."
        )
    return stored


def open_labels(path: Path | str) -> Stored:
    """Open labels without reading them: as :func:`open_image`, but integers or booleans only.

    Raises:
        DataError: as :func:`open_image`, or values that are not whole numbers.
    """
    stored = _open(Path(path))
    if np.dtype(stored.array.dtype).kind not in "bui":
        raise DataError(
            f"The labels {Path(path).name} are {stored.array.dtype}, but labels are whole numbers: save them as"
            " 8-, 16- or 32-bit integers."
        )
    return stored


def _open(path: Path) -> Stored:
    if not path.exists():
        raise DataError(f"{path} does not exist: check the name, or mount the disk it is on.")
    if path.is_dir():
        return open_zarr(path) if is_zarr(path) else open_sections(path)
    if path.suffix.lower() in TIFF_SUFFIXES:
        return open_tiff(path)
    if path.suffix.lower() in PICTURES:
        return open_picture(path)
    raise DataError(
        f"{path.name} is no kind of file that can be opened: choose TIFF, PNG, JPEG, OME-Zarr, zarr or a folder of"
        " sections."
    )
