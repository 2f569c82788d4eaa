"""A synthetic pair of EM volumes: the same kind of tissue, seen through two microscopes.

It holds neurites with membranes, and mitochondria with two membranes and cristae, which are the
class to find. It also holds what a network must not mistake for them: dark bodies without cristae,
bright vacuoles and clusters of vesicles.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from napari_emda.data.volume import Domain
from napari_emda.errors import DataError
from napari_emda.synthetic.microscope import APPEARANCES, Appearance, expose
from napari_emda.synthetic.tissue import Tissue

# Voxel size along z, y, x in nm: anisotropic, as serial sections are.
SPACING = (50.0, 8.0, 8.0)

# Each volume aims at a share of mitochondria in this range: somewhat above the 5.4 % of VNC, so
# that small volumes hold enough objects to score.
SHARE = (0.075, 0.1)


def phantom(
    shape: tuple[int, int, int],
    domain: Domain = "source",
    seed: int = 0,
    spacing: tuple[float, float, float] = SPACING,
    appearance: Appearance | None = None,
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Draw one volume of the pair.

    Args:
        shape: sections, rows, columns.
        domain: which microscope. The anatomy of both is drawn independently from one distribution.
        seed: the same seed gives the same volume.
        spacing: voxel size along z, y, x in nm.
        appearance: another microscope than that of the domain.

    Returns:
        Grey values and labels (0 background, 1 mitochondria), both (z, y, x) uint8.

    Raises:
        DataError: an empty shape, or a voxel size that is not positive.
    """
    image, ids = phantom_objects(shape, domain, seed, spacing, appearance)
    return image, (ids > 0).astype(np.uint8)


def phantom_objects(
    shape: tuple[int, int, int],
    domain: Domain = "source",
    seed: int = 0,
    spacing: tuple[float, float, float] = SPACING,
    appearance: Appearance | None = None,
    *,
    touching: float = 0,
    branching: float = 0,
) -> tuple[NDArray[np.uint8], NDArray[np.uint32]]:
    """Draw one volume of the pair, with the number of each mitochondrion.

    With both shares 0, the default, no two of them touch and image and mask are those of `phantom`.

    Args:
        shape: as in `phantom`, as all up to ``appearance``.
        domain: see there.
        seed: see there.
        spacing: see there.
        appearance: see there.
        touching: share of the mitochondria beside which another one is drawn that touches them,
            where there is room.
        branching: share of the mitochondria that have a branch.

    Returns:
        Grey values (z, y, x) uint8, and ids of mitochondria, uint32, 0 elsewhere.

    Raises:
        DataError: an empty shape, or a voxel size that is not positive.
    """
    if len(shape) != 3 or min(shape) < 1 or len(spacing) != 3 or not min(spacing) > 0:
        raise DataError(
            f"Cannot draw a phantom of {tuple(shape)} voxels of {tuple(spacing)} nm: give three "
            "positive numbers for each."
        )
    appearance = appearance or APPEARANCES[domain]
    # One seed gives two different volumes, as a real pair is.
    rng = np.random.default_rng([seed, list(APPEARANCES).index(domain)])
    tissue = Tissue(rng, shape, spacing, appearance)
    share = rng.uniform(*SHARE)
    tissue.add_mitochondria(share, touching=touching, branching=branching)
    tissue.add_round_bodies(count_share=share)
    tissue.add_vesicles()
    return expose(rng, tissue.brightness, appearance, spacing), tissue.ids
