"""A project's folder: its lock, volumes, annotations and runs as they lie on disk."""

from __future__ import annotations

import os
import re
import uuid
from pathlib import Path
from typing import Any, Self

import numpy as np
import zarr
from filelock import FileLock, Timeout
from numpy.typing import NDArray

from napari_emda.data.volume import Domain, LabelsZero, Volume
from napari_emda.data.voxel_grid import Spacing
from napari_emda.errors import DataError, JobError
from napari_emda.io.atomic import write_text
from napari_emda.io.checks import check_image, check_labels, check_spacing
from napari_emda.io.read import open_image, open_labels
from napari_emda.project.annotations import Annotations
from napari_emda.project.file import ProjectFile, VolumeEntry, read_project_file
from napari_emda.project.run_folder import RUNS, RunFolder, run_number
from napari_emda.registry import did_you_mean


class ProjectFolder:
    """A folder with a project; what it holds is on disk after every call."""

    def __init__(self, folder: Path, file: ProjectFile, lock: FileLock | None) -> None:
        self.folder, self._file, self._lock = folder, file, lock
        self._annotations = Annotations(folder / "annotations")

    # -- the folder ----------------------------------------------------------------------------------------------

    @classmethod
    def create(
        cls, folder: str | Path, classes: tuple[str, ...] = ("background", "foreground")
    ) -> Self:
        """Make a new project folder, opened exclusively; JobError when there is something in it already."""
        folder = Path(folder).expanduser().absolute()
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise JobError(
                f"'{folder}' exists and is not empty: choose a new folder for the project."
            )
        if len(classes) < 2 or len(set(classes)) != len(classes):
            raise JobError(
                "A project needs at least two classes with different names: background comes first."
            )
        try:
            folder.mkdir(parents=True, exist_ok=True)
            project = cls(folder, ProjectFile(classes=classes), _lock(folder))
            project._write()
        except OSError as error:
            raise JobError(
                f"The project folder '{folder}' cannot be written ({error.strerror}): choose another."
            ) from None
        return project

    @classmethod
    def open(cls, folder: str | Path, *, exclusive: bool = False) -> Self:
        """Open a project folder; JobError when it is none, is newer than this program, or is open elsewhere."""
        folder = Path(folder).expanduser().absolute()
        path = folder / "project.json"
        if not path.is_file():
            raise JobError(
                f"'{folder}' is not a project (it has no project.json): make one with 'napari-emda new'."
            )
        lock = _lock(folder) if exclusive else None
        try:
            return cls(folder, read_project_file(path), lock)
        except BaseException:
            if lock is not None:
                lock.release()
            raise

    def close(self) -> None:
        """Give the lock back."""
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _write(self) -> None:
        write_text(self.folder / "project.json", self._file.model_dump_json(indent=2) + "\n")

    def _change(self, **values: Any) -> None:
        self._file = self._file.model_copy(update=values)
        self._write()

    # -- volumes -------------------------------------------------------------------------------------------------

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, background first."""
        return self._file.classes

    @property
    def entries(self) -> tuple[VolumeEntry, ...]:
        """What is known of the volumes, without opening them."""
        return self._file.volumes

    def add_volume(
        self,
        image: str | Path,
        domain: Domain,
        *,
        labels: str | Path | None = None,
        name: str | None = None,
        spacing: Spacing | None = None,
        labels_zero: LabelsZero = "background",
        sections_are_independent: bool = False,
    ) -> VolumeEntry:
        """Check a volume and add it; nothing changes when the check fails.

        Args:
            image: TIFF, zarr or a folder of sections.
            labels: the same kinds, or None.
            domain: ``source`` or ``target``.
            name: by default the image's file name.
            spacing: voxel size z, y, x in nm; by default what the image's file says.
            labels_zero: what 0 means in ``labels``.
            sections_are_independent: see `data.voxel_grid.VoxelGrid`.

        Raises:
            DataError: see `napari_emda.io.checks`.
        """
        kept: dict[str, Any] = {
            "labels": labels,
            "name": name,
            "spacing": spacing,
            "labels_zero": labels_zero,
            "sections_are_independent": sections_are_independent,
        }
        return self.add(self.checked(image, domain, **kept))

    def add(self, entry: VolumeEntry) -> VolumeEntry:
        """Add an entry that `checked` has made."""
        self._change(volumes=(*self._file.volumes, entry))
        return entry

    def checked(
        self,
        image: str | Path,
        domain: Domain,
        *,
        labels: str | Path | None = None,
        name: str | None = None,
        spacing: Spacing | None = None,
        labels_zero: LabelsZero = "background",
        sections_are_independent: bool = False,
    ) -> VolumeEntry:
        """The entry `add_volume` would add, without adding it."""
        stored = open_image(Path(image))
        name = self._free_name(name or Path(image).name.split(".")[0])
        spacing = check_spacing(name, spacing or stored.nanometres)
        check_image(name, stored.array)
        if labels is not None:
            given = open_labels(Path(labels)).array
            check_labels(name, given, stored.array.shape, len(self.classes), labels_zero)
        return VolumeEntry(
            name=name,
            domain=domain,
            image=self._relative(image),
            spacing=spacing,
            labels_zero=labels_zero,
            sections_are_independent=sections_are_independent,
            labels=None if labels is None else self._relative(labels),
        )

    def _free_name(self, name: str) -> str:
        name = re.sub(r"[^\w.-]+", "_", name).strip("._") or "volume"
        taken, free, count = {entry.name for entry in self.entries}, name, 2
        while free in taken:
            free, count = f"{name}_{count}", count + 1
        return free

    def _relative(self, path: str | Path) -> str:
        path = Path(path).expanduser().absolute()
        if path.is_relative_to(self.folder.parent):  # beside the project: the two move together
            return Path(os.path.relpath(path, self.folder)).as_posix()
        return str(path)

    def _path(self, path: str) -> Path:
        return Path(os.path.normpath(self.folder / path))

    def store(self, name: str, array: NDArray[Any]) -> Path:
        """Keep an array that lived in memory alone under ``volumes/``; returns its path."""
        path = self.folder / "volumes" / f"{self._free_name(name)}-{uuid.uuid4().hex[:6]}.zarr"
        chunks = (1, min(array.shape[1], 1024), min(array.shape[2], 1024))
        store = zarr.create_array(path, shape=array.shape, dtype=array.dtype, chunks=chunks)
        for z in range(array.shape[0]):
            store[z] = np.asarray(array[z])
        return path

    def entry(self, name: str) -> VolumeEntry:
        """What is known of a volume; JobError when there is none of that name."""
        for entry in self.entries:
            if entry.name == name:
                return entry
        raise JobError(
            f"There is no volume '{name}'. {did_you_mean(name, [e.name for e in self.entries])}"
        )

    def volume(self, name: str) -> Volume:
        """A volume with its labels and annotations, opened lazily; DataError when a file is gone or was changed."""
        entry = self.entry(name)
        image = open_image(self._path(entry.image)).array
        labels = None if entry.labels is None else open_labels(self._path(entry.labels)).array
        annotations = self.annotations(name)
        if labels is not None and tuple(labels.shape) != tuple(image.shape):
            raise DataError(
                f"The labels of '{name}' no longer have the shape of the image: put the old file back."
            )
        return Volume(
            name=name,
            image=image,
            domain=entry.domain,
            grid=entry.grid,
            labels=labels,
            labels_zero=entry.labels_zero,
            annotations=annotations,
            annotated=self._annotations.painted(name),
            classes=len(self.classes),
        )

    def volumes(self, domain: Domain | None = None) -> list[Volume]:
        """All volumes, or those of a domain."""
        return [self.volume(entry.name) for entry in self.entries if domain in (None, entry.domain)]

    def targets(self) -> list[VolumeEntry]:
        """The volumes that are to be segmented."""
        return [entry for entry in self.entries if entry.domain == "target"]

    def target(self) -> VolumeEntry:
        """The first target; JobError when there is none."""
        if not self.targets():
            raise JobError(
                "The project has no target volume: add the image that is to be segmented."
            )
        return self.targets()[0]

    def annotations(self, name: str, *, create: bool = False) -> zarr.Array[Any] | None:
        """uint8 (z, y, x) annotations of a volume, 0 = not annotated, k = class k - 1; None when there are none yet."""
        if not create:
            return self._annotations.open(name)
        return self._annotations.create(
            name, open_image(self._path(self.entry(name).image)).array.shape
        )

    # -- runs ----------------------------------------------------------------------------------------------------

    def new_run(self, method: str) -> RunFolder:
        """Make the next run's folder, ``runs/003-ynet``."""
        runs = self.folder / RUNS
        runs.mkdir(exist_ok=True)
        while True:
            numbers = [run_number(path.name) or 0 for path in runs.iterdir()]
            folder = runs / f"{max(numbers, default=0) + 1:03d}-{method}"
            try:
                folder.mkdir()
                return RunFolder(folder)
            except FileExistsError:  # another process was faster
                continue

    def runs(self) -> list[str]:
        """Names of the runs that have a model, oldest first."""
        folders = [RunFolder(path) for path in (self.folder / RUNS).glob("*")]
        trained = [run for run in folders if run.checkpoint.is_file()]
        return [run.name for run in sorted(trained, key=lambda run: run.order)]

    def run(self, name: str | None = None) -> RunFolder:
        """The folder of a run with a model, by default of the latest; JobError when there is none."""
        runs = self.runs()
        if not runs:
            raise JobError("The project has no trained model yet: train one first.")
        if name is not None and name not in runs:
            raise JobError(f"There is no run '{name}' with a model. {did_you_mean(name, runs)}")
        return RunFolder.of(self.folder, name or runs[-1])


def _lock(folder: Path) -> FileLock:
    lock = FileLock(folder / ".lock", timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise JobError(f"The project '{folder}' is open elsewhere: close it there first.") from None
    except OSError as error:
        raise JobError(
            f"The project '{folder}' cannot be written ({error.strerror}): copy it to a folder that can."
        ) from None
    return lock
