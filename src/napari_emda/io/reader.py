"""What a reader is: one file format that images and labels are opened from."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import ClassVar

from napari_emda.errors import DataError
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

    @classmethod
    def takes(cls, path: Path) -> bool:
        """Whether this reader opens an existing path; by default, a file with one of its endings.

        May look into the file or folder, but must be quick: all readers are asked.
        """
        return path.is_file() and path.name.lower().endswith(cls.suffixes)

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


# The third name is the entry point group by which other packages add readers.
readers: Registry[type[Reader]] = Registry(
    "reader", "napari_emda.io.readers", "napari_emda.readers", Reader
)


def all_readers() -> list[type[Reader]]:
    """All readers, in the order in which they are asked."""
    # The sort is stable: readers of the same rank stay in the alphabetical order of their names.
    return sorted((readers[name] for name in readers.names()), key=lambda reader: -reader.rank)


def reader_of(path: Path) -> type[Reader]:
    """The reader that takes a path.

    Raises:
        DataError: the path does not exist, or no reader takes it; the message lists all formats.
    """
    if not path.exists():
        raise DataError(f"{path} does not exist: check the name, or mount the disk it is on.")
    for reader in all_readers():
        if reader.takes(path):
            return reader
    formats = [name for reader in all_readers() for name in reader.formats]
    choices = f"{', '.join(formats[:-1])} or {formats[-1]}"
    raise DataError(f"{path.name} has a format that cannot be opened: choose {choices}.")
