"""The model, as a package for other programs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from napari_emda.data.box import Box
from napari_emda.data.intensity import PERCENTILES
from napari_emda.data.resampled import Resampled
from napari_emda.errors import JobError
from napari_emda.events import Event
from napari_emda.export.base import Exporter, Result, exporters
from napari_emda.export.bioimageio import write_package
from napari_emda.export.model_card import ModelCard
from napari_emda.inference.encoder_weights import encoder_of
from napari_emda.inference.predictor import Predictor
from napari_emda.nn.network import WithSoftmax
from napari_emda.project.model_file import ModelFile
from napari_emda.sampling.device_volumes import filtered

_FILTERS = (
    "The first layer is a fixed filter: it removes fine detail and noise that the volumes of the "
    "training do not share. It was measured on '{volume}', and suits images of the same microscope "
    "and preparation."
)


@exporters.register("model")
class ModelExporter(Exporter):
    """The model as a bioimage.io package, for deepImageJ, ilastik and bioimageio.core.

    Grey values are standardised by the mean and standard deviation of the volume, or image by image
    if the model was trained so. Projects can start from the package, too.
    """

    formats: ClassVar = {"Model package": (".zip",)}
    needs_prediction: ClassVar = False
    needs_names: ClassVar = False

    def write(self, result: Result, path: Path) -> Iterator[Event]:
        """Trace the network on the smallest part of the volume that it takes, and package it."""
        # TorchScript keeps the device and the precision of the tracing, and other programs may have
        # no GPU.
        predictor = Predictor.load(result.model, "cpu", "32")
        header = predictor.header
        if predictor.network.foreign:
            raise JobError(
                f"The model of run '{result.run}' came as a package of another program: share the "
                "package, or export the model as model_file."
            )
        network = predictor.network.eval()
        volume = result.volume
        statistics = predictor.statistics_of(volume)
        # The smallest test image: one stride of pixels with full context around it.
        halo = network.halo + statistics.reach
        side = -(-(2 * halo + network.stride) // network.stride) * network.stride
        view = Resampled(volume, header.pixel_size)
        box = Box((0, 0, 0), (1, side, side))
        seen = _seen(predictor, view)
        example = np.concatenate([view.read(box.in_sections(z, z + 1)) for z in seen])
        before = [f"before {i}" for i in range(header.context, 0, -1)]
        after = [f"after {i}" for i in range(1, header.context + 1)]
        notes = [
            _FILTERS.format(volume=volume.name) if statistics.kernel else "",
            encoder_of(header),
        ]
        card = ModelCard(
            name=f"napari-emda {header.method} {result.run}",
            description=f"Segments {', '.join(header.classes[1:])} in sections of volume electron "
            "microscopy.",
            classes=header.classes,
            # The network works at its own pixel size, whatever that of the volume is.
            grid=replace(volume.grid.with_pixel_size(header.pixel_size), unit=header.unit),
            seen=(*before, "grey", *after),
            distance=header.section_distance,
            sections=network.stack if network.stack > 1 else 0,
            input_note=" ".join(filter(None, notes)),
            tags=(header.network.name.replace("_", "-"),),
            licence=header.description.licence or ModelCard.licence,
        )
        exported: nn.Module = WithSoftmax(network, predictor.domain_of(volume))
        if statistics.kernel:
            exported = Filtered(exported, torch.tensor(statistics.kernel)).eval()
        write_package(
            exported,
            path,
            example,
            card,
            stride=network.stride,
            halo=halo,
            mean=statistics.mean,
            standard_deviation=statistics.std,
            percentiles=PERCENTILES if statistics.ranges else None,
            limits=statistics.limits,
            # Clusters are no classes, from which another project could start.
            attach=None if header.finds_clusters else ModelFile.read(result.model).share,
        )
        # A generator without events: the export takes seconds, and there is no share to report.
        yield from ()


class Filtered(nn.Module):
    """A network for other programs that filters its images first, as `Statistics.read` does.

    The package standardises before that. The order does not matter, because the weights sum to 1.

    Args:
        network: whose images are filtered.
        kernel: odd number of rows and columns, float32.
    """

    def __init__(self, network: nn.Module, kernel: Tensor) -> None:
        super().__init__()
        self.network = network
        self.radius = len(kernel) // 2
        self.kernel: Tensor
        self.register_buffer("kernel", kernel)

    def forward(self, x: Tensor) -> Tensor:
        """B x channels x H x W, standardised, to probabilities; with an axis z before H if 3-D."""
        r = self.radius
        # Mirrored with the edge repeated, as volumes are read; torch pads without repeating it.
        around = torch.cat([x[..., :r, :].flip(-2), x, x[..., -r:, :].flip(-2)], -2)
        around = torch.cat([around[..., :r].flip(-1), around, around[..., -r:].flip(-1)], -1)
        # The axis z of a 3-D network passes as channels do.
        image = filtered(around.flatten(1, -3), self.kernel).view_as(x)
        probabilities: Tensor = self.network(image)
        return probabilities


def _seen(predictor: Predictor, view: Resampled) -> list[int]:
    """The sections that the network sees with the middle one of a volume."""
    context = predictor.header.context_of(view)
    depth = view.shape[0]
    stack = predictor.network.stack
    if stack == 1:
        seen: list[int] = context.sections[depth // 2].tolist()
        return seen
    step = predictor.stacks_of(view.volume).step
    # Of a volume that is thinner than a stack, the last sections are repeated.
    first = max(0, (depth - step * stack) // 2)
    sections = np.minimum(first + step * np.arange(stack), depth - 1)
    repeated: list[int] = context.sections[sections, 0].tolist()
    return repeated
