"""What is recorded answers as the function does; where that fails, the function goes on."""

from __future__ import annotations

from unittest.mock import Mock

import pytest
import torch

from napari_emda.inference.recorded import Recorded, _Record


class Graph:
    """Stands in for a CUDA graph: computes again from the place of the input to that of the answer."""

    def __init__(self, function, given, answer):
        self.replay = lambda: answer.copy_(function(given))


def recorded_on_the_processor(function, answered=None):
    recorded = Recorded(function, enabled=True)

    def record(image):
        given = image.clone()
        answer = torch.full_like(function(given), -1)
        return _Record(Graph(answered or function, given, answer), given, answer)

    recorded._record = Mock(side_effect=record)
    return recorded


def images(side, n=6):
    return [torch.full((1, 1, side, side), float(i)) for i in range(n)]


def test_each_shape_is_recorded_once_and_answers_stay_what_they_were():
    recorded = recorded_on_the_processor(lambda image: image * 2)
    given = [image for pair in zip(images(8), images(4), strict=True) for image in pair]
    answers = [recorded(image) for image in given]
    for image, answer in zip(given, answers, strict=True):
        assert torch.equal(answer, image * 2)
    assert recorded.shapes == [torch.Size((1, 1, 8, 8)), torch.Size((1, 1, 4, 4))]
    assert recorded._record.call_count == 2


def test_few_blocks_and_many_shapes_are_not_recorded():
    recorded = recorded_on_the_processor(torch.neg)
    for image in images(8, 2):
        assert torch.equal(recorded(image), -image)
    assert not recorded.shapes
    for side in range(10, 22):
        for image in images(side):
            assert torch.equal(recorded(image), -image)
    assert len(recorded.shapes) == 9


@pytest.mark.parametrize("failure", [RuntimeError("capture"), torch.OutOfMemoryError("full")])
def test_where_recording_fails_the_function_goes_on(failure):
    recorded = recorded_on_the_processor(torch.neg)
    recorded._record = Mock(side_effect=failure)
    for image in images(8):
        assert torch.equal(recorded(image), -image)
    assert recorded._record.call_count == 1
    assert not recorded.shapes


def test_a_record_that_answers_otherwise_is_not_used():
    recorded = recorded_on_the_processor(torch.neg, answered=lambda image: image + 1)
    for image in images(8):
        assert torch.equal(recorded(image), -image)
    assert not recorded.shapes


def test_nothing_is_recorded_unless_it_is_wanted():
    recorded = Recorded(torch.neg, enabled=False)
    for image in images(8):
        assert torch.equal(recorded(image), -image)
    assert not recorded.shapes
