"""Patches for training: a pure function of seed, rank and step, at one common pixel size."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from napari_emda.data.box import Box
from napari_emda.data.intensity import Statistics, measure
from napari_emda.data.resampled import Resampled, common_pixel_size
from napari_emda.data.volume import IGNORE, Domain, Volume
from napari_emda.errors import DataError

MEMORY = 2 * 2**30
"""Volumes up to this many bytes (at the common pixel size) are held in memory while training."""
_POSITIONS = 200_000


@dataclass(frozen=True)
class Patches:
    """A batch of one domain.

    Attributes:
        image: what the network sees, B x 1 x H x W float32, standardised.
        labels: class ids or IGNORE, B x H x W int64.
        clean: the image without its changes of contrast, blur and noise (the target of a reconstruction).
    """

    image: Tensor
    labels: Tensor
    clean: Tensor

    def map(self, change: Callable[[Tensor], Tensor]) -> Patches:
        """The same batch with every tensor changed alike; one that is both image and clean image only once."""
        image = change(self.image)
        clean = image if self.clean is self.image else change(self.clean)
        return Patches(image, change(self.labels), clean)


Batch = dict[Domain, Patches]


@dataclass(frozen=True)
class SamplingRegion:
    """One volume of a domain: where patches may lie and where its labels are.

    Attributes:
        view: the volume at the common pixel size.
        statistics: of its grey values.
        box: patches lie inside, in the view's pixels.
        positions: labelled pixels by class, at most 200 000 in all.
        counts: labelled pixels by class.
    """

    view: Resampled
    statistics: Statistics
    box: Box
    positions: dict[int, NDArray[np.int32]]
    counts: dict[int, int]


@dataclass(frozen=True)
class Place:
    """Where a patch lies.

    Attributes:
        region: index of the volume among those of the domain.
        box: one section thick, in the pixels of the region's view.
    """

    region: int
    box: Box


class PatchSampler:
    """Balanced patches of both domains.

    Half of a batch from a labelled volume is centred on labelled pixels, every class as often as the others (of the
    source: the foreground classes); the rest lies anywhere. A target without annotations is drawn uniformly, so labels
    that nobody gave to training cannot change it.

    Args:
        volumes: one or more, of one or both domains.
        patch: side in pixels.
        batch: patches a domain and step.
        source_batches: how many times as many the source gives.
        pixel_size: common in-plane pixel size in the volumes' unit; 0 takes the coarsest.
        boxes: part of the volumes of a domain to draw from, in voxels; all where absent.
        seed: the batch is a function of it, the rank and the step.
        rank: of this process among several that train together.
        memory: bytes that image and labels may take in memory.

    Raises:
        DataError: a volume is smaller than a patch, or has no labels where labels are needed.
    """

    def __init__(
        self,
        volumes: Sequence[Volume],
        patch: int,
        batch: int,
        *,
        source_batches: int = 1,
        pixel_size: float = 0,
        boxes: dict[Domain, str] | None = None,
        seed: int = 0,
        rank: int = 0,
        memory: int = MEMORY,
    ) -> None:
        self.patch, self.seed, self.rank = patch, seed, rank
        self.sizes: dict[Domain, int] = {"source": batch * source_batches, "target": batch}
        self.pixel_size = pixel_size or common_pixel_size(list(volumes))
        self._regions: dict[Domain, list[SamplingRegion]] = {}
        for volume in volumes:
            box = Box.parse((boxes or {}).get(volume.domain, ""), volume.shape)
            region = self._region(volume, box, memory // len(volumes))
            self._regions.setdefault(volume.domain, []).append(region)

    @property
    def domains(self) -> tuple[Domain, ...]:
        """The domains that are there."""
        return tuple(self._regions)

    @property
    def statistics(self) -> dict[str, Statistics]:
        """Grey-value statistics by volume name."""
        return {
            region.view.volume.name: region.statistics
            for regions in self._regions.values()
            for region in regions
        }

    def regions(self, domain: Domain) -> tuple[SamplingRegion, ...]:
        """Where a domain's patches come from; none when it is not there."""
        return tuple(self._regions.get(domain, ()))

    def quantiles(self, domain: Domain) -> NDArray[np.float64]:
        """Mean of the standardised quantiles over the volumes of a domain, 513 values."""
        return np.mean([region.statistics.quantiles for region in self._regions[domain]], axis=0)

    def padding(self, domain: Domain) -> tuple[float, ...]:
        """The standardised grey values that stand for padding in the volumes of a domain."""
        measured = [region.statistics for region in self.regions(domain)]
        return tuple(float(s.standardise(np.zeros(1, np.float32))[0]) for s in measured if s.padded)

    def prior(self, domain: Domain, classes: int) -> tuple[float, ...]:
        """Share of each class among the labelled pixels of a domain; empty when there are none."""
        counts = np.zeros(classes)
        for region in self._regions.get(domain, []):
            for key, count in region.counts.items():
                counts[key] += count
        return tuple((counts / counts.sum()).tolist()) if counts.sum() else ()

    def labelled(self, domain: Domain) -> bool:
        """Whether any pixel of a domain has a label."""
        return any(region.positions for region in self._regions.get(domain, []))

    def foreground(self, domain: Domain) -> bool:
        """Whether any labelled pixel of a domain is not background."""
        return any(key > 0 for region in self._regions.get(domain, []) for key in region.positions)

    def _region(self, volume: Volume, native: Box, memory: int) -> SamplingRegion:
        view = Resampled(volume, self.pixel_size)
        box = view.box_of(native)
        if min(box.shape[1:]) < self.patch:
            fits = min(box.shape[1:]) // 32 * 32
            remedy = (
                f"Choose patch size {fits} or less" if fits >= 32 else "Choose a smaller pixel size"
            )
            raise DataError(
                f"The {volume.domain} '{volume.name}' is {box.shape[1]} x {box.shape[2]} pixels of "
                f"{self.pixel_size:g} {volume.grid.unit}, smaller than one {self.patch}-pixel patch. {remedy}."
            )
        view = view.in_memory(memory)
        return SamplingRegion(
            view, measure(view, box, self.seed), box, *_label_positions(view, box, self.seed)
        )

    @property
    def in_memory(self) -> bool:
        """Whether all volumes are held in memory."""
        return all(region.view.held for regions in self._regions.values() for region in regions)

    def batch(self, step: int, domains: Iterable[Domain] | None = None) -> Batch:
        """The patches of a step, on the CPU; each domain's are the same whichever others are wanted."""
        wanted = self.domains if domains is None else domains
        return {domain: self._patches(domain, self.places(domain, step)) for domain in wanted}

    def anywhere(self, domain: Domain, index: int) -> Patches:
        """A batch of one domain that pays no heed to labels; the ``index``-th of its own series."""
        return self._patches(domain, self.places(domain, index, balanced=False))

    def places(self, domain: Domain, step: int, *, balanced: bool = True) -> list[Place]:
        """Where the patches of a step lie.

        Args:
            domain: whose.
            step: of the training.
            balanced: whether half of them are centred on labels.
        """
        rng = np.random.default_rng([self.seed, self.rank, step, domain == "target", balanced])
        regions = self._regions[domain]
        weights = np.array([region.box.size for region in regions], dtype=float)
        size = self.sizes[domain]
        places = []
        for i in range(size):
            index = int(rng.choice(len(regions), p=weights / weights.sum()))
            labelled = balanced and i < (size + 1) // 2
            places.append(Place(index, self._box(regions[index], rng, labelled=labelled)))
        return places

    def _patches(self, domain: Domain, places: list[Place]) -> Patches:
        images = np.empty((len(places), 1, self.patch, self.patch), np.float32)
        labels = np.empty((len(places), self.patch, self.patch), np.int64)
        for i, place in enumerate(places):
            region = self._regions[domain][place.region]
            images[i] = region.statistics.read(region.view, place.box)
            labels[i] = region.view.read_labels(place.box)[0]
        image = torch.from_numpy(images)
        return Patches(image, torch.from_numpy(labels), image)

    def _box(self, region: SamplingRegion, rng: np.random.Generator, *, labelled: bool) -> Box:
        low, high = np.array(region.box.start), np.array(region.box.stop)
        keys = sorted(region.positions)
        if region.view.volume.domain == "source":
            keys = [key for key in keys if key > 0]
        if labelled and keys:
            positions = region.positions[int(rng.choice(keys))]
            z, *centre = positions[rng.integers(len(positions))]
            jitter = rng.integers(-self.patch // 4, self.patch // 4 + 1, 2)
            corner = np.clip(
                np.array(centre) + jitter - self.patch // 2, low[1:], high[1:] - self.patch
            )
        else:
            z = rng.integers(low[0], high[0])
            corner = rng.integers(low[1:], high[1:] - self.patch + 1)
        y, x = (int(v) for v in corner)
        return Box((int(z), y, x), (int(z) + 1, y + self.patch, x + self.patch))


def _label_positions(
    view: Resampled, box: Box, seed: int
) -> tuple[dict[int, NDArray[np.int32]], dict[int, int]]:
    """Labelled pixels by class: positions (z, y, x), at most 200 000 spread evenly, and how many there are."""
    pieces = [view.box_of(native).clip_to(box) for native in view.volume.label_boxes]
    pieces = [piece for piece in pieces if piece.size]
    rng = np.random.default_rng(seed)
    found: dict[int, list[NDArray[np.int32]]] = {}
    counts: dict[int, int] = {}
    for piece in pieces:
        labels = view.read_labels(piece)
        for key in np.unique(labels[labels != IGNORE]):
            positions = np.argwhere(labels == key).astype(np.int32) + np.array(
                piece.start, np.int32
            )
            counts[int(key)] = counts.get(int(key), 0) + len(positions)
            most = max(1, _POSITIONS // len(pieces))
            if len(positions) > most:
                positions = positions[rng.choice(len(positions), most, replace=False)]
            found.setdefault(int(key), []).append(positions)
    return {key: np.concatenate(rows) for key, rows in found.items()}, counts
