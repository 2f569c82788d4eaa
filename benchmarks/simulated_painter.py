"""A person who corrects the paint of patches as the truth says, with tools that take time.

The person knows the truth, never slips, and always does what mends most voxels in a second. So
seconds compare tools; a real person takes longer with each of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.morphology import skeletonize

from napari_emda.objects.clicks import BACKGROUND, Correction, ObjectClicks
from napari_emda.objects.supervoxels import Supervoxels

Mask = NDArray[np.bool_]
Bytes = NDArray[np.uint8]
Pixel = tuple[int, int]
OBJECT = 2
"""Paint of the structure."""
# Seconds, as stated in issue and page: to look at a patch and decide to be done with it, to aim and
# click or begin a stroke, to press a key, to see what a click or a smart stroke has done.
LOOK, CLICK, KEY, SEE = 2.0, 1.5, 0.5, 0.5
# Of the mouse in a stroke that keeps within 10 pixels of the screen, in such pixels a second: by
# the steering law (Accot and Zhai 1997), with 0.1 s for each width. A patch fills 490 pixels.
SPEED = 100.0
SCREEN = 490.0
# Diameters in voxels, as the buttons of the dock have them.
BRUSHES = (1, 5, 15, 40)
# Voxels that an action must mend at least, and parts of the error that are looked at, the largest.
LEAST = 16
PARTS = 2
# Presses of [ and ] that are tried on an object.
RESIZED = (-3, -2, -1, 1, 2, 3)


@dataclass(frozen=True)
class Tools:
    """What may be used.

    Attributes:
        brush: the plain brush.
        smart: the smart brush.
        objects: clicks on objects.
    """

    brush: bool = True
    smart: bool = False
    objects: bool = False


@dataclass(frozen=True)
class Done:
    """An action: the paint after it, the seconds that it took, and the tool."""

    paint: Bytes
    seconds: float
    tool: str


class Painter:
    """Corrects one patch.

    Args:
        image: of the patch, (y, x).
        stored: probabilities, uint8 (y, x).
        truth: bool (y, x).
        tools: that may be used.
        speed: of the mouse in strokes, in pixels of the screen a second.
    """

    def __init__(
        self, image: Bytes, stored: Bytes, truth: Mask, tools: Tools, speed: float = SPEED
    ) -> None:
        self._truth = truth
        # From each voxel to the nearest one that must not have its colour; there is none beyond
        # the patch.
        self._depths = {OBJECT: _depth(truth), BACKGROUND: _depth(~truth)}
        self._tools = tools
        self._clicks = ObjectClicks(image, stored[None])
        self._areas = {d: Supervoxels(image, stored, d) for d in BRUSHES[:3]}
        self._speed = speed * max(truth.shape) / SCREEN

    def work(self, paint: Bytes) -> Iterator[Done]:
        """Correct until nothing is worth an action: what was done, one after the other."""
        while True:
            wrong = self._wrong(paint)
            best, rate = None, 0.0
            for done in self._possible(paint):
                mended = wrong - self._wrong(done.paint)
                if mended >= LEAST and mended / done.seconds > rate:
                    best, rate = done, mended / done.seconds
            if best is None:
                return
            yield best
            paint = best.paint

    def _wrong(self, paint: Bytes) -> int:
        return int(np.count_nonzero((paint == OBJECT) != self._truth))

    def _possible(self, paint: Bytes) -> Iterator[Done]:
        shown = paint == OBJECT
        for missed in (True, False):
            error = self._truth & ~shown if missed else shown & ~self._truth
            value = OBJECT if missed else BACKGROUND
            for part in _parts(error):
                if self._tools.brush:
                    yield from self._strokes(paint, part, value)
                if self._tools.smart:
                    yield from self._smart_strokes(paint, part, value)
                if self._tools.objects:
                    yield from self._clicked(paint, _deepest(part))
        if self._tools.objects:
            for part in _parts(shown):
                yield from self._resized(paint, _deepest(part))

    def _strokes(self, paint: Bytes, part: Mask, value: int) -> Iterator[Done]:
        """With the plain brush, in what may have the colour: one connected stroke each."""
        distance = ndimage.distance_transform_edt(~part)
        for diameter in BRUSHES:
            reach = diameter // 2 + 0.5
            centres = (self._depths[value] > reach) & (distance <= reach)
            labels, count = ndimage.label(centres, np.ones((3, 3)))
            if not count:
                continue
            path = labels == 1 + np.bincount(labels.ravel())[1:].argmax()
            painted = ndimage.distance_transform_edt(~path) <= reach
            new = np.count_nonzero(painted & ((paint == OBJECT) != (value == OBJECT)))
            if new < LEAST:
                continue
            after = np.where(painted, np.uint8(value), paint)
            yield Done(after, CLICK + _walked(path, diameter) / self._speed, "brush")

    def _smart_strokes(self, paint: Bytes, part: Mask, value: int) -> Iterator[Done]:
        """With the smart brush, along the middle of what is wrong."""
        path = np.argwhere(skeletonize(part))
        seconds = CLICK + len(path) / self._speed + SEE
        for diameter, areas in self._areas.items():
            dab = _dab(diameter)
            reach = diameter // 2
            after = paint.copy()
            for y, x in path.tolist():
                mask, (top, left) = areas.snapped(dab, (y - reach, x - reach), (y, x))
                after[top : top + mask.shape[0], left : left + mask.shape[1]][mask] = value
            yield Done(after, seconds, "smart brush")

    def _clicked(self, paint: Bytes, pixel: Pixel) -> Iterator[Done]:
        """A click, with presses of keys before it that change the size."""
        correction = self._clicks.click(paint, pixel, OBJECT - 1)
        if correction is None:
            return
        for by in (0, *RESIZED) if correction.flood is not None else (0,):
            seconds = CLICK + SEE + KEY * abs(by)
            yield Done(_painted(paint, correction.resized(by)), seconds, "object")

    def _resized(self, paint: Bytes, pixel: Pixel) -> Iterator[Done]:
        """Keys pressed over an object that is there."""
        correction = self._clicks.resize(paint, pixel, 0)
        for by in RESIZED if correction is not None else ():
            # The mouse is moved there as for a click.
            seconds = CLICK + SEE + KEY * abs(by)
            yield Done(_painted(paint, correction.resized(by)), seconds, "size")


def _walked(centres: Mask, diameter: int) -> float:
    """Voxels that the middle of a brush moves to paint all that it paints from some voxels.

    Along their edge, as only that draws the outline; then to and fro inside.
    """
    edge = np.count_nonzero(centres & ~ndimage.binary_erosion(centres))
    depth = ndimage.distance_transform_edt(np.pad(centres, 1))
    return float(edge + np.count_nonzero(depth > diameter) / diameter)


def _painted(paint: Bytes, correction: Correction) -> Bytes:
    return np.where(correction.changes, correction.values, paint)


def _parts(mask: Mask) -> Iterator[Mask]:
    """The largest connected parts of at least `LEAST` voxels."""
    labels, _ = ndimage.label(mask)
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    for number in np.argsort(sizes)[::-1][:PARTS]:
        if sizes[number] >= LEAST:
            yield labels == number


def _depth(allowed: Mask) -> NDArray[np.float64]:
    """Distance of each voxel to the nearest one that is not allowed; 0 for such a one."""
    if allowed.all():
        return np.full(allowed.shape, np.inf)
    return np.asarray(ndimage.distance_transform_edt(allowed))


def _deepest(part: Mask) -> Pixel:
    """The pixel farthest from the edge; the edge of the patch counts as one."""
    depth = ndimage.distance_transform_edt(np.pad(part, 1))[1:-1, 1:-1]
    y, x = np.unravel_index(depth.argmax(), part.shape)
    return int(y), int(x)


def _dab(diameter: int) -> Mask:
    """The disc of napari's brush."""
    reach = diameter // 2
    y, x = np.ogrid[-reach : reach + 1, -reach : reach + 1]
    return np.asarray(y * y + x * x <= (reach + 0.5) ** 2)
