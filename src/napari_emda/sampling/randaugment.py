"""Strongly changed views of unlabelled patches, after RandAugment (Cubuk et al. 2020), and the way back."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from napari_emda.sampling.augmentation import Augmentation
from napari_emda.sampling.warping import blurred, sampled, similarity_grid

_RANGE = 2.5
"""Standardised grey values between -2.5 and 2.5 stand for the 0 to 255 of an image."""

Change = Callable[[Tensor, Tensor], Tensor]
"""From images B x 1 x H x W and signed magnitudes B x 1 x 1 x 1 in [-1, 1] to changed images."""


def _autocontrast(x: Tensor, m: Tensor) -> Tensor:
    low, high = x.amin((1, 2, 3), keepdim=True), x.amax((1, 2, 3), keepdim=True)
    return ((x - low) / (high - low).clamp(min=1e-6) * 2 - 1) * _RANGE


def _equalize(x: Tensor, m: Tensor) -> Tensor:
    """Every grey value becomes its rank, the mean one where pixels share it: as flat a histogram as can be."""
    pixels = x.flatten(1)
    ordered = pixels.sort(dim=1).values
    below, up_to = (torch.searchsorted(ordered, pixels, right=right) for right in (False, True))
    ranks = ((below + up_to - 1) / 2).view_as(x)
    return (ranks / max(pixels.shape[1] - 1, 1) * 2 - 1) * _RANGE


def _contrast(x: Tensor, m: Tensor) -> Tensor:
    mean = x.mean((1, 2, 3), keepdim=True)
    return (x - mean) * 2.0**m + mean


def _gain(x: Tensor, m: Tensor) -> Tensor:
    return (x + _RANGE) * 2 ** (0.5 * m) - _RANGE


def _brightness(x: Tensor, m: Tensor) -> Tensor:
    return x + m


def _sharpness(x: Tensor, m: Tensor) -> Tensor:
    return x + 0.9 * m * (x - blurred(x, torch.ones_like(x[:, 0, 0, 0]), radius=2))


def _invert(x: Tensor, m: Tensor) -> Tensor:
    return -x


def _solarize(x: Tensor, m: Tensor) -> Tensor:
    return torch.where(x > _RANGE * (1 - 2 * m.abs()), -x, x)


KEEPING: dict[str, Change] = {
    "autocontrast": _autocontrast,
    "equalize": _equalize,
    "contrast": _contrast,
    "gain": _gain,
    "brightness": _brightness,
    "sharpness": _sharpness,
}
"""What keeps dark dark."""
INVERTING: dict[str, Change] = {"invert": _invert, "solarize": _solarize}
"""What turns dark into bright, wholly or above a grey value."""


@dataclass(frozen=True)
class RandAugment:
    """A number of changes drawn for each patch, rotation by any angle among them.

    Attributes:
        changes: how many a patch gets (RandAugment's N).
        magnitude: how strong they are at most, 0 to 10 (RandAugment's M).
        inverting: whether changes that turn dark into bright are among them.
    """

    changes: int
    magnitude: float
    inverting: bool = False

    def __call__(self, image: Tensor, augment: Augmentation) -> tuple[Tensor, Tensor]:
        """Changed images, B x 1 x H x W, and the angles in radians by which they were turned, B.

        Args:
            image: B x 1 x H x W, standardised.
            augment: all draws come from it.
        """
        ops = list((KEEPING | (INVERTING if self.inverting else {})).values())
        n = len(image)
        drawn = (augment.uniform(n * self.changes) * (len(ops) + 1)).long().view(self.changes, n)
        turned = (drawn == len(ops)).any(0)
        angle = torch.where(turned, augment.uniform(n, 0, 2 * math.pi), 0.0)
        image = torch.where(
            turned.view(-1, 1, 1, 1), turn(image, angle, padding="reflection"), image
        )
        for choice in drawn:
            strength = augment.uniform(n, -1, 1).view(-1, 1, 1, 1) * (self.magnitude / 10)
            before = image
            for index, op in enumerate(ops):
                image = torch.where(
                    (choice == index).view(-1, 1, 1, 1), op(before, strength), image
                )
        return image, angle


def turn(maps: Tensor, angle: Tensor, padding: Literal["zeros", "reflection"] = "zeros") -> Tensor:
    """B x C x H x W turned about the centre by an angle (radians) each, bilinear."""
    height, width = maps.shape[-2:]
    grid = similarity_grid(torch.ones_like(angle), angle, (height, width))
    return sampled(maps, grid, padding=padding)


def turn_back(maps: Tensor, angle: Tensor) -> tuple[Tensor, Tensor]:
    """Undo `turn`: the maps in the frame of the unturned patches, and where they are known, B x H x W booleans.

    What a turned patch lost over its edges, or mixed there with what was mirrored in, is not known.
    """
    inside = turn(turn(torch.ones_like(maps[:, :1]), angle), -angle).squeeze(1) > 1 - 1e-3
    return turn(maps, -angle), inside
