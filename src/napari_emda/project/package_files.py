"""The files of a bioimage.io package, as a zip file or a folder; nothing is unpacked or executed.

Names in an archive must stay in it, sizes are counted while an entry is read, and arrays are read
without pickles.
"""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any, Protocol
from urllib.parse import urlsplit

import numpy as np
import yaml
from numpy.typing import NDArray

from napari_emda.data.names import in_print
from napari_emda.errors import JobError, naming
from napari_emda.io.safe_files import inside, read_file
from napari_emda.io.zip_damage import damage_as
from napari_emda.io.zip_file import open_zip

DESCRIPTIONS = ("rdf.yaml", "bioimageio.yaml", "model.yaml")
"""What says that a folder or zip file is a package of bioimage.io."""
# Bytes. Protocol buffers, which ONNX is, end at 2 GiB; a test image of 2048 x 2048 has 16 MB.
LARGEST_WEIGHTS = 2**31
_LARGEST_TEST = 2**28
_LARGEST_DESCRIPTION = 2**20
# Parts of a description; aliases of YAML could make billions of them out of a few lines.
_MOST_PARTS = 100_000
_STEP = 2**22


class PackageFiles(Protocol):
    """Where the files of a package are."""

    @property
    def name(self) -> str:
        """Of the package, for messages."""

    def read(self, name: str, largest: int) -> bytes:
        """The content of a file.

        Args:
            name: relative to the description, with ``/``.
            largest: bytes that are read at most.

        Raises:
            JobError: there is no such file, or it is larger.
        """

    def has(self, name: str) -> bool:
        """Whether there is a file of this name."""


class _InZip:
    def __init__(self, path: Path, archive: zipfile.ZipFile) -> None:
        self.name = in_print(path.name)
        self._archive = archive
        for entry in archive.namelist():
            if not _stays_inside(entry):
                raise JobError(
                    f"The package '{self.name}' holds '{in_print(entry[:200])}', which leads out "
                    "of it: do not use it."
                )

    def has(self, name: str) -> bool:
        return name in self._archive.NameToInfo

    def read(self, name: str, largest: int) -> bytes:
        if not self.has(name):
            raise _lacking(self.name, name)
        parts = []
        left = largest
        with self._archive.open(name) as file:
            # Counted while it is read: what an archive says of sizes may be a lie.
            while part := file.read(_STEP):
                left -= len(part)
                if left < 0:
                    raise _too_large(self.name, name, largest)
                parts.append(part)
        return b"".join(parts)


class _InFolder:
    def __init__(self, path: Path) -> None:
        self.name = in_print(path.name)
        self._path = path

    def _at(self, name: str) -> Path:
        return inside(self._path, *PurePosixPath(name).parts)

    def has(self, name: str) -> bool:
        return self._at(name).is_file()

    def read(self, name: str, largest: int) -> bytes:
        if not self.has(name):
            raise _lacking(self.name, name)
        path = self._at(name)
        if path.stat().st_size > largest:
            raise _too_large(self.name, name, largest)
        return read_file(path, largest)


@contextmanager
def package_files(path: Path) -> Iterator[PackageFiles]:
    """The files of a package, while the block runs.

    Args:
        path: of a zip file or a folder.

    Raises:
        JobError: it is damaged, or a name in it leads elsewhere.
        OSError: it cannot be read.
    """
    if path.is_dir():
        yield _InFolder(path)
        return

    def damaged(_: str) -> JobError:
        return JobError(
            f"The package '{in_print(path.name)}' is damaged: copy or download it again."
        )

    with naming(path), damage_as(damaged), open_zip(path) as archive:
        yield _InZip(path, archive)


def is_package(path: Path) -> bool:
    """Whether a path is a zip file or folder with a description of a model."""
    if path.is_dir():
        return any((path / name).exists() for name in DESCRIPTIONS)
    if path.suffix.lower() != ".zip" or not path.is_file():
        return False
    with package_files(path) as files:
        return any(map(files.has, DESCRIPTIONS))


def description_of(files: PackageFiles) -> dict[str, Any]:
    """The description of a package, as YAML has it.

    Raises:
        JobError: there is none, or it is damaged.
    """
    name = next(filter(files.has, DESCRIPTIONS), None)
    if name is None:
        raise JobError(
            f"'{files.name}' holds no description of a model ({DESCRIPTIONS[0]}): choose a package "
            "of bioimage.io or of napari-emda."
        )
    content = files.read(name, _LARGEST_DESCRIPTION)
    try:
        values = yaml.safe_load(content)
        _count(values, [0])
    except (yaml.YAMLError, ValueError, RecursionError):
        values = None
    if not isinstance(values, dict):
        raise JobError(
            f"The description '{name}' in '{files.name}' is damaged: copy or download the package "
            "again."
        )
    return values


def _count(values: Any, counted: list[int]) -> None:
    """ValueError if a description has too many parts, counted where they are used again."""
    counted[0] += 1
    if counted[0] > _MOST_PARTS:
        raise ValueError
    if isinstance(values, dict | list):
        for value in values.values() if isinstance(values, dict) else values:
            _count(value, counted)


def source_of(entry: Any) -> tuple[str, str]:
    """The name and, if it is given, the SHA-256 of a file, as descriptions of any version have it.

    Raises:
        ValueError: it is an address, or no name; says so as the end of a sentence.
    """
    source = entry.get("source") if isinstance(entry, dict) else entry
    digest = str(entry.get("sha256") or "") if isinstance(entry, dict) else ""
    if not isinstance(source, str) or not source:
        raise ValueError("does not name its files")
    if len(urlsplit(source).scheme) > 1:
        raise ValueError("lies partly at an address: download it as a zip file")
    name = str(PurePosixPath(source))
    if not _stays_inside(name):
        raise ValueError("names a file that lies elsewhere")
    return name, digest


def read_checked(files: PackageFiles, entry: Any, largest: int = LARGEST_WEIGHTS) -> bytes:
    """A file that a description names, compared with the SHA-256 that it states.

    Raises:
        JobError: there is no such file, or it is another one.
        ValueError: as of `source_of`.
    """
    name, digest = source_of(entry)
    content = files.read(name, largest)
    if digest and hashlib.sha256(content).hexdigest() != digest.lower():
        raise JobError(
            f"'{in_print(name)}' in '{files.name}' is not the file that its description means "
            "(SHA-256): download the package again."
        )
    return content


def read_array(files: PackageFiles, entry: Any) -> NDArray[np.float32]:
    """A test tensor, as float32.

    Raises:
        JobError: there is none, or it is no array of numbers.
        ValueError: as of `source_of`.
    """
    content = read_checked(files, entry, _LARGEST_TEST)
    try:
        file = io.BytesIO(content)
        version = np.lib.format.read_magic(file)
        read_header = (
            np.lib.format.read_array_header_1_0
            if version == (1, 0)
            else np.lib.format.read_array_header_2_0
        )
        shape, _, dtype = read_header(file)
        # Compared before anything is allocated: a shape may say anything.
        size = dtype.itemsize
        for length in shape:
            size *= length
        if dtype.kind not in "biuf" or size != len(content) - file.tell():
            raise ValueError
        array = np.load(io.BytesIO(content), allow_pickle=False)
    # numpy parses the header as Python source.
    except (ValueError, TypeError, SyntaxError, OverflowError, EOFError):
        raise JobError(
            f"The test image '{in_print(source_of(entry)[0])}' in '{files.name}' is damaged: "
            "download the package again."
        ) from None
    return np.asarray(array, np.float32)


def _stays_inside(name: str) -> bool:
    """Whether the name of an entry leads nowhere but into its archive, on every system."""
    parts = PurePosixPath(name).parts
    has_drive = len(name) > 1 and name[1] == ":"
    return not (name.startswith("/") or "\\" in name or ".." in parts or has_drive)


def _lacking(package: str, name: str) -> JobError:
    return JobError(
        f"The package '{package}' lacks '{in_print(name)}', which its description names: download "
        "it again."
    )


def _too_large(package: str, name: str, largest: int) -> JobError:
    return JobError(
        f"'{in_print(name)}' in the package '{package}' is larger than {largest // 2**20} MiB: "
        "choose another model."
    )
