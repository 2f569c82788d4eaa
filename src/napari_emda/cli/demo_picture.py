"""The demo's picture: a section of the target, the truth, and what each model found."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

# Colours that the colour-blind can tell apart (Okabe and Ito 2008), red, green, blue.
FOUND = (0, 158, 255)
MISSED = (240, 170, 0)
WRONG = (220, 80, 190)
# Share of the colour over the section, whose texture stays in sight.
_OPACITY = 0.5

# Screen pixels for each pixel of the section: five-pixel details are then seen on any screen.
_ZOOM = 3
_COLUMNS = 3
_GAP = 12
_LINE = 26
_FONT_SIZE = 17
_BACKGROUND = (255, 255, 255)
_TEXT = (20, 20, 20)

# A single section may look better or worse than the number above it.
_SCOPE = "IoU: overlap with the truth in all sections, 1 is perfect"

Mask = NDArray[np.bool_]


def draw_picture(
    path: Path, section: NDArray[np.uint8], truth: Mask, masks: Mapping[str, Mask]
) -> None:
    """Write a PNG: the section, the truth and each mask side by side, with captions.

    Args:
        path: of the PNG.
        section: grey values (y, x), uint8.
        truth: where the structure is (y, x), bool.
        masks: what each model found (y, x), bool, by caption.
    """
    panels = {"target, as recorded": _tinted(section, {})}
    panels["truth"] = _tinted(section, {FOUND: truth})
    for caption, mask in masks.items():
        colours = {FOUND: mask & truth, MISSED: truth & ~mask, WRONG: mask & ~truth}
        panels[caption] = _tinted(section, colours)
    width = _ZOOM * section.shape[1] + _GAP
    height = _ZOOM * section.shape[0] + _GAP + _LINE
    rows = -(-len(panels) // _COLUMNS)
    size = (_COLUMNS * width + _GAP, rows * height + _GAP + _LINE)
    picture = Image.new("RGB", size, _BACKGROUND)
    draw = ImageDraw.Draw(picture)
    for number, (caption, panel) in enumerate(panels.items()):
        row, column = divmod(number, _COLUMNS)
        left = _GAP + column * width
        top = _GAP + row * height
        draw.text((left, top), caption, _TEXT, _font())
        picture.paste(panel, (left, top + _LINE))
    _draw_legend(draw, size[1] - _LINE)
    picture.save(path)


def _tinted(
    section: NDArray[np.uint8], colours: Mapping[tuple[int, int, int], Mask]
) -> Image.Image:
    """The section with a colour over each mask, enlarged."""
    # From the first to the ninety-ninth percentile: a pale recording would be one grey.
    low, high = np.percentile(section, (1, 99))
    grey = np.clip((section - low) / max(high - low, 1), 0, 1) * 255
    colour = np.repeat(grey[..., None], 3, axis=2)
    for rgb, mask in colours.items():
        colour[mask] += _OPACITY * (np.array(rgb) - colour[mask])
    image = Image.fromarray(colour.astype(np.uint8))
    size = (_ZOOM * image.width, _ZOOM * image.height)
    return image.resize(size, Image.Resampling.NEAREST)


def _draw_legend(draw: ImageDraw.ImageDraw, top: int) -> None:
    left = _GAP
    for rgb, word in ((FOUND, "found"), (MISSED, "missed"), (WRONG, "found, but not there")):
        draw.rectangle((left, top + 3, left + _FONT_SIZE, top + 3 + _FONT_SIZE), rgb)
        left += _FONT_SIZE + _GAP // 2
        draw.text((left, top), word, _TEXT, _font())
        left += int(draw.textlength(word, _font())) + 2 * _GAP
    draw.text((left, top), _SCOPE, _TEXT, _font())


def _font() -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    # Pillow brings it: no font of the machine is needed.
    return ImageFont.load_default(_FONT_SIZE)
