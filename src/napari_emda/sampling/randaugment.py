"""Strong augmentation of unlabelled patches after RandAugment (Cubuk et al. 2020).

Rotated predictions can be rotated back.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from napari_emda.sampling.augmentation import Augmentation
from napari_emda.sampling.warping import blurred, sampled, similarity_grid

# RandAugment is defined for grey values from 0 to 255. Here these correspond to standardised grey
# values from -2.5 to 2.5, which hold about 99 % of a normal distribution.
_RANGE = 2.5

Change = Callable[[Tensor, Tensor], Tensor]
"""From images B x C x H x W and signed magnitudes B x 1 x 1 x 1 in [-1, 1] to changed images."""

# After the operations of Pillow that RandAugment uses, for one channel of standardised grey values.


def _autocontrast(x: Tensor, m: Tensor) -> Tensor:
    low = x.amin((1, 2, 3), keepdim=True)
    high = x.amax((1, 2, 3), keepdim=True)
    return ((x - low) / (high - low).clamp(min=1e-6) * 2 - 1) * _RANGE


def _equalize(x: Tensor, m: Tensor) -> Tensor:
    """Replace every grey value by its rank, ties by their mean rank: the histogram becomes flat."""
    pixels = x.flatten(1)
    ordered = pixels.sort(dim=1).values
    smaller = torch.searchsorted(ordered, pixels, right=False)
    smaller_or_equal = torch.searchsorted(ordered, pixels, right=True)
    ranks = ((smaller + smaller_or_equal - 1) / 2).view_as(x)
    return (ranks / max(pixels.shape[1] - 1, 1) * 2 - 1) * _RANGE


def _contrast(x: Tensor, m: Tensor) -> Tensor:
    # Half to twice the contrast about the mean grey value.
    mean = x.mean((1, 2, 3), keepdim=True)
    return (x - mean) * 2.0**m + mean


def _gain(x: Tensor, m: Tensor) -> Tensor:
    # Pillow's Brightness: black stays black, all else is multiplied by 0.7 to 1.4.
    return (x + _RANGE) * 2 ** (0.5 * m) - _RANGE


def _brightness(x: Tensor, m: Tensor) -> Tensor:
    # At full magnitude one standard deviation of the volume's grey values.
    return x + m


def _sharpness(x: Tensor, m: Tensor) -> Tensor:
    # Unsharp masking; a negative magnitude blurs. 0.9 is the factor of RandAugment.
    return x + 0.9 * m * (x - blurred(x, torch.ones_like(x[:, 0, 0, 0]), radius=2))


def _invert(x: Tensor, m: Tensor) -> Tensor:
    return -x


def _solarize(x: Tensor, m: Tensor) -> Tensor:
    # The threshold falls from white at magnitude 0 to black at 1.
    return torch.where(x > _RANGE * (1 - 2 * m.abs()), -x, x)


KEEPING: dict[str, Change] = {
    "autocontrast": _autocontrast,
    "equalize": _equalize,
    "contrast": _contrast,
    "gain": _gain,
    "brightness": _brightness,
    "sharpness": _sharpness,
}
"""Changes that keep dark darker than bright."""
INVERTING: dict[str, Change] = {"invert": _invert, "solarize": _solarize}
"""Changes that turn dark into bright, everywhere or above a grey value."""


@dataclass(frozen=True)
class RandAugment:
    """A number of random changes to each patch; rotation by any angle is one of them.

    Attributes:
        changes: number of changes to a patch (RandAugment's N).
        magnitude: maximum strength of the changes, 0 to 10 (RandAugment's M).
        inverting: whether changes that turn dark into bright are included.
    """

    changes: int
    magnitude: float
    inverting: bool = False

    def __call__(self, image: Tensor, augment: Augmentation) -> tuple[Tensor, Tensor]:
        """Changed images B x C x H x W, and the angles in radians by which they are rotated, B.

        Args:
            image: B x channels x H x W, standardised.
            augment: source of random numbers.
        """
        available = list((KEEPING | (INVERTING if self.inverting else {})).values())
        rotation = len(available)  # one more than the last index
        n = len(image)
        choices = (augment.uniform(n * self.changes) * (rotation + 1)).long().view(self.changes, n)
        # Rotation comes first and at most once, so that one angle undoes it.
        rotated = (choices == rotation).any(0)
        angle = torch.where(rotated, augment.uniform(n, 0, 2 * math.pi), 0.0)
        image = torch.where(
            rotated.view(-1, 1, 1, 1), turn(image, angle, padding="reflection"), image
        )
        for choice in choices:
            strength = augment.uniform(n, -1, 1).view(-1, 1, 1, 1) * (self.magnitude / 10)
            before = image
            # Every change is computed for the whole batch: picking the patches of each would make
            # the host wait for the device.
            for index, change in enumerate(available):
                chosen = (choice == index).view(-1, 1, 1, 1)
                image = torch.where(chosen, change(before, strength), image)
        return image, angle


def turn(maps: Tensor, angle: Tensor, padding: Literal["zeros", "reflection"] = "zeros") -> Tensor:
    """Rotate each of B x C x H x W about its centre by its angle (radians, B), bilinear."""
    height, width = maps.shape[-2:]
    grid = similarity_grid(torch.ones_like(angle), angle, (height, width))
    return sampled(maps, grid, padding=padding)


def turn_back(maps: Tensor, angle: Tensor) -> tuple[Tensor, Tensor]:
    """Undo `turn`.

    Returns:
        The maps in the frame of the patches before rotation, and B x H x W booleans: False where
        the rotated patch did not show a pixel, or mixed it with mirror images at its edges.
    """
    # Ones that pass both rotations stay 1 exactly where all their neighbours came from inside.
    inside = turn(turn(torch.ones_like(maps[:, :1]), angle), -angle).squeeze(1) > 1 - 1e-3
    return turn(maps, -angle), inside
