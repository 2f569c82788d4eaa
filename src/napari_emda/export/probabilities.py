"""The probabilities of classes as an image."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np

from napari_emda.data.probabilities import ClassProbability
from napari_emda.errors import DataError
from napari_emda.events import TileDone
from napari_emda.export.base import Exporter, Result, exporters, save_image
from napari_emda.io.write import VOLUME_FORMATS


@exporters.register("probabilities")
class ProbabilitiesExporter(Exporter):
    """The probability of every class, or of one; 255 is certain.

    uint8. Several classes need OME-Zarr (axes c, z, y, x).
    """

    formats: ClassVar = VOLUME_FORMATS
    classes: ClassVar = "all or one"
    needs_names: ClassVar = False
    takes_box: ClassVar = True

    def check(self, path: Path, classes: Sequence[str]) -> None:
        """Raise DataError for several classes in a TIFF."""
        # `write_tiff` writes three axes, z, y, x, and no channels.
        if len(classes) > 1 and path.suffix.lower() != ".zarr":
            raise DataError(
                f"A TIFF takes the probability of one class, and there are {len(classes)}: choose "
                f"the class {' or '.join(classes)}, or save .zarr."
            )

    def write(self, result: Result, path: Path) -> Iterator[TileDone]:
        """Write the probabilities as they are stored, uint8."""
        # Lazy views of single classes: memory holds a block of one of them at a time.
        channels = [ClassProbability(result.probabilities, k) for k in result.class_ids]
        yield from save_image(channels, path, np.uint8, result.volume)
