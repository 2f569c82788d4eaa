"""A step's losses and gradients recorded as a CUDA graph: one launch instead of hundreds.

A GPU finishes the kernels of a small network faster than the CPU can launch them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from napari_emda.sampling.patches import Batch
from napari_emda.training.target_statistics import unchanged_statistics

# Steps of a stage before one is recorded: meanwhile cuDNN chooses the fastest convolutions.
_WARM_UP_STEPS = 5

# Largest difference between a loss from the first replay and one that was computed, as a fraction
# of it, and of losses below 1 in itself. bfloat16 has 8 significant bits, and sums of atomic
# additions differ from run to run.
_TOLERANCE = 0.02

Losses = dict[str, Tensor]


@dataclass(frozen=True)
class _Record:
    graph: Any
    batch: Batch
    losses: Losses
    gradients: list[Tensor | None]


class RecordedGradients:
    """Computes losses and gradients of a batch, from a recording once there is one.

    If a recording fails, or its first replay has other losses than the computed step, every step is
    computed from then on. Dropout stays random: it draws from torch's generator, whose state a
    graph reads at each replay.

    Args:
        backward: computes the losses and the gradients of parameters that have none, from a batch
            and the training's progress. It must do the same in all steps of a stage, and must not
            read values on the host.
        module: what is trained.
    """

    def __init__(self, backward: Callable[[Batch, float], Losses], module: nn.Module) -> None:
        self._backward = backward
        self._module = module
        self._record: _Record | None = None
        self._stage: str | None = None
        self._steps = 0
        self.failed = False

    @property
    def recorded(self) -> bool:
        """Whether steps are replayed."""
        return self._record is not None

    def __call__(self, batch: Batch, progress: float, stage: str | None) -> Losses:
        """Set the gradients; returns the losses, detached.

        Args:
            batch: on the device.
            progress: of the training, 0 to 1.
            stage: of the training, see `napari_emda.methods.base.Method.recorded_stage`.
        """
        if stage != self._stage:
            self.forget()
            self._stage = stage
        self._steps += 1
        # A graph holds for one shape of the batch.
        if self._record is not None and _shapes(batch) == _shapes(self._record.batch):
            return self._replay(self._record, batch)
        is_warm = self._steps == _WARM_UP_STEPS + 1
        if stage is None or self.failed or not is_warm:
            return self._computed(batch, progress)
        return self._computed_and_recorded(batch, progress)

    def forget(self) -> None:
        """Release the recording and its memory; a new one may follow."""
        self._record = None
        self._steps = 0

    def _computed(self, batch: Batch, progress: float) -> Losses:
        self._module.zero_grad()
        return self._backward(batch, progress)

    def _computed_and_recorded(self, batch: Batch, progress: float) -> Losses:
        """Record a step, and compare it with the computed one, which is the result."""
        device = next(self._module.parameters()).device
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            random_state = _random_state(device)
            # What the first replay does to the statistics, the computed step does again.
            with unchanged_statistics(self._module):
                try:
                    self._module.zero_grad()
                    record = self._capture(batch, progress)
                    _set_random_state(random_state, device)
                    replayed = self._replay(record, batch)
                except RuntimeError:
                    # An error of the driver, or not enough memory.
                    self.failed = True
        losses = self._computed(batch, progress)
        if not self.failed and _agree(replayed, losses):
            self._record = record
        else:
            self.failed = True
        return losses

    def _parameters(self) -> list[nn.Parameter]:
        return list(self._module.parameters())

    def _capture(self, batch: Batch, progress: float) -> _Record:
        """Record a step, which is not computed meanwhile, on a copy of the batch."""
        recorded_batch = {domain: patches.map(torch.clone) for domain, patches in batch.items()}
        graph = torch.cuda.CUDAGraph()
        # thread_local: the default mode aborts when drawing threads pin memory meanwhile.
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):
            losses = self._backward(recorded_batch, progress)
        gradients = [parameter.grad for parameter in self._parameters()]
        return _Record(graph, recorded_batch, losses, gradients)

    def _replay(self, record: _Record, batch: Batch) -> Losses:
        for domain, patches in record.batch.items():
            patches.image.copy_(batch[domain].image)
            patches.labels.copy_(batch[domain].labels)
            if patches.clean is not patches.image:
                patches.clean.copy_(batch[domain].clean)
            borders = batch[domain].borders
            if patches.borders is not None and borders is not None:
                patches.borders.copy_(borders)
        record.graph.replay()
        for parameter, gradient in zip(self._parameters(), record.gradients, strict=True):
            parameter.grad = gradient
        # The next replay overwrites the losses, which are reported later.
        return {name: loss.clone() for name, loss in record.losses.items()}


def _shapes(batch: Batch) -> dict[str, tuple[torch.Size, bool]]:
    return {
        d: (patches.image.shape, patches.clean is patches.image) for d, patches in batch.items()
    }


def _random_state(device: torch.device) -> Tensor:
    return torch.cuda.get_rng_state(device) if device.type == "cuda" else torch.get_rng_state()


def _set_random_state(state: Tensor, device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.set_rng_state(state, device)
    else:
        torch.set_rng_state(state)


def _agree(replayed: Losses, computed: Losses) -> bool:
    """Whether the losses of a replay are those of the computed step."""
    return replayed.keys() == computed.keys() and all(
        abs(float(replayed[name]) - float(loss)) <= _TOLERANCE * max(1.0, abs(float(loss)))
        for name, loss in computed.items()
    )
