"""Agreement of found objects with true ones: F1, precision and recall of matches."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_emda.data.array import Array
from napari_emda.data.blocks import block_shape, blocks, chunk_shape
from napari_emda.data.box import Box
from napari_emda.errors import DataError, SettingsError
from napari_emda.events import TileDone, stage
from napari_emda.objects.components import find_objects_in
from napari_emda.settings.objects import ObjectSettings


def score_objects(
    probabilities: Array,
    truth: Array,
    classes: Sequence[str],
    *,
    box: Box | None = None,
    minimum_size: int = 0,
    volume: str = "",
    sections_are_independent: bool = False,
) -> Generator[TileDone, None, dict[str, dict[str, float]]]:
    """Compare the objects of every foreground class with the true ones, at an IoU of more than 0.5.

    Args:
        probabilities: (C - 1, Z, Y, X) uint8, channel c being class c + 1; read lazily.
        truth: (Z, Y, X) integers of the same shape, read lazily. Class ids: their connected
            components are the true objects. With two classes, values above 1 mean that objects are
            numbered; these are taken as they are.
        classes: names of all C classes, background first.
        box: the part to compare (objects are cut at its faces); all of it if None.
        minimum_size: connected components of fewer voxels are dropped, found and true ones alike.
        volume: name for the events.
        sections_are_independent: whether objects end with their section.

    Returns:
        The scores of `instance_f1`, by class.

    Raises:
        SettingsError: ``minimum_size`` is out of range.
    """
    settings = ObjectSettings.parse({"minimum_size": minimum_size})
    highest = _highest(truth) if len(classes) == 2 else 1
    independent = sections_are_independent
    stages = 2 * (len(classes) - 1)  # found and true objects of each class, for the progress
    scores = {}
    with TemporaryDirectory(prefix="napari-emda-") as temporary:
        for k, name in enumerate(classes[1:], 1):
            found = Path(temporary) / f"found {k}"
            true = Path(temporary) / f"true {k}"
            finding = find_objects_in(found, probabilities, settings, k, volume, independent)
            objects, _ = yield from stage(finding, 2 * k - 2, stages)
            true_objects: Array = _ImageByImage(truth, highest) if independent else truth
            if highest == 1:
                finding = find_objects_in(
                    true, _OfClass(truth, k), settings, 1, volume, independent
                )
                true_objects, _ = yield from stage(finding, 2 * k - 1, stages)
            scores[name] = instance_f1(objects, true_objects, box=box)
    return scores


class _OfClass:
    """Labels of one class as a sure prediction, (1, z, y, x) uint8: 255 inside. Read lazily.

    It lets `find_objects` label the truth block by block as well.
    """

    dtype = np.dtype(np.uint8)

    def __init__(self, labels: Array, class_id: int) -> None:
        self._labels = labels
        self._class_id = class_id
        self.shape = (1, *labels.shape)
        self.chunks = (1, *chunk_shape(labels))

    def __getitem__(self, key: Any) -> NDArray[np.uint8]:
        which, *place = key
        inside = (np.asarray(self._labels[tuple(place)]) == self._class_id).astype(np.uint8)
        return np.broadcast_to(255 * inside, (1, *inside.shape))[which]


class _ImageByImage:
    """Numbered objects of independent images, where numbering restarts in each image. Read lazily.

    The section's number times the highest id is added, so that ids are unique in the stack.
    """

    dtype = np.dtype(np.uint32)

    def __init__(self, labels: Array, highest: int) -> None:
        self._labels = labels
        self._highest = highest
        self.shape = labels.shape

    def __getitem__(self, key: tuple[slice, slice, slice]) -> NDArray[np.uint32]:
        ids = np.asarray(self._labels[key]).astype(np.uint32)
        images = np.arange(*key[0].indices(self.shape[0]), dtype=np.uint32)[:, None, None]
        return np.where(ids > 0, ids + images * np.uint32(self._highest), np.uint32(0))


def _highest(labels: Array) -> int:
    """The largest label, but at least 1."""
    parts = blocks(Box.whole(labels.shape), block_shape(labels))
    return max(1, *(int(np.asarray(labels[part.slices]).max()) for part in parts))


def instance_f1(
    objects: Array, truth_objects: Array, iou: float = 0.5, box: Box | None = None
) -> dict[str, float]:
    """Compare objects with true objects: two match when their IoU is above ``iou``.

    Above 0.5 no object can match two others (Kirillov et al. 2019, Panoptic Segmentation), so no
    assignment problem has to be solved.

    Args:
        objects: (Z, Y, X) integer ids below 2**32, 0 being background; read lazily.
        truth_objects: the same of the truth.
        iou: overlap above which two objects are the same, at least 0.5 and below 1.
        box: the part to compare (objects are cut at its faces); all of it if None.

    Returns:
        ``f1``, ``precision``, ``recall``, ``matched_iou`` (mean IoU of the matches) and the counts
        ``matched``, ``objects`` and ``truth_objects``. Where both sides have no object, the scores
        are 1; where one side has none, 0.

    Raises:
        SettingsError: ``iou`` is out of range.
        DataError: the shapes differ.
    """
    if not 0.5 <= iou < 1:
        raise SettingsError(
            f"An object overlap of {iou} is not allowed: choose at least 0.5 and less than 1."
        )
    if tuple(objects.shape) != tuple(truth_objects.shape):
        raise DataError(
            f"The objects have shape {tuple(objects.shape)} and the true ones "
            f"{tuple(truth_objects.shape)}: give two images of one volume."
        )
    ids, true_ids, overlap = _contingency(objects, truth_objects, box or Box.whole(objects.shape))
    found, sizes = _sizes(ids, overlap)
    true, true_sizes = _sizes(true_ids, overlap)
    both = (ids > 0) & (true_ids > 0)
    size = sizes[np.searchsorted(found, ids[both])]
    true_size = true_sizes[np.searchsorted(true, true_ids[both])]
    overlaps = overlap[both] / (size + true_size - overlap[both])
    matches = overlaps[overlaps > iou]
    return _object_scores(matches, int((found > 0).sum()), int((true > 0).sum()))


def _contingency(
    objects: Array, truth: Array, box: Box
) -> tuple[NDArray[Any], NDArray[Any], NDArray[np.int64]]:
    """The sparse contingency table: pairs of ids that share voxels and how many, without (0, 0)."""
    keys = np.empty(0, np.uint64)
    counts = np.empty(0, np.int64)
    for part in blocks(box, block_shape(objects)):
        # Both ids in one uint64: np.unique sorts numbers far faster than rows.
        pairs = np.asarray(objects[part.slices]).astype(np.uint64) << np.uint64(32)
        pairs |= np.asarray(truth[part.slices]).astype(np.uint64)
        block_keys, block_counts = np.unique(pairs[pairs > 0], return_counts=True)
        keys, position = np.unique(np.concatenate([keys, block_keys]), return_inverse=True)
        weights = np.concatenate([counts, block_counts])
        counts = np.bincount(position, weights, len(keys)).astype(np.int64)
    return keys >> np.uint64(32), keys & np.uint64(2**32 - 1), counts


def _sizes(ids: NDArray[Any], overlap: NDArray[np.int64]) -> tuple[NDArray[Any], NDArray[np.int64]]:
    values, position = np.unique(ids, return_inverse=True)
    return values, np.bincount(position, overlap, len(values)).astype(np.int64)


def _object_scores(matches: NDArray[np.float64], found: int, true: int) -> dict[str, float]:
    matched = len(matches)
    nothing = not found and not true
    return {
        "f1": _share(2 * matched, found + true, nothing),
        "precision": _share(matched, found, nothing),
        "recall": _share(matched, true, nothing),
        "matched_iou": _share(matches.sum(), matched, nothing),
        "matched": matched,
        "objects": found,
        "truth_objects": true,
    }


def _share(part: float, whole: float, nothing: bool) -> float:
    return float(part / whole) if whole else float(nothing)
