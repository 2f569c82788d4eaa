"""A reader for *File > Open* of the formats that napari does not read itself.

napari's own plugins may read others in other ways, so that these alone are offered.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from napari.utils.notifications import show_info

from napari_emda._gui.common.layer_images import LayerData, of_file
from napari_emda.io.location import Part, SeveralImages, located
from napari_emda.io.read import open_image

# Images of a file that are opened at once; of more, the user chooses in the dock.
_MOST_LAYERS = 8


def get_reader(path: str | list[str]) -> Callable[[str], list[LayerData]] | None:
    """The reader of a file; None for several files that are to be one stack."""
    return None if isinstance(path, list) else read_layers


def read_layers(path: str) -> list[LayerData]:
    """Open the images of a file without reading them, one layer each; of many, the first.

    Raises:
        DataError: the file cannot be read.
    """
    file = located(Path(path)).file
    return [of_file(file, part) for part in _parts(Path(path))]


def _parts(path: Path) -> list[Part]:
    """What is to be opened: the image that is meant, or all if none is."""
    try:
        open_image(path)
    except SeveralImages as several:
        if not several.parts:
            raise
        file = located(path).file
        parts = several.parts
        if several.count > _MOST_LAYERS:
            parts = parts[:1]
            show_info(
                f"{file.name} holds {several.count} images, and the first is shown: choose others "
                "in napari-emda's panel Data."
            )
        # An image in the file may have channels in turn.
        return [found for part in parts for found in _parts(Path(f"{file}{part}"))]
    return [located(path).part]
