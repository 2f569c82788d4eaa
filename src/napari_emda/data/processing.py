"""What other programs' models want done to grey values before and to outputs after the network.

The steps of bioimage.io model descriptions 0.4 and 0.5 that are functions of a value and of some
numbers of the whole image, so that blocks give the same as the whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

StepName = Literal[
    "scale_range",
    "zero_mean_unit_variance",
    "fixed_zero_mean_unit_variance",
    "scale_linear",
    "clip",
    "binarize",
    "sigmoid",
    "softmax",
]
MEASURED = ("scale_range", "zero_mean_unit_variance")
"""Steps that depend on the grey values of the whole image."""
# Channels of an output: class ids are bytes.
_MOST_CHANNELS = 256


class Step(BaseModel):
    """One step; the fields that its name does not need keep their defaults.

    Attributes:
        name: as in bioimage.io 0.5.
        per_volume: whether ``scale_range`` and ``zero_mean_unit_variance`` measure the whole volume
            and not each section.
        low, high: percentiles that become 0 and 1, of ``scale_range``.
        eps: added to what is divided by.
        mean, std: of ``fixed_zero_mean_unit_variance``, one number or one for each channel.
        gain, offset: of ``scale_linear``, likewise.
        minimum, maximum: of ``clip``; None for no limit.
        threshold: of ``binarize``: 1 above it, else 0; one number or one for each channel.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    name: StepName
    per_volume: bool = False
    low: float = Field(0.0, ge=0, lt=100)
    high: float = Field(100.0, gt=0, le=100)
    eps: float = Field(1e-6, ge=0, le=1)
    mean: tuple[float, ...] = Field((0.0,), min_length=1, max_length=_MOST_CHANNELS)
    std: tuple[float, ...] = Field((1.0,), min_length=1, max_length=_MOST_CHANNELS)
    gain: tuple[float, ...] = Field((1.0,), min_length=1, max_length=_MOST_CHANNELS)
    offset: tuple[float, ...] = Field((0.0,), min_length=1, max_length=_MOST_CHANNELS)
    minimum: float | None = None
    maximum: float | None = None
    threshold: tuple[float, ...] = Field((0.5,), min_length=1, max_length=_MOST_CHANNELS)

    @model_validator(mode="after")
    def _has_a_range(self) -> Step:
        if self.low >= self.high or min(self.std) <= 0:
            raise ValueError("a range or a deviation is not positive")
        if self.minimum is not None and self.maximum is not None and self.minimum > self.maximum:
            raise ValueError("the lower limit is above the upper one")
        return self

    def measured(self, values: NDArray[np.float32]) -> Step:
        """The step with fixed numbers, measured of grey values; a step of fixed numbers as it is.

        Args:
            values: of any shape, as the steps before have left them.
        """
        if self.name == "scale_range":
            low, high = np.percentile(values, (self.low, self.high)).astype(float)
            gain = 1.0 / (float(high - low) + (self.eps or 1e-6))
            return Step(name="scale_linear", gain=(gain,), offset=(float(-low * gain),))
        if self.name == "zero_mean_unit_variance":
            # In float64: a million float32 numbers lose digits.
            mean = float(values.mean(dtype=np.float64))
            deviation = float(values.std(dtype=np.float64)) + (self.eps or 1e-6)
            return Step(name="fixed_zero_mean_unit_variance", mean=(mean,), std=(deviation,))
        return self

    def apply(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """The values after the step.

        Args:
            values: float32; channels are the third axis from the end, (channels, rows, columns).
        """
        match self.name:
            case "fixed_zero_mean_unit_variance":
                result = (values - _by_channel(self.mean)) / _by_channel(self.std)
            case "scale_linear":
                result = values * _by_channel(self.gain) + _by_channel(self.offset)
            case "clip":
                result = np.clip(values, self.minimum, self.maximum)
            case "binarize":
                result = values > _by_channel(self.threshold)
            case "sigmoid":
                # exp of large numbers overflows; beyond 88 the result is 0 or 1 in float32.
                result = 1 / (1 + np.exp(-np.clip(values, -88, 88)))
            case "softmax":
                powers = np.exp(values - values.max(-3, keepdims=True))
                result = powers / powers.sum(-3, keepdims=True)
            case _:
                raise ValueError(f"{self.name} must be measured first")
        return np.asarray(result, np.float32)


def measured(steps: Sequence[Step], values: NDArray[np.float32]) -> tuple[Step, ...]:
    """Steps with fixed numbers, each measured of what the steps before it make of grey values.

    Args:
        steps: in their order.
        values: of the image, see `Step.apply`.
    """
    fixed = []
    for step in steps:
        fixed.append(step.measured(values))
        values = fixed[-1].apply(values)
    return tuple(fixed)


def applied(steps: Sequence[Step], values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Values after steps of fixed numbers; the shape is that of `Step.apply`."""
    for step in steps:
        values = step.apply(values)
    return values


def _by_channel(numbers: tuple[float, ...]) -> NDArray[Any]:
    """Numbers that go with the third axis from the end."""
    return np.array(numbers, np.float32).reshape(-1, 1, 1)
