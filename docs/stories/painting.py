"""Painting of what is wrong in a patch, with the mouse."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from docs.stories.story import Story


def paint_truth(story: Story, region: Any) -> None:
    """Paint what is wrong in the patch on view, row by row, with the smallest brush."""
    volume, slices = region.volume, region.voxels.slices
    paint = story.dock.annotate.patches.paint
    shown = np.maximum(np.asarray(paint.draft(volume)[slices])[0], 1)
    right = np.asarray(story.truth[slices])[0] + 1
    while story.dock.annotate.tools.brush != 1:
        story.press("Q")
    z, top, left = region.voxels.start
    for number in np.unique(right).tolist():
        wanted = (right == number) & (shown != number)
        if wanted.any():
            story.press(str(number))
        for y, first, last in runs(wanted):
            line = [(z, top + y, left + first), (z, top + y, left + last)]
            story.hands.stroke(volume, line)


def runs(mask: np.ndarray) -> list[tuple[int, int, int]]:
    """Row, first and last column of the runs of True."""
    edges = np.diff(np.pad(mask, ((0, 0), (1, 1))).astype(np.int8), axis=1)
    starts, stops = np.argwhere(edges == 1), np.argwhere(edges == -1)
    return [(int(y), int(a), int(b) - 1) for (y, a), (_, b) in zip(starts, stops, strict=True)]
