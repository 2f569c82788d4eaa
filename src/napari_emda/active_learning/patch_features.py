"""What a network says of a volume, block by block, gathered over patches."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray
from torch import Tensor

from napari_emda.active_learning.block_outputs import BlockOutputs
from napari_emda.active_learning.candidates import Candidates, Embeddings, Scores
from napari_emda.data.array import Array
from napari_emda.data.blocks import block_shape, blocks
from napari_emda.data.box import Box
from napari_emda.data.prefetch import prefetched
from napari_emda.data.resampled import Resampled
from napari_emda.data.volume import Volume
from napari_emda.events import Event, TileDone
from napari_emda.inference.predictor import Predictor, to_bytes
from napari_emda.inference.tiles import Tile, finish_tile, make_tile, plan, read_tile
from napari_emda.settings.prediction import PredictSettings


class WindowPooling:
    """Means (and maxima) of maps over windows in sections, gathered from the blocks of the maps.

    Args:
        bounds: first section, one past the last, then the same of rows and columns: n x 6 integers.
        channels: of the maps, D.
        maxima: whether to keep these too.
    """

    def __init__(
        self, bounds: NDArray[np.int64], channels: int = 1, *, maxima: bool = False
    ) -> None:
        self._bounds = bounds
        self._counts = np.zeros(len(bounds), np.int64)
        # float32 and side by side, since there may be a hundred thousand windows of a thousand channels
        self._gathered = np.zeros(
            (len(bounds), channels * (1 + maxima)), np.float32 if maxima else np.float64
        )
        self._sums, self._maxima = self._gathered[:, :channels], self._gathered[:, channels:]
        self._maxima[:] = -np.inf

    def add(self, values: NDArray[np.float32], z: int, y: int, x: int) -> None:
        """Count a block of one section, D x rows x columns, whose first pixel is (z, y, x)."""
        _, height, width = values.shape
        (hit,) = np.nonzero((self._bounds[:, 0] <= z) & (z < self._bounds[:, 1]))
        inside = np.clip(self._bounds[hit, 2:] - (y, y, x, x), 0, (height, height, width, width))
        some = (inside[:, 1] > inside[:, 0]) & (inside[:, 3] > inside[:, 2])
        hit, (a, b, c, d) = hit[some], inside[some].T
        integral = np.pad(values.cumsum(1, dtype=np.float64).cumsum(2), ((0, 0), (1, 0), (1, 0)))
        self._sums[hit] += (
            integral[:, b, d] - integral[:, a, d] - integral[:, b, c] + integral[:, a, c]
        ).T
        self._counts[hit] += (b - a) * (d - c)
        if self._maxima.size:
            self._maximise(self._maxima, values, hit, np.stack([a, b, c, d], axis=1))

    @staticmethod
    def _maximise(
        maxima: Embeddings,
        values: NDArray[np.float32],
        hit: NDArray[np.int64],
        inside: NDArray[np.int64],
    ) -> None:
        """Over rows first, which many windows share, then over columns."""
        bands, band = np.unique(inside[:, :2], axis=0, return_inverse=True)
        for number, (a, b) in enumerate(bands):
            columns = values[:, a:b].max(1)
            for row in np.flatnonzero(band == number):
                c, d = inside[row, 2:]
                np.maximum(maxima[hit[row]], columns[:, c:d].max(1), out=maxima[hit[row]])

    @property
    def means(self) -> Scores:
        """Mean over each window, n x D; NaN where nothing was counted."""
        with np.errstate(invalid="ignore"):
            return self._sums / self._counts[:, None]

    def embeddings(self) -> Embeddings:
        """Mean and maximum over each window as one vector of length 1, n x 2 D float32; ends the gathering."""
        self._sums /= np.maximum(self._counts, 1)[:, None]
        self._gathered /= np.maximum(np.linalg.norm(self._gathered, axis=1, keepdims=True), 1e-12)
        return self._gathered


def windows_of(candidates: Candidates, boxes: list[Box]) -> NDArray[np.int64]:
    """Bounds of the candidates and then of some boxes, n x 6."""
    sides = np.array((1, candidates.patch, candidates.patch))
    own = np.stack([candidates.starts, candidates.starts + sides], axis=2).reshape(-1, 6)
    return np.concatenate([own, np.array([box.bounds for box in boxes], np.int64).reshape(-1, 6)])


def means_of(stored: Array, candidates: Candidates) -> Scores:
    """Mean of a uint8 (z, y, x) array over each candidate, 255 as 1; read block by block."""
    windows = WindowPooling(windows_of(candidates, []))
    wanted = set(candidates.starts[:, 0].tolist())
    for block in blocks(Box.whole(stored.shape), block_shape(stored)):
        if wanted.isdisjoint(range(block.start[0], block.stop[0])):
            continue
        for z, section in enumerate(np.asarray(stored[block.slices]), block.start[0]):
            if z in wanted:
                windows.add(section[None].astype(np.float32), z, *block.start[1:])
    return windows.means[:, 0] / 255


@dataclass(frozen=True)
class PatchFeatures:
    """What a patch_features gathered: of the candidates, then of the boxes.

    Attributes:
        uncertainty: mean over each window, n + m; NaN where it was not measured.
        embeddings: (n + m) x 2 D; None when they were not asked for.
    """

    uncertainty: Scores
    embeddings: Embeddings | None


def patch_features(
    predictor: Predictor,
    volume: Volume,
    windows: NDArray[np.int64],
    *,
    uncertainty: Callable[[BlockOutputs], Tensor | None],
    embeddings: bool,
    seed: int,
    earlier: Predictor | None = None,
    keep: zarr.Array[Any] | None = None,
) -> Generator[Event, None, PatchFeatures]:
    """Pool uncertainty and embeddings over windows, block by block.

    Args:
        predictor: the model.
        volume: its image is read block by block, with a halo.
        windows: bounds in voxels, n x 6, as of `windows_of`.
        uncertainty: of a block, B x H x W between 0 and 1, or None.
        embeddings: whether to describe the windows by the network's bottleneck.
        seed: of dropout.
        earlier: the model of the round before.
        keep: uint8 (z, y, x) array that takes 255 times the uncertainty.

    Yields:
        TileDone after each block.
    """
    view, network = Resampled(volume, predictor.header.pixel_size), predictor.network
    tiles = _needed(view, plan(view, network, PredictSettings()), windows, predictor)
    statistics, domain = predictor.statistics_of(volume), predictor.domain_of(volume)
    pooled = WindowPooling(windows)
    cells = _cells(view, windows, network.stride) if embeddings else windows[:0]
    described = WindowPooling(cells, network.widths[-1], maxima=True)
    images = prefetched(lambda i: read_tile(view, tiles[i], statistics), 0, len(tiles), ahead=2)
    try:
        for number, (tile, image) in enumerate(zip(tiles, images, strict=True), 1):
            on_device = image.to(predictor.compute.device)
            outputs = BlockOutputs(predictor, on_device, domain, (seed, *tile.core.start), earlier)
            if (values := uncertainty(outputs)) is not None:
                values = finish_tile(view, tile, values.unsqueeze(1))
                _add(pooled, values, tile.native)
                if keep is not None:
                    keep[tile.native.slices] = to_bytes(values[:, 0])
            if embeddings:
                _add(described, *_core_cells(outputs.bottleneck, tile, network.stride))
            yield TileDone(volume.name, tile.native.bounds, number, len(tiles))
    finally:
        images.close()
    return PatchFeatures(pooled.means[:, 0], described.embeddings() if embeddings else None)


def _add(windows: WindowPooling, maps: Tensor, box: Box) -> None:
    for z, values in enumerate(maps.cpu().numpy(), box.start[0]):
        windows.add(values, z, *box.start[1:])


def _needed(
    view: Resampled, tiles: list[Tile], windows: NDArray[np.int64], predictor: Predictor
) -> list[Tile]:
    """The tiles that hold a part of a window; where not all of their sections do, one for each section that does."""
    network, kept = predictor.network, []
    for tile in tiles:
        z0, z1, y0, y1, x0, x1 = tile.native.bounds
        plane = (
            (windows[:, 2] < y1)
            & (windows[:, 3] > y0)
            & (windows[:, 4] < x1)
            & (windows[:, 5] > x0)
        )
        spans = np.unique(windows[plane, :2], axis=0)
        sections = [z for z in range(z0, z1) if ((spans[:, 0] <= z) & (z < spans[:, 1])).any()]
        if len(sections) == z1 - z0:
            kept.append(tile)
            continue
        (_, *low), (_, *high) = tile.core.start, tile.core.stop
        kept += [
            make_tile(
                view,
                Box((z, low[0], low[1]), (z + 1, high[0], high[1])),
                network.halo,
                network.stride,
            )
            for z in sections
        ]
    return kept


def _cells(view: Resampled, windows: NDArray[np.int64], stride: int) -> NDArray[np.int64]:
    """Windows of voxels as windows of bottleneck cells: those whose centres lie inside, at least one a side."""
    cells = windows.copy()
    for axis in (0, 1):
        low, high = 2 + 2 * axis, 3 + 2 * axis
        scale, size = view.scale[axis] / stride, -(-view.shape[1 + axis] // stride)
        cells[:, low] = np.minimum(np.ceil(windows[:, low] * scale - 0.5 - 1e-9), size - 1)
        cells[:, high] = np.clip(
            np.ceil(windows[:, high] * scale - 0.5 - 1e-9), cells[:, low] + 1, size
        )
    return cells


def _core_cells(bottleneck: Tensor, tile: Tile, stride: int) -> tuple[Tensor, Box]:
    """The cells of a tile's core, and where they lie among those of the volume."""
    (z0, *low), (z1, *high) = tile.core.start, tile.core.stop
    first, last = [a // stride for a in low], [-(-b // stride) for b in high]
    (y, x) = (a // stride for a in tile.seen.start[1:])
    box = Box((z0, first[0], first[1]), (z1, last[0], last[1]))
    return bottleneck[..., first[0] - y : last[0] - y, first[1] - x : last[1] - x], box
