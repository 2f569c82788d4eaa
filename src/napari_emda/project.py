"""The project: a folder of plain files, the only thing that changes."""

from __future__ import annotations

import json
import os
import re
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import zarr
from filelock import FileLock, Timeout
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError

from napari_emda.data.checks import check_image, check_labels, check_spacing
from napari_emda.data.files import open_image, open_labels
from napari_emda.data.volume import Box, Domain, LabelsZero, Volume
from napari_emda.errors import DataError, JobError
from napari_emda.registry import did_you_mean

FORMAT = 1
CHUNK = 256
State = Literal["suggested", "accepted", "partial", "skipped", "replaced"]
"""``replaced``: nobody decided on it before the next suggestions came; it may be suggested again."""


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class VolumeEntry(_Model):
    """One volume of a project: where it lies and what its voxels are.

    Paths of files in the project or beside it are relative to its folder, so that all can be moved together.
    """

    name: str
    domain: Domain
    image: str
    labels: str | None = None
    labels_zero: LabelsZero = "background"
    spacing: tuple[float, float, float]
    unit: str = "nm"


class ProjectFile(_Model):
    """What ``project.json`` holds."""

    format: int = FORMAT
    classes: tuple[str, ...]
    volumes: tuple[VolumeEntry, ...] = ()


class Region(_Model):
    """A patch of a volume that was suggested or annotated; ``box`` is z0:z1,y0:y1,x0:x1 in voxels."""

    id: str
    volume: str
    box: str
    state: State = "suggested"
    score: float = 0.0
    strategy: str = ""
    run: str = ""
    round: int = 0
    time: float = 0.0

    @property
    def voxels(self) -> Box:
        """The box as numbers."""
        bounds = [int(v) for part in self.box.split(",") for v in part.split(":")]
        return Box.from_bounds(bounds)


class Project:
    """A project folder; what it holds is on disk after every call.

    Open it with `create` or `open`, best in a ``with`` block. Opened ``exclusive``, it cannot be opened so a second
    time, here or elsewhere, until closed; the lock ends with the process that holds it.
    """

    def __init__(self, folder: Path, file: ProjectFile, lock: FileLock | None) -> None:
        self.folder, self._file, self._lock = folder, file, lock

    # -- the folder ----------------------------------------------------------------------------------------------

    @classmethod
    def create(cls, folder: str | Path, classes: tuple[str, ...] = ("background", "foreground")) -> Self:
        """Make a new project folder, opened exclusively; JobError when there is something in it already."""
        folder = Path(folder).expanduser().absolute()
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise JobError(f"'{folder}' exists and is not empty: choose a new folder for the project.")
        if len(classes) < 2 or len(set(classes)) != len(classes):
            raise JobError("A project needs at least two classes with different names: background comes first.")
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
            raise JobError(f"'{folder}' is not a project (it has no project.json): make one with 'napari-emda new'.")
        lock = _lock(folder) if exclusive else None
        try:
            return cls(folder, _read(path), lock)
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
        spacing: tuple[float, float, float] | None = None,
        labels_zero: LabelsZero = "background",
    ) -> VolumeEntry:
        """Check a volume and add it; nothing changes when the check fails.

        Args:
            image: TIFF, zarr or a folder of sections.
            labels: the same kinds, or None.
            domain: ``source`` or ``target``.
            name: by default the image's file name.
            spacing: voxel size z, y, x in nm; by default what the image's file says.
            labels_zero: what 0 means in ``labels``.

        Raises:
            DataError: see `napari_emda.data.checks`.
        """
        entry = self.checked(image, domain, labels=labels, name=name, spacing=spacing, labels_zero=labels_zero)
        return self.add(entry)

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
        spacing: tuple[float, float, float] | None = None,
        labels_zero: LabelsZero = "background",
    ) -> VolumeEntry:
        """The entry `add_volume` would add, without adding it."""
        stored = open_image(Path(image))
        name = self._free_name(name or Path(image).name.split(".")[0])
        spacing = check_spacing(name, spacing or (stored.spacing if stored.unit == "nm" else None))
        check_image(name, stored.array)
        if labels is not None:
            check_labels(name, open_labels(Path(labels)).array, stored.array.shape, len(self.classes))
        return VolumeEntry(
            name=name,
            domain=domain,
            image=self._relative(image),
            spacing=spacing,
            labels_zero=labels_zero,
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
        raise JobError(f"There is no volume '{name}'. {did_you_mean(name, [e.name for e in self.entries])}")

    def volume(self, name: str) -> Volume:
        """A volume with its labels and annotations, opened lazily; DataError when a file is gone or was changed."""
        entry = self.entry(name)
        image = open_image(self._path(entry.image)).array
        labels = None if entry.labels is None else open_labels(self._path(entry.labels)).array
        annotations = self.annotations(name)
        if labels is not None and tuple(labels.shape) != tuple(image.shape):
            raise DataError(f"The labels of '{name}' no longer have the shape of the image: put the old file back.")
        return Volume(
            name=name,
            image=image,
            domain=entry.domain,
            spacing=entry.spacing,
            unit=entry.unit,
            labels=labels,
            labels_zero=entry.labels_zero,
            annotations=annotations,
            annotated=() if annotations is None else tuple(self._painted(name, annotations)),
            classes=len(self.classes),
        )

    def volumes(self, domain: Domain | None = None) -> list[Volume]:
        """All volumes, or those of a domain."""
        return [self.volume(entry.name) for entry in self.entries if domain in (None, entry.domain)]

    def target(self) -> VolumeEntry:
        """The first target; JobError when there is none."""
        for entry in self.entries:
            if entry.domain == "target":
                return entry
        raise JobError("The project has no target volume: add the image that is to be segmented.")

    # -- annotations ---------------------------------------------------------------------------------------------

    def annotations(self, name: str, *, create: bool = False) -> zarr.Array[Any] | None:
        """uint8 (z, y, x) annotations of a volume, 0 = not annotated, k = class k - 1; None when there are none yet."""
        path = self.folder / "annotations" / f"{name}.zarr"
        if path.exists():
            return zarr.open_array(path, mode="r+" if create else "r")
        if not create:
            return None
        shape = open_image(self._path(self.entry(name).image)).array.shape
        return zarr.create_array(
            path, shape=shape, dtype="uint8", chunks=(1, min(CHUNK, shape[1]), min(CHUNK, shape[2])), fill_value=0
        )

    def _painted(self, name: str, array: zarr.Array[Any]) -> Iterator[Box]:
        """The chunks that were ever painted in: those that have a file."""
        for path in (self.folder / "annotations" / f"{name}.zarr").glob("c/*/*/*"):
            corner = [int(part) * n for part, n in zip(path.parts[-3:], array.chunks, strict=True)]
            stop = [a + n for a, n in zip(corner, array.chunks, strict=True)]
            yield Box(tuple(corner), tuple(stop)).clip(array.shape)  # type: ignore[arg-type]

    def annotate(self, region: Region, values: NDArray[Any] | None = None, *, complete: bool = True) -> Region:
        """Accept a region, on disk when this returns.

        Args:
            region: what was annotated.
            values: class ids + 1 (0 = not annotated) of the region's shape to write; by default what was painted.
            complete: what is not painted becomes background; else it stays not annotated.
        """
        array = self.annotations(region.volume, create=True)
        assert array is not None
        box = region.voxels
        painted = np.asarray(array[box.slices]) if values is None else np.asarray(values, dtype=np.uint8)
        if complete:
            painted = np.where(painted == 0, 1, painted)
        array[box.slices] = painted.astype(np.uint8)
        _sync(self.folder / "annotations" / f"{region.volume}.zarr", box, array.chunks)
        return self.record(region.model_copy(update={"state": "accepted" if complete else "partial"}))

    def annotate_from(self, labels: str | Path, volume: str, state: State = "suggested") -> list[Region]:
        """Take all regions of a volume in a state from a label image, 0 = background, k = class k."""
        array = open_labels(Path(labels)).array
        check_labels(volume, array, self.volume(volume).shape, len(self.classes))
        wanted = [region for region in self.regions() if region.state == state and region.volume == volume]
        truth = Volume("labels", array, "target", (1, 1, 1), labels=array, classes=len(self.classes))
        return [self.annotate(region, truth.read_labels(region.voxels) + 1) for region in wanted]

    # -- regions -------------------------------------------------------------------------------------------------

    def regions(self) -> list[Region]:
        """All regions in their latest state, in the order in which they were first suggested."""
        path = self.folder / "regions.jsonl"
        latest: dict[str, Region] = {}
        for line in path.read_text("utf-8", "replace").splitlines() if path.exists() else []:
            try:
                region = Region.model_validate_json(line)
            except ValidationError:
                continue  # the last line of a computer that lost power while it was written
            latest[region.id] = region
        return list(latest.values())

    def record(self, region: Region) -> Region:
        """Append a region's new state."""
        region = region.model_copy(update={"time": time.time()})
        path = self.folder / "regions.jsonl"
        with path.open("a", encoding="utf-8") as file:
            if file.tell() and not path.read_bytes().endswith(b"\n"):
                file.write("\n")
            file.write(region.model_dump_json() + "\n")
            file.flush()
            os.fsync(file.fileno())
        return region

    def suggest(self, regions: list[dict[str, Any]], strategy: str, run: str) -> list[Region]:
        """Record suggestions (``volume``, ``box``, ``score`` each) as the next round; replaces those still open."""
        for region in self.regions():
            if region.state == "suggested":
                self.record(region.model_copy(update={"state": "replaced"}))
        number = self.round + 1
        return [
            self.record(Region(id=uuid.uuid4().hex[:12], strategy=strategy, run=run, round=number, **region))
            for region in regions
        ]

    @property
    def round(self) -> int:
        """Number of the latest round of suggestions, 0 before the first."""
        return max((region.round for region in self.regions()), default=0)

    # -- runs ----------------------------------------------------------------------------------------------------

    def new_run(self, method: str) -> Path:
        """Make the next run's folder, ``runs/003-ynet``."""
        runs = self.folder / "runs"
        runs.mkdir(exist_ok=True)
        while True:
            numbers = [int(path.name[:3]) for path in runs.iterdir() if re.match(r"\d{3}-", path.name)]
            folder = runs / f"{max(numbers, default=0) + 1:03d}-{method}"
            try:
                folder.mkdir()
                return folder
            except FileExistsError:  # another process was faster
                continue

    def runs(self) -> list[str]:
        """Names of the runs that have a model, oldest first."""
        return sorted(path.parent.name for path in self.folder.glob("runs/*/checkpoint.safetensors"))

    def run(self, name: str | None = None) -> Path:
        """The folder of a run with a model, by default of the latest; JobError when there is none."""
        runs = self.runs()
        if not runs:
            raise JobError("The project has no trained model yet: train one first.")
        if name is None:
            return self.folder / "runs" / runs[-1]
        if name not in runs:
            raise JobError(f"There is no run '{name}' with a model. {did_you_mean(name, runs)}")
        return self.folder / "runs" / name


def check_pair(
    source: tuple[str | Path, str | Path],
    target: str | Path | None,
    classes: tuple[str, ...],
    spacing: tuple[float, float, float] | None = None,
    target_spacing: tuple[float, float, float] | None = None,
) -> list[str]:
    """Check the files of a new project before anything is made; DataError with one sentence.

    Labels that fit the target but not the source mean that the two were swapped.

    Returns:
        What the user should know although it is no mistake, a sentence each.
    """
    image, labels = open_image(Path(source[0])), open_labels(Path(source[1]))
    other = None if target is None else open_image(Path(target))
    shape = tuple(labels.array.shape)
    if other is not None and shape == tuple(other.array.shape) != tuple(image.array.shape):
        raise DataError(
            "The labels fit the target and not the source: swap source and target, the source has the labels."
        )
    pairs = [(source[0], image, spacing)] + ([(target, other, target_spacing)] if target and other else [])
    for path, stored, given in pairs:
        name = Path(path).name
        check_spacing(name, given or (stored.spacing if stored.unit == "nm" else None))
        check_image(name, stored.array)
    name = Path(source[1]).name
    values = check_labels(Path(source[0]).name, labels.array, image.array.shape, len(classes))
    if len(classes) == 2 and len(values) > 2:
        return [
            f"The labels {name} hold {len(values)} different values, and all above 0 count as '{classes[1]}': name "
            "more classes with --classes if they are classes, and choose another file if they are grey values."
        ]
    return []


def _read(path: Path) -> ProjectFile:
    try:
        values = json.loads(path.read_text("utf-8"))
        version = values["format"]
    except (OSError, ValueError, KeyError, TypeError):
        raise JobError(f"'{path}' is damaged: restore it from a backup.") from None
    if not isinstance(version, int) or version > FORMAT:
        raise JobError(
            f"The project '{path.parent}' has format {version}, this program knows formats up to {FORMAT}: update "
            "napari-emda."
        )
    try:
        return ProjectFile.model_validate(values)
    except ValidationError as error:
        place = ".".join(str(part) for part in error.errors()[0]["loc"])
        raise JobError(f"'{path}' is damaged at '{place}': restore it from a backup.") from None


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


def write_text(path: Path, text: str) -> None:
    """Write a file so that it is either the old or the new one, whole, even when the power fails."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    with beside.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)


def _sync(store: Path, box: Box, chunks: tuple[int, ...]) -> None:
    """Ask the system to put the chunks under a box on the disk itself."""
    for path in _chunk_files(store, box, chunks):
        if path.exists():
            descriptor = os.open(path, os.O_RDWR)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)


def _chunk_files(store: Path, box: Box, chunks: tuple[int, ...]) -> Iterator[Path]:
    ranges = [range(a // c, -(-b // c)) for a, b, c in zip(box.start, box.stop, chunks, strict=True)]
    for z in ranges[0]:
        for y in ranges[1]:
            for x in ranges[2]:
                yield store / "c" / str(z) / str(y) / str(x)
