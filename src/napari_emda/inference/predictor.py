"""A trained model that predicts: network, grey values and device; and probabilities as bytes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from napari_emda.data.box import Box
from napari_emda.data.context import Context
from napari_emda.data.intensity import Statistics
from napari_emda.data.padding import padding_in
from napari_emda.data.resampled import Resampled
from napari_emda.data.volume import Domain, Volume
from napari_emda.inference import checkpoint
from napari_emda.inference.device import Compute, ToHost
from napari_emda.inference.image_threads import ImageThreads
from napari_emda.inference.model_header import ModelHeader
from napari_emda.inference.openvino_engine import OpenVino, RawOutputs, raw_outputs
from napari_emda.inference.origin import origin
from napari_emda.inference.section_stacks import SectionStacks
from napari_emda.inference.tiles import finish_tile, make_tile, read_tile, without_neighbours
from napari_emda.io.identity import file_identity
from napari_emda.nn.folding import folded
from napari_emda.nn.layers import lay_channels_last
from napari_emda.nn.network import Network
from napari_emda.nn.normalisation import evaluating, in_domain
from napari_emda.project.run_folder import RunFolder
from napari_emda.project.stored_prediction import Bytes

if TYPE_CHECKING:
    from napari_emda.inference.work_units import PredictingWorkers


class Predictor:
    """A network with all that it needs to predict a volume.

    Args:
        network: predicts logits.
        header: of its checkpoint.
        compute: device and number format; the network is moved to the device.
        model_file: identity of the model's file; empty for a model in memory alone.
        path: of the model's file; None for a model in memory alone.

    Attributes:
        workers: other processes that predict volumes with the model; by default this one does.
        engine: computes `outputs` in place of torch.
    """

    def __init__(
        self,
        network: Network,
        header: ModelHeader,
        compute: Compute,
        model_file: str = "",
        path: Path | None = None,
    ) -> None:
        self.network = network.to(compute.device)
        lay_channels_last(self.network)
        self.header = header
        self.compute = compute
        self.model_file = model_file
        self.path = path
        self.workers: PredictingWorkers | None = None
        self.engine: OpenVino | None = None
        self._threads = ImageThreads(compute)
        # Of the volume that was asked for last: both take up to seconds.
        self._origin: tuple[Volume, dict[str, Any]] | None = None
        self._statistics: tuple[Volume, Statistics] | None = None
        # Normalisation is folded for models from files alone: those in memory are being trained.
        self._folded: dict[Domain, tuple[int, Network]] | None = None

    @classmethod
    def load(cls, path: Path, device: str = "auto", precision: str = "auto") -> Predictor:
        """Load a model from its file, or the selected model of a run from the run's folder."""
        model = checkpoint.find(RunFolder(path)) if path.is_dir() else path
        header, method = checkpoint.load_method(model)
        if method.predictor.foreign:
            # It finds its own way to a GPU, and gets images from the host.
            method.predictor.run_on(device)
            device, precision = ("cpu", "32")
        compute = Compute.choose(device, precision)
        predictor = cls(method.predictor, header, compute, file_identity(model), model)
        # The content of another program's model is not copied, which may take gigabytes.
        predictor._folded = None if method.predictor.foreign else {}
        return predictor

    def _network_for(self, domain: Domain) -> Network:
        """The network, whose normalisation is folded for the domain if it is that of a file."""
        if self._folded is None:
            return self.network
        tensors = (*self.network.parameters(), *self.network.buffers())
        changes = sum(tensor._version for tensor in tensors)
        if domain not in self._folded or self._folded[domain][0] != changes:
            self._folded[domain] = (changes, folded(self.network, domain))
        return self._folded[domain][1]

    def origin_of(self, volume: Volume) -> dict[str, Any]:
        """`origin` of a prediction of a volume by this model."""
        if self._origin is None or self._origin[0] is not volume:
            self._origin = volume, origin(self.header, self.model_file, volume)
        return self._origin[1]

    def domain_of(self, volume: Volume) -> Domain:
        """The domain whose normalisation statistics fit a volume."""
        return "source" if volume.domain == "source" else self.header.prediction_domain

    def statistics_of(self, volume: Volume) -> Statistics:
        """Grey values of a volume: those of the training, else measured now."""
        if self._statistics is None or self._statistics[0] is not volume:
            view = Resampled(volume, self.header.pixel_size)
            self._statistics = volume, self.header.statistics_of(view)
        return self._statistics[1]

    def context_of(self, volume: Volume) -> Context:
        """Which sections are seen with each one: those of the training, else chosen now."""
        return self.header.context_of(Resampled(volume, self.header.pixel_size))

    def stacks_of(self, volume: Volume) -> SectionStacks:
        """How the network sees the sections of a volume together."""
        return SectionStacks.of(self.network, volume, self.header.section_distance)

    def z_smoothing(self, volume: Volume) -> float:
        """Weight of each neighbouring section, see `smoothed_along_z`."""
        return self.header.z_smoothing_of(volume)

    def probabilities(
        self,
        image: Tensor,
        domain: Domain,
        stacks: SectionStacks | None = None,
        *,
        flips: bool = False,
    ) -> Tensor:
        """Class probabilities of standardised images of any size.

        Args:
            image: B x channels x H x W float32.
            domain: whose normalisation statistics are used.
            stacks: how a 3-D network sees the images, which are consecutive sections then.
            flips: whether to average over the image and its three flipped copies.

        Returns:
            B x C x H x W float32, summing to 1 over C.
        """
        return self.outputs(image, domain, stacks, flips=flips)[:, : self.network.classes]

    def outputs(
        self,
        image: Tensor,
        domain: Domain,
        stacks: SectionStacks | None = None,
        *,
        flips: bool = False,
    ) -> Tensor:
        """Class probabilities as of `probabilities`, and maps of objects if there are any.

        Returns:
            B x (C + 2) x H x W float32: after the classes, the probability of contours, and the
            distance to them between 0 and 1; or B x C x H x W.
        """
        stride = self.network.stride
        height, width = image.shape[-2:]
        # Poolings halve the image, so its sides must be multiples of the stride.
        right = -width % stride
        below = -height % stride
        if right or below:
            image = torch.nn.functional.pad(image, (0, right, 0, below), mode="replicate")
        stacks = stacks or SectionStacks()
        network = self._network_for(domain)
        with (
            evaluating(network),
            in_domain(network, domain),
            self.compute.autocast(),
            stacks.around(network, image) as (seen, each_section),
        ):
            seen = seen.contiguous(memory_format=torch.channels_last)
            if self.engine is None:
                raw: RawOutputs = partial(raw_outputs, network)
            else:
                raw = self.engine.outputs_of(network, seen, stacks)
            compute = partial(_averaged if flips else _outputs, raw)
            outputs = self.map_images(compute, seen, stacks)
            return each_section(outputs[..., :height, :width])

    def map_images(
        self, function: Callable[[Tensor], Tensor], seen: Tensor, stacks: SectionStacks
    ) -> Tensor:
        """Apply a function to what a network sees, see `ImageThreads.map`.

        A 3-D network sees the entries of a stack together.
        """
        together = stacks.deep or self.network.stack > 1
        return function(seen) if together else self._threads.map(function, seen)


def _averaged(raw: RawOutputs, image: Tensor) -> Tensor:
    flipped_axes: tuple[tuple[int, ...], ...] = ((), (-1,), (-2,), (-1, -2))
    copies = (_outputs(raw, image.flip(axes)).flip(axes) for axes in flipped_axes)
    # Summed as they come: four results at once would take four times the memory.
    return sum(copies, start=next(copies)) / 4


def _outputs(raw: RawOutputs, image: Tensor) -> Tensor:
    logits, *maps = raw(image)
    probabilities = logits.float().softmax(1)
    if not maps:
        return probabilities
    contours, distances = maps[0].float().split(1, dim=1)
    return torch.cat([probabilities, contours.sigmoid(), distances.clamp(0, 1)], 1)


def smoothed_along_z(probabilities: Tensor, weight: float) -> Tensor:
    """Average each section's probabilities with those of the sections before and after it.

    The first and the last section replace the neighbour that they lack. See docs/methods.md,
    "auto", for the formula.

    Args:
        probabilities: of consecutive sections, B x C x H x W.
        weight: of each neighbour, between 0 and 1/3; the section itself has the rest of 1.

    Returns:
        B x C x H x W, summing to 1 over C.
    """
    if not weight:
        return probabilities
    # The geometric mean: averaging logarithms is, up to the normalisation by softmax, averaging
    # logits. 1e-6 keeps the logarithm finite, and is far below what a byte can tell from 0.
    logs = probabilities.clamp_min(1e-6).log_()
    before = torch.cat([logs[:1], logs[:-1]])
    after = torch.cat([logs[1:], logs[-1:]])
    return ((1 - 2 * weight) * logs + weight * (before + after)).softmax(1)


def outputs_smoothed_along_z(outputs: Tensor, classes: int, weight: float) -> Tensor:
    """`smoothed_along_z` of outputs B x (C + 2) x H x W; maps of objects get arithmetic means."""
    if not weight:
        return outputs
    probabilities = smoothed_along_z(outputs[:, :classes], weight)
    maps = outputs[:, classes:]
    before = torch.cat([maps[:1], maps[:-1]])
    after = torch.cat([maps[1:], maps[-1:]])
    return torch.cat([probabilities, (1 - 2 * weight) * maps + weight * (before + after)], 1)


def entropy(probabilities: Tensor) -> Tensor:
    """Entropy over classes as a fraction of its maximum log C (Roels & Saeys 2019, eq. 1).

    Args:
        probabilities: B x C x H x W.

    Returns:
        B x H x W, between 0 and 1.
    """
    # entr is -p log p, and 0 at p = 0.
    return torch.special.entr(probabilities).sum(1) / float(np.log(probabilities.shape[1]))


def as_bytes(values: Tensor) -> Tensor:
    """Numbers between 0 and 1 as uint8, 255 for 1, on the same device."""
    return (values * 255).round_().to(torch.uint8)


def to_bytes(values: Tensor) -> Bytes:
    """Numbers between 0 and 1 as uint8, 255 for 1, on the host."""
    return as_bytes(values).cpu().numpy()


def foreground_as_bytes(probabilities: Tensor) -> Tensor:
    """Probabilities of classes 1 to C - 1 as bytes that never add up to more than 255.

    The rest to 255 is the background's probability.

    Args:
        probabilities: B x C x H x W.

    Returns:
        B x (C - 1) x H x W uint8, on the same device.
    """
    # Cumulative sums are rounded, not single classes: twice 0.5 would become 128 + 128 = 256.
    sums = (probabilities[:, 1:].cumsum(1) * 255).round_().clamp_(max=255)
    sums[:, 1:] -= sums[:, :-1].clone()
    return sums.to(torch.uint8)


def foreground_bytes(probabilities: Tensor) -> Bytes:
    """`foreground_as_bytes` on the host."""
    return foreground_as_bytes(probabilities).cpu().numpy()


def packed(outputs: Tensor, classes: int, *, uncertainty: bool) -> Tensor:
    """A tile's result as bytes in a row, which `PackedAnswer` takes apart again.

    Converted on the device and copied in one go: a quarter of the bytes.

    Args:
        outputs: B x C x H x W probabilities, or B x (C + 2) x H x W with maps of objects.
        classes: C.
        uncertainty: whether to include the entropy.

    Returns:
        uint8 on the same device: whether each section is free of NaN and infinity, the foreground
        classes, the maps of objects and the entropy.
    """
    probabilities = outputs[:, :classes]
    # A sum is NaN or infinite if one of its terms is: one reduction instead of a map.
    finite = outputs.sum((1, 2, 3)).isfinite().to(torch.uint8)
    tensors = [finite, foreground_as_bytes(probabilities), as_bytes(outputs[:, classes:])]
    if uncertainty:
        tensors.append(as_bytes(entropy(probabilities)))
    return torch.cat([tensor.flatten() for tensor in tensors])


class PackedAnswer:
    """A tile's result, copied to the host while the network computes the next one.

    Args:
        values: of `packed`.
        shape: of the outputs, B, C or C + 2, H and W.
        classes: C.
        uncertainty: whether the entropy is included.
    """

    def __init__(
        self, values: Tensor, shape: Sequence[int], classes: int, *, uncertainty: bool
    ) -> None:
        count, channels, height, width = shape
        maps = channels - classes
        self._shapes = [(count,), (count, classes - 1, height, width), (count, maps, height, width)]
        if uncertainty:
            self._shapes.append((count, height, width))
        self._bytes = ToHost(values)

    def unpack(self) -> tuple[Bytes, Bytes, Bytes | None, Bytes | None]:
        """Wait for the copy; any thread may call this.

        Returns:
            Whether each section is free of NaN and infinity, B; bytes of the foreground classes,
            B x (C - 1) x H x W; bytes of the maps of objects, B x 2 x H x W, or None; bytes of the
            entropy, B x H x W, or None.
        """
        ends = np.cumsum([math.prod(shape) for shape in self._shapes])[:-1]
        flat_arrays = np.split(self._bytes.wait(), ends)
        finite, foreground, maps, *uncertainty = (
            array.reshape(shape) for array, shape in zip(flat_arrays, self._shapes, strict=True)
        )
        has_maps = maps.shape[1] > 0
        return (
            finite,
            foreground,
            maps if has_maps else None,
            uncertainty[0] if uncertainty else None,
        )


def predict_box(
    predictor: Predictor, volume: Volume, box: Box, context: Context | None = None
) -> Bytes:
    """Predict one box of one section.

    Args:
        predictor: the model.
        volume: that holds the box.
        box: of one section, in voxels.
        context: the sections that are seen with each one; by default that of the model.

    Returns:
        255 times the probabilities of the foreground classes, uint8 (C - 1, rows, columns); 0 in
        padding.
    """
    view = Resampled(volume, predictor.header.pixel_size)
    weight = predictor.z_smoothing(volume)
    stacks = predictor.stacks_of(volume)
    tile = make_tile(
        view, box, predictor.network.halo, predictor.network.stride, int(weight > 0), stacks
    )
    context = predictor.context_of(volume) if context is None else context
    image = read_tile(view, tile, predictor.statistics_of(volume), context)
    image = image.to(predictor.compute.device)
    probabilities = smoothed_along_z(
        predictor.probabilities(image, predictor.domain_of(volume), stacks), weight
    )
    result = foreground_bytes(finish_tile(view, tile, without_neighbours(tile, probabilities)))[0]
    # As in predictions: padding is background, and clusters have none.
    if not predictor.header.finds_clusters:
        greys = predictor.statistics_of(volume).padding
        result[:, padding_in(volume, box, greys)[0]] = 0
    return result
