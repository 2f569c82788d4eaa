"""Reading a prediction that another process must not replace meanwhile."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_emda.data.array import Array
from napari_emda.errors import JobError
from napari_emda.project.stored_prediction import StoredPrediction


@dataclass(frozen=True)
class UnchangedPrediction:
    """An array of a complete prediction; reading fails once another prediction takes its place.

    Otherwise a result could be of two models, without a word.

    Attributes:
        array: of the prediction.
        prediction: that it belongs to.
        state: of the prediction, when it was found to be complete.
    """

    array: Array
    prediction: StoredPrediction
    state: tuple[int, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """Entries along each axis."""
        return self.array.shape

    @property
    def dtype(self) -> Any:
        """Type of the entries."""
        return self.array.dtype

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.array.shape)

    @property
    def chunks(self) -> Any:
        """Sides of the chunks, by which others cut their work."""
        return getattr(self.array, "chunks", None)

    def __getitem__(self, key: Any) -> NDArray[Any]:
        values = np.asarray(self.array[key])
        # After reading: before a new prediction writes anything, the journal of the old one goes.
        if self.prediction.state != self.state:
            raise JobError(
                f"The prediction of '{self.prediction.volume}' was replaced by another process "
                "while it was read: wait until that has ended, and try again."
            )
        return values
