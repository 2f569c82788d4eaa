"""Predictions and truth of `clicks.py`: a short training for each data set, and its scored half."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
import zarr
from numpy.typing import NDArray
from scipy import ndimage

from benchmarks.adaptation import PROTOCOLS, emda
from benchmarks.few_labels_data import CLASSES, DATA, Data, split, text
from napari_emda.data.box import Box

Bytes = NDArray[np.uint8]
# Of 1000 in protocol P2: a model that needs corrections, in a minute or two.
STEPS = 300
SEED = 0
# Fields of nuclei that are labelled, in per cent of half of all: two.
LABELLED = 10
SOURCES = {"vnc": "lucchi", "lucchi": "vnc", "nuclei": ""}
"""The labelled volume that each data set is adapted from; nuclei learn from fields of their own."""


@dataclass(frozen=True)
class Scored:
    """The half of a volume that no training has seen the labels of.

    Attributes:
        name: of the data set.
        image: grey values at the size of the files, (z, y, x).
        stored: probabilities of the structure, uint8 (z, y, x).
        truth: bool (z, y, x).
    """

    name: str
    image: Bytes
    stored: Bytes
    truth: NDArray[np.bool_]


def scored(data: Path, work: Path, name: str) -> Scored:
    """Train and predict, unless that was done in WORK; returns the scored half."""
    whole = split(data, work, name)
    folder = work / "clicks" / name
    path = folder / "probabilities.zarr"
    if not path.exists():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        if SOURCES[name]:
            source = split(data, work, SOURCES[name])
            method, pair = "auto", (source.image, source.truth)
        else:
            image, labels, _ = whole.labelled(folder, LABELLED, SEED)
            method, pair = "source_only", (image, labels)
        _train(folder / "project", method, pair, whole.image, whole.flags, text(whole.learnt))
        part = folder / "part.zarr"
        emda("predict", folder / "project", "--box", text(whole.scored), "--out", part)
        part.rename(path)
    stored: Any = zarr.open(path, mode="r")
    array = stored if isinstance(stored, zarr.Array) else stored["0"]
    predicted = _in_box(np.asarray(array), whole.scored)
    # As the dock shows the map of a network whose pixels are larger than the volume's.
    times = DATA[name].binning
    predicted = ndimage.zoom(predicted, (1, times, times), order=1, grid_mode=True, mode="nearest")
    image, truth = (
        _at_full_size(data, file, DATA[name], whole.scored)
        for file in (DATA[name].image, DATA[name].labels)
    )
    return Scored(name, image, predicted, truth > 0)


def _at_full_size(data: Path, file: str, entry: Data, box: Box) -> Bytes:
    """The scored part of a file before it was binned."""
    array = tifffile.imread(data / file)
    if entry.fields:
        array = np.concatenate([array[::2], array[1::2]])
    z0, z1, *sides = box.bounds
    y0, y1, x0, x1 = (entry.binning * side for side in sides)
    return np.asarray(array[z0:z1, y0:y1, x0:x1])


def _train(
    project: Path,
    method: str,
    source: tuple[Path, Path],
    target: Path,
    flags: tuple[str, ...],
    learnt: str,
) -> None:
    protocol = PROTOCOLS["p2"]
    pair = ("--source", *source, "--target", target)
    emda("new", project, *pair, "--classes", *CLASSES, *flags)
    wanted = (*protocol.settings, f"target_box={learnt}")
    settings = [part for setting in wanted for part in ("--set", setting)]
    length = ("--profile", protocol.profile, "--steps", str(STEPS), "--seed", str(SEED))
    emda("train", project, "--method", method, *length, *settings)


def _in_box(array: NDArray[Any], box: Box) -> Bytes:
    """The first class in a box, of an array with or without an axis of classes."""
    volume = array if array.ndim == 3 else array[0]
    return np.asarray(volume if volume.shape == box.shape else volume[box.slices], np.uint8)
