"""Grey values for models of other programs, which prepare them in their own way."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from napari_emda.data.blocks import spread
from napari_emda.data.box import Box
from napari_emda.data.intensity import Statistics
from napari_emda.data.padding import padding_of
from napari_emda.data.processing import MEASURED, Step, applied, measured
from napari_emda.data.resampled import Resampled

# Pixels of a section or of a volume of which percentiles, mean and deviation are measured; a
# smaller section is measured as a whole. 16 MB of float32.
_MEASURED_PIXELS = 2**22
_WINDOWS = 16
_SIDE = 512


@dataclass(frozen=True)
class Prepared(Statistics):
    """What a model of another program sees of a volume: grey values as they are, after its steps.

    Numbers that steps measure of a section are those of the whole section, also in a small box.

    Attributes:
        view: the volume at the pixel size of the model.
        steps: before the network.
        fixed: steps with their numbers by section, or by -1 for the volume.
    """

    view: Resampled | None = None
    steps: tuple[Step, ...] = ()
    fixed: dict[int, tuple[Step, ...]] = field(default_factory=dict)

    @classmethod
    def of(cls, view: Resampled, steps: tuple[Step, ...]) -> Prepared:
        """For a volume at the pixel size of the model."""
        padding = padding_of(view.volume)
        return cls(0.0, 1.0, (), padding=padding, view=view, steps=steps)

    def read(self, view: Resampled, box: Box) -> NDArray[np.float32]:
        """Prepared grey values of a box, (z, y, x), mirrored outside the volume."""
        values = view.read(box).astype(np.float32, copy=True)
        return self.standardise(values, box.start[0])

    def standardise(self, image: NDArray[np.float32], first: int = 0) -> NDArray[np.float32]:
        """Prepare sections (z, y, x) of which the first has the index ``first``."""
        depth = 1 if self.view is None else self.view.shape[0]
        for index, section in enumerate(image):
            z = min(max(first + index, 0), depth - 1)
            image[index] = applied(self._of(z), section[None])[0]
        return image

    def of_section(self, z: int) -> Statistics:
        """The same for a volume that is one section of this one."""
        # With fixed numbers, which the other volume cannot measure of all of this one.
        return Prepared(0.0, 1.0, (), padding=self.padding, fixed={-1: self._of(z)})

    def _of(self, z: int) -> tuple[Step, ...]:
        """The steps for a section, with their numbers."""
        measuring = [step for step in self.steps if step.name in MEASURED]
        is_per_section = measuring and not any(step.per_volume for step in measuring)
        key = z if is_per_section and self.view is not None else -1
        # Two threads may measure the same; both get the same numbers.
        if key not in self.fixed:
            self.fixed[key] = measured(self.steps, self._sample(key))
        return self.fixed[key]

    def _sample(self, z: int) -> NDArray[np.float32]:
        """Grey values of a section, or of the volume for -1, as one row of pixels."""
        assert self.view is not None
        depth, height, width = self.view.shape
        box = Box((max(z, 0), 0, 0), (depth if z < 0 else z + 1, height, width))
        windows = [box]
        if box.size > _MEASURED_PIXELS:
            windows = spread(box, _WINDOWS, _SIDE)
        values = np.concatenate([self.view.read(window).ravel() for window in windows])
        return values.astype(np.float32).reshape(1, 1, -1)
