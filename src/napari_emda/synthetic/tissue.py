"""The phantom's tissue, laid out in nanometres.

Structures therefore continue from section to section at any voxel size.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import cKDTree

from napari_emda.synthetic.microscope import Appearance
from napari_emda.synthetic.rods import Floats, Rod, beside_another, branched, random_rod

# In nm. A membrane is wider than a pixel of 8 nm, and cristae lie some five pixels apart: both can
# be seen.
CELL_DIAMETER = 480.0
MEMBRANE_WIDTH = 11.0
CRISTA_PERIOD = 42.0

# A rod beside another is not drawn if its cell leaves it fewer voxels.
_LEAST_PARTNER = 200

Boxes = tuple[slice, slice, slice]


class Tissue:
    """Cells and what is in them, drawn into ``brightness`` and ``ids`` one after the other.

    Args:
        rng: of all random choices.
        shape: sections, rows, columns.
        spacing: voxel size along z, y, x in nm.
        appearance: how bright each structure is.

    Attributes:
        brightness: (z, y, x) float32, 0 is black and 1 white.
        ids: (z, y, x) uint32, the number of each mitochondrion, from 1; 0 elsewhere.
        count: of mitochondria.
    """

    def __init__(
        self,
        rng: np.random.Generator,
        shape: tuple[int, int, int],
        spacing: tuple[float, float, float],
        appearance: Appearance,
    ) -> None:
        self.rng = rng
        self.shape = shape
        self.appearance = appearance
        self.spacing = np.array(spacing)
        self.extent = self.spacing * shape
        # Cells are found on every other pixel: their borders are straight enough in between.
        self.coarse_shape = (shape[0], -(-shape[1] // 2), -(-shape[2] // 2))
        self.cell, self.coarse_depth = self._cells()
        self.depth = _resize(self.coarse_depth, shape)
        self.ids = np.zeros(shape, np.uint32)
        self.count = 0
        self.taken = np.zeros(shape, bool)
        self.brightness = self._cytoplasm()

    def _cells(self) -> tuple[NDArray[np.int32], Floats]:
        """Number of the cell at each coarse voxel, and how far inside it that voxel lies (nm)."""
        # Seeds outside the volume, too: else cells at the border would be larger than inside.
        margin = 1.5 * CELL_DIAMETER
        # Cells run along z: they are three times as long as they are wide.
        stretch = np.array([1 / 3, 1.0, 1.0])
        size = (self.extent + 2 * margin) * stretch
        count = max(8, round(math.prod(size) / CELL_DIAMETER**3))
        seeds = self.rng.uniform(0, 1, (count, 3)) * size - margin * stretch
        points = self._coarse_grid() + self._warp()
        points *= stretch
        distances, nearest = cKDTree(seeds).query(points.reshape(-1, 3), k=2, workers=1)
        owner, other = nearest.T
        first, second = distances.T
        # Distance to the plane half-way between the two nearest seeds (a Voronoi face).
        apart = np.maximum(np.linalg.norm(seeds[owner] - seeds[other], axis=1), 1e-6)
        depth = (second**2 - first**2) / (2 * apart)
        cell = owner.astype(np.int32).reshape(self.coarse_shape)
        return cell, depth.astype(np.float32).reshape(self.coarse_shape)

    def _coarse_grid(self) -> Floats:
        step = self.extent / self.coarse_shape
        axes = [(np.arange(n) + 0.5) * d for n, d in zip(self.coarse_shape, step, strict=True)]
        return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).astype(np.float32)

    def _warp(self) -> Floats:
        """A smooth displacement (nm) that bends the flat faces between cells."""
        knots = np.maximum(2, np.ceil(self.extent / (0.55 * CELL_DIAMETER)).astype(int) + 1)
        # 55 nm: a tenth of a cell, so that faces are curved and no cell is torn apart.
        fields = [
            _resize(self.rng.normal(0, 55, knots), self.coarse_shape, order=3) for _ in range(3)
        ]
        return np.stack(fields, axis=-1)

    def _cytoplasm(self) -> Floats:
        appearance = self.appearance
        of_cell = self.rng.normal(
            appearance.cytoplasm, appearance.cell_spread, int(self.cell.max()) + 1
        ).astype(np.float32)
        values = _resize(of_cell[self.cell], self.shape)
        grain = self.rng.standard_normal(self.shape, dtype=np.float32)
        # Grains of 12 nm, wider than a pixel: they survive the microscope's blur.
        sigma = (0, *(12 / self.spacing[1:]))
        grain = ndimage.gaussian_filter(grain, sigma)
        values += grain * (appearance.grain / max(float(grain.std()), 1e-6))
        _stain(values, appearance.membrane, np.exp(-((self.depth / MEMBRANE_WIDTH) ** 2)))
        return values

    def add_mitochondria(self, share: float, *, touching: float = 0, branching: float = 0) -> None:
        """Draw bent rods inside single cells until they fill ``share`` of the volume.

        It ends earlier where no room is left.

        Args:
            share: of the volume.
            touching: share of the rods beside which another one is drawn that touches them, if
                there is room.
            branching: share of the rods that have a branch.
        """
        aim = share * self.ids.size
        filled = 0
        for centre in self._points(60.0):
            if filled >= aim:
                return
            rod = random_rod(self.rng, centre)
            # Without touching and branching ones, no random number is drawn that was not before.
            if branching and self.rng.random() < branching:
                rod = branched(self.rng, rod)
            voxels = self._mitochondrion(rod)
            filled += voxels
            if touching and voxels and self.rng.random() < touching:
                filled += self._mitochondrion(beside_another(self.rng, rod), beside=rod)

    def _points(self, depth: float) -> Iterator[NDArray[np.float64]]:
        """Random points (nm) at least ``depth`` inside a cell; more than are ever needed."""
        inside = np.flatnonzero(self.coarse_depth > depth)
        if not inside.size:
            return
        step = self.extent / self.coarse_shape
        count = min(inside.size, 40 + self.ids.size // 2000)
        for index in self.rng.choice(inside, size=count, replace=False):
            yield (np.array(np.unravel_index(index, self.coarse_shape)) + 0.5) * step

    def _mitochondrion(self, rod: Rod, beside: Rod | None = None) -> int:
        """Draw a rod, beside the last one if that is given.

        Returns:
            Its voxels; 0 where something else lies, or if it does not touch the one beside it.
        """
        box = self._box(*rod.corners)
        if box is None:
            return 0
        # How far inside the rod (nm) a voxel lies, but also at least 16 nm away from the membrane
        # of its cell.
        inside = rod.depth(*self._grid(box))
        np.minimum(inside, self._depth_in_cell_of(rod.centre, box) - 16, out=inside)
        others = self.taken[box]
        if beside is not None:
            neighbour = self.ids[box] == self.count
            others = others & ~neighbour
            # Where both would be, the first one is: the membranes of both meet there.
            np.minimum(inside, -beside.depth(*self._grid(box)), out=inside)
        # 25 nm of cytoplasm between organelles, so that none touch.
        if others[inside > -25].any():
            return 0
        mask = inside > 0
        if beside is not None and not (
            mask.sum() >= _LEAST_PARTNER and (ndimage.binary_dilation(mask) & neighbour).any()
        ):
            return 0
        self._paint_mitochondrion(box, inside, self._cristae(box, rod.centre, rod.axis))
        self.count += 1
        self.ids[box][mask] = self.count
        self.taken[box] |= mask
        return int(mask.sum())

    def _cristae(
        self, box: Boxes, centre: NDArray[np.float64], axis: NDArray[np.float64]
    ) -> Floats:
        """Sheets across the rod, wavy and a little tilted in z: 1 in a sheet, 0 between."""
        z, y, x = self._grid(box)
        angle = math.atan2(axis[1], axis[2]) + self.rng.normal(0, 0.35)
        along = (
            (x - centre[2]) * math.cos(angle)
            + (y - centre[1]) * math.sin(angle)
            + 0.3 * (z - centre[0])
        )
        across = (y - centre[1]) * math.cos(angle) - (x - centre[2]) * math.sin(angle)
        along = (
            along
            + 9 * np.sin(across / 35 + self.rng.uniform(0, 6))
            + 5 * np.sin(z / 60 + across / 17)
        )
        period = CRISTA_PERIOD * self.rng.uniform(0.85, 1.2)
        return np.clip(1.6 * np.cos(2 * np.pi * along / period) - 0.1, 0, 1).astype(np.float32)

    def _paint_mitochondrion(self, box: Boxes, inside: Floats, cristae: Floats) -> None:
        appearance = self.appearance
        values = self.brightness[box]
        # Some grain of the cytoplasm stays, else mitochondria would be found by their smoothness.
        grain = values - appearance.cytoplasm
        covered = _step(inside, 8)
        values += covered * (appearance.matrix + 0.4 * grain - values)
        # From the inside out: cristae from 22 nm on, the gap between the two membranes at 17 nm,
        # the outer membrane at 5 nm.
        _stain(values, appearance.crista, cristae * _step(inside - 22, 8))
        _stain(values, appearance.cytoplasm, 0.7 * np.exp(-(((inside - 17) / 5) ** 2)))
        _stain(values, appearance.membrane, 0.9 * np.exp(-(((inside - 5) / 8) ** 2)))

    def add_round_bodies(self, count_share: float) -> None:
        """Draw dark bodies and bright vacuoles, half as much volume as mitochondria in all."""
        aim = 0.5 * count_share * self.ids.size
        filled = 0.0
        for i, centre in enumerate(self._points(50.0)):
            if filled >= aim:
                return
            filled += self._round_body(centre, self.rng.uniform(50, 110), dark=i % 3 != 0)

    def _round_body(self, centre: NDArray[np.float64], radius: float, dark: bool) -> int:
        box = self._box(centre - radius - 20, centre + radius + 20)
        if box is None:
            return 0
        z, y, x = self._grid(box)
        inside = radius - np.sqrt(
            (z - centre[0]) ** 2 + (y - centre[1]) ** 2 + (x - centre[2]) ** 2
        )
        inside = np.minimum(inside, self._depth_in_cell_of(centre, box) - 16).astype(np.float32)
        mask = inside > 0
        if self.taken[box][inside > -25].any():
            return 0
        appearance = self.appearance
        values = self.brightness[box]
        grain = values - appearance.cytoplasm
        fill = appearance.lumen + 0.5 * grain
        if dark:
            fill = self.rng.normal(appearance.body, 0.05) + 0.8 * grain
        values += _step(inside, 8) * (fill - values)
        _stain(values, appearance.membrane, 0.8 * np.exp(-(((inside - 4) / 8) ** 2)))
        self.taken[box] |= mask
        return int(mask.sum())

    def add_vesicles(self) -> None:
        """Draw clusters of small vesicles, about one per cell."""
        # A cell is three times as long as wide, see `_cells`.
        clusters = max(1, round(math.prod(self.extent) / (3 * CELL_DIAMETER**3)))
        for _, centre in zip(range(clusters), self._points(40.0), strict=False):
            for _ in range(int(self.rng.integers(8, 25))):
                self._vesicle(centre + self.rng.normal(0, 70, 3), self.rng.uniform(17, 24))

    def _vesicle(self, centre: NDArray[np.float64], radius: float) -> None:
        box = self._box(centre - radius - 12, centre + radius + 12)
        if box is None:
            return
        z, y, x = self._grid(box)
        inside = radius - np.sqrt(
            (z - centre[0]) ** 2 + (y - centre[1]) ** 2 + (x - centre[2]) ** 2
        )
        if self.taken[box][inside > -8].any() or (self.depth[box][inside > 0] < 14).any():
            return
        values = self.brightness[box]
        values += _step(inside, 6) * (0.5 * (self.appearance.lumen - values))
        _stain(values, self.appearance.membrane, 0.75 * np.exp(-(((inside - 2) / 7) ** 2)))

    def _box(self, low: NDArray[np.float64], high: NDArray[np.float64]) -> Boxes | None:
        """The voxels between two corners (nm), or None when none is in the volume."""
        start = np.clip(np.floor(low / self.spacing).astype(int), 0, self.shape)
        stop = np.clip(np.ceil(high / self.spacing).astype(int), 0, self.shape)
        if (stop <= start).any():
            return None
        z, y, x = (slice(int(a), int(b)) for a, b in zip(start, stop, strict=True))
        return z, y, x

    def _grid(self, box: Boxes) -> tuple[Floats, Floats, Floats]:
        """Centres of a box's voxels (nm), to broadcast."""
        z, y, x = (
            ((np.arange(s.start, s.stop) + 0.5) * d).astype(np.float32)
            for s, d in zip(box, self.spacing, strict=True)
        )
        return z[:, None, None], y[None, :, None], x[None, None, :]

    def _depth_in_cell_of(self, point: NDArray[np.float64], box: Boxes) -> Floats:
        """How far inside the cell around ``point`` a box's voxels lie (nm); negative outside it."""
        at = np.minimum(
            (point / self.extent * self.coarse_shape).astype(int), np.array(self.coarse_shape) - 1
        )
        z, y, x = box
        coarse = (z, slice(y.start // 2, -(-y.stop // 2)), slice(x.start // 2, -(-x.stop // 2)))
        depth = np.where(
            self.cell[coarse] == self.cell[tuple(at)],
            self.coarse_depth[coarse],
            -self.coarse_depth[coarse],
        )
        fine = _resize(depth, (depth.shape[0], 2 * depth.shape[1], 2 * depth.shape[2]))
        # A box may begin in the middle of a coarse voxel.
        top = y.start % 2
        left = x.start % 2
        return fine[:, top : top + y.stop - y.start, left : left + x.stop - x.start]


def _resize(values: NDArray[np.floating], shape: tuple[int, ...], order: int = 1) -> Floats:
    """Interpolate to another shape over the same extent."""
    resized: NDArray[np.floating] = values.astype(np.float32)
    # Axis by axis, which is the same and takes a fraction of the time of all at once.
    for axis, (before, after) in enumerate(zip(values.shape, shape, strict=True)):
        if before != after:
            weights = _interpolation(before, after, order)
            resized = np.moveaxis(np.tensordot(weights, resized, (1, axis)), 0, axis)
    return np.ascontiguousarray(resized, np.float32)


@functools.lru_cache(maxsize=1024)
def _interpolation(before: int, after: int, order: int) -> NDArray[np.float64]:
    """Weights of ``before`` points in each of ``after`` points, (after, before)."""
    # What a single 1 among zeros becomes, for each of the points.
    return np.stack(
        [
            ndimage.zoom(one, after / before, order=order, mode="nearest", grid_mode=True)
            for one in np.eye(before)
        ],
        axis=1,
    )


def _step(distance: Floats, width: float) -> Floats:
    """From 0 to 1 over ``width`` nm around distance 0."""
    return np.clip(distance / width + 0.5, 0, 1)


def _stain(values: Floats, colour: float, amount: NDArray[np.floating]) -> None:
    """Draw ``values`` towards ``colour``, in place."""
    values += amount * (colour - values)
