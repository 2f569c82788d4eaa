"""How far each pixel of an object is from the border of its object: what contour heads learn from.

Two pixels of a section that touch and have one class are of one connected object. So the border of
a connected object is the border of its class, and only numbers of objects can tell more: where two
of them touch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import edt
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from napari_emda.data.blocks import strips
from napari_emda.data.box import Box
from napari_emda.data.resampled import Resampled
from napari_emda.data.volume import IGNORE, Volume
from napari_emda.errors import DataError, listed
from napari_emda.objects.components import MOST_OBJECTS

CONTOUR = 2.0
"""Pixels up to this distance from the border of their object are its contour."""
FARTHEST = 16.0
"""Larger distances count as this one."""
# Distances are kept up to here: patches are shrunk to three quarters, and then these become 16.5.
_KEPT = 22.0
# Distances are stored in quarters of a pixel, of which a byte with a sign holds 127.
STEPS = 4
# Of a coarser pixel the class is that of most of its voxels, the number that of its centre, which
# may lie outside of the object. Then the number of the nearest pixel counts, up to a diagonal away.
_FILLED = 1.5
_RIM = math.ceil(_KEPT + _FILLED)
# Stands for pixels of which nobody knows to which object they belong; above all numbers.
_UNKNOWN = MOST_OBJECTS + 1


@dataclass(frozen=True)
class Borders:
    """Distances to the border of objects in a volume, read box by box.

    Attributes:
        view: the volume at the working pixel size.
        numbered: whether its labels number objects.
        connected: whether connected pixels of a class are taken for one object where no numbers
            are. Otherwise such labels teach the border to the background alone: two objects may
            touch inside.
    """

    view: Resampled
    numbered: bool
    connected: bool

    def read(self, box: Box) -> NDArray[np.int8]:
        """Codes of a box: distances in steps of a quarter of a pixel, at most 88.

        Distances are those between the centres of pixels within a section. A code above 0 is the
        distance to the nearest pixel of another object or of another class, one below 0 says that
        it is at least as far. 0 is in the background and where nothing is known.
        """
        if not self.view.labelled:
            return np.zeros(box.shape, np.int8)
        z0, y0, x0 = box.start
        z1, y1, x1 = box.stop
        around = Box((z0, y0 - _RIM, x0 - _RIM), (z1, y1 + _RIM, x1 + _RIM)).clip(self.view.shape)
        inside = box.moved((-z0, -around.start[1], -around.start[2]))
        classes = self.view.read_labels(around)
        ids = self.view.read_ids(around) if self.numbered else None
        if ids is not None and self.view.scale != (1, 1):
            ids = np.stack([_filled(*section) for section in zip(ids, classes, strict=True)])
        codes = [
            _codes(section, None if ids is None else ids[z], connected=self.connected)
            for z, section in enumerate(classes)
        ]
        return np.stack(codes)[inside.slices]

    def whole(self) -> NDArray[np.int8]:
        """Those of the whole volume."""
        codes = np.zeros(self.view.shape, np.int8)
        if self.view.labelled:
            for part in strips(Box.whole(self.view.shape)):
                codes[part.slices] = self.read(part)
        return codes


def _codes(
    classes: NDArray[np.uint8], ids: NDArray[np.int64] | None, *, connected: bool
) -> NDArray[np.int8]:
    """Codes of a section, see `Borders.read`."""
    is_object = (classes > 0) & (classes != IGNORE)
    if not is_object.any():
        return np.zeros(classes.shape, np.int8)
    # Each class is an object. Where classes are known alone, the parts of it make no difference.
    objects = classes.astype(np.uint64)
    if ids is not None:
        # Of pixels that are annotated, or drawn into the file without a number, nothing is known.
        objects = np.where(ids > 0, ids, _UNKNOWN).astype(np.uint64)
        objects[~is_object] = 0
    objects[classes == IGNORE] = _UNKNOWN
    distance = edt.edt(objects, parallel=1)
    unknown = objects == _UNKNOWN
    codes = np.round(np.minimum(distance, _KEPT) * STEPS).astype(np.int8)
    if unknown.any():
        to_unknown = ndimage.distance_transform_edt(~unknown)
        # Behind the unknown pixel may be the border: it is at least as far as this pixel.
        # Rounding aside, of which squares of distances have less than one.
        bounded = (to_unknown < distance + 1e-3) & (to_unknown < _KEPT)
        codes[bounded] = -np.floor(to_unknown[bounded] * STEPS).astype(np.int8)
    if ids is None and not connected:
        codes[distance > CONTOUR] = 0
    codes[~is_object | unknown] = 0
    return codes


def _filled(ids: NDArray[np.int64], classes: NDArray[np.uint8]) -> NDArray[np.int64]:
    """The ids, with those of the nearest object where pixels of objects have none."""
    missing = (classes > 0) & (classes != IGNORE) & (ids == 0)
    if not missing.any() or not ids.any():
        return ids
    distance, nearest = ndimage.distance_transform_edt(ids == 0, return_indices=True)
    missing &= distance <= _FILLED
    filled = ids.copy()
    filled[missing] = ids[tuple(axis[missing] for axis in nearest)]
    return filled


def numbers_objects(volume: Volume) -> bool:
    """Whether labels number objects: a single number is a class.

    Raises:
        DataError: a number is negative, or has more than 32 bits.
    """
    if volume.ids is None:
        return False
    low = MOST_OBJECTS
    high = 0
    for part in strips(Box.whole(volume.shape)):
        ids = np.asarray(volume.ids[part.slices])
        # 0 is no object.
        if ids.any():
            low = min(low, int(ids[ids != 0].min()))
            high = max(high, int(ids.max()))
    if low < 0 or high > MOST_OBJECTS:
        raise DataError(
            f"The labels of '{volume.name}' have the object id {low if low < 0 else high}: "
            f"renumber the objects from 1 to at most {MOST_OBJECTS}."
        )
    return low < high


def remarks_on_numbers(names: Sequence[str], *, others_do: bool) -> list[str]:
    """What a user should know of labels that number no objects, in sentences.

    Args:
        names: of the volumes that have such labels.
        others_do: whether the labels of other volumes number objects.
    """
    if not names:
        return []
    if not others_do:
        return [
            "The labels hold classes and no numbers of objects: connected voxels of a class are "
            "taken for one object."
        ]
    volumes = listed([f"'{name}'" for name in names])
    return [
        f"The labels of {volumes} hold classes and no numbers of objects: there, only the border "
        "to other classes is learnt, and not where objects touch."
    ]
