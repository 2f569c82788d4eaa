"""Seeded augmentation of whole batches, on whatever device they are.

All random numbers come from the augmentation's generator, so the result depends only on seed and
step, whichever thread it runs in. Nothing inverts the polarity of the image: in EM dark membranes
are the signal.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor

from napari_emda.data.spoilt_sections import LARGEST_GAIN, LARGEST_OFFSET
from napari_emda.data.volume import IGNORE
from napari_emda.sampling.patches import Patches
from napari_emda.sampling.warping import blurred, sampled, similarity_grid

Strength = Literal["none", "weak", "strong"]

# Scales, gains and gammas are drawn from a log-uniform distribution, so that twice and half as much
# are equally likely and the average image stays as it is.
_SCALE = (0.75, 4 / 3)
# Beyond 45 degrees a flip, a transposition and a smaller angle give the same image.
_ANGLE = math.pi / 4
# The weak set of semi-supervised segmentation: scale 95 to 105 %, rotation by up to 15 degrees.
_SMALL_SCALE = (0.95, 1.05)
_SMALL_ANGLE = math.pi / 12
# Grey values are standardised, so offset and noise are in standard deviations of the volume.
_GAIN = (0.6, 1.6)
_OFFSET = (-0.5, 0.5)
_GAMMA = (0.6, 1.7)
# In pixels; below 0.3 the weight of the neighbouring pixels is less than 1 %.
_BLUR = (0.3, 1.5)
# Two standard deviations of the widest blur; the kernel beyond holds less than 5 % of the weight.
_BLUR_RADIUS = 3
_NOISE = (0.0, 0.4)
# What happens to neighbouring sections alone: fraction of them that is shifted, by up to so many
# pixels; that gets another brightness; and that is missing. Serial sections are aligned to a few
# pixels at best, and one in a hundred is lost: a network that never met this would fail there.
_SHIFTED = 0.5
_SHIFT = 3
_BRIGHTENED = 0.5
# Sections that differ by more are not seen as neighbours.
_NEIGHBOUR_GAIN = (1 / LARGEST_GAIN, LARGEST_GAIN)
_NEIGHBOUR_OFFSET = (-LARGEST_OFFSET, LARGEST_OFFSET)
_DROPPED = 0.1


class Augmentation:
    """Symmetries of the square (weak); also scale, rotation, contrast, gamma, blur, noise (strong).

    Args:
        strength: ``none``, ``weak`` or ``strong``.
        seed: determines all random numbers.
        device: where the batches are.
        stack: sections of a stack (`nn.stacks`): all of them are moved and changed alike.
    """

    def __init__(
        self,
        strength: Strength,
        seed: int,
        device: torch.device | str = "cpu",
        stack: int = 1,
    ) -> None:
        self.strength = strength
        self.stack = stack
        self.generator = torch.Generator(device).manual_seed(seed)

    def uniform(self, n: int, low: float = 0.0, high: float = 1.0) -> Tensor:
        """``n`` numbers between ``low`` and ``high`` on the device, one for each section.

        The sections of a stack get the same one.
        """
        unit = torch.rand(n // self.stack, generator=self.generator, device=self.generator.device)
        return (unit * (high - low) + low).repeat_interleave(self.stack)

    def log_uniform(self, n: int, low: float, high: float) -> Tensor:
        """``n`` numbers between ``low`` and ``high`` (both > 0), their logarithms uniform."""
        return self.uniform(n, math.log(low), math.log(high)).exp()

    def coin(self, n: int, p: float = 0.5) -> Tensor:
        """``n`` booleans, true with probability ``p``."""
        return self.uniform(n) < p

    def __call__(self, patches: Patches) -> Patches:
        """`geometric` on image and labels, then `photometric` on the image."""
        if self.strength == "none":
            return patches
        moved = self.geometric(patches)
        if self.strength == "weak":
            return moved
        return replace(moved, image=self.photometric(moved.image))

    def neighbours(self, patches: Patches) -> Patches:
        """Shift, brighten or drop neighbouring sections; the middle one stays as it is.

        A dropped section is replaced by the middle one. Nothing happens without augmentation, or if
        there are no neighbours.
        """
        image = patches.image
        n, channels = image.shape[:2]
        if self.strength == "none" or channels == 1:
            return patches
        numbers = torch.arange(channels, device=image.device)
        is_neighbour = (numbers != channels // 2).repeat(n)
        shifted = self.coin(n * channels, _SHIFTED) & is_neighbour
        rows, columns = (
            torch.where(shifted, self._shifts(n * channels), 0).view(n, channels) for _ in range(2)
        )
        moved = _shifted(image, rows, columns)
        brightened = (self.coin(n * channels, _BRIGHTENED) & is_neighbour).view(n, -1, 1, 1)
        gain = self.log_uniform(n * channels, *_NEIGHBOUR_GAIN).view(n, -1, 1, 1)
        offset = self.uniform(n * channels, *_NEIGHBOUR_OFFSET).view(n, -1, 1, 1)
        moved = torch.where(brightened, moved * gain + offset, moved)
        dropped = (self.coin(n * channels, _DROPPED) & is_neighbour).view(n, -1, 1, 1)
        moved = torch.where(dropped, image[:, channels // 2, None], moved)
        return patches.with_image(moved)

    def _shifts(self, n: int) -> Tensor:
        """``n`` whole numbers of pixels, all from -`_SHIFT` to `_SHIFT` as likely."""
        return self.uniform(n, -_SHIFT, _SHIFT + 1).floor().long()

    def geometric(self, patches: Patches) -> Patches:
        """Transform image and labels alike; labels are IGNORE where the image is a mirror image."""
        moved = self.mirrored(patches)
        if self.strength != "strong":
            return moved
        return self._warp(moved)

    def mirrored(self, patches: Patches) -> Patches:
        """Apply one of the eight symmetries of the square to each patch, without interpolation."""
        patches = patches.with_image(patches.image)
        # Two flips and a transposition generate all eight, each with the same probability.
        for move in (lambda t: t.flip(-1), lambda t: t.flip(-2), lambda t: t.transpose(-1, -2)):
            patches = _where(self.coin(len(patches.image)), patches.map(move), patches)
        return patches

    def _warp(self, patches: Patches) -> Patches:
        """Scale every second patch by 0.75 to 1.33 and rotate it by up to 45 degrees."""
        n = len(patches.image)
        # The others stay sharp: interpolation smooths an image.
        chosen = self.coin(n)
        scale = torch.where(chosen, self.log_uniform(n, *_SCALE), 1.0)
        angle = torch.where(chosen, self.uniform(n, -_ANGLE, _ANGLE), 0.0)
        return _transformed(patches, scale, angle)

    def jittered(self, patches: Patches, share: float = 1.0) -> Patches:
        """Flip every second patch left to right, and rotate and scale some of them a little.

        The weak set of semi-supervised segmentation: scale 0.95 to 1.05, rotation by up to 15
        degrees. Image and labels are transformed alike; labels are IGNORE where the image is a
        mirror image. Rotation smooths an image, and a network trained only on smooth images fails
        on sharp ones; so with a smaller ``share`` some patches stay sharp.

        Args:
            patches: the batch.
            share: fraction of the patches that are rotated and scaled.
        """
        patches = patches.with_image(patches.image)
        n = len(patches.image)
        patches = _where(self.coin(n), patches.map(lambda t: t.flip(-1)), patches)
        scale = self.uniform(n, *_SMALL_SCALE)
        angle = self.uniform(n, -_SMALL_ANGLE, _SMALL_ANGLE)
        rotated = _transformed(patches, scale, angle)
        return _where(self.coin(n, share), rotated, patches)

    def photometric(self, image: Tensor, share: float = 0.5) -> Tensor:
        """Change gain, offset, gamma, blur and noise of some patches; dark stays dark.

        The other patches keep their appearance: with few steps, a network that only sees changed
        images learns slowly.

        Args:
            image: B x channels x H x W, standardised.
            share: fraction of the patches that are changed.
        """
        chosen = self.coin(len(image), share).view(-1, 1, 1, 1)
        # All patches are changed and some of the results thrown away: selecting patches by a mask
        # would make the host wait for the device.
        return torch.where(chosen, self._blurred_and_noisy(self._recontrasted(image)), image)

    def contrast(self, image: Tensor, share: float = 0.5) -> Tensor:
        """Change gain, offset and gamma of some patches; cheaper and milder than `photometric`.

        Args:
            image: B x channels x H x W, standardised.
            share: fraction of the patches that are changed.
        """
        chosen = self.coin(len(image), share).view(-1, 1, 1, 1)
        return torch.where(chosen, self._recontrasted(image), image)

    def _recontrasted(self, image: Tensor) -> Tensor:
        """Gain and offset of every patch, gamma of every second one."""
        n = len(image)
        gain = self.log_uniform(n, *_GAIN).view(-1, 1, 1, 1)
        offset = self.uniform(n, *_OFFSET).view(-1, 1, 1, 1)
        image = image * gain + offset
        gamma = torch.where(self.coin(n), self.log_uniform(n, *_GAMMA), 1.0).view(-1, 1, 1, 1)
        # (x + 4) / 8 lies between 0 and 1 for all but outliers, which stay as they are.
        unit = (image + 4) / 8
        inside = (unit > 0) & (unit < 1)
        return torch.where(inside, unit.clamp(1e-6, 1).pow(gamma) * 8 - 4, image)

    def _blurred_and_noisy(self, image: Tensor) -> Tensor:
        """Blur every second patch, and add Gaussian noise to every second one."""
        n = len(image)
        # With a standard deviation of 0.01 pixels the kernel is exactly the identity in float32.
        sigma = torch.where(self.coin(n), self.uniform(n, *_BLUR), 1e-2)
        image = blurred(image, sigma, radius=_BLUR_RADIUS)
        level = torch.where(self.coin(n), self.uniform(n, *_NOISE), 0.0)
        noise = torch.randn(image.shape, generator=self.generator, device=image.device)
        return image + noise * level.view(-1, 1, 1, 1)


def _shifted(image: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Shift each channel of B x C x H x W by whole pixels, B x C; mirrored at the edges.

    Pixel (y, x) of the result is pixel (y + row, x + column) of the image.
    """
    for axis, offsets in ((2, rows), (3, columns)):
        last = image.shape[axis] - 1
        place = torch.arange(last + 1, device=image.device) + offsets.unsqueeze(-1)
        place = last - (last - place.abs()).abs()
        image = image.take_along_dim(place.unsqueeze(3 if axis == 2 else 2), axis)
    return image


def _where(chosen: Tensor, some: Patches, others: Patches) -> Patches:
    """Some patches where they are chosen (B booleans), and others elsewhere; images are clean."""

    def choose(a: Tensor, b: Tensor) -> Tensor:
        return torch.where(chosen.view(-1, *[1] * (a.ndim - 1)), a, b)

    image = choose(some.image, others.image)
    borders = None
    if some.borders is not None and others.borders is not None:
        borders = choose(some.borders, others.borders)
    taught = None
    if some.taught is not None and others.taught is not None:
        taught = choose(some.taught, others.taught)
    return Patches(image, choose(some.labels, others.labels), image, borders, taught)


def _transformed(patches: Patches, scale: Tensor, angle: Tensor) -> Patches:
    """Scale and rotate (radians) patches about their centres."""
    grid = similarity_grid(scale, angle, (patches.image.shape[-2], patches.image.shape[-1]))
    image = sampled(patches.image, grid, padding="reflection")
    # Outside the patch `sampled` gives 0. Ids are raised by one, so that this is not class 0.
    raised = sampled((patches.labels + 1).unsqueeze(1).float(), grid, mode="nearest")
    ids = raised.squeeze(1).long() - 1
    labels = torch.where(ids < 0, IGNORE, ids)
    borders = patches.borders
    if borders is not None:
        # A patch that is twice as large has borders twice as far away. 0 is where nothing is known.
        moved = sampled(borders.unsqueeze(1), grid, mode="nearest").squeeze(1)
        borders = moved * scale.view(-1, 1, 1)
    taught = patches.taught
    if taught is not None:
        # A teacher would say the same of a mirror image, mirrored.
        taught = sampled(taught, grid, padding="reflection")
    return Patches(image, labels, image, borders, taught)
