"""A trained model ready to predict: its network, grey values and device."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from napari_emda.data.box import Box
from napari_emda.data.intensity import Statistics
from napari_emda.data.resampled import Resampled
from napari_emda.data.volume import Domain, Volume
from napari_emda.inference import checkpoint
from napari_emda.inference.device import Compute, ToHost
from napari_emda.inference.model_header import ModelHeader
from napari_emda.inference.tiles import finish_tile, make_tile, read_tile, without_neighbours
from napari_emda.nn.network import Network
from napari_emda.nn.normalisation import evaluating, in_domain
from napari_emda.project.run_folder import RunFolder
from napari_emda.project.stored_prediction import Bytes


class Predictor:
    """A network with all it needs to predict a volume.

    Args:
        network: gives logits.
        header: of its checkpoint.
        compute: device and number format; the network is moved there.
    """

    def __init__(self, network: Network, header: ModelHeader, compute: Compute) -> None:
        self.network = network.to(compute.device)
        self.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.header, self.compute = header, compute

    @classmethod
    def load(cls, path: Path, device: str = "auto", precision: str = "auto") -> Predictor:
        """From a model's file, or from a run's folder: then the model that the run is to be used with."""
        model = checkpoint.find(RunFolder(path)) if path.is_dir() else path
        header, method = checkpoint.load_method(model)
        return cls(method.predictor, header, Compute.choose(device, precision))

    def domain_of(self, volume: Volume) -> Domain:
        """Whose normalisation statistics fit a volume."""
        return "source" if volume.domain == "source" else self.header.prediction_domain

    def statistics_of(self, volume: Volume) -> Statistics:
        """Grey values of a volume: those seen in training, else measured now."""
        return self.header.statistics_of(Resampled(volume, self.header.pixel_size))

    def z_smoothing(self, volume: Volume) -> float:
        """Weight of each neighbouring section, see `smoothed_along_z`."""
        beside = not volume.grid.sections_are_independent and volume.shape[0] > 1
        return self.header.z_smoothing if beside and volume.domain == "target" else 0.0

    def probabilities(self, image: Tensor, domain: Domain, *, flips: bool = False) -> Tensor:
        """Class probabilities, B x C x H x W float32, of standardised images B x 1 x H x W of any size."""
        stride = self.network.stride
        height, width = image.shape[-2:]
        right, below = -width % stride, -height % stride
        if right or below:
            image = torch.nn.functional.pad(image, (0, right, 0, below), mode="replicate")
        image = image.contiguous(memory_format=torch.channels_last)
        with evaluating(self.network), in_domain(self.network, domain), self.compute.autocast():
            if not flips:
                return self.network(image).float().softmax(1)[..., :height, :width]
            each_way: tuple[tuple[int, ...], ...] = ((), (-1,), (-2,), (-1, -2))
            answers = (
                self.network(image.flip(axes)).float().softmax(1).flip(axes) for axes in each_way
            )
            return (sum(answers, start=next(answers)) / 4)[..., :height, :width]


def smoothed_along_z(probabilities: Tensor, weight: float) -> Tensor:
    """Each section's probabilities averaged with those of the sections before and after it.

    The mean is geometric, so that it moves with the logits. The first and the last section stand in for the neighbour
    that they lack.

    Args:
        probabilities: of consecutive sections, B x C x H x W.
        weight: of each neighbour, between 0 and 1/3; the section itself has the rest of 1.
    """
    if not weight:
        return probabilities
    logs = probabilities.clamp_min(1e-6).log_()
    before, after = torch.cat([logs[:1], logs[:-1]]), torch.cat([logs[1:], logs[-1:]])
    return ((1 - 2 * weight) * logs + weight * (before + after)).softmax(1)


def entropy(probabilities: Tensor) -> Tensor:
    """Entropy over classes as a share of its maximum log C, B x H x W between 0 and 1 (Roels & Saeys 2019, eq. 1)."""
    return torch.special.entr(probabilities).sum(1) / float(np.log(probabilities.shape[1]))


def as_bytes(values: Tensor) -> Tensor:
    """0 ... 1 as 0 ... 255, uint8, on the same device."""
    return (values * 255).round_().to(torch.uint8)


def to_bytes(values: Tensor) -> Bytes:
    """0 ... 1 as 0 ... 255."""
    return as_bytes(values).cpu().numpy()


def foreground_as_bytes(probabilities: Tensor) -> Tensor:
    """Probabilities B x C x H x W of the classes 1 ... C - 1 as bytes that never add up to more than 255.

    Running sums are rounded, not the classes one by one: what is left to 255 is the background's share.

    Returns:
        B x (C - 1) x H x W uint8, on the same device.
    """
    sums = (probabilities[:, 1:].cumsum(1) * 255).round_().clamp_(max=255)
    sums[:, 1:] -= sums[:, :-1].clone()
    return sums.to(torch.uint8)


def foreground_bytes(probabilities: Tensor) -> Bytes:
    """As `foreground_as_bytes`, on the host."""
    return foreground_as_bytes(probabilities).cpu().numpy()


class PackedAnswer:
    """What is written of a tile, on its way to the host: one copy, for which the network need not wait.

    Args:
        probabilities: B x C x H x W, on any device.
        uncertainty: whether the entropy is wanted.
    """

    def __init__(self, probabilities: Tensor, *, uncertainty: bool) -> None:
        finite = probabilities.sum((1, 2, 3)).isfinite().to(torch.uint8)
        parts = [finite, foreground_as_bytes(probabilities)]
        if uncertainty:
            parts.append(as_bytes(entropy(probabilities)))
        self._shapes = [part.shape for part in parts]
        self._bytes = ToHost(torch.cat([part.flatten() for part in parts]))

    def unpack(self) -> tuple[Bytes, Bytes, Bytes | None]:
        """Wait for it, perhaps in another thread.

        Returns:
            Whether each section's answer is a number, B; the foreground's bytes, B x (C - 1) x H x W; the entropy's
            bytes, B x H x W, or None.
        """
        ends = np.cumsum([shape.numel() for shape in self._shapes])[:-1]
        pieces = np.split(self._bytes.wait(), ends)
        finite, foreground, *uncertainty = (
            piece.reshape(shape) for piece, shape in zip(pieces, self._shapes, strict=True)
        )
        return finite, foreground, uncertainty[0] if uncertainty else None


def predict_box(predictor: Predictor, volume: Volume, box: Box) -> Bytes:
    """Probabilities of the foreground classes in one box of one section, uint8 (C - 1, rows, columns)."""
    view = Resampled(volume, predictor.header.pixel_size)
    weight = predictor.z_smoothing(volume)
    tile = make_tile(
        view, box, predictor.network.halo, predictor.network.stride, sections=int(weight > 0)
    )
    image = read_tile(view, tile, predictor.statistics_of(volume)).to(predictor.compute.device)
    probabilities = smoothed_along_z(
        predictor.probabilities(image, predictor.domain_of(volume)), weight
    )
    return foreground_bytes(finish_tile(view, tile, without_neighbours(tile, probabilities)))[0]
