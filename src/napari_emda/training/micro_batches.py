"""Parts of a batch that are computed one after the other if the whole does not fit the memory."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def part_of(index: int, count: int, patches: Any) -> Any:
    """The ``index``-th of ``count`` nearly equal parts of a sequence, the larger ones first."""
    return patches[-(-len(patches) * index // count) : -(-len(patches) * (index + 1) // count)]


def crop(index: Any, tensor: Tensor) -> Tensor:
    """A tensor, cropped by an index; a function so that it can be mapped over patches."""
    return tensor[index]


def out_of_memory(error: RuntimeError) -> bool:
    """Whether torch ran out of memory, on a GPU or on the CPU."""
    # On the CPU torch raises a plain RuntimeError.
    return isinstance(error, torch.OutOfMemoryError) or "not enough memory" in str(error)
