"""Patches for training at one common pixel size: a pure function of seed, rank and step."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from napari_emda.data.appearance import Appearance
from napari_emda.data.box import Box
from napari_emda.data.context import (
    Context,
    check_stacks,
    common_section_distance,
    section_step,
    stack_around,
)
from napari_emda.data.domain_profile import DomainProfile
from napari_emda.data.intensity import GreySample, Statistics, measure
from napari_emda.data.padding import MOST_PADDING
from napari_emda.data.resampled import Resampled, common_pixel_size
from napari_emda.data.spectrum import Spectrum, common_spectrum, kernel_to
from napari_emda.data.spoilt_sections import spoilt_sections
from napari_emda.data.volume import Domain, Volume
from napari_emda.errors import DataError
from napari_emda.objects.borders import Borders, numbers_objects, remarks_on_numbers
from napari_emda.sampling.label_positions import label_positions
from napari_emda.sampling.patches import Batch, Patches, with_borders
from napari_emda.sampling.region import Place, SamplingRegion

# Volumes of up to 1.5 GiB in all, at the common pixel size, are held in memory while training, so
# that a small network is trained in 2 GiB. Larger ones are read patch by patch.
MEMORY = 3 * 2**29

# Patches that are drawn for one without much padding. Where three quarters of a volume are padding,
# nine of ten such searches succeed.
_DRAWS = 8


class PatchSampler:
    """Balanced patches of both domains.

    Half of the patches from a labelled volume lie around labelled pixels, of every class equally
    often (of the source: of every foreground class). The other half lies anywhere. A target without
    annotations is sampled uniformly, so its hidden labels cannot influence the training.

    Args:
        volumes: one or more, of one or both domains.
        patch: side in pixels.
        batch: patches per domain and step.
        source_batches: factor by which the source's batches are larger.
        pixel_size: common in-plane pixel size in the volumes' unit; 0 takes the coarsest.
        boxes: by domain, the box to draw from in voxels; without an entry, the whole volume.
        seed: together with rank and step it determines the batch.
        rank: of this process among several that train together, each with a part of the batch.
        ranks: number of these processes.
        memory: maximum number of bytes for images and labels in memory.
        context: number of neighbouring sections that are seen on each side.
        objects: whether patches get the borders of objects.
        stack: sections of a patch, for networks that see stacks (`nn.stacks`); they are consecutive
            entries of the batch.
        section_distance: from one section that is seen to the next, in the volumes' unit; by
            default that of the volume whose sections lie furthest apart.
        spectrum: to which all volumes are filtered (`data.spectrum`): empty for no filter, None for
            the one that the domains have in common.

    Attributes:
        section_distance: see above.
        spectrum: see above; measured if it was None, and empty if there is one domain only.

    Raises:
        DataError: a volume is smaller than a patch, or has only one grey value.
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
        ranks: int = 1,
        memory: int = MEMORY,
        context: int = 0,
        objects: bool = False,
        stack: int = 1,
        section_distance: float = 0,
        spectrum: Spectrum | None = (),
    ) -> None:
        self.patch = patch
        self.context = context
        self.stack = stack
        self.objects = objects
        # Where some labels number objects, others that do not may hold two that touch.
        numbered = {volume.name for volume in volumes if objects and numbers_objects(volume)}
        self.numbered = numbered
        self.seed = seed
        self.rank = rank
        self._whole: dict[Domain, int] = {"source": batch * source_batches, "target": batch}
        # The first ones have one more where the batch cannot be shared equally.
        part = (batch + ranks - 1 - rank) // ranks
        self.sizes: dict[Domain, int] = {"source": part * source_batches, "target": part}
        self.pixel_size = pixel_size or common_pixel_size(list(volumes))
        self.section_distance = section_distance or common_section_distance(volumes)
        self._regions: dict[Domain, list[SamplingRegion]] = {}
        for volume in volumes:
            box = Box.parse((boxes or {}).get(volume.domain, ""), volume.shape)
            region = self._region(volume, box, memory // len(volumes))
            self._regions.setdefault(volume.domain, []).append(region)
        self._spectra: dict[Domain, list[Spectrum]] = {}
        self.spectrum: Spectrum = spectrum or ()
        if spectrum or (spectrum is None and len(self._regions) > 1):
            self._filter(spectrum)

    def _filter(self, spectrum: Spectrum | None) -> None:
        """Filter all volumes to a spectrum, by default to the one that the domains have."""
        samples = {
            domain: [GreySample.of(region.view, region.box, self.seed) for region in regions]
            for domain, regions in self._regions.items()
        }
        spectra = {
            domain: [sample.spectrum() for sample in of_domain]
            for domain, of_domain in samples.items()
        }
        self._spectra = spectra
        self.spectrum = spectrum or common_spectrum(spectra.values())
        for domain, regions in list(self._regions.items()):
            kernels = [kernel_to(self.spectrum, measured) for measured in spectra[domain]]
            self._regions[domain] = [
                replace(region, statistics=sample.statistics(kernel)) if kernel else region
                for region, sample, kernel in zip(regions, samples[domain], kernels, strict=True)
            ]

    def profile(self, domain: Domain, classes: int) -> DomainProfile:
        """What a model keeps of a domain.

        Args:
            domain: that has volumes.
            classes: how many there are; 0 if nobody knows how much there is of them.
        """
        regions = self._regions[domain]
        spectra = self._spectra.get(domain) or [
            GreySample.of(region.view, region.box, self.seed).spectrum() for region in regions
        ]
        largest = max(regions, key=lambda region: region.box.size)
        return DomainProfile(
            tuple(self.quantiles(domain).tolist()),
            tuple(np.mean(spectra, axis=0).tolist()),
            Appearance.of(largest.view),
            self.prior(domain, classes) if classes else (),
        )

    @property
    def domains(self) -> tuple[Domain, ...]:
        """The domains that have volumes."""
        return tuple(self._regions)

    @property
    def statistics(self) -> dict[str, Statistics]:
        """Grey-value statistics by volume name."""
        return {
            region.view.volume.name: region.statistics
            for regions in self._regions.values()
            for region in regions
        }

    @property
    def spoilt(self) -> dict[str, tuple[int, ...]]:
        """Sections that are seen with no other one, by volume name; of every volume."""
        return {
            region.view.volume.name: region.context.spoilt
            for regions in self._regions.values()
            for region in regions
        }

    def remarks(self) -> list[str]:
        """What a user should know of the sections that are seen together, in sentences."""
        remarks = [
            remark
            for regions in self._regions.values()
            for region in regions
            for remark in region.context.remarks(region.view.volume.name)
        ]
        if self.objects:
            without_numbers = [
                region.view.volume.name
                for regions in self._regions.values()
                for region in regions
                if region.positions and region.view.volume.name not in self.numbered
            ]
            remarks += remarks_on_numbers(without_numbers, others_do=bool(self.numbered))
        return remarks

    def regions(self, domain: Domain) -> tuple[SamplingRegion, ...]:
        """Where a domain's patches come from; empty without a volume of the domain."""
        return tuple(self._regions.get(domain, ()))

    def quantiles(self, domain: Domain) -> NDArray[np.float64]:
        """Mean of the standardised quantiles over the volumes of a domain, 513 values."""
        return np.mean([region.statistics.quantiles for region in self._regions[domain]], axis=0)

    def padding(self, domain: Domain) -> tuple[float, ...]:
        """The standardised grey values of padding in the volumes of a domain."""
        return tuple(
            float(region.statistics.standardise(np.full(1, grey, np.float32))[0])
            for region in self.regions(domain)
            for grey in region.statistics.border_greys
        )

    def prior(self, domain: Domain, classes: int) -> tuple[float, ...]:
        """Fraction of each class among the labelled pixels of a domain; empty if there are none.

        Padding, which is labelled as background at most, does not count.
        """
        counts = np.zeros(classes)
        for region in self._regions.get(domain, []):
            for key, count in region.counts.items():
                counts[key] += count * (region.tissue_share() if key == 0 else 1.0)
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
            # Patch sizes are multiples of 32, and at least 32.
            fits = min(box.shape[1:]) // 32 * 32
            remedy = (
                f"Choose patch size {fits} or less" if fits >= 32 else "Choose a smaller pixel size"
            )
            raise DataError(
                f"The {volume.domain} '{volume.name}' is {box.shape[1]} x {box.shape[2]} pixels of "
                f"{self.pixel_size:g} {volume.grid.unit}, smaller than one {self.patch}-pixel "
                f"patch. {remedy}."
            )
        borders = None
        if self.objects:
            # A byte for each pixel, beside image and labels.
            memory = max(0, memory - math.prod(view.shape))
            borders = Borders(view, volume.name in self.numbered, connected=not self.numbered)
        view = view.in_memory(memory)
        held_borders = borders.whole() if borders is not None and view.held else None
        positions, counts = label_positions(view, box, self.seed)
        statistics = measure(view, box, self.seed)
        context = self._context(view)
        taught = tuple(Resampled(image, self.pixel_size) for image in volume.taught_images)
        share = memory // (1 + len(taught))
        taught = tuple(image.in_memory(share) for image in taught)
        return SamplingRegion(
            view, statistics, box, positions, counts, context, borders, held_borders, taught
        )

    def _context(self, view: Resampled) -> Context:
        depth = view.shape[0]
        if not self.context and self.stack == 1:
            return Context.none(depth)
        grid = view.volume.grid
        if self.stack > 1:
            # Asked here, before anything is measured: not every volume has neighbouring sections.
            check_stacks(view.volume)
            return Context.none(depth, spoilt_sections(view))
        return Context.of(grid, depth, self.context, self.section_distance, spoilt_sections(view))

    @property
    def in_memory(self) -> bool:
        """Whether all volumes are held in memory."""
        return all(region.view.held for regions in self._regions.values() for region in regions)

    def batch(self, step: int, domains: Iterable[Domain] | None = None) -> Batch:
        """The patches of a step, on the CPU.

        Args:
            step: of the training.
            domains: to draw from; all by default. A domain's patches do not depend on the others.
        """
        domains = self.domains if domains is None else domains
        return {domain: self._patches(domain, self.places(domain, step)) for domain in domains}

    def anywhere(self, domain: Domain, index: int) -> Patches:
        """The ``index``-th batch of a domain that ignores labels, whole whatever the rank."""
        return self._patches(domain, self.places(domain, index, balanced=False))

    def places(self, domain: Domain, step: int, *, balanced: bool = True) -> list[Place]:
        """Where the patches of a step lie: a place for each section of a stack.

        Args:
            domain: of the patches.
            step: of the training.
            balanced: whether half of them lie around labelled pixels.
        """
        # A generator of its own for each domain and step: no draw depends on an earlier one, so a
        # training that goes on after an interruption gets the same batches.
        rng = np.random.default_rng([self.seed, self.rank, step, domain == "target", balanced])
        regions = self._regions[domain]
        weights = np.array([region.box.size for region in regions], dtype=float)
        # What is measured anywhere, the first rank measures for all.
        size = self.sizes[domain] if balanced else self._whole[domain]
        places = []
        for i in range(size):
            index = int(rng.choice(len(regions), p=weights / weights.sum()))
            labelled = balanced and i < (size + 1) // 2
            box = self._box(regions[index], rng, labelled=labelled)
            if not balanced:
                box = self._of_tissue(regions[index], box, rng)
            sections = self._stack(regions[index], box.start[0], rng)
            places += [Place(index, box.in_sections(z, z + 1)) for z in sections]
        return places

    def _stack(self, region: SamplingRegion, z: int, rng: np.random.Generator) -> list[int]:
        step = section_step(region.view.volume.grid, self.section_distance)
        span = (region.box.start[0], region.box.stop[0])
        return stack_around(z, self.stack, step, span, rng) if self.stack > 1 else [z]

    def _patches(self, domain: Domain, places: list[Place]) -> Patches:
        channels = 2 * self.context + 1
        images = np.empty((len(places), channels, self.patch, self.patch), np.float32)
        labels = np.empty((len(places), self.patch, self.patch), np.int64)
        borders = np.empty(labels.shape, np.float32) if self.objects else None
        taught: list[NDArray[np.float32]] = []
        for i, place in enumerate(places):
            region = self._regions[domain][place.region]
            images[i] = region.read(place.box)[0]
            labels[i] = region.view.read_labels(place.box)[0]
            if borders is not None:
                borders[i] = region.read_borders(place.box)[0]
            if region.taught:
                taught.append(region.read_taught(place.box)[:, 0])
        image = torch.from_numpy(images)
        patches = Patches(image, torch.from_numpy(labels), image)
        if taught:
            patches = replace(patches, taught=torch.from_numpy(np.stack(taught)))
        return patches if borders is None else with_borders(patches, torch.from_numpy(borders))

    def _of_tissue(self, region: SamplingRegion, box: Box, rng: np.random.Generator) -> Box:
        """A patch, or one drawn in its place because more than a tenth of it is padding.

        A network's statistics of padding say nothing of tissue.
        """
        least = region.padding(box).mean()
        for _ in range(_DRAWS - 1):
            if least <= MOST_PADDING:
                break
            other = self._box(region, rng, labelled=False)
            share = region.padding(other).mean()
            if share < least:
                least = share
                box = other
        return box

    def _box(self, region: SamplingRegion, rng: np.random.Generator, *, labelled: bool) -> Box:
        low = np.array(region.box.start)
        high = np.array(region.box.stop)
        keys = sorted(region.positions)
        if region.view.volume.domain == "source":
            # A source is labelled everywhere: the patches that lie anywhere show enough background.
            # Of a target some regions are annotated, and their background is rare as well.
            keys = [key for key in keys if key > 0]
        if labelled and keys:
            positions = region.positions[int(rng.choice(keys))]
            z, *centre = positions[rng.integers(len(positions))]
            # Without jitter the middle pixel would always be foreground, and the network could
            # learn that instead of the structure.
            jitter = rng.integers(-self.patch // 4, self.patch // 4 + 1, 2)
            corner = np.array(centre) + jitter - self.patch // 2
            corner = np.clip(corner, low[1:], high[1:] - self.patch)
        else:
            z = rng.integers(low[0], high[0])
            # `integers` excludes its upper limit: + 1, or the last position would never be drawn.
            corner = rng.integers(low[1:], high[1:] - self.patch + 1)
        y, x = (int(coordinate) for coordinate in corner)
        return Box((int(z), y, x), (int(z) + 1, y + self.patch, x + self.patch))
