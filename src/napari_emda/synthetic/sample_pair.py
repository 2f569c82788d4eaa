"""The pair that the demo and *File > Open Sample* show: the phantom as two laboratories record it.

The source is a stack of serial sections in a transmission microscope. The target is a block in a
scanning microscope: weaker stain, softer, noisier, and with voxels of another size.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_emda.data.volume import Domain
from napari_emda.synthetic.microscope import APPEARANCES, BLOCK_FACE, Appearance
from napari_emda.synthetic.phantom import SPACING, phantom


@dataclass(frozen=True)
class Recording:
    """How one volume of the pair is recorded.

    Attributes:
        shape: sections, rows, columns.
        spacing: voxel size along z, y, x in nm.
        appearance: what the microscope does to the tissue.
    """

    shape: tuple[int, int, int]
    spacing: tuple[float, float, float]
    appearance: Appearance


# Both are 1200 nm thick, so that one slider goes through both, and large enough to train on one
# half and to score on the other.
RECORDINGS: dict[Domain, Recording] = {
    "source": Recording((24, 384, 256), SPACING, APPEARANCES["source"]),
    # 30 x 10 x 10 nm is usual for a microtome inside the microscope.
    "target": Recording((40, 320, 224), (30.0, 10.0, 10.0), BLOCK_FACE),
}


def sample_volume(domain: Domain, seed: int = 0) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Draw one volume of the pair, as `RECORDINGS` describes it.

    Args:
        domain: source or target.
        seed: the same seed gives the same volume.

    Returns:
        Grey values and labels (0 background, 1 mitochondria), both (z, y, x) uint8.
    """
    recording = RECORDINGS[domain]
    return phantom(recording.shape, domain, seed, recording.spacing, recording.appearance)
