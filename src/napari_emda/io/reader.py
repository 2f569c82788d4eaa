"""What a reader is: one file format that images and labels are opened from."""

from __future__ import annotations

from abc import ABC, abstractmethod
from importlib.util import find_spec
from pathlib import Path
from typing import ClassVar

from napari_emda.data.names import is_utf8
from napari_emda.errors import DataError, listed
from napari_emda.io.description import description
from napari_emda.io.identity import files_in
from napari_emda.io.location import WHOLE, Part, axis_word, located
from napari_emda.io.units import Stored
from napari_emda.registry import Registry


class Reader(ABC):
    """Base of all readers. The first line of its docstring is its sentence in the documentation."""

    name: ClassVar[str]
    formats: ClassVar[tuple[str, ...]]
    """What it reads, in the words of "choose TIFF, PNG or a folder of sections"."""
    suffixes: ClassVar[tuple[str, ...]] = ()
    """Endings of its files, in lower case and with the dot."""
    sections: ClassVar[bool] = False
    """Whether its files may be the sections of a folder."""
    rank: ClassVar[int] = 0
    """Readers of a higher rank are asked first whether they take a path."""
    library: ClassVar[str] = ""
    """The module that it needs and that only the extra ``formats`` installs; imported in `open`."""
    builds: ClassVar[str] = ""
    """Where there are builds of that library, if not everywhere, in the words of a message."""
    voxel_size: ClassVar[str] = ""
    """Where the file states the voxel size, in the words of the documentation."""
    lazily: ClassVar[str] = "yes"
    """Whether voxels are read where they are sliced, in the words of the documentation."""

    @classmethod
    def takes(cls, path: Path) -> bool:
        """Whether this reader opens an existing path; by default, a file with one of its endings.

        May look into the file or folder, but must be quick: all readers are asked.
        """
        return path.is_file() and path.name.lower().endswith(cls.suffixes)

    @classmethod
    def files(cls, path: Path) -> list[Path]:
        """The files that an image consists of: by default the file, or all in the folder.

        Args:
            path: one that the reader takes.
        """
        return sorted(files_in(path)) if path.is_dir() else [path]

    @classmethod
    @abstractmethod
    def open(cls, path: Path) -> Stored:
        """Open a file or folder without reading its voxels.

        Args:
            path: one that the reader takes.

        Returns:
            The (z, y, x) array in the file's dtype, read where it is sliced (a single image is one
            section), and the voxel size if it is stated.

        Raises:
            DataError: damaged, in colour, or not a volume: one sentence with the remedy.
        """

    @classmethod
    def open_part(cls, path: Path, part: Part) -> Stored:
        """Open one of the images in a file, for formats that hold several.

        Args:
            path: as in `open`.
            part: which of them; never empty.

        Raises:
            DataError: as in `open`, or the file has no such part.
        """
        raise DataError(
            f"{path.name} is one image, in which '{part}' chooses nothing: leave that out."
        )


class MultiImageReader(Reader):
    """Base of readers of formats that hold several images, channels or times.

    They say in `open_part` alone how a file is opened.
    """

    @classmethod
    def open(cls, path: Path) -> Stored:
        """The only image of a file, see `Reader.open`; DataError if there are several."""
        return cls.open_part(path, WHOLE)

    @classmethod
    @abstractmethod
    def open_part(cls, path: Path, part: Part) -> Stored:
        """Open an image of a file; ``part`` is empty if nothing is chosen. See `Reader`."""


# The third name is the entry point group by which other packages add readers.
readers: Registry[type[Reader]] = Registry(
    "reader", "napari_emda.io.readers", "napari_emda.readers", Reader
)


def all_readers() -> list[type[Reader]]:
    """All readers, in the order in which they are asked."""
    # The sort is stable: readers of the same rank stay in the alphabetical order of their names.
    return sorted((readers[name] for name in readers.names()), key=lambda reader: -reader.rank)


# Endings that folders of images have as a rule.
_FOLDERS = (".sharded.zarr", ".zarr", ".precomputed")


def volume_name(path: Path) -> str:
    """The name of a file or folder without the ending of its format, and of the part of it.

    >>> volume_name(Path("2024.05.12_brain.ome.tif"))
    '2024.05.12_brain'
    """
    location = located(path)
    name = _without_suffix(location.file.name)
    inside = location.part.inside.rpartition("/")[2]
    chosen = (f"{axis_word(axis)}{number}" for axis, number in location.part.at.items())
    return "_".join(filter(None, [name, inside, *chosen]))


def _without_suffix(name: str) -> str:
    # Folders are recognised by their content, so no reader lists their endings.
    for suffix in (*_FOLDERS, *(suffix for reader in all_readers() for suffix in reader.suffixes)):
        if name.lower().endswith(suffix):
            name = name[: -len(suffix)]
            return name[:-4] if name.lower().endswith(".ome") else name
    return name


def reader_of(path: Path) -> type[Reader]:
    """The reader that takes a path.

    Raises:
        DataError: the path does not exist, or no reader takes it; the message
            lists all formats.
    """
    # A project and its jobs name the file in texts.
    if not is_utf8(str(path.absolute())):
        raise DataError(
            f"The path '{path}' holds characters that are no UTF-8: rename the file or its folder."
        )
    if not path.exists():
        raise DataError(f"{path} does not exist: check the name, or mount the disk it is on.")
    _check_known(path)
    for reader in all_readers():
        if reader.takes(path):
            return reader
    formats = [name for reader in all_readers() for name in reader.formats]
    raise DataError(
        f"{path.name} has a format that cannot be opened: choose {listed(formats, 'or')}."
    )


def check_library(reader: type[Reader], file: Path) -> None:
    """Raise DataError if a reader needs a library that is not installed."""
    if reader.library and find_spec(reader.library) is None:
        builds = f" (there are builds for {reader.builds})" if reader.builds else ""
        raise DataError(
            f"{file.name} is {reader.formats[0]}, which needs the library {reader.library}: "
            f"install it with pip install 'napari-emda[formats]'{builds}."
        )


def _check_known(path: Path) -> None:
    """Raise DataError for a format that only other programs read, with the way out."""
    if path.is_dir() and "dataLayers" in description(path / "datasource-properties.json"):
        raise DataError(
            f"{path.name} is a WEBKNOSSOS folder, of which layers in zarr can be opened, such as "
            f"{path.name}/color/1, but none in WKW: convert it to OME-Zarr first."
        )
