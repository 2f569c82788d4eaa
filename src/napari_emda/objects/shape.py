"""The shape of objects: surface and solidity, put together from the blocks that they lie in."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import ConvexHull
from skimage.measure import marching_cubes, mesh_surface_area

# Voxel centres that lie on the hull count as inside. Qhull's own rounding is about 1e-13 at
# coordinates of some hundred voxels.
_TOLERANCE = 1e-10
# A face whose normal has no x component bounds no row of voxels from the side.
_PARALLEL = 1e-12
# Rows of voxels that are compared with the hull at once: memory, and faces that matter for few of
# the rows only.
_ROWS = 2**16
# Points from which on those of an object are reduced to the corners of their hull.
_MANY_POINTS = 4096


@dataclass
class Solidity:
    """The solidity of an object, whose voxels come box by box.

    Memory is bounded by the corners of its hull.

    Attributes:
        voxels: of the object in all.
    """

    voxels: int
    _added: int = 0
    # With the same convex hull as the voxels so far, each n x 3; twice their coordinates, which are
    # whole numbers then.
    _points: list[NDArray[np.int32]] = field(default_factory=list)

    def add(self, mask: NDArray[np.bool_], start: tuple[int, int, int]) -> None:
        """Add the voxels of the object in a box (z, y, x) that begins at ``start``."""
        self._take(
            int(np.count_nonzero(mask)),
            [_extreme_points(mask) + 2 * np.asarray(start, np.int32)],
        )

    def add_part(self, part: Solidity) -> None:
        """Add voxels that were measured as an object of their own."""
        self._take(part._added, part._points)

    def _take(self, voxels: int, points: list[NDArray[np.int32]]) -> None:
        self._added += voxels
        self._points += points
        # The points of many boxes would take more memory than the boxes.
        if not self.complete and sum(map(len, self._points)) > _MANY_POINTS:
            self._points = [_corners(np.concatenate(self._points))]

    @property
    def complete(self) -> bool:
        """Whether all voxels were added."""
        return self._added == self.voxels

    def value(self) -> float:
        """Share of its convex hull that the object fills: 1 for convex objects.

        Agrees with ``solidity`` of ``skimage.measure.regionprops``: a voxel reaches half a voxel
        from its centre along each axis, and the hull holds the voxels whose centres it holds.
        Unlike there, flat and tiny objects have a solidity. It does not depend on the voxel size.
        """
        return self.voxels / _centres_inside(np.concatenate(self._points) / 2)


def solidity(mask: NDArray[np.bool_]) -> float:
    """See `Solidity.value`; 0 for an empty mask.

    Args:
        mask: (z, y, x) bool.
    """
    if not mask.any():
        return 0.0
    whole = Solidity(int(np.count_nonzero(mask)))
    whole.add(mask, (0, 0, 0))
    return whole.value()


def surface_within(mask: NDArray[np.bool_], spacing: tuple[float, float, float]) -> float:
    """Area, by marching cubes, of the part of an object's surface that lies in a box.

    The surface is half-way between object and surroundings. On voxels, round surfaces come out
    about 9 % large and sharp boxes a little small. The cubes have their corners at the centres of
    voxels, so boxes that share their outermost voxels share no cube: the areas in the boxes of a
    volume add up to that in the volume.

    Args:
        mask: (z, y, x) bool, at least two voxels a side.
        spacing: voxel size along z, y, x.

    Returns:
        Square units of ``spacing``.
    """
    # Inside or outside of the object there is no surface, and nothing to march along.
    if mask.all() or not mask.any():
        return 0.0
    vertices, faces, _, _ = marching_cubes(mask.astype(np.float32), 0.5, spacing=spacing)
    return float(mesh_surface_area(vertices, faces))


def _extreme_points(mask: NDArray[np.bool_]) -> NDArray[np.int32]:
    """Points with the object's convex hull: half a voxel along each axis from both ends of a row.

    What lies between the ends of a row is inside their hull, so 12 points a row are enough.

    Returns:
        Twice the coordinates, n x 3.
    """
    z, y = np.nonzero(mask.any(axis=-1))
    rows = mask[z, y]
    first = rows.argmax(axis=-1)
    last = rows.shape[-1] - 1 - rows[:, ::-1].argmax(axis=-1)
    ends = np.concatenate([np.stack([z, y, first], axis=1), np.stack([z, y, last], axis=1)])
    diamond = np.concatenate([np.eye(3, dtype=np.int32), -np.eye(3, dtype=np.int32)])
    return (2 * ends.astype(np.int32)[:, None] + diamond).reshape(-1, 3)


def _corners(points: NDArray[np.int32]) -> NDArray[np.int32]:
    """The points that are corners of the convex hull of all."""
    distinct = np.unique(points, axis=0)
    return distinct[ConvexHull(distinct).vertices]


def _centres_inside(points: NDArray[np.float64]) -> int:
    """Number of voxel centres (whole numbers) in the convex hull of some points.

    The hull is the part of space where ``normal . (z, y, x) + offset <= 0`` for all of its faces.
    In each row of voxels, these half-spaces leave an interval of x.
    """
    hull = ConvexHull(np.unique(points, axis=0))
    heights = hull.points[hull.simplices, 0]
    lowest = heights.min(axis=1)
    highest = heights.max(axis=1)
    (z0, y0, x0), (z1, y1, x1) = np.ceil(points.min(0)), np.floor(points.max(0))
    y = np.arange(y0, y1 + 1)
    step = max(1, _ROWS // max(1, len(y)))
    inside = 0
    for first in np.arange(z0, z1 + 1, step):
        z = np.arange(first, min(first + step, z1 + 1))
        # A section of a convex body is bounded by the faces that it meets.
        meets = (lowest <= z[-1] + _TOLERANCE) & (highest >= z[0] - _TOLERANCE)
        inside += _in_rows(hull.equations[meets], z[:, None], y[None], (x0, x1))
    return inside


def _in_rows(
    equations: NDArray[np.float64],
    z: NDArray[np.float64],
    y: NDArray[np.float64],
    ends: tuple[float, float],
) -> int:
    """Number of voxel centres in all half-spaces, in rows of voxels."""
    low = np.full((z.size, y.size), ends[0])
    high = np.full((z.size, y.size), ends[1])
    for normal_z, normal_y, normal_x, offset in equations:
        # The half-space holds x where normal_x * x <= distance.
        distance = _TOLERANCE - (normal_z * z + normal_y * y + offset)
        if abs(normal_x) < _PARALLEL:
            high[distance <= 0] = -np.inf  # the row is in it as a whole or not at all
        elif normal_x > 0:
            np.minimum(high, distance / normal_x, out=high)
        else:
            np.maximum(low, distance / normal_x, out=low)
    return int(np.maximum(np.floor(high) - np.ceil(low) + 1, 0).sum())
