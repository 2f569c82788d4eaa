"""A step's losses and gradients recorded as a CUDA graph: one launch instead of hundreds.

Nobody turns this on yet: benchmarks/gpu.py measures what it brings.
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

_WARM = 5
"""Steps before one is recorded: meanwhile the fastest convolutions are chosen."""

Losses = dict[str, Tensor]


@dataclass(frozen=True)
class _Record:
    graph: Any
    batch: Batch
    losses: Losses
    gradients: list[Tensor | None]


class RecordedGradients:
    """Losses of a batch, and gradients in the parameters, from a recording once there is one.

    Where a recording fails, every step is computed as before. Dropout draws from torch's own generator, which a
    recording asks for its seed each time.

    Args:
        backward: sets the gradients of parameters without any, and returns the losses; it does the same in each step
            and never looks at a value.
        optimiser: of the parameters.
    """

    def __init__(
        self, backward: Callable[[Batch], Losses], optimiser: torch.optim.Optimizer
    ) -> None:
        self._backward, self._optimiser = backward, optimiser
        self._record: _Record | None = None
        self._steps = 0
        self.failed = False

    @property
    def recorded(self) -> bool:
        """Whether steps are replayed by now."""
        return self._record is not None

    def __call__(self, batch: Batch) -> Losses:
        """The losses, detached."""
        self._steps += 1
        if self._record is None and self._steps > _WARM and not self.failed:
            self._optimiser.zero_grad()
            try:
                self._record = self._capture(batch)
            except RuntimeError:  # of the driver, or a full memory
                self.failed = True
        if self._record is None or _shapes(batch) != _shapes(self._record.batch):
            self._optimiser.zero_grad()
            return self._backward(batch)
        return self._replay(self._record, batch)

    def _parameters(self) -> list[torch.nn.Parameter]:
        return [p for group in self._optimiser.param_groups for p in group["params"]]

    def _capture(self, batch: Batch) -> _Record:
        """Record, without computing, what a step does with memory of its own."""
        given = {domain: patches.map(torch.clone) for domain, patches in batch.items()}
        graph = torch.cuda.CUDAGraph()
        # Threads that draw batches pin memory meanwhile, which the stricter mode would take for a mistake.
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):
            losses = self._backward(given)
        return _Record(graph, given, losses, [p.grad for p in self._parameters()])

    def _replay(self, record: _Record, batch: Batch) -> Losses:
        for domain, given in record.batch.items():
            given.image.copy_(batch[domain].image)
            given.labels.copy_(batch[domain].labels)
        record.graph.replay()
        for parameter, gradient in zip(self._parameters(), record.gradients, strict=True):
            parameter.grad = gradient
        return {name: loss.clone() for name, loss in record.losses.items()}


def record_steps(training: Training) -> bool:
    """Have a training record its steps; false where its method's losses change in the course of it."""
    if type(training.method).losses is not Method.losses:
        return False
    backward = partial(training._backward, progress=0.0)
    training.recorded = RecordedGradients(backward, training.optimiser)
    return True


def _shapes(batch: Batch) -> dict[str, torch.Size]:
    return {domain: patches.image.shape for domain, patches in batch.items()}
