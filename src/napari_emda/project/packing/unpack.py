"""Opening a packed project: it is unpacked beside its file, once, after everything was checked."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Generator, Iterator
from functools import partial
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from napari_emda.data.names import in_one_line
from napari_emda.errors import DataError, JobError
from napari_emda.events import Phase
from napari_emda.io.atomic import sync, sync_tree, workspace
from napari_emda.io.location import located
from napari_emda.io.safe_files import inside, read_file
from napari_emda.io.zip_damage import damage_as
from napari_emda.io.zip_file import open_zip
from napari_emda.project.file import read_project_file
from napari_emda.project.packing.manifest import (
    PROJECT,
    Pack,
    PackedFile,
    check_paths,
    damaged,
    image_paths,
)

ORIGIN = "unpacked.json"
"""In an unpacked project: which pack it was unpacked from."""
# Bytes of a disk that are left free.
_ROOM = 2**26


class _Origin(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")

    pack: str


def is_pack(path: Path) -> bool:
    """Whether a path is a file that could be a packed project, by its name."""
    name = path.name.lower()
    # Images of zarr may be zip files, too.
    return name.endswith(".zip") and not name.endswith(".zarr.zip") and path.is_file()


@contextlib.contextmanager
def opened_pack(path: Path) -> Iterator[Pack]:
    """A block in which a pack is open, all of whose names and sizes were checked.

    Raises:
        DataError: it is no pack, or a damaged or dangerous one.
    """
    with contextlib.ExitStack() as opened:
        with damage_as(partial(damaged, path)):
            archive = opened.enter_context(open_zip(path))
            pack = Pack(path, archive)
        yield pack


def folder_for(path: Path) -> Path:
    """Where a pack is unpacked by default: beside it, under its name."""
    return path.absolute().with_suffix("")


def unpacked(path: Path, folder: Path | None = None) -> Generator[Phase, None, Path]:
    """The folder of a packed project, which is unpacked unless it was before.

    Args:
        path: of the pack.
        folder: that is to be the project's; by default `folder_for`.

    Yields:
        What is being done.

    Returns:
        The folder.

    Raises:
        DataError: it is no pack, or a damaged or dangerous one; nothing is left of it.
        JobError: there is something else in the folder, or too little room on the disk.
    """
    folder = folder_for(path) if folder is None else folder.expanduser().absolute()
    with opened_pack(path) as pack:
        if _origin_of(folder) == pack.identity:
            return folder
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise _in_the_way(path, folder)
        _check_room(folder, pack.size)
        with workspace(folder) as partial_folder:
            begun = partial_folder / folder.name
            begun.mkdir(parents=True)
            yield from _write(pack, begun)
            _check_project(path, begun, folder)
            (begun / ORIGIN).write_text(_Origin(pack=pack.identity).model_dump_json() + "\n")
            sync_tree(begun)
            try:
                # An empty folder is replaced; Windows does not do so by itself.
                with contextlib.suppress(FileNotFoundError):
                    folder.rmdir()
                begun.rename(folder)
            except OSError:
                # Another process may have unpacked it meanwhile.
                if _origin_of(folder) == pack.identity:
                    return folder
                if os.path.lexists(folder):
                    raise _in_the_way(path, folder) from None
                raise
        sync(folder.parent)
    return folder


def _in_the_way(path: Path, folder: Path) -> JobError:
    return JobError(
        f"'{folder}' exists and is not what '{path.name}' holds: rename one of them, or unpack it "
        "elsewhere (napari-emda unpack FILE.zip --to FOLDER)."
    )


def missing_images(folder: Path) -> list[str]:
    """The images and labels that an unpacked project names and that are not where it looks."""
    file = read_project_file(inside(folder, PROJECT))
    paths = dict.fromkeys(path for path in image_paths(file) if "://" not in path)
    return [
        path for path in paths if not located(Path(os.path.normpath(folder / path))).file.exists()
    ]


def _origin_of(folder: Path) -> str:
    """Of which pack a folder is; empty for any other folder."""
    try:
        return _Origin.model_validate_json(read_file(inside(folder, ORIGIN))).pack
    except (OSError, JobError, ValidationError):
        return ""


def _check_room(folder: Path, size: int) -> None:
    if not folder.parent.is_dir():
        raise JobError(f"The folder '{folder.parent}' does not exist: create it first.")
    free = shutil.disk_usage(folder.parent).free
    if size + _ROOM > free:
        raise JobError(
            f"The packed project needs {size / 1e9:.1f} GB, and the disk of '{folder.parent}' has "
            f"{free / 1e9:.1f}: make room, or unpack it elsewhere."
        )


def _write(pack: Pack, folder: Path) -> Iterator[Phase]:
    count = len(pack.files)
    for done, file in enumerate(pack.files):
        if done % max(1, count // 10) == 0:
            yield Phase(f"Unpacking, {100 * done // count} %")
        _write_file(pack, file, folder)


def _write_file(pack: Pack, file: PackedFile, folder: Path) -> None:
    # Again, although all names were checked: this is where a name becomes a path.
    path = inside(folder, *file.name.split("/"))
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("xb") as stream:
        pack.copy(file, stream.write)
    os.utime(path, ns=(file.time, file.time))


def _check_project(pack: Path, partial: Path, folder: Path) -> None:
    """Check what an unpacked project says of itself, in words that name where it will be."""
    try:
        check_paths(pack, read_project_file(inside(partial, PROJECT)))
    except JobError as error:
        reason = str(error).rstrip(".").replace(str(partial), str(folder))
        raise DataError(f"'{pack.name}' cannot be opened. {in_one_line(reason)}.") from None
