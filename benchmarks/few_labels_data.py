"""The volumes of `few_labels.py`: the training part, the scored part, and the labelled sections."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from benchmarks.adaptation import GUARD
from napari_emda.data.box import Box
from napari_emda.data.voxel_grid import VoxelGrid
from napari_emda.io.tiff import write_tiff

CLASSES = ("background", "structure")
Spacing = tuple[float, float, float]


@dataclass(frozen=True)
class Data:
    """A volume or a stack of fields.

    Attributes:
        image, labels: files.
        spacing: z, y, x in nm; of fields, whose size is not known, any.
        binning: pixels averaged in the plane.
        shares: of the sections or fields that are labelled, in per cent.
        clusters: how many to look for without labels.
        fields: whether the first axis counts independent images.
        settings: of every training on it.
    """

    image: str
    labels: str
    spacing: Spacing
    binning: int
    shares: tuple[int, ...]
    clusters: tuple[int, ...]
    fields: bool = False
    settings: tuple[str, ...] = ()


DATA = {
    "vnc": Data(
        "vnc/image.tif", "vnc/mitochondria.tif", (50.0, 4.6, 4.6), 4, (5, 10, 25, 50), (8, 24)
    ),
    "lucchi": Data(
        "lucchi/image_every4.tif",
        "lucchi/mitochondria_every4.tif",
        (20.0, 5.0, 5.0),
        4,
        (5, 10, 25, 50),
        (8, 24),
    ),
    # Chosen on fields set aside among those that are learnt from: strong augmentation was worth
    # 0.013 with two labelled
    "nuclei": Data(
        "nuclei_hoechst/image.tif",
        "nuclei_hoechst/nuclei.tif",
        (1.0, 1.0, 1.0),
        2,
        (10, 25, 50),
        (2, 8),
        fields=True,
        settings=("augmentation=strong",),
    ),
}


@dataclass(frozen=True)
class Split:
    """A binned volume on disk: ``learnt`` is the part for training, ``scored`` the other.

    Depth: upper and lower half of the rows, with a guard between. Fields: every second one, moved
    to the front.
    """

    data: Data
    image: Path
    truth: Path
    learnt: Box
    scored: Box

    @property
    def flags(self) -> tuple[str, ...]:
        """Options of the command ``new``."""
        return ("--independent",) if self.data.fields else ()

    def read(self, path: Path, box: Box) -> NDArray[np.uint8]:
        """The part of a file inside a box."""
        return np.asarray(tifffile.imread(path))[box.slices]

    def labelled(self, folder: Path, share: int, seed: int) -> tuple[Path, Path, int]:
        """Image and labels of a fraction of the training part as files, and the section count.

        They are drawn by the seed; a larger share holds all of a smaller one.
        """
        sections = self.learnt.shape[0]
        count = max(1, round(sections * share / 100))
        chosen = np.sort(np.random.default_rng(seed).permutation(sections)[:count])
        paths = folder / "labelled.tif", folder / "labels.tif"
        for path, whole in zip(paths, (self.image, self.truth), strict=True):
            write(path, self.read(whole, self.learnt)[chosen], self.data)
        return *paths, count


def text(box: Box) -> str:
    """A box in the notation of the settings."""
    return ",".join(f"{a}:{b}" for a, b in zip(box.start, box.stop, strict=True))


def split(data: Path, work: Path, name: str) -> Split:
    """The volume with its halves; binned and written the first time."""
    entry = DATA[name]
    paths = work / "data" / f"{name}.tif", work / "data" / f"{name}_labels.tif"
    paths[0].parent.mkdir(parents=True, exist_ok=True)
    for path, file in zip(paths, (entry.image, entry.labels), strict=True):
        if not path.exists():
            mean = _binned(tifffile.imread(data / file), entry.binning)
            small = mean >= 0.5 if file == entry.labels else mean.round()
            write(path, _in_order(small.astype(np.uint8), entry), entry)
    sections, height, width = tifffile.TiffFile(paths[0]).series[0].shape
    if entry.fields:
        half = -(-sections // 2)
        return Split(
            entry,
            *paths,
            Box((0, 0, 0), (half, height, width)),
            Box((half, 0, 0), (sections, height, width)),
        )
    half, guard = height // 2, GUARD // entry.binning
    learnt, scored = (0, 0, 0), (0, half + guard, 0)
    return Split(
        entry, *paths, Box(learnt, (sections, half, width)), Box(scored, (sections, height, width))
    )


def write(path: Path, array: NDArray[np.uint8], entry: Data) -> None:
    """Write a TIFF with the voxel size of the binned volume, atomically."""
    z, y, x = entry.spacing
    spacing = (z, y * entry.binning, x * entry.binning)
    beside = path.with_name(f"part-{path.name}")
    write_tiff(beside, iter(array), array.shape, array.dtype, VoxelGrid(spacing))
    beside.replace(path)


def _binned(array: NDArray[Any], times: int) -> NDArray[np.float64]:
    sections, height, width = array.shape
    blocks = array.reshape(sections, height // times, times, width // times, times)
    return np.asarray(blocks.mean((2, 4)))


def _in_order(array: NDArray[np.uint8], entry: Data) -> NDArray[np.uint8]:
    return np.concatenate([array[::2], array[1::2]]) if entry.fields else array
