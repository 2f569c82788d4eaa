"""A synthetic pair of electron-microscopy volumes: the same kind of tissue, seen through two microscopes.

Neurites with membranes, mitochondria with two membranes and cristae (the class to find), and what must not be taken
for them: dark bodies without cristae, bright vacuoles, clusters of vesicles.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from napari_emda.data.volume import Domain
from napari_emda.errors import DataError
from napari_emda.synthetic.microscope import APPEARANCES, expose
from napari_emda.synthetic.tissue import Tissue

SPACING = (50.0, 8.0, 8.0)
"""Default voxel size along z, y, x in nm."""

SHARE = (0.075, 0.1)
"""Share of voxels in mitochondria: each volume aims at a number in this range."""


def phantom(
    shape: tuple[int, int, int],
    domain: Domain = "source",
    seed: int = 0,
    spacing: tuple[float, float, float] = SPACING,
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Draw one volume of the pair.

    Args:
        shape: sections, rows, columns.
        domain: which microscope; the anatomy of the two is drawn from one distribution, but independently.
        seed: the same seed gives the same volume.
        spacing: voxel size along z, y, x in nm.

    Returns:
        Grey values and labels (0 background, 1 mitochondria), both (z, y, x) uint8.

    Raises:
        DataError: an empty shape, or a voxel size that is not positive.
    """
    if len(shape) != 3 or min(shape) < 1 or len(spacing) != 3 or not min(spacing) > 0:
        raise DataError(
            f"A phantom of {tuple(shape)} voxels of {tuple(spacing)} nm cannot be drawn: give three positive numbers"
            " each."
        )
    appearance = APPEARANCES[domain]
    rng = np.random.default_rng([seed, list(APPEARANCES).index(domain)])
    tissue = Tissue(rng, shape, spacing, appearance)
    share = rng.uniform(*SHARE)
    tissue.add_mitochondria(share)
    tissue.add_round_bodies(count_share=share)
    tissue.add_vesicles()
    return expose(rng, tissue.brightness, appearance, spacing), tissue.labels
