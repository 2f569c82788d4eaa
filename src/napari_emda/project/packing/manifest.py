"""What a packed project may hold: its list of files, and the rules for their names and sizes.

A pack is a zip file of the files of a project, as they lie in its folder, and of ``pack.jsonl``,
which lists them: a line on the pack, then one for each file, with its SHA-256. Nothing is
compressed, because models and chunks are compressed already. So a pack cannot unfold to more than
its own size.
"""

from __future__ import annotations

import hashlib
import stat
import unicodedata
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Annotated, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from napari_emda.data.names import check_file_name, in_one_line, is_device
from napari_emda.errors import DataError
from napari_emda.io.identity import OF_ZARR
from napari_emda.io.safe_files import LARGEST_LINES
from napari_emda.io.zip_damage import damage_as
from napari_emda.json_text import parse_json
from napari_emda.project.file import ProjectFile

Images = Literal["none", "crops", "whole"]
"""Which images a pack holds."""
IMAGES: tuple[Images, ...] = get_args(Images)

MANIFEST = "pack.jsonl"
PROJECT = "project.json"
JOURNALS = ("regions.jsonl", "object_edits.jsonl", "check_points.jsonl")
FOLDERS = ("annotations", "runs", "volumes")

# A volume of 1000 sections of 8192 x 8192 voxels has 256 000 chunks of each array.
MOST_FILES = 1_000_000
# Bytes of a path in a pack, and folders in each other. Windows allows 260 characters in all.
_LONGEST_PATH = 400
_DEEPEST = 24
# Bytes that are read at a time.
_STEP = 2**20


class _Line(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)


class PackHeader(_Line):
    """The first line of the list.

    Attributes:
        format: of the pack.
        program: version of napari-emda that made it.
        images: which images it holds.
    """

    format: Literal[1] = 1
    program: str = ""
    images: Images


class PackedFile(_Line):
    """A file in a pack.

    Attributes:
        name: path in the project's folder, with slashes.
        size: bytes.
        sha256: of its content, in hexadecimal digits.
        time: of its last change, in nanoseconds since 1970. Predictions belong to images with
            their times.
    """

    name: str
    size: Annotated[int, Field(ge=0, lt=2**62)]
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    # Times beyond the year 2200 overflow some file systems.
    time: Annotated[int, Field(ge=0, lt=2**63 - 2**60)]


class Pack:
    """A pack that is open for reading, and whose names and sizes were checked.

    Args:
        path: of the file, for messages.
        archive: the file.

    Attributes:
        header: what the pack says of itself.
        files: all files but the list.
        identity: tells packs apart: the SHA-256 of the list.

    Raises:
        DataError: see `check_members`; or the list is missing, damaged, or not that of these files.
    """

    def __init__(self, path: Path, archive: zipfile.ZipFile) -> None:
        self._path = path
        self._archive = archive
        members = archive.infolist()
        check_members(path, members)
        try:
            self.header, self.files, self.identity = self._read_list()
        except (ValidationError, UnicodeError, ValueError, LookupError):
            raise self.damaged(f"its list '{MANIFEST}' cannot be read") from None
        sizes = {file.name: file.size for file in self.files}
        stored = {info.filename: info.file_size for info in members}
        stored.pop(MANIFEST)
        if len(sizes) != len(self.files) or sizes != stored:
            raise self.damaged(f"it does not hold the files that its list '{MANIFEST}' names")

    def _read_list(self) -> tuple[PackHeader, list[PackedFile], str]:
        content = self._archive.read(MANIFEST)
        first, *lines = content.decode().splitlines()
        header = PackHeader.model_validate(parse_json(first))
        files = [PackedFile.model_validate(parse_json(line)) for line in lines]
        return header, files, hashlib.sha256(content).hexdigest()

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files)

    def copy(self, file: PackedFile, write: Callable[[bytes], object]) -> None:
        """Read a file, piece by piece.

        Args:
            file: of the pack.
            write: called with each piece.

        Raises:
            DataError: it is not what was packed.
        """
        content = hashlib.sha256()
        with (
            damage_as(lambda _: self.damaged(f"'{file.name}' cannot be read")),
            self._archive.open(file.name) as stream,
        ):
            while piece := stream.read(_STEP):
                content.update(piece)
                write(piece)
        if content.hexdigest() != file.sha256:
            raise self.damaged(f"'{file.name}' is not what was packed")

    def damaged(self, problem: str) -> DataError:
        """The error of a pack that is not whole."""
        return damaged(self._path, problem)


def damaged(path: Path, problem: str) -> DataError:
    """The error of a pack that cannot be used."""
    return DataError(
        f"'{path.name}' is no whole packed project ({in_one_line(problem)}): copy it again, or ask "
        "for it again."
    )


def check_members(path: Path, members: Sequence[zipfile.ZipInfo]) -> None:
    """Check the names and sizes in a zip file before anything is unpacked.

    Args:
        path: of the zip file.
        members: that it says to hold.

    Raises:
        DataError: there are too many, one leads out of the project's folder or cannot be stored
            everywhere, two would become one file, or they unfold to more than the file's size.
    """
    if len(members) > MOST_FILES:
        raise damaged(path, f"it holds more than {MOST_FILES} files")
    for info in members:
        if problem := _problem_of(info):
            name = info.filename[:_LONGEST_PATH]
            raise damaged(path, f"the file '{name}' in it {problem}")
    try:
        check_distinct(info.filename for info in members)
    except ValueError as error:
        raise damaged(path, str(error)) from None
    # Entries that share their bytes would unfold to more than there is.
    if sum(info.file_size for info in members) > path.stat().st_size:
        raise damaged(path, "its files would be larger than itself")
    names = {info.filename for info in members}
    for name in (MANIFEST, PROJECT):
        if name not in names:
            raise damaged(path, f"it has no '{name}'")


def _problem_of(info: zipfile.ZipInfo) -> str:
    """What is wrong with an entry by itself; empty if nothing is."""
    name = info.filename
    # zipfile cuts a name at a zero byte, and turns the slashes of Windows there.
    if name != info.orig_filename:
        return "has a name that is no path"
    try:
        check_member_name(name)
    except ValueError as error:
        return f"has a name that is not allowed: {error}"
    mode = info.external_attr >> 16
    if stat.S_IFMT(mode) not in (0, stat.S_IFREG):
        return "is a link or a special file"
    if info.flag_bits & 1:
        return "is encrypted"
    if info.compress_type != zipfile.ZIP_STORED or info.file_size != info.compress_size:
        return "is compressed, and packed projects store their files as they are"
    if name == MANIFEST and info.file_size > LARGEST_LINES:
        return f"has more than {LARGEST_LINES} bytes"
    return ""


def check_member_name(name: str) -> None:
    """Check that a name is the path of a file in a project, on any system.

    Raises:
        ValueError: it leads elsewhere, or not every system can store it.
    """
    parts = name.split("/")
    if parts[0] not in (FOLDERS if len(parts) > 1 else (MANIFEST, PROJECT, *JOURNALS)):
        raise ValueError("projects have no file there")
    if len(name.encode()) > _LONGEST_PATH or len(parts) > _DEEPEST:
        raise ValueError("it is too long")
    for part in parts:
        check_file_name(part)
        if part.startswith(".") and part not in OF_ZARR:
            raise ValueError("it is hidden")
        # Windows drops dots and spaces at the end, and takes some names for devices.
        if part != part.rstrip(". ") or is_device(part) or set(part) & set('<>"|?*'):
            raise ValueError("Windows has no such files")


def check_distinct(names: Iterable[str]) -> None:
    """Check that paths stay files of their own on systems that ignore upper and lower case.

    Raises:
        ValueError: two of them, or of their folders, would become one.
    """
    files: set[str] = set()
    folders: dict[str, str] = {}
    for name in names:
        folded = _folded(name)
        if folded in files:
            raise ValueError(f"'{name}' differs from another file in upper and lower case at most")
        for folder in map(str, PurePosixPath(name).parents):
            other = folders.setdefault(_folded(folder), folder)
            if other != folder:
                raise ValueError(f"'{folder}' and '{other}' differ in upper and lower case alone")
        files.add(folded)
    if both := files & folders.keys():
        raise ValueError(f"'{min(both)}' is a file and a folder")


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def check_paths(path: Path, file: ProjectFile) -> None:
    """Check that a packed project names its images within its folder or beside it.

    Args:
        path: of the pack.
        file: the project's file in it.

    Raises:
        DataError: an image lies elsewhere.
    """
    for image in image_paths(file):
        if "://" in image:
            continue  # asked about when it is opened, see `io.known_servers`
        windows = PureWindowsPath(image)
        inner = image.replace("\\", "/").split("/")[1:]
        if image.startswith("/") or windows.drive or windows.root or ".." in inner:
            raise damaged(path, f"it names an image at '{image}', outside of its folder")


def image_paths(file: ProjectFile) -> Iterator[str]:
    """The paths of the images and labels in ``project.json``."""
    for volume in file.volumes:
        yield from (path for path in (volume.image, volume.labels) if path is not None)
