"""Normalisation statistics of the target, measured and restored."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator

import torch

from napari_emda.events import Advanced
from napari_emda.inference.device import Compute, to_device
from napari_emda.nn.network import Network
from napari_emda.nn.normalisation import measure_statistics
from napari_emda.sampling.device_volumes import DeviceVolumes
from napari_emda.sampling.sampler import PatchSampler

# Batches of the target from which statistics are measured, for a checkpoint and for a validation,
# which happens more often and is forgotten afterwards.
STATISTICS_BATCHES = 20
VALIDATION_BATCHES = 5


def measure_target(
    network: Network,
    sampler: PatchSampler | DeviceVolumes,
    compute: Compute,
    batches: int,
    enough: Callable[[], bool] = lambda: False,
) -> Iterator[Advanced]:
    """Set a network's normalisation statistics of the target, measured on random batches (AdaBN).

    Args:
        network: its statistics of the target are replaced.
        sampler: draws patches from anywhere in the target.
        compute: device and number format.
        batches: number of batches; always the same ones.
        enough: whether to do without the rest, asked after each batch.

    Yields:
        Advanced after each batch.
    """
    drawn = (
        sampler.anywhere("target", index).image
        for index in itertools.takewhile(lambda index: not index or not enough(), range(batches))
    )
    images = (
        to_device(image, compute.device).contiguous(memory_format=torch.channels_last)
        for image in drawn
    )
    counts = measure_statistics(network, images, "target")
    while True:
        # Not around the yield: the number format of the network is not that of the caller.
        with compute.autocast():
            count = next(counts, 0)
        if not count:
            return
        yield Advanced(count, batches)


@contextlib.contextmanager
def unchanged_statistics(network: torch.nn.Module) -> Iterator[None]:
    """Restore a network's normalisation statistics at the end of the block."""
    before = [(buffer, buffer.clone()) for buffer in network.buffers()]
    try:
        yield
    finally:
        for buffer, value in before:
            buffer.copy_(value)
