"""Edits of objects: what a person has decided on them, as it is kept in a journal.

An edit names its objects by their ids, which hold for the objects that it was made on. For objects
of another prediction it also holds some of the voxels of each, by which they are found again.
"""

from __future__ import annotations

import base64
import math
import zlib
from collections.abc import Sequence
from typing import Annotated, Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from napari_emda.data.box import Box
from napari_emda.data.names import FileName, OptionalFileName, ShownName

Kind = Literal["delete", "merge", "split", "redraw", "good"]
"""What was decided: it is no object; they are one; it is two; its outline is wrong; it is right."""

# Voxels of an object that are kept with an edit. The share of them in another object is known to
# about 3 %, one deviation, and they take about a kilobyte.
SAMPLE = 256
# Voxels of the box of a part that was split off: 2 MiB of bits, before they are deflated.
MOST_PART_VOXELS = 2**24
# Flat indices in a box are numbers of 64 bits; no volume has more voxels (`io.read`).
_MOST_BOX = 2**60
# No axis of any volume is longer (`io.read.LARGEST_AXIS`), nor are there more ids.
_Coordinate = Annotated[int, Field(ge=0, lt=2**31)]
_Id = Annotated[int, Field(ge=1, lt=2**32)]
Voxel = tuple[_Coordinate, _Coordinate, _Coordinate]
"""A voxel's z, y, x."""


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class _InBox(_Model):
    """Something that lies in a box, z0:z1,y0:y1,x0:x1 in voxels."""

    low: Voxel
    high: Voxel

    @model_validator(mode="after")
    def _is_box(self) -> Self:
        if any(a >= b for a, b in zip(self.low, self.high, strict=True)):
            raise ValueError("It is not a box")
        if self.box.size > _MOST_BOX:
            raise ValueError("No volume holds a box of this size")
        return self

    @property
    def box(self) -> Box:
        """Where it lies."""
        return Box(self.low, self.high)


class ObjectReference(_InBox):
    """An object as it was when it was decided on.

    Attributes:
        id: of the object.
        voxels: how many it had.
        sample: some of them, evenly spaced: their flat indices in the box.
    """

    id: _Id
    voxels: Annotated[int, Field(ge=1, lt=2**62)]
    sample: Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(max_length=SAMPLE)]

    @model_validator(mode="after")
    def _is_inside(self) -> Self:
        if not self.sample or max(self.sample) >= self.box.size:
            raise ValueError("Its voxels do not lie in its box")
        return self

    @property
    def sampled(self) -> NDArray[np.int64]:
        """The voxels of the sample, n x 3 (z, y, x)."""
        inside = np.unravel_index(np.asarray(self.sample), self.box.shape)
        return np.stack(inside, axis=1) + np.asarray(self.low)


class Part(_InBox):
    """A part of an object that was split off.

    Attributes:
        bits: base64 of the deflated bits of its mask in the box.
    """

    bits: str

    @classmethod
    def of(cls, mask: NDArray[np.bool_], start: Sequence[int]) -> Part:
        """The part with this mask (z, y, x), which holds a voxel at least, and begins there."""
        inside = np.nonzero(mask)
        low = [int(axis.min()) for axis in inside]
        high = [int(axis.max()) + 1 for axis in inside]
        tight = mask[tuple(map(slice, low, high))]
        bits = base64.b64encode(zlib.compress(np.packbits(tight).tobytes())).decode()
        moved = np.asarray(start)
        return cls(low=tuple(moved + low), high=tuple(moved + high), bits=bits)

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        if self.box.size > MOST_PART_VOXELS:
            raise ValueError("A part of this size was never split off")
        if not self.mask.any():
            raise ValueError("It has no voxels")
        return self

    @property
    def mask(self) -> NDArray[np.bool_]:
        """Of the part in its box."""
        size = math.prod(self.box.shape)
        try:
            # Bounded, because a few kB can unfold to thousands of times as much.
            packed = base64.b64decode(self.bits)
            content = zlib.decompressobj().decompress(packed, (size + 7) // 8 + 1)
        except zlib.error as error:
            raise ValueError("The bits of its mask are damaged") from error
        if len(content) != (size + 7) // 8:
            raise ValueError("These are not the bits of its mask")
        flat = np.unpackbits(np.frombuffer(content, np.uint8), count=size)
        return flat.reshape(self.box.shape).astype(bool)


class ObjectEdit(_Model):
    """A decision on objects of one class in a volume.

    Attributes:
        id: unique in its project.
        kind: what was decided.
        volume: name of the volume.
        class_name: name of the class.
        run: the run whose prediction it was.
        base: identity of the objects, see `napari_emda.project.found_objects`; ids hold for it.
        objects: those that were decided on; of several, the first gives the merged one its id.
        seeds: a voxel in each part of an object that was split.
        part: the smaller part of it, which got a new id.
        region: the region that holds the annotations which came of it, or the patch to redraw.
        time: when it was made, in seconds since 1970.
    """

    id: FileName
    kind: Kind
    volume: FileName
    class_name: ShownName
    run: FileName
    base: str = Field(max_length=64)
    objects: Annotated[tuple[ObjectReference, ...], Field(min_length=1, max_length=2)]
    seeds: tuple[Voxel, Voxel] | None = None
    part: Part | None = None
    region: OptionalFileName = ""
    time: float = 0.0

    @field_validator("objects")
    @classmethod
    def _are_different(cls, objects: tuple[ObjectReference, ...]) -> tuple[ObjectReference, ...]:
        if len({reference.id for reference in objects}) < len(objects):
            raise ValueError("An object cannot be merged with itself")
        return objects

    @model_validator(mode="after")
    def _is_complete(self) -> Self:
        if (len(self.objects) == 2) != (self.kind == "merge"):
            raise ValueError("Two objects are merged, and all else concerns one")
        is_split = self.kind == "split"
        if is_split != (self.seeds is not None) or is_split != (self.part is not None):
            raise ValueError("A split has two seeds and a part, and nothing else has")
        return self

    @property
    def ids(self) -> tuple[int, ...]:
        """Ids of its objects."""
        return tuple(reference.id for reference in self.objects)

    def __str__(self) -> str:
        """``split of object 12 at z 3, y 40, x 52``."""
        numbers = " and ".join(map(str, self.ids))
        sample = self.objects[0].sampled
        z, y, x = sample[len(sample) // 2].tolist()
        noun = "objects" if len(self.ids) > 1 else "object"
        return f"{self.kind} of {noun} {numbers} at z {z}, y {y}, x {x}"


def json_values(edit: ObjectEdit) -> dict[str, Any]:
    """For one line of JSON."""
    return edit.model_dump(mode="json", exclude_defaults=True)
