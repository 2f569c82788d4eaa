"""HDF5 files, as ilastik, Fiji, BigDataViewer and the CREMI challenge write them."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from napari_emda.errors import DataError, listed
from napari_emda.io.axes import volume_of
from napari_emda.io.big_data_viewer import level_of, viewer_calibration
from napari_emda.io.hdf5_chunks import Hdf5Chunks
from napari_emda.io.location import Part, SeveralImages
from napari_emda.io.reader import MultiImageReader, readers
from napari_emda.io.section_names import natural
from napari_emda.io.units import Calibration, Stored, calibrated
from napari_emda.json_text import parse_json

if TYPE_CHECKING:
    import h5py

# Images that a message lists, and objects that are looked at to find them.
_LISTED = 5
_LOOKED_AT = 10_000
# Bytes of an attribute that is read: axis tags have some hundred.
_LARGEST_ATTRIBUTE = 2**16


@readers.register("hdf5")
class Hdf5(MultiImageReader):
    """HDF5 (ilastik, CREMI, BigDataViewer); of several images choose one as `file.h5:/path`."""

    formats: ClassVar = ("HDF5",)
    suffixes: ClassVar = (".h5", ".hdf5", ".hdf")
    library: ClassVar = "h5py"
    voxel_size: ClassVar = (
        "`resolution` (nm), `element_size_um`, or `voxel_size` with `units`; "
        "the XML of BigDataViewer"
    )

    @classmethod
    def open_part(cls, path: Path, part: Part) -> Stored:
        """The image of a path in the file, at a channel or time of it."""
        file = _file(path)
        try:
            dataset = _dataset(file, path, part)
            names = _axes(dataset)
            is_viewer = level_of(str(dataset.name)) is not None
            # BigDataViewer wrote its numbers without a sign as numbers with one.
            code = dataset.dtype.str.replace("i", "u") if is_viewer else dataset.dtype
            volume = volume_of(Hdf5Chunks(dataset, np.dtype(code)), names, part, path.name)
            size = viewer_calibration(dataset, path) if is_viewer else _calibration(dataset)
            stored = Stored(volume, *size, origin=_origin(dataset))
        except BaseException:
            file.close()
            raise
        weakref.finalize(volume, file.close)
        return stored


def _file(path: Path) -> h5py.File:
    """The file, opened for reading."""
    import h5py

    try:
        return h5py.File(path, "r")
    except OSError as error:
        # Many network disks know no locks, and reading needs none. Not always without: HDF5 opens
        # a file that another part of the program has open only in the same way.
        if "lock" not in str(error):
            raise
        return h5py.File(path, "r", locking=False)


def _dataset(file: h5py.File, path: Path, part: Part) -> h5py.Dataset:
    """The image that is meant; DataError if there is none, or there are several."""
    inside = part.inside
    if inside:
        found = _at(file, path, inside)
        if not _is_group(found):
            return _self_contained(found, path)
        names = [f"{inside}/{name}" for name in _images(found)]
    else:
        names = list(_images(file))
    if len(names) == 1:
        return _self_contained(_at(file, path, names[0]), path)
    if not names:
        where = f" in {inside}" if inside else ""
        raise DataError(f"{path.name} holds no image{where}: choose another one.")
    names.sort(key=natural)
    shown = [*names[:_LISTED], "others"] if len(names) > _LISTED else names
    raise SeveralImages(
        f"{path.name} holds {len(names)} images ({listed(shown)}): choose one of them, such as "
        f"'{path.name}:/{names[0]}'.",
        [Part(name, part.at) for name in names],
    )


def _is_group(node: Any) -> bool:
    import h5py

    return isinstance(node, h5py.Group)


def _self_contained(dataset: h5py.Dataset, path: Path) -> h5py.Dataset:
    """The dataset; DataError if its voxels lie in other files, whatever these are."""
    if dataset.is_virtual or dataset.external:
        raise DataError(
            f"{path.name} has its voxels in other files: save them in one, for example with "
            "h5repack."
        )
    return dataset


def _at(file: h5py.File, path: Path, inside: str) -> Any:
    """What is at a path in the file; links to other files are not followed."""
    import h5py

    node: Any = file
    for name in inside.split("/"):
        link = node.get(name, getlink=True) if isinstance(node, h5py.Group) else None
        if link is None or isinstance(link, h5py.ExternalLink) or (node.get(name) is None):
            images = sorted(_images(file), key=natural)[:_LISTED]
            remedy = f"choose one of {listed(images, 'or')}" if images else "choose another file"
            raise DataError(f"{path.name} has no image at '{inside}': {remedy}.")
        node = node[name]
    return node


def _images(group: h5py.Group) -> Iterator[str]:
    """Paths of what may be an image in a group: numbers with two axes or more."""
    import h5py

    waiting: list[tuple[str, Any]] = [("", group)]
    # Groups may contain themselves.
    seen: set[Any] = set()
    count = 0
    while waiting and count < _LOOKED_AT:
        prefix, parent = waiting.pop(0)
        for name in parent:
            count += 1
            link = parent.get(name, getlink=True)
            # Soft links are other names of what is found anyway.
            if not isinstance(link, h5py.HardLink):
                continue
            node = parent.get(name)
            inside = f"{prefix}{name}"
            if isinstance(node, h5py.Group) and node.id not in seen:
                seen.add(node.id)
                waiting.append((f"{inside}/", node))
            elif isinstance(node, h5py.Dataset) and _may_be_image(node, inside):
                yield inside


def _may_be_image(dataset: h5py.Dataset, inside: str) -> bool:
    if dataset.ndim < 2 or dataset.dtype.kind not in "buif":
        return False
    level = level_of(inside)
    # Tables such as BigDataViewer's "resolutions" and "subdivisions" have three columns.
    return min(sorted(dataset.shape)[-2:]) > 3 if level is None else level == 0


def _attribute(dataset: h5py.Dataset, name: str) -> Any:
    """An attribute; None if there is none, or one of another size than it should have."""
    if name not in dataset.attrs:
        return None
    if dataset.attrs.get_id(name).get_storage_size() > _LARGEST_ATTRIBUTE:
        return None
    return dataset.attrs[name]


def _axes(dataset: h5py.Dataset) -> list[str] | None:
    """Names of the axes by ilastik's tags, or by HDF5's labels of dimensions."""
    tags = _attribute(dataset, "axistags")
    if isinstance(tags, bytes | str):
        try:
            axes = [str(axis["key"]).lower() for axis in parse_json(tags)["axes"]]
        except (ValueError, TypeError, LookupError):
            axes = []
        if len(axes) == dataset.ndim:
            return axes
    labels = [dimension.label.lower() for dimension in dataset.dims]
    return labels if {"y", "x"} <= set(labels) else None


def _calibration(dataset: h5py.Dataset) -> Calibration:
    """The voxel size along z, y, x, by the attributes of the programs that state one."""
    micrometres = _three(dataset, "element_size_um")
    if micrometres is not None:
        return calibrated(micrometres, ["um"] * 3)
    units = _attribute(dataset, "units")
    words = np.atleast_1d(units).tolist() if units is not None else []
    names = [
        word.decode(errors="replace") if isinstance(word, bytes) else str(word) for word in words
    ]
    of_axes = (names * 3 if len(names) == 1 else names)[-3:]
    for name in ("resolution", "voxel_size"):
        sizes = _three(dataset, name)
        if sizes is not None:
            # Without a unit, CREMI and its successors mean nm.
            return calibrated(sizes, of_axes if len(of_axes) == 3 else ["nm"] * 3)
    return Calibration()


def _origin(dataset: h5py.Dataset) -> tuple[float, float, float]:
    """The position that CREMI's files state, in nm."""
    if _three(dataset, "resolution") is None:
        return (0.0, 0.0, 0.0)
    z, y, x = _three(dataset, "offset") or (0.0, 0.0, 0.0)
    return z, y, x


def _three(dataset: h5py.Dataset, name: str) -> tuple[float, float, float] | None:
    """Three numbers of an attribute; None for anything else."""
    value = _attribute(dataset, name)
    if value is None or np.shape(value) != (3,) or np.asarray(value).dtype.kind not in "uif":
        return None
    z, y, x = (float(number) for number in value)
    return z, y, x
