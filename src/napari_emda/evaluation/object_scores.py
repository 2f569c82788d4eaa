"""Agreement of found objects with true ones.

Found and true objects match if their IoU is above a limit of at least 0.5. No object can then match
two others (Kirillov et al. 2019, Panoptic Segmentation), so no assignment problem has to be solved.
"""

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
from napari_emda.data.lazy import Lazy3D
from napari_emda.data.voxel_grid import VoxelGrid
from napari_emda.evaluation.contingency import Contingency
from napari_emda.events import TileDone, stage
from napari_emda.objects.components import find_objects_in
from napari_emda.objects.separation import find_separate_objects_in
from napari_emda.settings.objects import SeparationSettings

ObjectScores = dict[str, float | None]
"""Scores and counts by name; None where a score is not defined."""

# Of COCO and of the Data Science Bowl 2018: 0.5, 0.55, ... 0.95.
_LIMITS = np.arange(50, 100, 5) / 100


def score_objects(
    probabilities: Array,
    truth: Array,
    classes: Sequence[str],
    grid: VoxelGrid,
    *,
    box: Box | None = None,
    settings: SeparationSettings | None = None,
    labelled: Array | None = None,
    maps: Array | None = None,
    volume: str = "",
) -> Generator[TileDone, None, dict[str, ObjectScores]]:
    """Compare the objects of every foreground class with the true ones.

    Args:
        probabilities: (C - 1, Z, Y, X) uint8, channel c being class c + 1; read lazily.
        truth: (Z, Y, X) integers of the same shape, read lazily. Class ids: their connected
            components are the true objects. With two classes, values above 1 mean that objects are
            numbered; these are taken as they are.
        classes: names of all C classes, background first.
        grid: of the voxels.
        box: the part to compare (objects are cut at its faces); all of it if None.
        settings: of the found objects; true ones that are connected components are dropped alike if
            they are small.
        labelled: (Z, Y, X), 0 where nobody looked: found objects do not count there; by
            default somebody looked everywhere.
        maps: contours and distances, by which objects are separated; None if there are none.
        volume: name for the events.

    Returns:
        The scores of `compare_objects`, by class.
    """
    settings = settings or SeparationSettings()
    highest = _highest(truth) if len(classes) == 2 else 1
    independent = grid.sections_are_independent
    stages = 2 * (len(classes) - 1)  # found and true objects of each class, for the progress
    scores = {}
    with TemporaryDirectory(prefix="napari-emda-") as temporary:
        for k, name in enumerate(classes[1:], 1):
            found = Path(temporary) / f"found {k}"
            true = Path(temporary) / f"true {k}"
            finding = find_separate_objects_in(
                found, probabilities, settings, grid, k, volume, maps
            )
            objects, _ = yield from stage(finding, 2 * k - 2, stages)
            true_objects: Array = _ImageByImage(truth, highest) if independent else truth
            if highest == 1:
                finding = find_objects_in(
                    true, _OfClass(truth, k), settings, 1, volume, independent
                )
                true_objects, _ = yield from stage(finding, 2 * k - 1, stages)
            counted = objects if labelled is None else _Labelled(objects, labelled)
            scores[name] = compare_objects(counted, true_objects, box)
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


class _Labelled(Lazy3D):
    """Ids of objects, 0 where nobody looked. Read lazily."""

    def __init__(self, objects: Array, labelled: Array) -> None:
        z, y, x = objects.shape
        super().__init__((z, y, x), np.uint32)
        self.chunks = chunk_shape(objects)
        self._objects = objects
        self._labelled = labelled

    def _read(self, z: slice, y: slice, x: slice) -> NDArray[np.uint32]:
        ids = np.asarray(self._objects[z, y, x])
        return np.where(np.asarray(self._labelled[z, y, x]) > 0, ids, np.uint32(0))


class _ImageByImage:
    """Numbered objects of independent images, where numbering restarts in each image. Read lazily.

    The section's number times the highest id is added, so that ids are unique in the stack.
    """

    dtype = np.dtype(np.int64)

    def __init__(self, labels: Array, highest: int) -> None:
        self._labels = labels
        self._highest = highest
        self.shape = labels.shape

    def __getitem__(self, key: tuple[slice, slice, slice]) -> NDArray[np.int64]:
        ids = np.asarray(self._labels[key]).astype(np.int64)
        images = np.arange(*key[0].indices(self.shape[0]))[:, None, None]
        return np.where(ids > 0, ids + images * self._highest, 0)


def _highest(labels: Array) -> int:
    """The largest label, but at least 1."""
    parts = blocks(Box.whole(labels.shape), block_shape(labels))
    return max(1, *(int(np.asarray(labels[part.slices]).max()) for part in parts))


def compare_objects(objects: Array, truth: Array, box: Box | None = None) -> ObjectScores:
    """Compare objects with true objects.

    Args:
        objects: (Z, Y, X) integer ids below 2**32, 0 being background; read lazily.
        truth: the same of the true objects.
        box: the part to compare (objects are cut at its faces); all of it if None.

    Returns:
        * ``f1``, ``precision``, ``recall`` of the matches with an IoU above 0.5, ``matched_iou``
          (their mean IoU), and the counts ``matched``, ``objects`` and ``truth_objects``;
        * ``ap_50``, ``ap_75`` and ``ap_50_95``: TP / (TP + FP + FN) with matches above 0.5, above
          0.75, and its mean over 0.5, 0.55, … 0.95 (Caicedo et al. 2019, Data Science Bowl 2018);
        * ``panoptic_quality``: the sum of the matches' IoU / (TP + FP / 2 + FN / 2);
        * ``vi_split`` and ``vi_merge``: the two parts of the variation of information, in bits,
          over all voxels, the background being one segment (Meilă 2007): H(found | true) grows
          when true objects are split, H(true | found) when they are merged;
        * ``rand_error``: the adapted Rand error, 1 - F1 of pairs of voxels that are in one object,
          over the voxels of true objects (Arganda-Carreras et al. 2015);
        * ``count_error``: (found objects - true objects) / true objects.

        Where both sides have no object, the shares are 1 and the errors 0. Where one side has none,
        the shares are 0; ``rand_error`` and ``count_error`` are None without any true object.

    Raises:
        DataError: the shapes differ, or ids are out of range.
    """
    table = Contingency.of(objects, truth, box)
    found = table.found_count
    true = table.true_count
    ious = table.ious()
    precisions = [_average_precision(ious, limit, found, true) for limit in _LIMITS]
    split, merge = _information(table)
    matches = ious[ious > 0.5]
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
        "ap_50": precisions[0],
        "ap_75": precisions[list(_LIMITS).index(0.75)],
        "ap_50_95": float(np.mean(precisions)),
        "panoptic_quality": _share(2 * matches.sum(), found + true, nothing),
        "vi_split": split,
        "vi_merge": merge,
        "rand_error": 0.0 if nothing else _rand_error(table.within_truth()),
        "count_error": 0.0 if nothing else (found - true) / true if true else None,
    }


def _average_precision(ious: NDArray[np.float64], limit: float, found: int, true: int) -> float:
    matched = int(np.count_nonzero(ious > limit))
    return _share(matched, found + true - matched, nothing=not found and not true)


def _information(table: Contingency) -> tuple[float, float]:
    """H(found | true) and H(true | found) in bits; 0 for an empty table."""
    total = max(1, table.voxels.sum())
    split = -(table.voxels * np.log2(table.voxels / table.true_sizes)).sum() / total
    merge = -(table.voxels * np.log2(table.voxels / table.found_sizes)).sum() / total
    # Sums of nothing but zeros are -0.0.
    return float(split) + 0.0, float(merge) + 0.0


def _rand_error(table: Contingency) -> float | None:
    """1 - F1 of the pairs of voxels in one object; None if there are no such pairs.

    A segment of n voxels holds n² - n ordered pairs of different voxels.
    """
    together = (table.voxels.astype(float) ** 2 - table.voxels).sum()
    # The sum of n² over segments is that of (voxels of the pair) · n over pairs.
    found = (table.voxels * (table.found_sizes - 1.0)).sum()
    true = (table.voxels * (table.true_sizes - 1.0)).sum()
    return float(1 - 2 * together / (found + true)) if found + true else None


def _share(part: float, whole: float, nothing: bool) -> float:
    return float(part / whole) if whole else float(nothing)
