"""From chosen layers to the volumes of a project: checks first, then files. No Qt."""

from __future__ import annotations

import itertools
import os
import shutil
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from napari.layers import Image, Labels

from napari_emda._gui.common.adapters import check_fit
from napari_emda._gui.common.label_placement import labels_on, labels_to_learn
from napari_emda._gui.common.layer_volumes import (
    Triple,
    array_of,
    file_of,
    not_a_volume,
    numbers_of,
    palette_numbers,
    path_of,
    refusal,
    source_of,
)
from napari_emda.data.array import Array
from napari_emda.data.label_meaning import LabelMeaning
from napari_emda.data.volume import Domain
from napari_emda.errors import DataError
from napari_emda.io.checks import check_image, check_labels, check_spacing, file_notices
from napari_emda.project.file import VolumeEntry
from napari_emda.project.project import Project


@dataclass(frozen=True)
class Pick:
    """One volume as the user chose it."""

    image: Image
    domain: Domain
    spacing: Triple | None
    labels: Labels | Image | None = None
    meaning: LabelMeaning = field(default_factory=LabelMeaning)
    sections_are_independent: bool = False


class Stoppable:
    """An array that raises DataError once ``stop`` is set, so that no check outlives the viewer."""

    def __init__(self, array: Array, stop: threading.Event) -> None:
        self._array = array
        self._stop = stop
        self.shape = tuple(array.shape)
        self.dtype = np.dtype(array.dtype)

    def __getitem__(self, key: Any) -> Any:
        if self._stop.is_set():
            raise DataError("Reading was stopped: start it again.")
        return self._array[key]


def check(picks: Sequence[Pick], classes: Sequence[str], stop: threading.Event) -> None:
    """Raise DataError for the first layer or name that cannot be used; writes nothing."""
    if len(classes) < 2 or len(set(classes)) != len(classes) or not all(classes):
        raise DataError(
            "The classes need at least two different names, the background first: type for example "
            "'background, mitochondria'."
        )
    # Before the volumes are read, which takes longest.
    images = [pick.image for pick in picks]
    if len(set(map(id, images))) < len(images):
        raise DataError(
            f"'{images[0].name}' is both source and target: choose two different images."
        )
    # The source comes first; a target may be alone.
    source = picks[0]
    target = picks[1] if len(picks) > 1 else None
    if source.labels is not None:
        check_fit(source.image, source.labels, target.image if target else None)
    for pick in picks:
        check_pick(pick, len(classes), stop)


def check_pick(pick: Pick, classes: int, stop: threading.Event) -> None:
    """Raise DataError if a volume cannot be used as it was chosen."""
    for layer in (pick.image, pick.labels):
        # The colours of labels do not matter where the file has their numbers.
        if layer is None or (layer is pick.labels and palette_numbers(layer) is not None):
            continue
        if why := refusal(layer):
            raise DataError(f"'{layer.name}' {why}.")
    name = pick.image.name
    # Also of a layer that napari has put together in another order than this package would.
    stored = file_of(pick.image)
    if stored is not None:
        file_notices(stored, pick.sections_are_independent)
    elif not pick.sections_are_independent and (why := not_a_volume(pick.image)):
        raise DataError(why)
    if pick.spacing is None:
        independent = pick.sections_are_independent
        axes = "two numbers above 0, y x" if independent else "three numbers above 0, z y x"
        raise DataError(f"The voxel size of '{name}' is missing: type {axes} in nm.")
    check_spacing(name, pick.spacing)
    array = array_of(pick.image)
    if pick.labels is not None:
        numbers = Stoppable(numbers_of(pick.labels), stop)
        # Labels on other voxels are checked as they are; that they fit the image is said here.
        moved = labels_on(pick.image, pick.labels) is not None
        shape = numbers.shape if moved else array.shape
        check_labels(name, numbers, shape, classes, meaning=pick.meaning)
    # Last, because float images are read completely.
    check_image(name, Stoppable(array, stop))


@contextmanager
def _removed_on_failure(project: Project) -> Iterator[None]:
    folder = project.folder / "volumes"
    before = set(folder.glob("*"))
    try:
        yield
    except BaseException:
        # Only what was written here: the project may hold volumes already.
        for path in set(folder.glob("*")) - before:
            shutil.rmtree(path, ignore_errors=True)
        if not before:
            shutil.rmtree(folder, ignore_errors=True)
        raise


def store(project: Project, picks: Sequence[Pick], stop: threading.Event) -> list[VolumeEntry]:
    """Write layers that exist in memory only into the project; return the entries of all volumes.

    Args:
        project: gets the files, but not yet the entries.
        picks: the volumes.
        stop: set to stop; nothing stays behind then.

    Raises:
        DataError: a volume cannot be used, or ``stop`` was set.
    """
    entries: list[VolumeEntry] = []
    with _removed_on_failure(project):
        for pick in picks:
            taken = [entry.name for entry in (*project.volumes.entries, *entries)]
            name = free_name(pick.image.name, taken)
            # Files are referenced, not copied: they may be as large as the disk.
            image = path_of(pick.image) or _stored(project, name, array_of(pick.image), stop)
            labels, meaning = _labels(project, name, pick, stop)
            entries.append(
                project.volumes.checked(
                    image,
                    pick.domain,
                    labels=labels,
                    name=name,
                    spacing=pick.spacing,
                    labels_meaning=meaning,
                    sections_are_independent=pick.sections_are_independent,
                )
            )
    return entries


def _labels(
    project: Project, name: str, pick: Pick, stop: threading.Event
) -> tuple[Path | None, LabelMeaning | None]:
    """The file with the labels of a volume and the meaning of its numbers; None without labels."""
    if pick.labels is None:
        return None, None
    labels, meaning = labels_to_learn(pick.image, pick.labels, pick.meaning, len(project.classes))
    # A file is used as it is, unless its labels lie on other voxels.
    path = None if labels_on(pick.image, pick.labels) is not None else path_of(pick.labels)
    return path or _stored(project, f"{name}-labels", labels, stop), meaning


def _stored(project: Project, name: str, array: Array, stop: threading.Event) -> Path:
    voxels: Any = Stoppable(array, stop)
    return project.volumes.store(name, voxels)


def free_name(name: str, taken: Sequence[str]) -> str:
    """A layer's name, with a number if it is taken."""
    numbered = (f"{name} {number}" for number in itertools.count(2))
    return next(free for free in itertools.chain([name], numbered) if free not in taken)


def proposed_folder(layers: Sequence[Image | None]) -> Path:
    """A new folder beside target or source if that is writable, otherwise in the home folder."""
    parents = [
        Path(path).parent
        for layer in layers
        if layer is not None and (path := source_of(layer)) is not None
    ]
    parent = next(
        (p for p in parents if p.is_dir() and os.access(p, os.W_OK)), Path.home() / "napari-emda"
    )
    # Numbered: a volume may be used in several projects.
    count = 1
    while (parent / f"emda-project-{count}").exists():
        count += 1
    return parent / f"emda-project-{count}"


def empty_folder(chosen: Path) -> Path:
    """The folder itself if it is empty, otherwise one in it: a project needs an empty folder."""
    return chosen / "emda-project" if any(chosen.iterdir()) else chosen


def in_words(project: Project) -> str:
    """Volumes and number of models of a project, as a sentence."""
    volumes = [
        ", ".join(e.name for e in project.volumes.entries if e.domain == domain)
        for domain in ("source", "target")
    ]
    count = len(project.runs.names())
    trained = f"{count} model{'' if count == 1 else 's'} trained"
    return f"Project {project.folder.name}: {' → '.join(filter(None, volumes))}; {trained}."
