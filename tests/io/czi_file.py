"""Writes CZI files with Zeiss's library."""

from __future__ import annotations

from pylibCZIrw.czi import create_czi


def write_czi(path, channels, size=(5e-8, 8e-9, 4e-9), *, scenes=1, corner=(0, 0), **options):
    """Write a volume (c, z, y, x), to whose values each scene adds its number.

    Args:
        size: of a voxel along z, y, x, in metres; None is not stated.
        corner: x and y of the first scene; the others lie beside it.
        options: of the library.
    """
    z, y, x = size
    with create_czi(str(path), exist_ok=True, **options) as file:
        for scene in range(scenes):
            place = (corner[0] + scene * (channels.shape[-1] + 9), corner[1])
            for c, volume in enumerate(channels):
                for number, section in enumerate(volume):
                    plane = {"C": c, "Z": number, "T": 0}
                    file.write(section + scene, location=place, plane=plane, scene=scene)
        file.write_metadata("test", scale_x=x, scale_y=y, scale_z=z)
    return path


def write_tiles(path, tiles):
    """Write a mosaic: sections (y, x) by their number and the place (x, y) of their corner."""
    with create_czi(str(path), exist_ok=True) as file:
        for (number, *place), section in tiles.items():
            file.write(section, location=tuple(place), plane={"Z": number})
    return path
