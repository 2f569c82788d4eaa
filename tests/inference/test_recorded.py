"""A recorded function gives the same results; if recording fails, the function is called."""

from __future__ import annotations

from unittest.mock import Mock

import pytest
import torch

from napari_emda.inference.recorded import Recorded, _Record


class Graph:
    """Stands in for a CUDA graph: computes again, from the memory of the input to the result's."""

    def __init__(self, function, image, result):
        self.replay = lambda: result.copy_(function(image))


def recorded_on_the_cpu(function, replayed=None):
    recorded = Recorded(function, enabled=True)

    def record(image):
        copy = image.clone()
        result = torch.full_like(function(copy), -1)
        return _Record(Graph(replayed or function, copy, result), copy, result)

    recorded._record = Mock(side_effect=record)
    return recorded


def images(side, n=6):
    return [torch.full((1, 1, side, side), float(i)) for i in range(n)]


def test_each_shape_is_recorded_once_and_results_are_not_overwritten():
    recorded = recorded_on_the_cpu(lambda image: image * 2)
    inputs = [image for pair in zip(images(8), images(4), strict=True) for image in pair]
    results = [recorded(image) for image in inputs]
    for image, result in zip(inputs, results, strict=True):
        assert torch.equal(result, image * 2)
    assert recorded.shapes == [torch.Size((1, 1, 8, 8)), torch.Size((1, 1, 4, 4))]
    assert recorded._record.call_count == 2


def test_few_blocks_and_many_shapes_are_not_recorded():
    recorded = recorded_on_the_cpu(torch.neg)
    for image in images(8, 2):
        assert torch.equal(recorded(image), -image)
    assert not recorded.shapes
    for side in range(10, 22):
        for image in images(side):
            assert torch.equal(recorded(image), -image)
    assert len(recorded.shapes) == 9


@pytest.mark.parametrize("failure", [RuntimeError("capture"), torch.OutOfMemoryError("full")])
def test_if_recording_fails_the_function_is_called(failure):
    recorded = recorded_on_the_cpu(torch.neg)
    recorded._record = Mock(side_effect=failure)
    for image in images(8):
        assert torch.equal(recorded(image), -image)
    assert recorded._record.call_count == 1
    assert not recorded.shapes


def test_a_record_with_other_results_is_not_used():
    recorded = recorded_on_the_cpu(torch.neg, replayed=lambda image: image + 1)
    for image in images(8):
        assert torch.equal(recorded(image), -image)
    assert not recorded.shapes


def test_nothing_is_recorded_unless_enabled():
    recorded = Recorded(torch.neg, enabled=False)
    for image in images(8):
        assert torch.equal(recorded(image), -image)
    assert not recorded.shapes
