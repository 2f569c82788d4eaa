"""A network's answer recorded as a CUDA graph: one launch a block instead of a hundred.

A GPU is done with the kernels of a small network sooner than a processor can launch them. All blocks of
a prediction but those at the edges have one shape, so that the launches can be recorded once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

_WARM = 3
"""Calls with a shape before it is recorded: a volume of few blocks is done before that pays."""
_SHAPES = 9
"""Recorded at most: the first, inner and last blocks along both axes, see `tiling.plan`."""
_TOLERANCE = 0.02
"""By which the first answer of a record may differ from that of the function; bfloat16 has 8 bits."""

Function = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class _Record:
    graph: torch.cuda.CUDAGraph
    given: Tensor
    answer: Tensor


class Recorded:
    """A function of an image, recorded for each shape where the image is on a CUDA device.

    Where a recording fails, or answers otherwise than the function, the function itself goes on.

    Args:
        function: without random numbers, without looking at a value, and always the same weights.
        enabled: whether anything is recorded.
    """

    def __init__(self, function: Function, *, enabled: bool) -> None:
        self._function = function
        self._enabled = enabled
        self._calls: Counter[torch.Size] = Counter()
        self._records: dict[torch.Size, _Record] = {}
        self._pool: Any = None  # torch's handle; all records share one memory

    @property
    def shapes(self) -> list[torch.Size]:
        """For which the function is recorded."""
        return list(self._records)

    def __call__(self, image: Tensor) -> Tensor:
        """What the function says of an image."""
        if not self._enabled:
            return self._function(image)
        record = self._records.get(image.shape)
        if record is None:
            self._calls[image.shape] += 1
            if self._calls[image.shape] == _WARM and len(self._records) < _SHAPES:
                return self._first(image)
            return self._function(image)
        return self._replayed(record, image)

    def _first(self, image: Tensor) -> Tensor:
        """Record the function for a shape; whatever goes wrong, the answer is that of the function."""
        answer = self._function(image)
        try:
            record = self._record(image)
            if (self._replayed(record, image) - answer).abs().max() <= _TOLERANCE:
                self._records[image.shape] = record
            else:
                self._enabled = False
        except RuntimeError:  # of the driver, or a full memory
            self._enabled = False
        return answer

    def _record(self, image: Tensor) -> _Record:
        if self._pool is None:
            self._pool = torch.cuda.graph_pool_handle()
        given = image.clone()
        graph = torch.cuda.CUDAGraph()
        # Threads that read pin memory meanwhile, which the stricter mode would take for a mistake.
        with torch.cuda.graph(graph, pool=self._pool, capture_error_mode="thread_local"):
            answer = self._function(given)
        return _Record(graph, given, answer)

    @staticmethod
    def _replayed(record: _Record, image: Tensor) -> Tensor:
        record.given.copy_(image)
        record.graph.replay()
        # Records share their memory: the next one that is replayed overwrites the answer.
        return record.answer.clone()
