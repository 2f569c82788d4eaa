"""From the layers that the user chose to a project: checks first, then files. No Qt."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from napari.layers import Image, Labels
from numpy.typing import NDArray

from napari_emda._gui.adapters import Triple, array_of, check_fit, path_of, refusal
from napari_emda.data.checks import check_image, check_labels, check_spacing
from napari_emda.data.volume import Array, Domain, LabelsZero
from napari_emda.errors import DataError
from napari_emda.project import Project
from napari_emda.project_file import VolumeEntry

FACTOR = 2
"""Pixel sizes that differ by more are pointed out."""


@dataclass(frozen=True)
class Pick:
    """One volume as the user chose it."""

    image: Image
    domain: Domain
    spacing: Triple | None
    labels: Labels | None = None
    labels_zero: LabelsZero = "background"


class Stoppable:
    """An array whose reading ends with a DataError once ``stop`` is set, so that no check outlives its viewer."""

    def __init__(self, array: Array, stop: threading.Event) -> None:
        self._array, self._stop = array, stop
        self.shape, self.dtype = tuple(array.shape), np.dtype(array.dtype)

    def __getitem__(self, key: Any) -> Any:
        if self._stop.is_set():
            raise DataError("Reading was stopped: start it again.")
        return self._array[key]


def check(picks: Sequence[Pick], classes: Sequence[str], stop: threading.Event) -> None:
    """DataError for the first thing that cannot be used; reads the layers, writes nothing."""
    if len(classes) < 2 or len(set(classes)) != len(classes) or not all(classes):
        raise DataError(
            "The classes need at least two different names, the background first: type for example "
            "'background, mitochondria'."
        )
    images = [pick.image for pick in picks]
    if len(set(map(id, images))) < len(images):
        raise DataError(f"'{images[0].name}' is both source and target: choose two different images.")
    source, target = picks[0], picks[1] if len(picks) > 1 else None
    if source.labels is not None:
        check_fit(source.image, source.labels, target.image if target else None)
    for pick in picks:
        for layer in (pick.image, pick.labels):
            if layer is not None and (why := refusal(layer)):
                raise DataError(f"'{layer.name}' {why}.")
        name = pick.image.name
        if pick.spacing is None:
            raise DataError(f"The voxel size of '{name}' is missing: type three numbers above 0, z y x in nm.")
        check_spacing(name, pick.spacing)
        array = array_of(pick.image)
        if pick.labels is not None:
            check_labels(name, Stoppable(array_of(pick.labels), stop), array.shape, len(classes))
        check_image(name, Stoppable(array, stop))


@contextmanager
def _removed_on_failure(project: Project) -> Iterator[None]:
    try:
        yield
    except BaseException:
        shutil.rmtree(project.folder / "volumes", ignore_errors=True)
        raise


def store(project: Project, picks: Sequence[Pick], stop: threading.Event) -> list[VolumeEntry]:
    """Entries for the project; what lived in memory alone is written into its folder."""
    entries: list[VolumeEntry] = []
    with _removed_on_failure(project):
        for pick in picks:
            taken = [entry.name for entry in (*project.entries, *entries)]
            name = free_name(pick.image.name, taken)
            image = path_of(pick.image) or _stored(project, name, array_of(pick.image), stop)
            labels = None
            if pick.labels is not None:
                labels = path_of(pick.labels) or _stored(project, f"{name}-labels", array_of(pick.labels), stop)
            entries.append(
                project.checked(
                    image,
                    pick.domain,
                    labels=labels,
                    name=name,
                    spacing=pick.spacing,
                    labels_zero=pick.labels_zero,
                )
            )
    return entries


def _stored(project: Project, name: str, array: Array, stop: threading.Event) -> Path:
    voxels: Any = Stoppable(array, stop)
    return project.store(name, voxels)


def free_name(name: str, taken: Sequence[str]) -> str:
    """A layer's name, with a number when it is taken."""
    free, count = name, 2
    while free in taken:
        free, count = f"{name} {count}", count + 1
    return free


def proposed_folder(layers: Sequence[Image | None]) -> Path:
    """A new folder beside the target's or the source's file where that can be written, else in the home folder."""
    parents = [Path(layer.source.path).parent for layer in layers if layer is not None and layer.source.path]
    parent = next((p for p in parents if p.is_dir() and os.access(p, os.W_OK)), Path.home() / "napari-emda")
    count = 1
    while (parent / f"emda-project-{count}").exists():
        count += 1
    return parent / f"emda-project-{count}"


def size_remark(source: Triple | None, target: Triple | None) -> str:
    """What is to be said about the two voxel sizes; empty when all is well."""
    missing = [name for name, size in (("source", source), ("target", target)) if size is None]
    if missing:
        whose = " and ".join(f"the {name}" for name in missing)
        return f"The voxel size of {whose} is not known: type it, in nm."
    assert source is not None
    assert target is not None
    ours, theirs = min(source[1:]), min(target[1:])
    factor = max(ours, theirs) / min(ours, theirs)
    if factor > FACTOR:
        return (
            f"The source has {ours:g} nm pixels, the target {theirs:g} nm: a factor of {factor:.2g}. Check both "
            f"numbers; if they are right, training brings both to {max(ours, theirs):g} nm."
        )
    return ""


def domain_gap(source: Array, target: Array) -> tuple[float, float]:
    """How far apart two images look, from a few sections: distance of grey-value histograms, ratio of sharpness.

    The first is the area between the sorted standardised grey values (0: the same histogram, 1: nothing alike); the
    second how much stronger edges are, relative to contrast, in the one than in the other (1: equal).
    """
    values = [_standardised(array) for array in (source, target)]
    points = np.linspace(0.005, 0.995, 199)
    curves = [np.quantile(value, points) for value in values]
    edges = [float(np.mean([np.abs(np.diff(value, axis=axis)).mean() for axis in (-1, -2)])) for value in values]
    ratio = max(edges) / max(min(edges), 1e-6)
    return float(np.abs(curves[0] - curves[1]).mean()), ratio


def _standardised(array: Array) -> NDArray[np.float32]:
    sections = sorted({round(z) for z in np.linspace(0, array.shape[0] - 1, 3)})
    middle = tuple(slice(max(0, (n - 512) // 2), max(0, (n - 512) // 2) + 512) for n in array.shape[1:])
    values = np.stack([np.asarray(array[(z, *middle)], np.float32) for z in sections])
    return (values - values.mean()) / max(float(values.std()), 1e-6)


def gap_in_words(histogram: float, sharpness: float) -> str:
    """The domain gap as a sentence."""
    score = histogram / 0.15 + (sharpness - 1) / 0.5
    size = "small" if score < 1 else "moderate" if score < 2.5 else "large"
    advice = {
        "small": "a model of the source may do well as it is",
        "moderate": "adaptation should help",
        "large": "adapt, and expect to annotate some patches",
    }[size]
    return (
        f"Domain gap: {size} (grey values differ by {histogram:.2f} of their spread, edges are {sharpness:.1f} "
        f"times as sharp in one) – {advice}."
    )
