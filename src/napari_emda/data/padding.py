"""Padding: constant borders that alignment or stitching has put around the tissue."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation, binary_opening

from napari_emda.data.blocks import R2_STEPS, spread
from napari_emda.data.box import Box
from napari_emda.data.edges import mirrored
from napari_emda.data.volume import Volume

# From this share of the pixels on, a constant is padding. A detector that reaches 0 has a few of
# them, too.
PADDED_SHARE = 0.01
# Windows that are searched for padding, and their side in voxels: half a million voxels.
_WINDOWS = 8
_SIDE = 256
# Length in voxels that is read of an edge: chunks along it are decoded for the sake of few voxels.
_EDGE = 4096
# Share of the pixels at the edges of sections that padding takes at least. Blank resin and
# saturated vessels within the tissue are no padding.
_EDGE_SHARE = 0.02
# Side in voxels of the squares of which padding consists. Tissue has noise, so single pixels of the
# same grey value in it, which may be the inside of a mitochondrion, form no such square.
_SQUARE = 7
# Pixels beside padding that resampling may have mixed with it.
_RIM = 2
# Share of padding in a patch from which on it is not worth annotating: a few rows at its rim are.
MOST_PADDING = 0.1
# Relative difference up to which grey values are equal: resampling rounds in float32.
_ROUNDING = 1e-5


def padding_of(volume: Volume) -> tuple[float, ...]:
    """The grey values of a volume's padding, in ascending order; empty if it has none.

    A grey value is padding if squares of it make up more than one pixel in a hundred, and two in a
    hundred along the edges of sections. Independent images have no padding. At most half a million
    voxels are read, evenly spread, and the edges of eight sections.
    """
    if volume.grid.sections_are_independent:
        return ()
    edges = np.concatenate([_edges(volume, z) for z in _sections(volume.shape[0])])
    found, counts = np.unique(edges, return_counts=True)
    # Noise spreads over many grey values, of which few are frequent enough to be searched for.
    frequent = found[counts > _EDGE_SHARE * edges.size]
    windows = [volume.read(box)[0] for box in spread(Box.whole(volume.shape), _WINDOWS, _SIDE)]
    pixels = sum(window.size for window in windows)
    shares = {
        grey: sum(int(_squares(window == grey).sum()) for window in windows) / pixels
        for grey in frequent.tolist()
    }
    padding = {grey: share for grey, share in shares.items() if share > PADDED_SHARE}
    # An image that is nearly constant all over is blank or drawn, and nothing of it is tissue.
    return tuple(padding) if sum(padding.values()) < 1 - PADDED_SHARE else ()


def _sections(depth: int) -> list[int]:
    return sorted({int(z) for z in np.linspace(0, depth - 1, min(depth, _WINDOWS)).round()})


def _edges(volume: Volume, z: int) -> NDArray[np.float32]:
    """Grey values along the four edges of a section; of long edges, in a part of them."""
    _, rows, columns = volume.shape
    # Another part in each section.
    height = min(rows, _EDGE)
    width = min(columns, _EDGE)
    y = round((0.5 + z * R2_STEPS[0]) % 1 * (rows - height))
    x = round((0.5 + z * R2_STEPS[1]) % 1 * (columns - width))
    strips = [
        Box((z, 0, x), (z + 1, 1, x + width)),
        Box((z, rows - 1, x), (z + 1, rows, x + width)),
        Box((z, y, 0), (z + 1, y + height, 1)),
        Box((z, y, columns - 1), (z + 1, y + height, columns)),
    ]
    return np.concatenate([volume.read(strip).ravel() for strip in strips])


def _squares(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The parts of a mask (rows x columns) into which a square fits."""
    return np.asarray(binary_opening(mask, np.ones((_SQUARE, _SQUARE), bool)))


def is_padding(values: NDArray[np.float32], greys: tuple[float, ...]) -> NDArray[np.bool_]:
    """Which grey values of any shape are those of padding, up to the rounding of resampling."""
    mask = np.zeros(values.shape, bool)
    for grey in greys:
        mask |= np.abs(values - np.float32(grey)) <= _ROUNDING * abs(grey)
    return mask


def padding_and_rim(window: NDArray[np.float32], greys: tuple[float, ...]) -> NDArray[np.bool_]:
    """Which pixels of a part of a section are padding, or lie beside it.

    Args:
        window: rows x columns, perhaps resampled, which mixes the pixels at the rim of the padding
            with the tissue beside them.
        greys: of the padding, see `padding_of`.
    """
    equal = is_padding(window, greys)
    if not equal.any():
        return equal
    # Padding that the window cuts is as wide beyond it.
    margin = _SQUARE - 1
    squares = _squares(np.pad(equal, margin, mode="edge"))[margin:-margin, margin:-margin]
    return np.asarray(binary_dilation(squares, iterations=_RIM))


def padding_in(volume: Volume, box: Box, greys: tuple[float, ...]) -> NDArray[np.bool_]:
    """Which voxels of a box are padding, (z, y, x).

    Args:
        volume: at its own pixel size, or a part of one that is held at another.
        box: inside the volume.
        greys: of its padding, see `padding_of`.
    """
    if not greys:
        return np.zeros(box.shape, bool)
    # With a margin, so that blocks of any size find the same squares; mirrored outside the volume.
    margin = _SQUARE - 1
    z0, z1, y0, y1, x0, x1 = box.bounds
    around = Box((z0, y0 - margin, x0 - margin), (z1, y1 + margin, x1 + margin))
    inside, index = mirrored(around, volume.shape)
    image = volume.read(inside)[index]
    marked = np.zeros(around.shape, bool)
    for grey in greys:
        for section, found in zip(image, marked, strict=True):
            equal = is_padding(section, (grey,))
            if equal.any():
                found |= _squares(equal)
    return marked[:, margin:-margin, margin:-margin]


class PatchPadding:
    """Which patches of a volume hold more padding than is worth annotating.

    Args:
        volume: at its own pixel size.

    Attributes:
        greys: grey values of its padding; if empty, no patch is read.
    """

    def __init__(self, volume: Volume) -> None:
        self.greys = padding_of(volume)
        self._volume = volume

    def too_much(self, box: Box) -> bool:
        """Whether more than a tenth of a patch is padding."""
        if not self.greys:
            return False
        return bool(padding_in(self._volume, box, self.greys).mean() > MOST_PADDING)

    def too_much_in(self, starts: NDArray[np.int64], patch: int) -> NDArray[np.bool_]:
        """The same for many patches at once; every section that holds one is read once.

        Args:
            starts: first voxels (z, y, x), n x 3.
            patch: side of all patches in voxels.
        """
        found = np.zeros(len(starts), bool)
        for z in np.unique(starts[:, 0]).tolist() if self.greys else ():
            here = np.flatnonzero(starts[:, 0] == z)
            _, y, x = starts[here].T
            box = Box(
                (z, int(y.min()), int(x.min())), (z + 1, int(y.max()) + patch, int(x.max()) + patch)
            )
            padding = padding_in(self._volume, box, self.greys)[0]
            # With the sums over all rectangles that begin at the corner, four numbers give the sum
            # over any other.
            sums = np.pad(padding.cumsum(0).cumsum(1), ((1, 0), (1, 0)))
            top = y - box.start[1]
            left = x - box.start[2]
            bottom = top + patch
            right = left + patch
            counts = sums[bottom, right] - sums[top, right] - sums[bottom, left] + sums[top, left]
            found[here] = counts > MOST_PADDING * patch**2
        return found
