"""The volumes of a project: their entries, opening and adding."""

from __future__ import annotations

import os
import re
import unicodedata
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from napari_emda.data.array import Array
from napari_emda.data.label_meaning import LabelMeaning, MeantLabels, ObjectNumbers
from napari_emda.data.names import LONGEST, is_device
from napari_emda.data.units import nanometres
from napari_emda.data.volume import Domain, LabelsZero, Volume
from napari_emda.data.voxel_grid import Spacing, VoxelGrid
from napari_emda.errors import DataError, JobError
from napari_emda.io.atomic import sync, sync_tree
from napari_emda.io.checked_store import CheckedStore
from napari_emda.io.checks import check_image, check_labels, check_spacing, file_notices
from napari_emda.io.known_servers import allow, check_known, share_of
from napari_emda.io.location import address_of, located
from napari_emda.io.read import open_image, open_labels
from napari_emda.io.reader import volume_name
from napari_emda.io.safe_files import inside
from napari_emda.io.units import Stored
from napari_emda.project.annotation_arrays import AnnotationArrays, check_fits
from napari_emda.project.file import ProjectFile, VolumeEntry, write_project_file
from napari_emda.registry import did_you_mean

# Bytes of the number that tells volumes of one name apart, such as _12.
_NUMBER_BYTES = 8


class Volumes:
    """The volumes of a project; what is added is on disk after every call.

    Args:
        folder: of the project.
        file: contents of its ``project.json``.
        annotations: one array per volume.
    """

    def __init__(self, folder: Path, file: ProjectFile, annotations: AnnotationArrays) -> None:
        self._folder = folder
        self._file = file
        self._annotations = annotations
        self._waiting = False

    # -- entries ----------------------------------------------------------------------------------

    @property
    def entries(self) -> tuple[VolumeEntry, ...]:
        """The entries of ``project.json``; no volume is opened."""
        return self._file.volumes

    def entry(self, name: str) -> VolumeEntry:
        """The entry of a volume; JobError if there is no volume of that name."""
        for entry in self.entries:
            if entry.name == name:
                return entry
        raise JobError(
            f"There is no volume '{name}'. {did_you_mean(name, [e.name for e in self.entries])}"
        )

    def targets(self) -> list[VolumeEntry]:
        """The entries of the volumes to be segmented."""
        return [entry for entry in self.entries if entry.domain == "target"]

    def target(self) -> VolumeEntry:
        """The entry of the first target; JobError if there is none."""
        targets = self.targets()
        if not targets:
            raise JobError(
                "The project has no target volume: add the image that is to be segmented."
            )
        return targets[0]

    def files(self) -> list[Path]:
        """The images and labels of all volumes; none of them is ever written to."""
        paths = [path for path in self._stored_paths() if not _is_address(path)]
        return [located(self._absolute(path)).file for path in paths]

    def addresses(self) -> list[str]:
        """The addresses of images and labels that are on no disk, and paths on other shares."""
        return [address for path in self._stored_paths() if (address := self._address(path))]

    def check_servers(self) -> None:
        """Check that the user has named or allowed all servers, see `path`."""
        for address in self.addresses():
            check_known(address)

    def _stored_paths(self) -> list[str]:
        paths = [path for entry in self.entries for path in (entry.image, entry.labels)]
        return [path for path in paths if path is not None]

    # -- opening ----------------------------------------------------------------------------------

    def open(self, name: str) -> Volume:
        """A volume with its labels and annotations; voxels are read when they are sliced.

        Raises:
            JobError: there is no volume of that name.
            DataError: a file is missing or was changed.
        """
        entry = self.entry(name)
        stored = open_image(self.path(entry.image))
        image = stored.array
        labels: Array | None = None
        if entry.labels is not None:
            labels = open_labels(self.path(entry.labels)).array
        if labels is not None and tuple(labels.shape) != tuple(image.shape):
            raise DataError(
                f"The labels of '{name}' no longer have the shape of the image: put the old file "
                "back."
            )
        annotations = self._annotations.open(name)
        if annotations is not None:
            check_fits(name, annotations, image.shape)
        labels_zero = entry.labels_zero
        classes = len(self._file.classes)
        ids = None
        # With more classes, the numbers are the classes.
        if labels is not None and classes == 2:
            meaning = entry.labels_meaning or LabelMeaning.of_zero(labels_zero)
            ids = ObjectNumbers(labels, meaning, classes, numbered=True)
        if labels is not None and entry.labels_meaning is not None:
            labels = MeantLabels(labels, entry.labels_meaning, classes)
            labels_zero = "unannotated"
        return Volume(
            name=name,
            image=image,
            domain=entry.domain,
            grid=_placed(entry.grid, stored),
            labels=labels,
            labels_zero=labels_zero,
            ids=ids,
            annotations=annotations,
            annotated=self._annotations.painted(name),
            classes=classes,
            path=self.path(entry.image),
        )

    def open_all(self, domain: Domain | None = None) -> list[Volume]:
        """All volumes, or those of a domain, see `open`."""
        return [self.open(entry.name) for entry in self.entries if domain in (None, entry.domain)]

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape (z, y, x) of a volume, see `open`."""
        return open_image(self.path(self.entry(name).image)).array.shape

    # -- adding -----------------------------------------------------------------------------------

    def add(
        self,
        image: str | Path,
        domain: Domain,
        *,
        labels: str | Path | None = None,
        name: str | None = None,
        spacing: Spacing | None = None,
        labels_zero: LabelsZero = "background",
        labels_meaning: LabelMeaning | None = None,
        sections_are_independent: bool = False,
    ) -> VolumeEntry:
        """Check a volume and add it; nothing changes when the check fails.

        Args:
            image: a file or folder of any format that is read, see `napari_emda.io.location`.
            labels: the same kinds, or None.
            domain: ``source`` or ``target``.
            name: by default the image's file name.
            spacing: voxel size z, y, x in nm; by default what the image's file says.
            labels_zero: what 0 means in ``labels``.
            labels_meaning: what all numbers in ``labels`` mean, where that is not all.
            sections_are_independent: see `data.voxel_grid.VoxelGrid`.

        Raises:
            DataError: see `napari_emda.io.checks`.
        """
        return self.add_entry(
            self.checked(
                image,
                domain,
                labels=labels,
                name=name,
                spacing=spacing,
                labels_zero=labels_zero,
                labels_meaning=labels_meaning,
                sections_are_independent=sections_are_independent,
            )
        )

    def checked(
        self,
        image: str | Path,
        domain: Domain,
        *,
        labels: str | Path | None = None,
        name: str | None = None,
        spacing: Spacing | None = None,
        labels_zero: LabelsZero = "background",
        labels_meaning: LabelMeaning | None = None,
        sections_are_independent: bool = False,
    ) -> VolumeEntry:
        """The entry that `add` would add, without adding it."""
        stored = open_image(Path(image))
        name = self._free_name(name or volume_name(Path(image)))
        file_notices(stored, sections_are_independent)
        spacing = check_spacing(name, spacing, stored, independent=sections_are_independent)
        check_image(name, stored.array)
        if labels is not None:
            label_array = open_labels(Path(labels)).array
            classes = len(self._file.classes)
            check_labels(
                name, label_array, stored.array.shape, classes, labels_zero, labels_meaning
            )
        # The user has named them.
        for path in (image, labels):
            if path is not None and (address := located(Path(path)).address):
                allow(address)
        if labels_meaning is not None and (zero := labels_meaning.as_zero) is not None:
            labels_zero = zero
            labels_meaning = None
        return VolumeEntry(
            name=name,
            domain=domain,
            image=self._relative(image),
            spacing=spacing,
            labels_zero=labels_zero,
            labels_meaning=labels_meaning,
            sections_are_independent=sections_are_independent,
            labels=None if labels is None else self._relative(labels),
        )

    def add_entry(self, entry: VolumeEntry) -> VolumeEntry:
        """Add an entry that `checked` has made."""
        # The user has named them.
        for path in (entry.image, entry.labels):
            if path is not None and (address := self._address(path)):
                allow(address)
        self._file = self._file.model_copy(update={"volumes": (*self.entries, entry)})
        if not self._waiting:
            write_project_file(self._folder, self._file)
        return entry

    @contextmanager
    def added_together(self) -> Iterator[None]:
        """A block in which volumes are added: all of them are on disk at its end, or none is."""
        before = self._file
        self._waiting = True
        try:
            yield
            write_project_file(self._folder, self._file)
        except BaseException:
            self._file = before
            raise
        finally:
            self._waiting = False

    def change_grid(
        self, name: str, spacing: Spacing, *, sections_are_independent: bool
    ) -> VolumeEntry:
        """Correct the voxel size (z, y, x in nm) of a volume; no file but ``project.json`` changes.

        Models and predictions were computed with the size before, so that it must not change once
        there are any.

        Raises:
            DataError: no voxel can have this size.
            JobError: there is no volume of that name.
        """
        grid = {
            "spacing": check_spacing(name, spacing),
            "unit": "nm",
            "sections_are_independent": sections_are_independent,
        }
        changed = self.entry(name).model_copy(update=grid)
        entries = tuple(changed if entry.name == name else entry for entry in self.entries)
        self._file = self._file.model_copy(update={"volumes": entries})
        write_project_file(self._folder, self._file)
        return changed

    def store(self, name: str, array: NDArray[Any]) -> Path:
        """Write an array that exists in memory alone to ``volumes/``; returns its path."""
        # The random part keeps arrays apart that are stored under one name before they are added.
        file_name = f"{self._free_name(name)}-{uuid.uuid4().hex[:6]}.zarr"
        path = inside(self._folder, "volumes", file_name)
        # Viewer and network read single sections. 1024 x 1024 voxels are 1 MiB of uint8: a patch
        # decodes four chunks at most, and a large volume is not too many files.
        chunks = (1, min(array.shape[1], 1024), min(array.shape[2], 1024))
        stored = zarr.create_array(
            CheckedStore(path), shape=array.shape, dtype=array.dtype, chunks=chunks
        )
        # Section by section: a layer's data may be lazy, and larger than memory.
        for z in range(array.shape[0]):
            stored[z] = np.asarray(array[z])
        # It exists nowhere else, and `project.json` is going to name it.
        sync_tree(path)
        for folder in (path.parent, self._folder):
            sync(folder)
        return path

    # -- names and paths --------------------------------------------------------------------------

    def _free_name(self, name: str) -> str:
        """The name without characters that a file cannot have; with a number if it is taken."""
        # macOS stores an umlaut as two characters, of which the second is no letter. A leading dot
        # would make a hidden file, ".." another folder, and a leading hyphen an option.
        name = unicodedata.normalize("NFC", name)
        name = re.sub(r"[^\w.-]+", "_", name).strip("._-") or "volume"
        if is_device(name):
            name = f"volume_{name}"
        # Files may have longer names than volumes, whose names become parts of others.
        longest = LONGEST - _NUMBER_BYTES
        name = name.encode()[:longest].decode(errors="ignore").rstrip("._-")
        # Where upper and lower case are the same, two volumes would share their annotations.
        taken = {entry.name.casefold() for entry in self.entries}
        free = name
        count = 2
        while free.casefold() in taken:
            free = f"{name}_{count}"
            count += 1
        return free

    def _relative(self, path: str | Path) -> str:
        """The path as ``project.json`` stores it."""
        # A folder may be called "run2:", so that what is on the disk comes first.
        if located(Path(path)).address:
            return _as_utf8(address_of(path))
        path = Path(path).expanduser().absolute()
        # In the folder that contains the project: project and image can be moved together. The
        # stored path has slashes, so that it is valid on every system.
        if path.is_relative_to(self._folder.parent):
            return _as_utf8(Path(os.path.relpath(path, self._folder)).as_posix())
        return _as_utf8(str(path))

    def path(self, path: str) -> Path:
        """The absolute path of a file in ``project.json``, or the address.

        Raises:
            UnknownServer: the user has not named or allowed the server of the address.
        """
        if address := self._address(path):
            check_known(address)
        return Path(path) if _is_address(path) else self._absolute(path)

    def _address(self, path: str) -> str:
        """What of ``project.json`` lies on a server; empty for files where the project is."""
        if _is_address(path):
            return path
        absolute = self._absolute(path)
        share = share_of(absolute).lower()
        return str(absolute) if share and share != share_of(self._folder).lower() else ""

    def _absolute(self, path: str) -> Path:
        # The system's own spelling: under LC_ALL=C, as on clusters, Python takes names for ASCII.
        stored = os.fsdecode(path.encode("utf-8", "surrogateescape"))
        # Without "..", so that error messages show the path as the user knows it.
        return Path(os.path.normpath(self._folder / stored))


def _is_address(path: str) -> bool:
    # No path of a file is stored with two slashes.
    return "://" in path


def _as_utf8(path: str) -> str:
    """The letters of a path, whatever encoding Python takes the system's names for."""
    return os.fsencode(path).decode("utf-8", "surrogateescape")


def _placed(grid: VoxelGrid, stored: Stored) -> VoxelGrid:
    """The grid at the place where the file puts it, if the file has the same voxel size."""
    if stored.nanometres is None or not np.allclose(
        stored.nanometres, grid.in_nanometres().spacing
    ):
        return grid
    factor = nanometres(grid.unit) or 1.0
    z, y, x = (position / factor for position in stored.origin)
    return replace(grid, origin=(z, y, x))
