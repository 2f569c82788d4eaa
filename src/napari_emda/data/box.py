"""Boxes of voxels."""

from __future__ import annotations

import math
from dataclasses import dataclass

from napari_emda.errors import DataError


@dataclass(frozen=True, order=True)
class Box:
    """A half-open box of voxels: ``start`` and ``stop`` as (z, y, x)."""

    start: tuple[int, int, int]
    stop: tuple[int, int, int]

    @classmethod
    def whole(cls, shape: tuple[int, ...]) -> Box:
        """The box of a whole (z, y, x) array."""
        return cls((0, 0, 0), (shape[0], shape[1], shape[2]))

    @classmethod
    def parse(cls, text: str, shape: tuple[int, ...]) -> Box:
        """Read ``z0:z1,y0:y1,x0:x1``; an empty end is the volume's.

        Raises:
            DataError: the text is not a box, or the box leaves the volume.
        """
        # One handler for all mistakes: wrong number of axes or ends, and text that is no number.
        try:
            axes = [axis.split(":") for axis in (text or ":,:,:").split(",")]
            (z0, z1), (y0, y1), (x0, x1) = axes
            start = tuple(int(end) if end.strip() else 0 for end in (z0, y0, x0))
            stop = tuple(
                int(end) if end.strip() else n for end, n in zip((z1, y1, x1), shape, strict=True)
            )
        except ValueError:
            raise DataError(f"'{text}' is not a box: write z0:z1,y0:y1,x0:x1 in voxels.") from None
        whole = cls.whole(shape)
        if any(low >= high for low, high in zip(start, stop, strict=True)):
            raise DataError(
                f"The box {text} holds no voxel, because an end is not behind its beginning: "
                f"choose one inside {whole}."
            )
        if any(low < 0 or high > n for low, high, n in zip(start, stop, shape, strict=True)):
            raise DataError(
                f"The box {text} does not lie in the volume: choose one inside {whole}."
            )
        return cls(start, stop)  # type: ignore[arg-type]

    @classmethod
    def from_bounds(cls, bounds: tuple[int, ...] | list[int]) -> Box:
        """From z0, z1, y0, y1, x0, x1."""
        z0, z1, y0, y1, x0, x1 = bounds
        return cls((z0, y0, x0), (z1, y1, x1))

    def in_sections(self, first: int, stop: int) -> Box:
        """The same rows and columns, in sections ``first`` to ``stop - 1``."""
        return Box((first, *self.start[1:]), (stop, *self.stop[1:]))

    def grown(self, by: int) -> Box:
        """The box with so many more rows and columns on all four sides, in the same sections."""
        z0, z1, y0, y1, x0, x1 = self.bounds
        return Box((z0, y0 - by, x0 - by), (z1, y1 + by, x1 + by))

    @property
    def bounds(self) -> tuple[int, int, int, int, int, int]:
        """z0, z1, y0, y1, x0, x1."""
        z0, y0, x0 = self.start
        z1, y1, x1 = self.stop
        return z0, z1, y0, y1, x0, x1

    @property
    def shape(self) -> tuple[int, int, int]:
        """Voxels along z, y, x."""
        z0, z1, y0, y1, x0, x1 = self.bounds
        return z1 - z0, y1 - y0, x1 - x0

    @property
    def size(self) -> int:
        """Number of voxels."""
        return math.prod(self.shape)

    @property
    def slices(self) -> tuple[slice, slice, slice]:
        """For indexing an array."""
        z, y, x = (slice(a, b) for a, b in zip(self.start, self.stop, strict=True))
        return z, y, x

    def clip(self, shape: tuple[int, ...]) -> Box:
        """The part inside an array of this shape (may be empty)."""
        start = tuple(min(max(a, 0), n) for a, n in zip(self.start, shape, strict=True))
        stop = tuple(min(max(b, 0), n) for b, n in zip(self.stop, shape, strict=True))
        return Box(start, stop)  # type: ignore[arg-type]

    def clip_to(self, other: Box) -> Box:
        """The part inside another box (may be empty)."""
        start = tuple(
            min(max(a, c), d) for a, c, d in zip(self.start, other.start, other.stop, strict=True)
        )
        stop = tuple(
            min(max(b, c), d) for b, c, d in zip(self.stop, other.start, other.stop, strict=True)
        )
        return Box(start, stop)  # type: ignore[arg-type]

    def around(self, other: Box) -> Box:
        """The smallest box around both."""
        start = tuple(map(min, self.start, other.start))
        stop = tuple(map(max, self.stop, other.stop))
        return Box(start, stop)  # type: ignore[arg-type]

    def moved(self, by: tuple[int, int, int]) -> Box:
        """A box of the same shape that begins so many voxels (z, y, x) later."""
        start = tuple(a + d for a, d in zip(self.start, by, strict=True))
        stop = tuple(b + d for b, d in zip(self.stop, by, strict=True))
        return Box(start, stop)  # type: ignore[arg-type]

    def overlaps(self, other: Box) -> bool:
        """Whether the two share a voxel."""
        pairs = zip(self.start, self.stop, other.start, other.stop, strict=True)
        return all(a < d and c < b for a, b, c, d in pairs)

    def __str__(self) -> str:
        return ",".join(f"{a}:{b}" for a, b in zip(self.start, self.stop, strict=True))
