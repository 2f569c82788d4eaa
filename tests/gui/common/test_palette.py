"""Colours of the classes: seen on a micrograph, and told apart by the colour-blind."""

from itertools import combinations

import numpy as np
import pytest
from skimage.color import deltaE_ciede2000, rgb2lab

from napari_emda._gui.common.palette import annotation_colours
from napari_emda.data.class_colours import class_rgb

# Machado, Oliveira and Fernandes 2009, severity 1; they apply to linear RGB.
SIGHT = {
    "normal": np.eye(3),
    "protanopia": np.array(
        [
            [0.152286, 1.052583, -0.204868],
            [0.114503, 0.786281, 0.099216],
            [-0.003882, -0.048116, 1.051998],
        ]
    ),
    "deuteranopia": np.array(
        [
            [0.367322, 0.860646, -0.227968],
            [0.280085, 0.672501, 0.047413],
            [-0.011820, 0.042940, 0.968881],
        ]
    ),
}


def seen(rgb, matrix):
    """Lab of sRGB values from 0 to 1 as somebody sees them."""
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    linear = np.clip(linear @ matrix.T, 0, 1)
    return rgb2lab(
        np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    )


@pytest.mark.parametrize("sight", SIGHT)
def test_classes_are_told_apart(sight):
    colours = seen(np.array([class_rgb(k) for k in range(7)]) / 255, SIGHT[sight])
    for (i, one), (j, other) in combinations(enumerate(colours), 2):
        assert deltaE_ciede2000(one, other) > 10, (i, j)
    # Background and the first class are what most projects have.
    assert deltaE_ciede2000(colours[0], colours[1]) > 40


@pytest.mark.parametrize("sight", SIGHT)
@pytest.mark.parametrize("index", range(2))
def test_paint_is_seen_on_every_grey(sight, index):
    greys = np.linspace(0.1, 0.9, 9)[:, None] * np.ones(3)
    painted = 0.4 * greys + 0.6 * np.array(class_rgb(index)) / 255  # the layer's opacity
    differences = deltaE_ciede2000(seen(greys, SIGHT[sight]), seen(painted, SIGHT[sight]))
    assert differences.min() > 10


def test_paint_has_the_colour_of_its_class():
    colours = annotation_colours(("background", "mitochondria")).color_dict
    for value, index in ((1, 0), (2, 1)):
        assert colours[value][:3] == pytest.approx(np.array(class_rgb(index)) / 255, abs=1e-3)
    assert colours[0][3] == 0
