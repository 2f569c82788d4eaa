"""The shapes of the phantom's mitochondria: bent rods, with branches, and beside each other.

Lengths are in nm.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
# Two rods that touch overlap by this much, so that their voxels adjoin at any voxel size.
_OVERLAP = 16.0


@dataclass(frozen=True)
class Rod:
    """Balls along a spine.

    Attributes:
        centre: (z, y, x) of the spine before it was bent.
        axis: of length 1.
        radius: of the balls, on average.
        spine: centres of the balls, n x 3.
        radii: of the balls, n.
    """

    centre: NDArray[np.float64]
    axis: NDArray[np.float64]
    radius: float
    spine: NDArray[np.float64]
    radii: NDArray[np.float64]

    @property
    def corners(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Of a box that holds it."""
        return self.spine.min(0) - 1.2 * self.radius, self.spine.max(0) + 1.2 * self.radius

    def depth(self, z: Floats, y: Floats, x: Floats) -> Floats:
        """How far inside the rod points lie: as far as in the deepest of its balls."""
        inside = np.full(np.broadcast_shapes(z.shape, y.shape, x.shape), -np.inf, np.float32)
        for (a, b, c), r in zip(self.spine, self.radii, strict=True):
            np.maximum(inside, r - np.sqrt((z - a) ** 2 + (y - b) ** 2 + (x - c) ** 2), out=inside)
        return inside


def random_rod(rng: np.random.Generator, centre: NDArray[np.float64]) -> Rod:
    """A rod 150 to 220 nm thick and 240 to 760 nm long; cells are 480 nm wide."""
    radius = rng.uniform(75, 110)
    axis = direction(rng)
    half = rng.uniform(120, 380) * axis
    bend = np.cross(axis, direction(rng)) * rng.uniform(0, 140)
    # The spine is a parabola; 13 balls along it overlap enough to look like a tube.
    t = np.linspace(-1, 1, 13)[:, None]
    spine = centre + t * half + (1 - t**2) * bend - 0.5 * bend
    radii = radius * (1 + 0.14 * np.sin(2.5 * t[:, 0] + rng.uniform(0, 6)))
    return Rod(centre, axis, radius, spine, radii)


def branched(rng: np.random.Generator, rod: Rod) -> Rod:
    """The rod with a branch that leaves it to the side, a little thinner than itself."""
    joint = rod.spine[rng.integers(4, 9)]
    away = _sideways(rng, rod.axis) + 0.5 * rod.axis
    length = rng.uniform(200, 320)
    branch = joint + np.linspace(0, length, 9)[:, None] * away / np.linalg.norm(away)
    radii = np.full(9, 0.85 * rod.radius)
    return replace(
        rod, spine=np.concatenate([rod.spine, branch]), radii=np.concatenate([rod.radii, radii])
    )


def beside_another(rng: np.random.Generator, rod: Rod) -> Rod:
    """A rod that touches another one at its side."""
    joint = int(rng.integers(2, 11))
    partner = random_rod(rng, rod.centre)
    # Towards its own middle, where it is as thick as the seventh of its 13 balls.
    distance = rod.radii[joint] + partner.radii[6] - _OVERLAP
    middle = rod.spine[joint] + distance * _sideways(rng, rod.axis)
    moved = middle - partner.spine[6]
    return replace(partner, centre=partner.centre + moved, spine=partner.spine + moved)


def _sideways(rng: np.random.Generator, axis: NDArray[np.float64]) -> NDArray[np.float64]:
    """A random direction across an axis."""
    across = np.cross(axis, direction(rng))
    return np.asarray(across / np.linalg.norm(across))


def direction(rng: np.random.Generator) -> NDArray[np.float64]:
    """A random direction, of length 1."""
    vector = rng.normal(size=3)
    return np.asarray(vector / np.linalg.norm(vector))
