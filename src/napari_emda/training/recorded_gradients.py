"""A step's losses and gradients recorded as a CUDA graph: one launch instead of hundreds.

Not used in trainings yet: benchmarks/gpu.py measures the speed-up.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from napari_emda.methods.base import Method
from napari_emda.sampling.sampler import Batch

if TYPE_CHECKING:
    from napari_emda.training.trainer import Training

# Steps before one is recorded: meanwhile cuDNN chooses the fastest convolutions.
_WARM_UP_STEPS = 5

Losses = dict[str, Tensor]


@dataclass(frozen=True)
class _Record:
    graph: Any
    batch: Batch
    losses: Losses
    gradients: list[Tensor | None]


class RecordedGradients:
    """Computes losses and gradients of a batch, from a recording once there is one.

    If the recording fails, every step is computed as before. Dropout stays random: it draws from
    torch's generator, whose state a graph reads at each replay.

    Args:
        backward: computes the losses and the gradients of parameters that have none. It must do the
            same in each step, and must not read values on the host.
        optimiser: of the parameters.
    """

    def __init__(
        self, backward: Callable[[Batch], Losses], optimiser: torch.optim.Optimizer
    ) -> None:
        self._backward = backward
        self._optimiser = optimiser
        self._record: _Record | None = None
        self._steps = 0
        self.failed = False

    @property
    def recorded(self) -> bool:
        """Whether steps are replayed."""
        return self._record is not None

    def __call__(self, batch: Batch) -> Losses:
        """Set the gradients; returns the losses, detached."""
        self._steps += 1
        if self._record is None and self._steps > _WARM_UP_STEPS and not self.failed:
            self._optimiser.zero_grad()
            try:
                self._record = self._capture(batch)
            except RuntimeError:
                # An error of the driver, or not enough memory.
                self.failed = True
        # A graph holds for one shape of the batch.
        if self._record is None or _shapes(batch) != _shapes(self._record.batch):
            self._optimiser.zero_grad()
            return self._backward(batch)
        return self._replay(self._record, batch)

    def _parameters(self) -> list[torch.nn.Parameter]:
        return [p for group in self._optimiser.param_groups for p in group["params"]]

    def _capture(self, batch: Batch) -> _Record:
        """Record a step, which is not computed meanwhile, on a copy of the batch."""
        recorded_batch = {domain: patches.map(torch.clone) for domain, patches in batch.items()}
        graph = torch.cuda.CUDAGraph()
        # thread_local: the default mode aborts when drawing threads pin memory meanwhile.
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):
            losses = self._backward(recorded_batch)
        gradients = [parameter.grad for parameter in self._parameters()]
        return _Record(graph, recorded_batch, losses, gradients)

    def _replay(self, record: _Record, batch: Batch) -> Losses:
        for domain, patches in record.batch.items():
            patches.image.copy_(batch[domain].image)
            patches.labels.copy_(batch[domain].labels)
        record.graph.replay()
        for parameter, gradient in zip(self._parameters(), record.gradients, strict=True):
            parameter.grad = gradient
        # The next replay overwrites the losses, which are reported later.
        return {name: loss.clone() for name, loss in record.losses.items()}


def record_steps(training: Training) -> bool:
    """Let a training record its steps.

    Returns:
        Whether it does. A method with its own `losses` may do something else in each step.
    """
    if type(training.method).losses is not Method.losses:
        return False
    backward = partial(training._backward, progress=0.0)
    training.recorded = RecordedGradients(backward, training.optimiser)
    return True


def _shapes(batch: Batch) -> dict[str, torch.Size]:
    return {domain: patches.image.shape for domain, patches in batch.items()}
