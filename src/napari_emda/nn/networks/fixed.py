"""The model of another program as a network: it predicts, and cannot be trained."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar, Literal, Self

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from napari_emda.data.processing import Step, applied
from napari_emda.errors import JobError
from napari_emda.nn.network import Network, networks
from napari_emda.nn.runtime import Array, Runtime, open_runtime
from napari_emda.settings import base

# Largest side and step of what a model takes, as `project.package_axes` reads them.
_LARGEST_SIDE = 4096
# Bytes that the maps of an unknown network take for a pixel: 1024 float32 numbers, as those of
# U-Nets with 64 maps at full resolution.
_BYTES_PER_PIXEL = 4096
# Cells of patches that are compared have at least this side, whatever the model's grid is.
_SMALLEST_CELL = 8
# A probability of 0 has no logarithm; far below what a byte can tell from 0.
_LEAST = 1e-6


class _Sessions:
    """What is opened of a model, shared by its copies: runtimes cannot be copied."""

    def __init__(self) -> None:
        self.runtime: Runtime | None = None

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self


@networks.register("fixed", listed=False)
class Fixed(Network):
    """Predicts as another program's model does, block by block, and learns nothing."""

    foreign: ClassVar = True

    class Settings(base.Settings):
        """What a package says of its model, see `project.foreign_package`."""

        kind: Literal["onnx", "torchscript"] = "onnx"
        sha256: str = Field("", max_length=64, description="Of the content.")
        size: int = Field(0, ge=0, le=2**31, description="Bytes of the content.")
        order: str = Field("bcyx", max_length=6, description="Axes of the image.")
        output_order: str = Field("bcyx", max_length=6, description="Axes of the output.")
        rows: int = Field(64, ge=1, le=_LARGEST_SIDE, description="Least number of rows.")
        row_step: int = Field(0, ge=0, le=_LARGEST_SIDE, description="Rows may grow by it.")
        columns: int = Field(64, ge=1, le=_LARGEST_SIDE, description="Least number of columns.")
        column_step: int = Field(0, ge=0, le=_LARGEST_SIDE, description="As of the rows.")
        lost: int = Field(0, ge=0, le=_LARGEST_SIDE, description="Pixels lost at each edge.")
        margin: int = Field(0, ge=0, le=_LARGEST_SIDE, description="More that are not used.")
        before: tuple[Step, ...] = Field((), description="Steps before the network.")
        after: tuple[Step, ...] = Field((), description="Steps after it.")
        channels: tuple[int, ...] = Field(
            (0,), max_length=255, description="Channel of each class but the background."
        )

    def __init__(self, classes: int, settings: Any = None, channels: int = 1) -> None:
        super().__init__(classes, settings, channels)
        s = self.settings
        # In place of weights: the file of the model. `Predictor` has no use for gradients.
        self.content: Tensor
        self.register_buffer("content", torch.zeros(s.size, dtype=torch.uint8))
        self.encoder = nn.Identity()
        self.decoder = nn.Identity()
        self.head = nn.Conv2d(1, 1, 1).requires_grad_(False)
        self.device = "cpu"
        self._sessions = _Sessions()

    @property
    def widths(self) -> tuple[int, ...]:
        """Probabilities; and mean and deviation of these and of the image, by cell."""
        return (self.classes, 2 * (self.classes + 1))

    @property
    def stride(self) -> int:
        """The grid of the model's poolings, as far as its sizes tell, or a multiple of it."""
        s = self.settings
        step = math.lcm(max(1, s.row_step), max(1, s.column_step))
        return -(-_SMALLEST_CELL // step) * step

    @property
    def halo(self) -> int:
        """What is lost at the edges, and what is not to be used there."""
        margin = self.settings.lost + self.settings.margin
        return -(-margin // self.stride) * self.stride

    @property
    def bytes_per_pixel(self) -> int:
        """Of a large network."""
        return _BYTES_PER_PIXEL

    def run_on(self, device: str) -> None:
        """Use a GPU of this kind where the runtime of the model finds one."""
        self.device = device

    def encode(self, x: Tensor, reused: Sequence[Tensor] = ()) -> list[Tensor]:
        """Prepared images B x 1 x H x W to logarithms of probabilities, and to cells of them."""
        height, width = x.shape[-2:]
        if height % self.stride or width % self.stride:
            raise RuntimeError(f"sides must be multiples of {self.stride}")
        images = x.detach().float().cpu().numpy()[:, 0]
        probabilities = torch.from_numpy(np.stack([self.probabilities(i) for i in images]))
        probabilities = probabilities.to(x.device)
        logs = probabilities.clamp_min(_LEAST).log()
        described = torch.cat([x.float(), probabilities], 1)
        means = F.avg_pool2d(described, self.stride)
        variances = F.avg_pool2d(described**2, self.stride) - means**2
        return [logs, torch.cat([means, variances.clamp_min(0).sqrt()], 1)]

    def decode(self, maps: list[Tensor]) -> Tensor:
        """The logarithms, whose softmax are the probabilities."""
        return maps[0] + self.offset.view(1, -1, 1, 1)

    def make_decoder(self, *, skips: bool = True) -> nn.Module:
        """There is none: nothing is trained."""
        raise JobError(UNTRAINABLE)

    def adopt(self, other: Network, *, classes: bool = True) -> None:
        """Nothing can be taken over."""
        raise JobError(UNTRAINABLE)

    # -- one image ---------------------------------------------------------------------------------

    def probabilities(self, image: Array) -> Array:
        """Class probabilities C x H x W of a prepared image H x W of any size."""
        s = self.settings
        height, width = image.shape
        rows = _length(height, s.rows, s.row_step, s.lost)
        columns = _length(width, s.columns, s.column_step, s.lost)
        # Beyond a fixed size, the image is seen through windows that overlap by the margin.
        down = _starts(height, rows - 2 * s.lost, s.margin)
        right = _starts(width, columns - 2 * s.lost, s.margin)
        below = max(down) + rows - s.lost - height
        beside = max(right) + columns - s.lost - width
        around = np.pad(image, ((s.lost, below), (s.lost, beside)), "symmetric")
        result = np.zeros((len(s.channels), height, width), np.float32)
        for y in down:
            for x in right:
                output = self.answer(around[y : y + rows, x : x + columns])[list(s.channels)]
                # A window at an edge keeps its margin there; that of others is written over.
                top = s.margin if y else 0
                left = s.margin if x else 0
                bottom = min(output.shape[1], height - y)
                right_end = min(output.shape[2], width - x)
                result[:, y + top : y + bottom, x + left : x + right_end] = output[
                    :, top:bottom, left:right_end
                ]
        return self._as_classes(result)

    def answer(self, image: Array) -> Array:
        """What the model and its last steps make of a prepared image of a size that it takes.

        Args:
            image: rows x columns.

        Returns:
            Channels x rows x columns of the output.
        """
        s = self.settings
        if self._sessions.runtime is None:
            content = self.content.cpu().numpy().tobytes()
            self._sessions.runtime = open_runtime(s.kind, content, self.device)
        shape = [{"y": image.shape[0], "x": image.shape[1]}.get(axis, 1) for axis in s.order]
        plane = image if s.order.index("y") < s.order.index("x") else image.T
        output = self._sessions.runtime(np.ascontiguousarray(plane).reshape(shape))
        return applied(s.after, planes(output, s.output_order))

    def _as_classes(self, foreground: Array) -> Array:
        """Probabilities of all classes from those of the others than the background."""
        foreground = foreground.clip(0, 1)
        # Sigmoids of several classes may add up to more than 1.
        foreground = foreground / np.maximum(foreground.sum(0), 1)
        return np.concatenate([1 - foreground.sum(0, keepdims=True), foreground])


UNTRAINABLE = (
    "The model is that of another program and cannot be trained: let it teach a network first "
    "(train --method taught)."
)


def planes(output: Array, order: str) -> Array:
    """An output with any axes as channels x rows x columns.

    Raises:
        JobError: it has other axes, or several entries along another one.
    """
    wanted = [axis for axis in order if axis in "cyx"]
    others = tuple(i for i, axis in enumerate(order) if axis not in "cyx")
    if output.ndim != len(order) or any(output.shape[i] != 1 for i in others):
        raise JobError(
            f"The model returns an output of {' x '.join(map(str, output.shape))} where its "
            f"description says '{order}': choose another model."
        )
    squeezed = output.squeeze(others)
    if "c" not in wanted:
        squeezed = squeezed[None]
        wanted.insert(0, "c")
    return squeezed.transpose([wanted.index(axis) for axis in "cyx"])


def _length(size: int, smallest: int, step: int, lost: int) -> int:
    """The length that a model takes for an axis: at least what is asked for, if it can grow."""
    if not step:
        return smallest
    return smallest + max(0, -(-(size + 2 * lost - smallest) // step)) * step


def _starts(size: int, length: int, margin: int) -> list[int]:
    """Where windows begin whose parts inside their margins cover an axis.

    Args:
        size: of the axis.
        length: of the output of a window.
        margin: at both ends of it.
    """
    if length >= size:
        return [0]
    inner = length - 2 * margin
    if inner < 1:
        raise JobError(
            f"The model returns {length} pixels at a time, of which {margin} at each edge are not "
            "to be used: choose another model."
        )
    return list(range(0, size - length + inner, inner))
