"""How the phantom's two microscopes render tissue."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from napari_emda.data.volume import Domain


@dataclass(frozen=True)
class Appearance:
    """How one microscope and preparation renders the tissue.

    Brightness runs from 0 (black) to 1 (white).

    Attributes:
        cytoplasm: its mean brightness.
        cell_spread: standard deviation of the cytoplasm's brightness between cells.
        grain: the same within a cell.
        membrane: brightness of membranes.
        matrix: brightness inside mitochondria, between cristae.
        crista: brightness of cristae.
        body: brightness of dark bodies.
        lumen: brightness of vacuoles and vesicles.
        gamma, low, high: brightness b becomes grey value low + (high - low) * b ** gamma.
        blur: standard deviation of the in-plane point spread, nm.
        noise: standard deviation of the noise in grey values.
        noise_length: correlation length of the noise in pixels; 0 is white noise.
        drift: standard deviation of the mean grey value from section to section.
    """

    cytoplasm: float
    cell_spread: float
    grain: float
    membrane: float
    matrix: float
    crista: float
    body: float
    lumen: float
    gamma: float
    low: float
    high: float
    blur: float
    noise: float
    noise_length: float
    drift: float


# The two differ in contrast, sharpness and noise, and in nothing else: this is the domain gap that
# adaptation has to overcome.
APPEARANCES: dict[Domain, Appearance] = {
    # A transmission microscope: heavy stain, sharp, shot noise.
    "source": Appearance(
        cytoplasm=0.68,
        cell_spread=0.05,
        grain=0.09,
        membrane=0.12,
        matrix=0.45,
        crista=0.2,
        body=0.28,
        lumen=0.9,
        gamma=0.75,
        low=5,
        high=240,
        blur=5,
        noise=11,
        noise_length=0,
        drift=3,
    ),
    # A scanning microscope with a focused ion beam: pale, softer, darker midtones, noise in
    # streaks and clouds.
    "target": Appearance(
        cytoplasm=0.7,
        cell_spread=0.04,
        grain=0.06,
        membrane=0.25,
        matrix=0.5,
        crista=0.3,
        body=0.3,
        lumen=0.88,
        gamma=1.8,
        low=38,
        high=225,
        blur=8,
        noise=6,
        noise_length=0.7,
        drift=2,
    ),
}

# A scanning microscope that images the face of a block at a low dose: weakly stained interiors of
# mitochondria, a wider point spread, and much noise for so little contrast. Brightness drifts,
# because the uncoated block charges.
BLOCK_FACE = Appearance(
    cytoplasm=0.7,
    cell_spread=0.04,
    grain=0.06,
    membrane=0.3,
    matrix=0.55,
    crista=0.38,
    body=0.33,
    lumen=0.88,
    gamma=1.8,
    low=60,
    high=200,
    blur=10,
    noise=9,
    noise_length=0.5,
    drift=3,
)


def expose(
    rng: np.random.Generator,
    brightness: NDArray[np.float32],
    appearance: Appearance,
    spacing: tuple[float, float, float],
) -> NDArray[np.uint8]:
    """What the microscope records: blur, tone curve, drift, noise.

    Args:
        rng: of drift and noise.
        brightness: (z, y, x), 0 is black and 1 white.
        appearance: the microscope.
        spacing: voxel size along z, y, x in nm.

    Returns:
        Grey values, (z, y, x) uint8.
    """
    _, y, x = spacing
    # Sections are imaged one by one: nothing is blurred along z.
    sharp = ndimage.gaussian_filter(brightness, (0, appearance.blur / y, appearance.blur / x))
    tone = np.clip(sharp, 0, 1) ** appearance.gamma
    grey = appearance.low + (appearance.high - appearance.low) * tone
    noise = rng.standard_normal(grey.shape, dtype=np.float32)
    if appearance.noise_length:
        sigma = (0, appearance.noise_length, appearance.noise_length)
        noise = ndimage.gaussian_filter(noise, sigma)
        # Filtering lowers the deviation; bring it back to 1.
        noise /= max(float(noise.std()), 1e-6)
    grey += appearance.noise * noise + rng.normal(0, appearance.drift, (len(grey), 1, 1))
    return np.clip(np.rint(grey), 0, 255).astype(np.uint8)
