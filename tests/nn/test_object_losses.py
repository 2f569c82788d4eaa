"""Losses of contours and distances against scikit-learn and NumPy, on what labels tell for sure."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import binary_dilation
from scipy.special import expit
from sklearn.metrics import log_loss

from napari_emda.data.volume import IGNORE
from napari_emda.nn.object_losses import object_losses


@pytest.fixture
def case(noise):
    """Maps, labels and borders of every kind: exact, at least so far, unknown."""
    shape = (2, 12, 15)
    labels = noise.choice([0, 1, 2, IGNORE], shape)
    borders = noise.choice([0, 1, 1.5, 2, 2.25, 7, 16, 20], shape) * noise.choice([1, -1], shape)
    borders[(labels == 0) | (labels == IGNORE)] = 0
    maps = torch.as_tensor(noise.normal(size=(2, 2, 12, 15)), dtype=torch.float32)
    maps.requires_grad_()
    return maps, torch.as_tensor(labels), torch.as_tensor(borders, dtype=torch.float32)


def test_they_are_those_of_the_definition_over_the_pixels_that_are_sure(case):
    maps, labels, borders = case
    contour, distance = object_losses(maps, labels, borders)
    values = maps.detach().double().numpy()
    near = binary_dilation(labels == 0, np.ones((1, 5, 5)))
    expected = {"contour": [], "distance": []}
    for place in np.ndindex(*labels.shape):
        n, y, x = place
        label, border = int(labels[place]), float(borders[place])
        if label == IGNORE:
            continue
        if label == 0:
            is_contour, far = False, 0.0
        elif border > 0:
            is_contour, far = border <= 2, min(border, 16) / 16
        else:
            is_contour = False if border < -2 else None
            far = 1.0 if border <= -16 else None
        # Where objects touch.
        weight = 10 if is_contour and not near[place] else 1
        if is_contour is not None:
            p = expit(values[n, 0, y, x])
            loss = log_loss([is_contour], [p], labels=[False, True])
            expected["contour"].append((loss, weight))
        if far is not None:
            error = abs(values[n, 1, y, x] - far)
            loss = 5 * error**2 if error < 0.1 else error - 0.05
            expected["distance"].append((loss, weight))
    for found, name in ((contour, "contour"), (distance, "distance")):
        losses, weights = zip(*expected[name], strict=True)
        assert 10 in weights
        assert found.item() == pytest.approx(np.average(losses, weights=weights), rel=1e-5)


def test_pixels_of_which_nothing_is_known_do_not_count(case):
    maps, labels, borders = case
    sum(object_losses(maps, labels, borders)).backward()
    is_object = (labels > 0) & (labels != IGNORE)
    unknown = (labels == IGNORE) | (is_object & (borders <= 0) & (borders >= -2))
    assert unknown.any()
    assert not maps.grad.movedim(1, -1)[unknown].any()
    assert maps.grad[:, 0][~unknown].all()


def test_where_nothing_is_known_they_are_0(case):
    maps, labels, borders = case
    contour, distance = object_losses(maps, torch.full_like(labels, IGNORE), 0 * borders)
    (contour + distance).backward()
    assert contour.item() == distance.item() == 0
    assert not maps.grad.any()
