"""What a writer is: one file format that images of results are written in."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from napari_emda.data.array import Array
from napari_emda.data.block_runner import IN_TURN, BlockRunner
from napari_emda.data.voxel_grid import VoxelGrid
from napari_emda.errors import DataError
from napari_emda.events import TileDone
from napari_emda.registry import Registry


class Surface(NamedTuple):
    """The surface of an object.

    Attributes:
        corners: n x 3, x, y and z, in nm from the centre of the first voxel.
        triangles: m x 3, indices of corners, counterclockwise from outside.
    """

    corners: NDArray[np.float32]
    triangles: NDArray[np.int64]


@dataclass(frozen=True)
class NewImage:
    """An image to write.

    Attributes:
        channels: (z, y, x) arrays of one shape, read block by block; several become the axis c.
        dtype: of the file; values are cast.
        grid: of the voxels; where sections are independent, their distance is left out.
        volume: name for the events.
        labels: whether values are numbers of classes or objects, of which there is no mean.
        names: of the channels; empty if they have none.
        surfaces: of objects, by their number; for writers that take them.
        runner: writes the blocks, for writers `by_many`.
    """

    channels: Sequence[Array]
    dtype: np.dtype[Any]
    grid: VoxelGrid
    volume: str = ""
    labels: bool = False
    names: Sequence[str] = ()
    surfaces: Mapping[int, Surface] = field(default_factory=dict)
    runner: BlockRunner = IN_TURN

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of a channel."""
        z, y, x = self.channels[0].shape
        return z, y, x


class Writer(ABC):
    """Base of all writers. The first line of its docstring is its sentence in the documentation."""

    name: ClassVar[str]
    format: ClassVar[str]
    """The words of the file dialog."""
    suffixes: ClassVar[tuple[str, ...]]
    """Endings of its files, in lower case and with the dot; the usual one first."""
    rank: ClassVar[int] = 0
    """Writers of a higher rank come first in file dialogs."""
    library: ClassVar[str] = ""
    """The module that it needs and that only the extra ``formats`` installs."""
    takes_channels: ClassVar[bool] = False
    """Whether a file holds several channels."""
    takes_surfaces: ClassVar[bool] = False
    """Whether a file holds the surfaces of objects besides the image."""
    by_many: ClassVar[bool] = False
    """Whether several processes can write a result, each its own chunks."""
    small_ids: ClassVar[bool] = False
    """Whether numbers of objects take the smallest type that holds them, for the sake of ImageJ."""

    @classmethod
    def owns(cls, folder: Path) -> bool:
        """Whether a folder is an image of this format, so that it may be replaced as a whole."""
        return False

    @classmethod
    def lost(cls, grid: VoxelGrid) -> str:
        """What a file cannot state of the place of its voxels, as a sentence; empty if nothing."""
        return ""

    @classmethod
    @abstractmethod
    def write(cls, image: NewImage, path: Path) -> Generator[TileDone, None, None]:
        """Write an image, whole or not at all (`napari_emda.io.atomic`), also when stopped.

        Memory holds a block or a few sections.

        Args:
            image: to write; one channel unless the writer takes several.
            path: checked, with one of the endings; an existing file is replaced.

        Yields:
            An event per section or block; the last one when the file has its name.

        Raises:
            OSError: the disk is full or cannot be written.
        """


# The third name is the entry point group by which other packages add writers.
writers: Registry[type[Writer]] = Registry(
    "writer", "napari_emda.io.writers", "napari_emda.writers", Writer
)


def all_writers() -> list[type[Writer]]:
    """All writers, in the order of file dialogs."""
    # The sort is stable: writers of the same rank stay in the alphabetical order of their names.
    return sorted((writers[name] for name in writers.names()), key=lambda writer: -writer.rank)


def writer_of(path: Path) -> type[Writer] | None:
    """The writer of a file of this name; None if there is none."""
    name = path.name.lower()
    # "a.ome.tif" ends in ".tif", too.
    endings = {suffix: writer for writer in all_writers() for suffix in writer.suffixes}
    fitting = [suffix for suffix in endings if name.endswith(suffix)]
    return endings[max(fitting, key=len)] if fitting else None


def image_formats() -> dict[str, tuple[str, ...]]:
    """Endings of the images that can be written, by format; the usual one first."""
    return {writer.format: writer.suffixes for writer in all_writers()}


def check_library(writer: type[Writer]) -> None:
    """Raise DataError if a writer needs a library that is not installed."""
    if writer.library and find_spec(writer.library) is None:
        raise DataError(
            f"{writer.format} needs the library {writer.library}: install it with pip install "
            "'napari-emda[formats]', or choose another format."
        )
