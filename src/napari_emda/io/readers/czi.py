"""Zeiss's image files."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, NamedTuple
from xml.etree import ElementTree

import numpy as np

from napari_emda.data.lazy import Lazy3D, SectionStack
from napari_emda.errors import DataError
from napari_emda.io.axes import layout
from napari_emda.io.czi_planes import Rectangle, Tiles, read_planes
from napari_emda.io.location import Part, SeveralImages, chosen_scene
from napari_emda.io.reader import MultiImageReader, readers
from napari_emda.io.section_names import in_ranges
from napari_emda.io.units import Calibration, Stored, calibrated, number

if TYPE_CHECKING:
    from pylibCZIrw.czi import CziReader

# Voxels, by libCZI's names for them.
_TYPES = {"Gray8": "u1", "Gray16": "u2", "Gray32Float": "f4"}
# What a file may hold besides x, y and z, in Zeiss's letters: times, channels, rotations,
# illuminations, phases, views and blocks.
_OTHER_AXES = "TCRIHVB"
# Bytes of XML that are read: the description of a mosaic of a thousand tiles takes some MB.
_LARGEST_XML = 2**26
# Missing sections that a message lists.
_MOST_MISSING = 10_000


class _Block(NamedTuple):
    """A tile of a plane.

    Attributes:
        at: position along each axis that the file has, by Zeiss's letter; scenes are ``S``.
        place: in the plane, in pixels; may be negative.
        kind: of its voxels, by libCZI's name.
    """

    at: dict[str, int]
    place: Rectangle
    kind: str


@readers.register("czi")
class Czi(MultiImageReader):
    """Zeiss's CZI images, mosaics as one plane; of several scenes choose `file.czi?scene=1`."""

    formats: ClassVar = ("CZI",)
    suffixes: ClassVar = (".czi",)
    library: ClassVar = "pylibCZIrw"
    builds: ClassVar = "Python 3.11 to 3.13, not on Macs with Intel"
    voxel_size: ClassVar = "`Scaling` of its description"
    lazily: ClassVar = "section by section; mosaics tile by tile"

    @classmethod
    def open_part(cls, path: Path, part: Part) -> Stored:
        """Read where the tiles of an image lie; they are decoded where they are sliced."""
        from pylibCZIrw.czi import CacheOptions, CziReader

        # Patches of one section decode a compressed tile once.
        cache = CacheOptions(max_memory_usage=2**28, max_sub_block_count=2**16)
        file = CziReader(str(path.absolute()), cache_options=cache)
        try:
            blocks, scene = _scene(_blocks(file), part, path)
            planes, at = _planes(blocks, part, path)
            volume, notices = _volume(file, planes, at | scene, path)
            sections = sorted({block.at.get("Z", 0) for block in planes})
            stored = Stored(
                volume, *_calibration(file), notices=notices, gap=_gap(path.name, sections)
            )
        except BaseException:
            file.close()
            raise
        weakref.finalize(volume, file.close)
        return stored


def _blocks(file: CziReader) -> list[_Block]:
    """All tiles in full resolution: a file may hold coarser copies besides."""
    found: list[_Block] = []

    def note(_number: int, info: object) -> bool:
        place = info.logicalRect  # type: ignore[attr-defined]  # the library has no stubs
        found.append(
            _Block(
                info.coordinate.to_dict(),  # type: ignore[attr-defined]  # likewise
                Rectangle(place.x, place.y, place.w, place.h),
                info.pixelType.name,  # type: ignore[attr-defined]  # likewise
            )
        )
        return True

    file.enumerate_subblocks_subset(note, only_layer0=True)
    return found


def _scene(blocks: list[_Block], part: Part, path: Path) -> tuple[list[_Block], dict[str, int]]:
    """The tiles of the scene that is meant, and its number in the file, if it has scenes."""
    if not blocks:
        raise DataError(f"{path.name} holds no image: choose another file.")
    scenes = sorted({block.at["S"] for block in blocks if "S" in block.at})
    chosen = chosen_scene(part, max(1, len(scenes)), path.name)
    if len(scenes) > 1 and "scene" not in part.at:
        raise SeveralImages(
            f"{path.name} holds {len(scenes)} scenes: choose one by its number from 0 on, as in "
            f"'{path.name}?scene=0'.",
            [Part(part.inside, {**part.at, "scene": k}) for k in range(len(scenes))],
        )
    if not scenes:
        return blocks, {}
    return [block for block in blocks if block.at.get("S") == scenes[chosen]], {"S": scenes[chosen]}


def _planes(blocks: list[_Block], part: Part, path: Path) -> tuple[list[_Block], dict[str, int]]:
    """The tiles at the channel, time, ... that is meant, and its position along each axis."""
    # An image that was cut out of another one may begin at any number.
    values = {
        axis: sorted({block.at.get(axis, 0) for block in blocks}) for axis in (*_OTHER_AXES, "Z")
    }
    shape = [len(values[axis]) for axis in values]
    names = [axis.lower() for axis in values]
    # The size of a plane makes no difference here.
    found = layout((*shape, 1, 1), [*names, "y", "x"], part, path.name, also=["scene"])
    at = {
        axis: values[axis][found.chosen.get(position, 0)]
        for position, axis in enumerate(_OTHER_AXES)
    }
    planes = [block for block in blocks if all(block.at.get(a, 0) == n for a, n in at.items())]
    if not planes:
        raise DataError(f"{path.name} holds nothing at '{part}': choose another position.")
    return planes, at


def _volume(
    file: CziReader, planes: Sequence[_Block], at: dict[str, int], path: Path
) -> tuple[Lazy3D, tuple[str, ...]]:
    """The sections as an array, and what is to be said of them."""
    kinds = {block.kind for block in planes}
    if any(kind.startswith("Bgr") for kind in kinds):
        raise DataError(f"{path.name} is a colour image: convert it to grey values.")
    (kind,) = kinds if len(kinds) == 1 else (" and ".join(sorted(kinds)),)
    if kind not in _TYPES:
        raise DataError(
            f"{path.name} holds voxels of the kind {kind}, which cannot be read: export it with 8 "
            "or 16 bits."
        )
    whole = Rectangle.around([block.place for block in planes])
    if min(whole.w, whole.h) < 1:
        raise ValueError(f"a plane of {whole.h} x {whole.w} pixels")
    sections = sorted({block.at.get("Z", 0) for block in planes})
    shape = (len(sections), whole.h, whole.w)
    dtype = np.dtype(_TYPES[kind])
    read = read_planes(file, at, whole, kind)
    if all(block.place == whole for block in planes):
        # libCZI decodes a tile as a whole, so that sections of one tile are kept for a while.
        return SectionStack(
            lambda z: read(sections[z], Rectangle(0, 0, whole.w, whole.h)), shape, dtype
        ), ()
    tile = (max(block.place.h for block in planes), max(block.place.w for block in planes))
    return Tiles(read, sections, shape, dtype, tile), _uncovered(planes, whole, path.name)


def _uncovered(planes: Sequence[_Block], whole: Rectangle, name: str) -> tuple[str, ...]:
    """A sentence on pixels between and beside tiles, which no microscope has seen."""
    areas: dict[int, int] = {}
    for block in planes:
        z = block.at.get("Z", 0)
        areas[z] = areas.get(z, 0) + block.place.w * block.place.h
    # Where tiles overlap, this is less than what is uncovered.
    share = 1 - min(areas.values()) / (whole.w * whole.h)
    if share <= 0:
        return ()
    return (
        f"In {name}, tiles leave at least {100 * share:.2g} % of a section uncovered, which is "
        "read as 0.",
    )


def _gap(name: str, sections: Sequence[int]) -> str:
    """Which sections are missing in between, as a sentence."""
    count = sections[-1] - sections[0] + 1 - len(sections)
    if not count:
        return ""
    where = ""
    # Numbers in a damaged file may be anything.
    if count <= _MOST_MISSING:
        missing = sorted(set(range(sections[0], sections[-1])) - set(sections))
        where = f" ({in_ranges(missing)})"
    are = "is" if count == 1 else "are"
    return (
        f"{name} holds {len(sections)} sections numbered {sections[0]} to {sections[-1]}, and "
        f"{count} {are} missing{where}: the sections before and after a gap are taken for "
        "neighbours."
    )


def _calibration(file: CziReader) -> Calibration:
    """The voxel size: Zeiss states metres, whatever unit it shows."""
    text = file.raw_metadata
    # Entities could grow without end; Zeiss uses none.
    if not text or len(text) > _LARGEST_XML or "<!" in text:
        return Calibration()
    try:
        root = ElementTree.fromstring(text)
    except ElementTree.ParseError:
        return Calibration()
    sizes = {
        distance.get("Id", ""): number(distance.findtext("Value"))
        for distance in root.findall("./Metadata/Scaling/Items/Distance")
    }
    return calibrated([sizes.get(axis) for axis in "ZYX"], ["m"] * 3)
