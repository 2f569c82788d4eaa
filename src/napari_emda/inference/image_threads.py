"""A network's outputs on a CPU, one image in each thread."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor

from napari_emda.inference.device import Compute


class ImageThreads:
    """Computes images one by one on a CPU, as many at a time as torch has threads.

    Results depend neither on the images beside one nor on the number of threads then, by which
    torch's libraries choose how they compute: workers with other threads and other units predict
    the same. It takes about as long as a batch does (docs/benchmarks.md).

    Args:
        compute: device and number format.
    """

    def __init__(self, compute: Compute) -> None:
        self._compute = compute
        self._pool: ThreadPoolExecutor | None = None
        self._threads = 1

    def map(self, function: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
        """Apply a function to images; on other devices than a CPU, to all at once.

        Args:
            function: of B x channels x H x W, without gradients. Several threads may be in it.
            images: B x channels x H x W.

        Returns:
            What the function returns, one entry for each image.
        """
        if self._compute.device.type != "cpu":
            return function(images)

        # Both modes are those of a thread. Entered once for several images: each time, weights are
        # converted anew.
        def computed(images: Tensor) -> list[Tensor]:
            with torch.no_grad(), self._compute.autocast():
                return [function(image) for image in images.split(1)]

        threads = torch.get_num_threads()
        if threads == 1:
            return torch.cat(computed(images))
        outputs = self._of(threads).map(computed, images.chunk(threads))
        return torch.cat([output for share in outputs for output in share])

    def _of(self, threads: int) -> ThreadPoolExecutor:
        if self._pool is None or self._threads != threads:
            # Threads of a pool that nobody holds end by themselves.
            self._pool = ThreadPoolExecutor(
                threads, "predict", initializer=lambda: torch.set_num_threads(1)
            )
            self._threads = threads
        return self._pool
