"""Damage in the annotations, which are taken from the backups again where these have them."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from napari_emda.data.box import Box
from napari_emda.errors import EmdaError, JobError
from napari_emda.io.atomic import replacing_file
from napari_emda.io.chunk_files import ChunkFiles
from napari_emda.io.safe_files import inside
from napari_emda.project.annotation_arrays import AnnotationArrays
from napari_emda.project.backups import Backups
from napari_emda.project.checking.damage import Damage, Finding, Reading, Rescue
from napari_emda.project.region import Region
from napari_emda.project.regions import Regions

Index = tuple[int, ...]
"""Of a chunk along z, y, x."""

# What zarr raises on metadata that it cannot use, and codecs on chunks that they cannot decode.
UNREADABLE = (EmdaError, OSError, ValueError, KeyError, TypeError, RuntimeError)
# The name of a chunk's file or folder.
_NUMBER = re.compile("[0-9]{1,10}")


def damaged_annotations(
    project: Path, shapes: dict[str, tuple[int, ...]], classes: int
) -> Iterator[Finding]:
    """Damaged annotations of a project.

    Args:
        project: its folder.
        shapes: of the images that can be read, by volume.
        classes: of the project; 0 if they are not known.
    """
    arrays = AnnotationArrays(project)
    for name in arrays.names():
        place = f"annotations/{name}.zarr"
        yield Reading(place)
        try:
            array = arrays.open(name)
        except UNREADABLE:
            yield Damage(
                f"{place}/zarr.json",
                f"The annotations of '{name}' cannot be opened, because '{place}/zarr.json' is "
                "damaged",
                "it can be written anew; the annotations themselves are in other files",
                partial(_describe_anew, project, name, shapes.get(name)),
            )
            try:
                array = arrays.open(name)
            except UNREADABLE:
                continue
        if array is None:
            continue
        if name in shapes and tuple(array.shape) != tuple(shapes[name]):
            yield Damage(
                place,
                f"The annotations of '{name}' are for {_size(array.shape)} voxels, and its image "
                f"has {_size(shapes[name])}",
                "put the image back that was annotated",
            )
        yield from _chunks(project, name, array, classes)
    yield from _accepted(project)


def _size(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape))


def _describe_anew(project: Path, name: str, shape: tuple[int, ...] | None, rescue: Rescue) -> str:
    metadata = Backups(project).metadata(name)
    path = inside(project, "annotations", f"{name}.zarr")
    if metadata is None and shape is None:
        raise JobError("Put the image back that was annotated, and repair again.")
    rescue.take("annotations", f"{name}.zarr", "zarr.json")
    if metadata is not None:
        with replacing_file(path / "zarr.json") as file:
            file.write_bytes(metadata[1])
        return f"The description of the annotations of '{name}' is that of the newest backup."
    assert shape is not None
    AnnotationArrays(project).describe(name, shape)
    return f"The annotations of '{name}' were described anew for its image; nothing is lost."


# -- chunks ----------------------------------------------------------------------------------------


def chunk_indices(folder: Path, axes: int) -> Iterator[tuple[int, ...]]:
    """Indices of the chunks of an array that have a file, in order."""
    paths = folder.glob("/".join(["c", *["*"] * axes]))
    parts = (path.parts[-axes:] for path in paths)
    yield from sorted(tuple(map(int, p)) for p in parts if all(map(_NUMBER.fullmatch, p)))


def box_of(array: zarr.Array[Any], index: tuple[int, ...]) -> tuple[slice, ...]:
    """The part of an array that a chunk holds."""
    return tuple(
        slice(i * side, min((i + 1) * side, size))
        for i, side, size in zip(index, array.chunks, array.shape, strict=True)
    )


def _chunks(project: Path, name: str, array: zarr.Array[Any], classes: int) -> Iterator[Finding]:
    files = ChunkFiles(array)
    folder = inside(project, "annotations", f"{name}.zarr")
    for index in chunk_indices(folder, 3):
        place = "/".join(["annotations", f"{name}.zarr", "c", *map(str, index)])
        if any(i * side >= n for i, side, n in zip(index, array.chunks, array.shape, strict=True)):
            continue
        where = box_of(array, index)
        try:
            values = files[where]
        except UNREADABLE:
            yield Damage(
                place,
                f"The annotations of '{name}' in {_in_words(where)} cannot be read",
                "they can be taken from a backup, as far as it has them",
                partial(_mend_chunk, project, name, index, where),
            )
            continue
        if classes and int(values.max(initial=0)) > classes:
            yield Damage(
                place,
                f"The annotations of '{name}' in {_in_words(where)} hold the number "
                f"{int(values.max())}, and only 1 to {classes} are classes",
                "erase or repaint these voxels",
            )


def _in_words(where: tuple[slice, ...]) -> str:
    z, y, x = where
    return f"section {z.start} (y {y.start} to {y.stop - 1}, x {x.start} to {x.stop - 1})"


def _mend_chunk(
    project: Path, name: str, index: Index, where: tuple[slice, ...], rescue: Rescue
) -> str:
    """Put a chunk back from the newest backup that has it, or do without it."""
    names = ("annotations", f"{name}.zarr", "c", *map(str, index))
    copy = Backups(project).chunk(name, index)
    rescue.take(*names)
    since = float("-inf")
    done = "no backup has them"
    if copy is not None:
        backup, content = copy
        with replacing_file(inside(project, *names)) as file:
            file.write_bytes(content)
        since = backup.time
        done = f"those of the backup {backup.name} were put back"
    z, y, x = where
    box = Box((z.start, y.start, x.start), (z.stop, y.stop, x.stop))
    lost = [
        region
        for region in Regions(project).all()
        if region.annotated
        and region.volume == name
        and region.is_patch
        and region.voxels.overlaps(box)
        and region.time > since
    ]
    reopened = _reopen(project, lost)
    return f"The annotations of '{name}' in {_in_words(where)} were damaged: {done}{reopened}."


def _reopen(project: Path, regions: Sequence[Region]) -> str:
    """Suggest patches again whose annotations are lost; the end of a sentence on them."""
    if not regions:
        return ""
    again = [region.model_copy(update={"state": "suggested"}) for region in regions]
    Regions(project).record_all(again)
    patches = ", ".join(region.box for region in regions)
    return f", and what was annotated there is lost: annotate the patches {patches} again"


# -- accepted patches ------------------------------------------------------------------------------


def _accepted(project: Path) -> Iterator[Finding]:
    """Patches that count as annotated as a whole, of which the annotations are gone."""
    arrays = AnnotationArrays(project)
    for region in Regions(project).all():
        # An import is no patch that a user could annotate again.
        if region.state != "accepted" or not region.is_patch:
            continue
        try:
            array = arrays.open(region.volume)
            missing = None if array is None else _missing(array, region)
        except UNREADABLE:
            continue  # reported as a damage of the array
        if array is not None and not region.lies_in(array.shape):
            yield Damage(
                "regions.jsonl",
                f"The patch {region.box} does not lie in '{region.volume}'",
                "put the image back that it was annotated in",
            )
        elif missing is None or missing:
            yield Damage(
                "regions.jsonl",
                f"The patch {region.box} of '{region.volume}' counts as annotated, and nothing is "
                "annotated there",
                "it can be taken from a backup or suggested again",
                partial(_put_back, project, region, missing or []),
            )


def _missing(array: zarr.Array[Any], region: Region) -> list[Index]:
    """The chunks in which nothing of a patch is annotated, although all of it should be."""
    box = region.voxels
    sides = array.chunks
    ranges = [
        range(start // side, -(-stop // side))
        for start, stop, side in zip(box.start, box.stop, sides, strict=True)
    ]
    missing: list[Index] = []
    for z, y, x in itertools.product(*ranges):
        start = (z * sides[0], y * sides[1], x * sides[2])
        chunk = Box(start, (start[0] + sides[0], start[1] + sides[1], start[2] + sides[2]))
        if not np.asarray(array[chunk.clip_to(box).slices]).any():
            missing.append((z, y, x))
    return missing


def _put_back(project: Path, region: Region, missing: Sequence[Index], _: Rescue) -> str:
    """Take the chunks of a patch from a backup that is newer than it, or suggest it again."""
    backups = Backups(project)
    left = list(missing)
    for index in missing:
        copy = backups.chunk(region.volume, index)
        path = inside(project, "annotations", f"{region.volume}.zarr", "c", *map(str, index))
        # Other patches may lie in the same chunk: a file that is there is better than a backup.
        if copy is None or copy[0].time < region.time or path.exists():
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing_file(path) as file:
            file.write_bytes(copy[1])
        left.remove(index)
    if missing and not left:
        return f"The annotations of the patch {region.box} were taken from a backup."
    _reopen(project, [region])
    return (
        f"The patch {region.box} of '{region.volume}' has lost its annotations, and is suggested "
        "again."
    )
