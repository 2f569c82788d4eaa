"""The grid on which a volume's voxels lie: how large they are, and whether sections adjoin."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from napari_emda.data.units import nanometres

Spacing = tuple[float, float, float]
"""Size of a voxel along z, y, x."""

# Relative difference up to which two pixel sizes count as whole multiples of each other. Objects
# vary more in size than that.
_TOLERANCE = 0.1


@dataclass(frozen=True)
class VoxelGrid:
    """Voxel size of a volume, its unit, and what the first axis means.

    Attributes:
        spacing: voxel size along z, y, x, in ``unit``.
        unit: of ``spacing``, as a rule ``nm``; ``pixel`` if it is unknown.
        sections_are_independent: whether the sections are independent images, such as fields of
            view. Neighbouring sections are then unrelated, and the size along z has no meaning.
        origin: position of the centre of the first voxel along z, y, x, in ``unit``.
    """

    spacing: Spacing
    unit: str = "nm"
    sections_are_independent: bool = False
    origin: Spacing = (0.0, 0.0, 0.0)

    @property
    def axes(self) -> str:
        """The axes along which voxels are neighbours and have a size: ``zyx`` or ``yx``."""
        return "yx" if self.sections_are_independent else "zyx"

    @property
    def pixel_size(self) -> float:
        """Side of a pixel within a section; where y and x differ, the shorter one."""
        return min(self.spacing[1:])

    @property
    def pixel_area(self) -> float:
        """Area of a voxel within its section, in ``unit``²."""
        return math.prod(self.spacing[1:])

    @property
    def voxel_volume(self) -> float:
        """Volume of a voxel, in ``unit``³."""
        return math.prod(self.spacing)

    def scale_to(self, pixel_size: float) -> tuple[float, float]:
        """Pixels of another size per voxel, along y and x.

        Scales near a whole number or its inverse are rounded to it. Averaging over whole pixels
        blurs every pixel equally. At a scale of 0.92 the blur would come and go every twelve
        pixels, a texture that no network has seen.
        """
        _, y, x = self.spacing
        return _snap(y / pixel_size), _snap(x / pixel_size)

    def with_pixel_size(self, pixel_size: float) -> VoxelGrid:
        """The same sections with square pixels of another size."""
        return replace(self, spacing=(self.spacing[0], pixel_size, pixel_size))

    def from_voxel(self, start: tuple[int, int, int]) -> VoxelGrid:
        """The grid of a part of the volume, whose first voxel is this one."""
        z, y, x = (
            position + index * side
            for position, index, side in zip(self.origin, start, self.spacing, strict=True)
        )
        return replace(self, origin=(z, y, x))

    def in_nanometres(self) -> VoxelGrid:
        """The same grid in nm; unchanged where the unit is not one of length."""
        factor = nanometres(self.unit)
        if factor is None:
            return self
        z, y, x = (side * factor for side in self.spacing)
        z0, y0, x0 = (position * factor for position in self.origin)
        return replace(self, spacing=(z, y, x), unit="nm", origin=(z0, y0, x0))


def _snap(scale: float) -> float:
    """The nearest whole number or its inverse, if the scale is near enough; else the scale."""
    ratio = scale if scale >= 1 else 1 / scale
    whole = max(1, round(ratio))
    if abs(ratio - whole) <= _TOLERANCE * whole:
        return float(whole) if scale >= 1 else 1 / whole
    return scale
