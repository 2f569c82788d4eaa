"""Seeded augmentation of whole batches, on whatever device they are.

All random numbers come from a generator of the augmentation's own, so the result depends on seed and step alone, in
whichever thread it runs. Nothing inverts the polarity of the image: in EM dark membranes are the signal.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from napari_emda.data.volume import IGNORE
from napari_emda.sampling.sampler import Patches
from napari_emda.sampling.warping import blurred, sampled, similarity_grid

Strength = Literal["none", "weak", "strong"]


class Augmentation:
    """Turns and flips (weak); also scale, rotation, contrast, gamma, blur and noise (strong).

    Args:
        strength: ``none``, ``weak`` or ``strong``.
        seed: all draws follow from it.
        device: where the batches are.
    """

    def __init__(self, strength: Strength, seed: int, device: torch.device | str = "cpu") -> None:
        self.strength = strength
        self.generator = torch.Generator(device).manual_seed(seed)

    def uniform(self, n: int, low: float = 0.0, high: float = 1.0) -> Tensor:
        """``n`` numbers between ``low`` and ``high`` on the device."""
        return (
            torch.rand(n, generator=self.generator, device=self.generator.device) * (high - low)
            + low
        )

    def coin(self, n: int, p: float = 0.5) -> Tensor:
        """``n`` booleans, true with probability ``p``."""
        return self.uniform(n) < p

    def __call__(self, patches: Patches) -> Patches:
        """Both halves: `geometric`, then `photometric` on the image."""
        if self.strength == "none":
            return patches
        moved = self.geometric(patches)
        if self.strength == "weak":
            return moved
        return Patches(self.photometric(moved.image), moved.labels, moved.clean)

    def geometric(self, patches: Patches) -> Patches:
        """Move image and labels alike; labels are IGNORE where the image was mirrored in."""
        moved = self.mirrored(patches)
        if self.strength != "strong":
            return moved
        image, labels = self._warp(moved.image, moved.labels)
        return Patches(image, labels, image)

    def mirrored(self, patches: Patches) -> Patches:
        """One of the eight symmetries of the square for each patch, image and labels alike, without interpolation."""
        image, labels = patches.image, patches.labels
        for move in (lambda t: t.flip(-1), lambda t: t.flip(-2), lambda t: t.transpose(-1, -2)):
            chosen = self.coin(len(image))
            image = torch.where(chosen.view(-1, 1, 1, 1), move(image), image)
            labels = torch.where(chosen.view(-1, 1, 1), move(labels), labels)
        return Patches(image, labels, image)

    def _warp(self, image: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Scale by 0.75 to 1.33 and turn by up to 45 degrees, every second patch."""
        n = len(image)
        chosen = self.coin(n)
        scale = torch.where(chosen, self.uniform(n, math.log(0.75), math.log(4 / 3)).exp(), 1.0)
        angle = torch.where(chosen, self.uniform(n, -math.pi / 4, math.pi / 4), 0.0)
        return _moved(image, labels, scale, angle)

    def jittered(self, patches: Patches, share: float = 1.0) -> Patches:
        """Flip every second patch left to right; scale a share of them by 0.95 to 1.05 and turn it up to 15 degrees.

        The weak set of semi-supervised segmentation; image and labels alike, IGNORE where the image was mirrored in.
        Turning smooths an image: a network that is never shown others fails on those that were not turned.
        """
        image, labels, n = patches.image, patches.labels, len(patches.image)
        chosen = self.coin(n)
        image = torch.where(chosen.view(-1, 1, 1, 1), image.flip(-1), image)
        labels = torch.where(chosen.view(-1, 1, 1), labels.flip(-1), labels)
        scale, angle = self.uniform(n, 0.95, 1.05), self.uniform(n, -math.pi / 12, math.pi / 12)
        turned, classes = _moved(image, labels, scale, angle)
        chosen = self.coin(n, share)
        image = torch.where(chosen.view(-1, 1, 1, 1), turned, image)
        return Patches(image, torch.where(chosen.view(-1, 1, 1), classes, labels), image)

    def photometric(self, image: Tensor, share: float = 0.5) -> Tensor:
        """Gain, offset, gamma, blur and noise of a share of the patches; the order of greys stays.

        The others keep their look: with few steps a network that only ever sees changed images learns slowly.

        Args:
            image: B x 1 x H x W, standardised.
            share: of the patches that are changed.
        """
        return torch.where(
            self.coin(len(image), share).view(-1, 1, 1, 1),
            self._worsened(self._regraded(image)),
            image,
        )

    def contrast(self, image: Tensor, share: float = 0.5) -> Tensor:
        """Gain, offset and gamma of a share of the patches; cheaper and milder than `photometric`.

        Args:
            image: B x 1 x H x W, standardised.
            share: of the patches that are changed.
        """
        return torch.where(
            self.coin(len(image), share).view(-1, 1, 1, 1), self._regraded(image), image
        )

    def _regraded(self, image: Tensor) -> Tensor:
        n, shape = len(image), (-1, 1, 1, 1)
        gain, offset = (
            self.uniform(n, math.log(0.6), math.log(1.6)).exp(),
            self.uniform(n, -0.5, 0.5),
        )
        image = image * gain.view(shape) + offset.view(shape)
        gamma = torch.where(self.coin(n), self.uniform(n, math.log(0.6), math.log(1.7)).exp(), 1.0)
        # (x + 4) / 8 lies within 0 and 1 for all but outliers, which stay as they are
        unit = (image + 4) / 8
        return torch.where(
            (unit > 0) & (unit < 1), unit.clamp(1e-6, 1).pow(gamma.view(shape)) * 8 - 4, image
        )

    def _worsened(self, image: Tensor) -> Tensor:
        n = len(image)
        sigma = torch.where(self.coin(n), self.uniform(n, 0.3, 1.5), 1e-2)
        image = blurred(image, sigma, radius=3)
        level = torch.where(self.coin(n), self.uniform(n, 0, 0.4), 0.0)
        noise = torch.randn(image.shape, generator=self.generator, device=image.device)
        return image + noise * level.view(-1, 1, 1, 1)


def _moved(image: Tensor, labels: Tensor, scale: Tensor, angle: Tensor) -> tuple[Tensor, Tensor]:
    """Scaled and turned (radians) about the centre: images B x 1 x H x W and class ids B x H x W."""
    height, width = image.shape[-2:]
    grid = similarity_grid(scale, angle, (height, width))
    moved = sampled(image, grid, padding="reflection")
    # +1, so that the zeros from outside can be told from class 0
    ids = sampled((labels + 1).unsqueeze(1).float(), grid, mode="nearest").squeeze(1).long() - 1
    return moved, torch.where(ids < 0, IGNORE, ids)
