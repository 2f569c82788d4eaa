"""What is computed of a block recorded as a CUDA graph: one launch instead of a hundred.

A GPU finishes the kernels of a small network faster than the CPU can launch them. All blocks of a
prediction but those at the edges have one shape, so the launches can be recorded once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

# Calls with a shape before it is recorded: in a volume of few blocks, recording would not pay. They
# also let cuDNN choose its convolutions before these are recorded.
_WARM_UP_CALLS = 3

# Recorded shapes at most: first, inner and last blocks along both axes, see `tiling.plan`. Each one
# keeps its input and output in the GPU's memory.
_MAX_SHAPES = 9

# Largest difference between a probability from the first replay and one from the network. bfloat16
# has 8 significant bits.
_TOLERANCE = 0.02

Function = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class _Record:
    graph: torch.cuda.CUDAGraph
    image: Tensor
    result: Tensor


class Recorded:
    """A function of an image on a CUDA device, recorded for each shape of the image.

    If a recording fails, or its result differs from the function's, the function itself is called
    from then on.

    Args:
        function: must not draw random numbers, must not read values on the host, and must use the
            same weights in each call.
        enabled: whether anything is recorded.
        tolerance: largest difference between a value of the first replay and the function's.
    """

    def __init__(self, function: Function, *, enabled: bool, tolerance: float = _TOLERANCE) -> None:
        self._function = function
        self._enabled = enabled
        self._tolerance = tolerance
        self._calls: Counter[torch.Size] = Counter()
        self._records: dict[torch.Size, _Record] = {}
        # Handle of torch's memory pool, which all records share: only one is replayed at a time.
        self._pool: Any = None

    @property
    def shapes(self) -> list[torch.Size]:
        """Shapes for which the function is recorded."""
        return list(self._records)

    def __call__(self, image: Tensor) -> Tensor:
        """The function's result for an image."""
        if not self._enabled:
            return self._function(image)
        record = self._records.get(image.shape)
        if record is None:
            self._calls[image.shape] += 1
            is_warm = self._calls[image.shape] == _WARM_UP_CALLS
            if is_warm and len(self._records) < _MAX_SHAPES:
                return self._record_and_compare(image)
            return self._function(image)
        return self._replayed(record, image)

    def _record_and_compare(self, image: Tensor) -> Tensor:
        """Record the function for a shape. The result is always the function's own."""
        result = self._function(image)
        try:
            record = self._record(image)
            difference = self._replayed(record, image).float() - result.float()
            if difference.abs().max() <= self._tolerance:
                self._records[image.shape] = record
            else:
                self._enabled = False
        except RuntimeError:
            # An error of the driver, or not enough memory.
            self._enabled = False
        return result

    def _record(self, image: Tensor) -> _Record:
        if self._pool is None:
            self._pool = torch.cuda.graph_pool_handle()
        recorded_image = image.clone()
        graph = torch.cuda.CUDAGraph()
        # thread_local: the default mode aborts when reading threads pin memory meanwhile.
        with torch.cuda.graph(graph, pool=self._pool, capture_error_mode="thread_local"):
            result = self._function(recorded_image)
        return _Record(graph, recorded_image, result)

    @staticmethod
    def _replayed(record: _Record, image: Tensor) -> Tensor:
        record.image.copy_(image)
        record.graph.replay()
        # Records share their memory: the next replay overwrites the result.
        return record.result.clone()
