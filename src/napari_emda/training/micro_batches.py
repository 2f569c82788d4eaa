"""Batches on their way to the device, whole or in parts where the whole does not fit the memory."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from napari_emda.sampling.patches import Patches


def part_of(index: int, count: int, patches: Any, stack: int = 1) -> Any:
    """The ``index``-th of ``count`` nearly equal parts of a sequence, the larger ones first.

    ``stack`` consecutive entries always stay together.
    """
    stacks = len(patches) // stack
    first = -(-stacks * index // count)
    stop = -(-stacks * (index + 1) // count)
    return patches[first * stack : stop * stack]


class BufferChanges:
    """The mean of what the parts of a batch change in buffers, such as running statistics.

    Each part starts from the same values. So a step changes them as much as one of a whole batch
    does, into however many parts it is cut.

    Args:
        module: whose buffers change; integers, such as counters, do so part by part.

    Attributes:
        changes: the sum so far, one tensor for each buffer of floating-point numbers.
    """

    def __init__(self, module: nn.Module) -> None:
        self._buffers = floating_buffers(module)
        self._before = [buffer.clone() for buffer in self._buffers]
        self.changes = [torch.zeros_like(buffer) for buffer in self._buffers]

    def take(self, share: float) -> None:
        """Add what has changed, weighted by the share of the part, and put the buffers back."""
        for change, buffer, before in zip(self.changes, self._buffers, self._before, strict=True):
            change.add_(buffer - before, alpha=share)
        self.put_back()

    def put_back(self) -> None:
        """Give the buffers the values that all parts start from."""
        for buffer, before in zip(self._buffers, self._before, strict=True):
            buffer.copy_(before)

    def apply(self) -> None:
        """Change the buffers by the sum."""
        for buffer, change in zip(self._buffers, self.changes, strict=True):
            buffer.add_(change)


def floating_buffers(module: nn.Module) -> list[Tensor]:
    """The buffers of a module that hold floating-point numbers."""
    return [buffer for buffer in module.buffers() if buffer.is_floating_point()]


def for_transfer(patches: Patches, device: torch.device) -> Patches:
    """Patches as they are sent to a device."""
    # Class ids as bytes are an eighth of int64. CUDA copies asynchronously from pinned memory only.
    compact = replace(patches, labels=patches.labels.to(torch.uint8))
    return compact.map(Tensor.pin_memory) if device.type == "cuda" else compact


def channels_last(tensor: Tensor) -> Tensor:
    """Images in the order of memory that convolutions are fastest with."""
    return tensor.contiguous(memory_format=torch.channels_last) if tensor.ndim == 4 else tensor
