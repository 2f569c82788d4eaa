"""The probabilities of classes as an image."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np

from napari_emda.data.probabilities import ClassProbability
from napari_emda.errors import DataError, listed
from napari_emda.events import TileDone
from napari_emda.export.base import ImageExporter, Result, exporters, save_image
from napari_emda.io.writer import all_writers


@exporters.register("probabilities")
class ProbabilitiesExporter(ImageExporter):
    """The probability of every class, or of one; 255 is certain.

    uint8. Several classes become the axis c, which a plain TIFF does not have.
    """

    classes: ClassVar = "all or one"
    needs_names: ClassVar = False
    takes_box: ClassVar = True

    def check(self, path: Path, classes: Sequence[str]) -> None:
        """Raise DataError for several classes in a file of one channel."""
        super().check(path, classes)
        writer = self.writer(path)
        if len(classes) > 1 and not writer.takes_channels:
            others = [w.suffixes[0] for w in all_writers() if w.takes_channels]
            raise DataError(
                f"A {writer.format} takes the probability of one class, and there are "
                f"{len(classes)}: choose the class {' or '.join(classes)}, or save "
                f"{listed(others, 'or')}."
            )

    def write(self, result: Result, path: Path) -> Iterator[TileDone]:
        """Write the probabilities as they are stored, uint8."""
        # Lazy views of single classes: memory holds a block of one of them at a time.
        channels = [ClassProbability(result.probabilities, k) for k in result.class_ids]
        names = [result.classes[k - 1] for k in result.class_ids]
        yield from save_image(
            channels, path, np.uint8, result.volume, names=names, runner=result.runner
        )
