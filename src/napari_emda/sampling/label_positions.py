"""Where the labelled pixels of a volume are."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from napari_emda.data.box import Box
from napari_emda.data.resampled import Resampled
from napari_emda.data.volume import IGNORE

# Labelled pixels of a class that are kept as centres of patches: a few MB of int32, and far more
# than a training has patches.
_POSITIONS = 200_000


def label_positions(
    view: Resampled, box: Box, seed: int
) -> tuple[dict[int, NDArray[np.int32]], dict[int, int]]:
    """Positions (z, y, x) of labelled pixels, at most 200 000 per class, and their numbers."""
    blocks = [view.box_of(native).clip_to(box) for native in view.volume.label_boxes]
    blocks = [block for block in blocks if block.size]
    # Every block gets the same number of positions, so that the kept ones are spread evenly.
    limit = max(1, _POSITIONS // max(len(blocks), 1))
    rng = np.random.default_rng(seed)
    positions: dict[int, list[NDArray[np.int32]]] = {}
    counts: dict[int, int] = {}
    for block in blocks:
        labels = view.read_labels(block)
        start = np.array(block.start, np.int32)
        for key in np.unique(labels[labels != IGNORE]).tolist():
            # One number for each pixel until few are left: positions take three times as much.
            pixels = np.flatnonzero(labels == key)
            counts[key] = counts.get(key, 0) + len(pixels)
            if len(pixels) > limit:
                pixels = pixels[rng.choice(len(pixels), limit, replace=False)]
            places = np.stack(np.unravel_index(pixels, labels.shape), axis=1).astype(np.int32)
            positions.setdefault(key, []).append(places + start)
    return {key: np.concatenate(rows) for key, rows in positions.items()}, counts
