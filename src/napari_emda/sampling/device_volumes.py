"""Volumes in the memory of a GPU: a batch is cut out there, and only its positions are sent.

Reading patches one by one, standardising them and copying them to the GPU takes longer than a step
of a small network. The sampler draws the positions, so the batches are the same as on the CPU.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import cast

import numpy as np
import torch
from torch import Tensor

from napari_emda.data.intensity import Statistics
from napari_emda.data.resampled import Held
from napari_emda.data.spectrum import Kernel
from napari_emda.data.volume import IGNORE, Domain
from napari_emda.sampling.patches import Batch, Patches, with_borders
from napari_emda.sampling.region import Place, SamplingRegion
from napari_emda.sampling.sampler import PatchSampler

# Volumes may take half of the free memory of a GPU; the network, its gradients and the optimiser's
# state need the rest.
FREE_SHARE = 0.5
# The types that torch can index on every device. Others, such as uint16, become float32, which the
# network gets anyway.
_INDEXABLE = ("uint8", "int8", "int16", "int32", "float16", "float32")


@dataclass(frozen=True)
class Corners:
    """First voxels of the patches of one domain.

    Attributes:
        table: 4 x B int64 on the host. Rows 0 to 2 are z, y and x, ordered by volume; row 3 is the
            column of the i-th patch of the batch.
        counts: number of patches from each volume.
    """

    table: Tensor
    counts: tuple[int, ...]


Drawn = dict[Domain, Corners]


def standardised(image: Tensor, statistics: Statistics, ranges: Tensor | None) -> Tensor:
    """Standardise and filter as `Statistics.read` does, on any device.

    Args:
        image: B x channels x H x W, with `Statistics.reach` more pixels on all four sides.
        statistics: of the volume's grey values.
        ranges: lowest and highest grey value of each section, B x channels x 2, or B x 2 for one
            channel; None if the volume has none.
    """
    image = image.float()
    if ranges is not None:
        low, high = ranges.view(len(image), -1, 2, 1, 1).unbind(2)
        image = (image - low) / (high - low)
    if statistics.limits is not None:
        image = image.clamp(*statistics.limits)
    image = (image - statistics.mean) / statistics.std
    if not statistics.kernel:
        return image
    # Not before: a GPU multiplies with 11 significant bits, too few for 16-bit grey values.
    return filtered(image, _weights(statistics.kernel, image.device))


@lru_cache(maxsize=8)
def _weights(kernel: Kernel, device: torch.device) -> Tensor:
    # Kept on the device: a copy for each batch would make the host wait.
    return torch.tensor(kernel, device=device)


def filtered(image: Tensor, kernel: Tensor) -> Tensor:
    """Filter every section by itself, as `data.spectrum.filtered` does.

    Args:
        image: B x channels x H x W float32, with the kernel's radius of more pixels on all sides.
        kernel: odd number of rows and columns, float32.

    Returns:
        B x channels x H' x W' float32, without these pixels.
    """
    height, width = image.shape[-2:]
    sections = image.reshape(-1, 1, height, width)
    # In bfloat16, grey values would be rounded to a hundredth of their standard deviation.
    with torch.autocast(image.device.type, enabled=False):
        outcome = torch.nn.functional.conv2d(sections, kernel[None, None])
    return outcome.view(*image.shape[:2], *outcome.shape[-2:])


def _around(positions: Tensor, axis: int, reach: int, size: int) -> Tensor:
    """Consecutive rows or columns and ``reach`` more at both ends, mirrored at the image's edges.

    Args:
        positions: B x H x 1 or B x 1 x W.
        axis: along which they are consecutive.
        reach: how many more.
        size: rows or columns of the image.
    """
    if not reach:
        return positions
    before = torch.arange(-reach, 0, device=positions.device)
    shape = [-1 if index == axis else 1 for index in range(3)]
    first = positions.narrow(axis, 0, 1) + before.view(shape)
    last = positions.narrow(axis, positions.shape[axis] - 1, 1) - before.flip(0).view(shape)
    # With mirrors at both edges, a line repeats itself after 2 * size pixels (see `data.edges`).
    position = torch.cat([first, positions, last], axis) % (2 * size)
    return torch.minimum(position, 2 * size - 1 - position)


class _HeldRegion:
    """Image, labels and grey-value ranges of a region's volume on the device."""

    def __init__(self, region: SamplingRegion, device: torch.device) -> None:
        image, labels = cast(Held, region.view.held)
        if image.dtype.name not in _INDEXABLE:
            image = image.astype(np.float32)
        self.statistics = region.statistics
        self.image = torch.from_numpy(image).to(device)
        self.labels = None if labels is None else torch.from_numpy(labels).to(device)
        ranges = self.statistics.ranges
        self.ranges = torch.tensor(ranges, device=device) if ranges else None
        self.context = torch.from_numpy(region.context.sections).to(device)
        borders = region.held_borders
        self.borders = None if borders is None else torch.from_numpy(borders).to(device)

    def patches(self, z: Tensor, y: Tensor, x: Tensor) -> Patches:
        """The patches at some voxels.

        The indices broadcast to B x H x W.
        """
        sections = self.context[z.flatten()]
        _, height, width = self.image.shape
        rows = _around(y, 1, self.statistics.reach, height)
        columns = _around(x, 2, self.statistics.reach, width)
        image = self.image[sections[..., None, None], rows.unsqueeze(1), columns.unsqueeze(1)]
        ranges = None if self.ranges is None else self.ranges[sections]
        if self.labels is None:
            shape = torch.broadcast_shapes(z.shape, y.shape, x.shape)
            labels = torch.full(shape, IGNORE, dtype=torch.int64, device=z.device)
        else:
            labels = self.labels[z, y, x].long()
        image = standardised(image, self.statistics, ranges)
        patches = Patches(image, labels, image)
        return patches if self.borders is None else with_borders(patches, self.borders[z, y, x])


class DeviceVolumes:
    """The volumes of a sampler on a device, and the batches that are cut out there.

    Args:
        sampler: draws the positions; all its volumes must be held in memory.
        device: where volumes and batches lie.
    """

    def __init__(self, sampler: PatchSampler, device: torch.device) -> None:
        self._sampler = sampler
        self._device = device
        self._regions: dict[Domain, list[_HeldRegion]] = {
            domain: [_HeldRegion(region, device) for region in sampler.regions(domain)]
            for domain in sampler.domains
        }
        self._side = torch.arange(sampler.patch, device=device)

    @classmethod
    def that_fit(cls, sampler: PatchSampler, device: torch.device) -> DeviceVolumes | None:
        """The volumes on a CUDA device, or None.

        None if the device is another one, if the volumes take more than half of its free memory, or
        if they are read from the disk patch by patch.
        """
        # What a teacher predicts is not held there.
        is_taught = any(region.taught for d in sampler.domains for region in sampler.regions(d))
        if device.type != "cuda" or not sampler.in_memory or is_taught:
            return None
        free, _ = torch.cuda.mem_get_info(device)
        return cls(sampler, device) if needed_bytes(sampler) <= FREE_SHARE * free else None

    def draw(self, step: int, domains: Iterable[Domain]) -> Drawn:
        """Where the patches of a step begin, on the host; called ahead in another thread."""
        return {domain: self._corners(self._sampler.places(domain, step)) for domain in domains}

    def batch(self, drawn: Drawn) -> Batch:
        """The patches that begin there, the same as `PatchSampler.batch` returns."""
        return {domain: self._patches(domain, corners) for domain, corners in drawn.items()}

    def anywhere(self, domain: Domain, index: int) -> Patches:
        """The same as `PatchSampler.anywhere`."""
        places = self._sampler.places(domain, index, balanced=False)
        return self._patches(domain, self._corners(places))

    def _corners(self, places: list[Place]) -> Corners:
        volumes = np.array([place.region for place in places])
        # Patches of one volume side by side, so that each volume is indexed once per batch.
        order = np.argsort(volumes, kind="stable")
        starts = np.array([place.box.start for place in places], np.int64)[order]
        back = np.argsort(order, kind="stable")
        table = torch.from_numpy(np.vstack([starts.T, back]))
        counts = tuple(np.bincount(volumes).tolist())
        # Only pinned memory is copied to a GPU without making the host wait.
        return Corners(table.pin_memory() if self._device.type == "cuda" else table, counts)

    def _patches(self, domain: Domain, corners: Corners) -> Patches:
        table = corners.table.to(self._device, non_blocking=True)
        z, y, x, column = table.view(4, -1, 1, 1)
        rows = y + self._side.view(-1, 1)
        columns = x + self._side
        parts = []
        begin = 0
        # Not strict: `counts` ends with the last volume that any patch comes from.
        for region, count in zip(self._regions[domain], corners.counts, strict=False):
            selected = slice(begin, begin + count)
            if count:
                parts.append(region.patches(z[selected], rows[selected], columns[selected]))
            begin += count
        if len(parts) == 1:
            return parts[0]
        order = column.flatten()
        image = torch.cat([part.image for part in parts])[order]
        labels = torch.cat([part.labels for part in parts])[order]
        borders = [part.borders for part in parts if part.borders is not None]
        return Patches(image, labels, image, torch.cat(borders)[order] if borders else None)


def needed_bytes(sampler: PatchSampler) -> int:
    """Memory that `DeviceVolumes` takes on a device, in bytes."""
    total = 0
    for domain in sampler.domains:
        for region in sampler.regions(domain):
            image, labels = cast(Held, region.view.held)
            itemsize = image.itemsize if image.dtype.name in _INDEXABLE else 4
            # Labels are uint8, codes of borders int8.
            total += image.size * itemsize + (0 if labels is None else labels.size)
            total += 0 if region.held_borders is None else region.held_borders.size
    return total
