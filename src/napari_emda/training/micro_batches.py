"""Batches on their way to the device, whole or in parts where the whole does not fit the memory."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from napari_emda.sampling.patches import Patches


def part_of(index: int, count: int, patches: Any, stack: int = 1) -> Any:
    """The ``index``-th of ``count`` nearly equal parts of a sequence, the larger ones first.

    ``stack`` consecutive entries always stay together.
    """
    stacks = len(patches) // stack
    first = -(-stacks * index // count)
    stop = -(-stacks * (index + 1) // count)
    return patches[first * stack : stop * stack]


def crop(index: Any, tensor: Tensor) -> Tensor:
    """A tensor, cropped by an index; a function so that it can be mapped over patches."""
    return tensor[index]


def for_transfer(patches: Patches, device: torch.device) -> Patches:
    """Patches as they are sent to a device."""
    # Class ids as bytes are an eighth of int64. CUDA copies asynchronously from pinned memory only.
    compact = replace(patches, labels=patches.labels.to(torch.uint8))
    return compact.map(Tensor.pin_memory) if device.type == "cuda" else compact


def channels_last(tensor: Tensor) -> Tensor:
    """Images in the order of memory that convolutions are fastest with."""
    return tensor.contiguous(memory_format=torch.channels_last) if tensor.ndim == 4 else tensor
