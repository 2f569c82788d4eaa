"""Copies of the annotations in ``backups/``: one after each round, of which the last are kept."""

from __future__ import annotations

import contextlib
import errno
import re
import shutil
import time
import uuid
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from napari_emda.data.names import check_file_name
from napari_emda.errors import DataError
from napari_emda.io.atomic import make_folder, replacing_file, replacing_folder, sync, sync_tree
from napari_emda.io.chunk_files import ChunkFiles
from napari_emda.io.journal import journal_lines
from napari_emda.io.leftovers import clear_folder, clear_tree
from napari_emda.io.safe_files import LARGEST_JSON, LARGEST_LINES, inside, read_file
from napari_emda.io.unchanged import while_unchanged
from napari_emda.io.zip_damage import DAMAGE
from napari_emda.io.zip_file import open_zip
from napari_emda.project.annotation_arrays import AnnotationArrays
from napari_emda.project.regions import Regions, latest_round

# More rounds than anyone works before noticing that something is wrong; each takes a few MB.
KEPT = 10

_FOLDER = "backups"
_REGIONS = "regions.jsonl"
# Of decisions on patches and on objects, and of check points.
_JOURNALS = (_REGIONS, "object_edits.jsonl", "check_points.jsonl")
_PROJECT = "project.json"
_CONTENTS = "backup.json"
# Without a colon, which Windows does not allow.
_NAME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}-[0-9]{2}-[0-9]{2}-[0-9a-f]{4}\.zip")
_TIME = "%Y-%m-%dT%H-%M-%S"
# What else may be in a backup: the files of the annotations.
_CHUNK = re.compile(r"annotations/([^/]+)\.zarr/c/[0-9]{1,10}/[0-9]{1,10}/[0-9]{1,10}")
_METADATA = re.compile(r"annotations/([^/]+)\.zarr/zarr\.json")
# Bytes of a chunk, compressed: those of this version hold 64 KiB, and any other size is allowed.
_LARGEST_CHUNK = 2**24


class _Contents(BaseModel):
    """What a backup says of itself."""

    model_config = ConfigDict(frozen=True, allow_inf_nan=False)

    format: int = 1
    time: float
    round: int
    patches: int


@dataclass(frozen=True)
class Backup:
    """A copy of all annotations, with the patches that they belong to.

    Attributes:
        path: of the zip file.
        time: when it was made, in seconds since 1970.
        round: the latest round by then.
        patches: how many were annotated by then.
    """

    path: Path
    time: float
    round: int
    patches: int

    @property
    def name(self) -> str:
        """``2026-11-27T01-23-45-0a1b.zip``; the time is that of Greenwich."""
        return self.path.name


class Backups:
    """The backups of a project.

    A backup is a zip file of ``project.json``, ``regions.jsonl``, ``object_edits.jsonl``,
    ``check_points.jsonl`` and
    ``annotations/`` as they are in the project, so that it can be used without this program.

    Args:
        folder: of the project; none of its files need be whole.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._arrays = AnnotationArrays(folder)

    def all(self) -> list[Backup]:
        """The backups that can be read, newest first."""
        folder = inside(self._folder, _FOLDER)
        names = [path.name for path in folder.glob("*.zip") if _NAME.fullmatch(path.name)]
        found = (_read(inside(folder, name)) for name in names)
        whole = [backup for backup in found if backup is not None]
        return sorted(whole, key=lambda backup: backup.time, reverse=True)

    # -- making -----------------------------------------------------------------------------------

    def make(self) -> Backup | None:
        """Copy the annotations, check the copy, and remove all backups but the last ones.

        Returns:
            The backup, on disk; None if nothing is annotated, or nothing has changed since the
            last one.

        Raises:
            DataError: annotations are damaged. No backup takes the place of an earlier, good one.
            OSError: the disk is full or cannot be written.
        """
        regions = Regions(self._folder).all()
        patches = sum(region.annotated for region in regions)
        if not patches:
            return None
        folder = inside(self._folder, _FOLDER)
        make_folder(folder)
        clear_tree(inside(self._folder, "annotations"))
        # Each backup has another name, so that none would clear what another one has left.
        clear_folder(folder)
        now = time.time()
        stamp = time.strftime(_TIME, time.gmtime(now))
        path = inside(folder, f"{stamp}-{uuid.uuid4().hex[:4]}.zip")
        contents = _Contents(time=now, round=latest_round(regions), patches=patches)
        try:
            with replacing_file(path) as partial:
                with zipfile.ZipFile(partial, "w", zipfile.ZIP_DEFLATED) as file:
                    for name, content in self._files():
                        # Chunks are compressed already.
                        kind = zipfile.ZIP_STORED if _CHUNK.fullmatch(name) else None
                        file.writestr(name, content, kind)
                    file.writestr(_CONTENTS, contents.model_dump_json(indent=2) + "\n")
                self._check_new(partial)
        except _Unchanged:
            return None
        self._remove_old()
        return Backup(path, now, contents.round, patches)

    def _files(self) -> Iterator[tuple[str, bytes]]:
        """Names and contents of the files to be copied; DataError if annotations are damaged."""
        journals = [(name, LARGEST_LINES) for name in _JOURNALS]
        for name, largest in ((_PROJECT, LARGEST_JSON), *journals):
            path = inside(self._folder, name)
            if path.exists():
                yield name, read_file(path, largest)
        # After the regions: what is recorded as accepted is among the voxels, and perhaps more.
        for volume in self._arrays.names():
            yield from self._annotations(volume)

    def _annotations(self, volume: str) -> Iterator[tuple[str, bytes]]:
        array = self._arrays.open(volume)
        if array is None:
            return
        top = f"annotations/{volume}.zarr"
        folder = inside(self._folder, "annotations", f"{volume}.zarr")
        yield f"{top}/zarr.json", read_file(inside(folder, "zarr.json"))
        files = ChunkFiles(array)
        for box in self._arrays.painted(volume):
            index = [
                str(start // side) for start, side in zip(box.start, array.chunks, strict=True)
            ]
            try:
                # Whatever cannot be decoded is no annotation.
                files[box.slices]
                content = read_file(inside(folder, "c", *index), _LARGEST_CHUNK)
            except FileNotFoundError:
                continue  # painted away meanwhile
            except (OSError, ValueError, RuntimeError) as error:
                raise DataError(
                    f"The annotations of '{volume}' are damaged in section {box.start[0]}: mend "
                    "them with 'napari-emda check PROJECT --repair'."
                ) from error
            yield f"{top}/c/{'/'.join(index)}", content

    def _check_new(self, path: Path) -> None:
        """Read a new backup back; `_Unchanged` if the last one holds the same."""
        try:
            with open_zip(path) as file:
                whole = file.testzip() is None
                content = _checksums(file)
        # zipfile takes a disk that fails for a file of another kind.
        except zipfile.BadZipFile:
            whole = False
        if not whole:
            raise OSError(errno.EIO, "What was written cannot be read back", str(path))
        newest = next(iter(self.all()), None)
        # One that cannot be read is none: another one is made.
        with contextlib.suppress(OSError, *DAMAGE):
            if newest is not None:
                with open_zip(newest.path) as file:
                    if _checksums(file) == content:
                        raise _Unchanged

    def _remove_old(self) -> None:
        for backup in self.all()[KEPT:]:
            backup.path.unlink(missing_ok=True)

    # -- restoring --------------------------------------------------------------------------------

    def restore(self, backup: Backup) -> Path:
        """Put annotations and patches back as they were; nobody else may have the project open.

        What can be undone and repeated starts anew, because it belongs to what is replaced.

        Returns:
            The folder in ``rescued/`` that holds all that was replaced.

        Raises:
            DataError: the backup is damaged; nothing is changed.
            OSError: the disk is full or cannot be written.
        """
        annotations = inside(self._folder, "annotations")
        damaged = DataError(f"The backup '{backup.name}' is damaged: choose another one.")
        try:
            with open_zip(backup.path) as file:
                names = {info.filename for info in _wanted(file)}
                if file.testzip() is not None or _REGIONS not in names:
                    raise damaged
        except (OSError, *DAMAGE):
            raise damaged from None
        rescued = self._rescue("annotations", *_JOURNALS, "undo.jsonl", "redo.jsonl")
        with open_zip(backup.path) as file:
            # The old annotations keep their name until the new ones are there and on the disk.
            with replacing_folder(annotations) as partial:
                partial.mkdir()
                for name in sorted(names - {_PROJECT, *_JOURNALS, _CONTENTS}):
                    path = inside(partial, *name.split("/")[1:])
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_bytes(file.read(name))
            # Older versions knew no edits of objects: those that there are stay.
            for name in names.intersection(_JOURNALS):
                with replacing_file(inside(self._folder, name)) as journal:
                    journal.write_bytes(file.read(name))
        for name in ("undo.jsonl", "redo.jsonl"):
            inside(self._folder, name).unlink(missing_ok=True)
        return rescued

    def _rescue(self, *names: str) -> Path:
        """Copy files of the project to a new folder in ``rescued/``; returns that."""
        rescued = inside(self._folder, "rescued")
        make_folder(rescued)
        stamp = time.strftime(_TIME, time.gmtime())
        folder = inside(rescued, f"{stamp}-{uuid.uuid4().hex[:4]}")
        folder.mkdir()
        for name in names:
            path = inside(self._folder, name)
            if path.is_dir():
                shutil.copytree(path, folder / name)
            elif path.exists():
                shutil.copyfile(path, folder / name)
        sync_tree(folder)
        sync(rescued)
        return folder

    def chunk(self, volume: str, index: tuple[int, ...]) -> tuple[Backup, bytes] | None:
        """The newest copy of a chunk's file, and the backup that holds it; None if none does.

        Args:
            volume: name of the volume.
            index: of the chunk along z, y, x.
        """
        name = f"annotations/{volume}.zarr/c/{'/'.join(map(str, index))}"
        return self._newest(name)

    def project_file(self) -> tuple[Backup, bytes] | None:
        """The newest copy of ``project.json``, and the backup that holds it."""
        return self._newest(_PROJECT)

    def metadata(self, volume: str) -> tuple[Backup, bytes] | None:
        """The newest copy of the file that describes a volume's annotations, and its backup."""
        return self._newest(f"annotations/{volume}.zarr/zarr.json")

    def regions_file(self) -> tuple[Backup, list[bytes]] | None:
        """The lines of the newest copy of ``regions.jsonl`` that are whole, and its backup."""
        copy = self._newest(_REGIONS)
        if copy is None:
            return None
        lines = journal_lines(copy[1])
        return copy[0], [line.text for line in lines if line.text]

    def _newest(self, name: str) -> tuple[Backup, bytes] | None:
        for backup in self.all():
            try:
                with open_zip(backup.path) as file:
                    for info in _wanted(file):
                        if info.filename == name:
                            return backup, file.read(info)
            except (DataError, OSError, *DAMAGE):
                continue
        return None


class _Unchanged(Exception):
    """The last backup holds the same as this one would."""


@while_unchanged
def _read(path: Path) -> Backup | None:
    """A backup by its file; None if it cannot be read."""
    try:
        with open_zip(path) as file:
            info = file.getinfo(_CONTENTS)
            if info.file_size > LARGEST_JSON:
                return None
            contents = _Contents.model_validate_json(file.read(info))
    except (OSError, *DAMAGE):
        return None
    return Backup(path, contents.time, contents.round, contents.patches)


def _checksums(file: zipfile.ZipFile) -> set[tuple[str, int, int]]:
    """Names, sizes and checksums of the annotations and patches in a backup."""
    return {
        (info.filename, info.file_size, info.CRC)
        for info in file.infolist()
        if info.filename not in (_CONTENTS, _PROJECT)
    }


def _wanted(file: zipfile.ZipFile) -> Iterator[zipfile.ZipInfo]:
    """The files in a backup, which may come from somebody else.

    Raises:
        DataError: there is a file that no backup has, or a size that none has.
    """
    for info in file.infolist():
        if info.file_size > _largest(info):
            raise DataError(f"The backup '{Path(str(file.filename)).name}' holds foreign files.")
        yield info


def _largest(info: zipfile.ZipInfo) -> int:
    """Bytes that a file in a backup may have; -1 for one that no backup has."""
    largest = {_PROJECT: LARGEST_JSON, _CONTENTS: LARGEST_JSON}
    largest |= dict.fromkeys(_JOURNALS, LARGEST_LINES)
    if info.filename in largest:
        return largest[info.filename]
    chunk = _CHUNK.fullmatch(info.filename)
    match = chunk or _METADATA.fullmatch(info.filename)
    try:
        check_file_name(match[1] if match else "")
    except ValueError:
        return -1
    if chunk is None:
        return LARGEST_JSON
    # Stored as they are, so that they take no more room than the backup itself.
    return _LARGEST_CHUNK if info.compress_type == zipfile.ZIP_STORED else -1
