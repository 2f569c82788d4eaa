"""The model of another program as a network: it predicts, and cannot be trained."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import product
from typing import Annotated, Any, ClassVar, Literal, Self

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import AfterValidator, Field
from torch import Tensor, nn

from napari_emda.data.processing import Step, applied
from napari_emda.errors import JobError, SettingsError
from napari_emda.nn.network import Network, networks
from napari_emda.nn.runtime import Array, Runtime, open_runtime
from napari_emda.nn.stacks import Stacked
from napari_emda.settings import base

# Largest side and step of what a model takes, as `project.package_axes` reads them.
_LARGEST_SIDE = 4096


def _check_axes(order: str) -> str:
    """ValueError unless there are rows and columns, and each axis once."""
    if not {"y", "x"} <= set(order) <= set("bcitzyx") or len(set(order)) < len(order):
        raise ValueError("the axes are not those of an image")
    return order


_Axes = Annotated[str, Field(max_length=7), AfterValidator(_check_axes)]
_Length = Annotated[int, Field(ge=1, le=_LARGEST_SIDE)]
_Lengths = tuple[_Length, _Length, _Length]
_Side = Annotated[int, Field(ge=0, le=_LARGEST_SIDE)]
Sides = tuple[_Side, _Side, _Side]
"""Numbers along z, y, x."""
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
        order: _Axes = Field("bcyx", description="Axes of the image.")
        output_order: _Axes = Field("bcyx", description="Axes of the output.")
        smallest: _Lengths = Field((1, 64, 64), description="Least length along z, y, x.")
        step: Sides = Field((0, 0, 0), description="Lengths may grow by it; 0 for one size only.")
        lost: Sides = Field((0, 0, 0), description="Pixels lost at each edge.")
        margin: Sides = Field((0, 0, 0), description="More pixels that are not used there.")
        before: tuple[Step, ...] = Field((), description="Steps before the network.")
        after: tuple[Step, ...] = Field((), description="Steps after it.")
        channels: tuple[Annotated[int, Field(ge=0, le=255)], ...] = Field(
            (0,), max_length=255, description="Channel of each class but the background."
        )

    def __init__(
        self,
        classes: int,
        settings: Any = None,
        channels: int = 1,
        section_ratio: float = 0.0,
    ) -> None:
        super().__init__(classes, settings, channels, section_ratio)
        s = self.settings
        if len(s.channels) + 1 != classes:
            raise SettingsError("The channels are those of other classes: use another model.")
        # In place of weights: the file of the model. `Predictor` has no use for gradients.
        self.content: Tensor
        self.register_buffer("content", torch.zeros(s.size, dtype=torch.uint8))
        # It computes nothing, and knows how many sections are one stack.
        self.encoder: Stacked = Stacked()
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
        step = math.lcm(*(max(1, number) for number in s.step[1:]))
        return -(-_SMALLEST_CELL // step) * step

    @property
    def halo(self) -> int:
        """What is lost at the edges, and what is not to be used there."""
        s = self.settings
        margin = max(lost + more for lost, more in zip(s.lost[1:], s.margin[1:], strict=True))
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
        volumes = x.detach().float().cpu().numpy().reshape(-1, self.encoder.stack, height, width)
        # A section is an entry of the batch, also one of a stack.
        found = [np.moveaxis(self.probabilities(volume), 0, 1) for volume in volumes]
        probabilities = torch.from_numpy(np.concatenate(found))
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
        """Class probabilities C x D x H x W of prepared sections D x H x W, of any size."""
        s = self.settings
        sizes = image.shape
        lengths = [
            _length(size, smallest, step, lost)
            for size, smallest, step, lost in zip(sizes, s.smallest, s.step, s.lost, strict=True)
        ]
        # Beyond a fixed size, the image is seen through windows that overlap by the margin.
        starts = [
            _starts(size, length - 2 * lost, margin)
            for size, length, lost, margin in zip(sizes, lengths, s.lost, s.margin, strict=True)
        ]
        beyond = [
            (lost, max(first) + length - lost - size)
            for size, length, lost, first in zip(sizes, lengths, s.lost, starts, strict=True)
        ]
        around = np.pad(image, beyond, "symmetric")
        result = np.zeros((len(s.channels), *sizes), np.float32)
        for corner in product(*starts):
            seen = around[tuple(slice(a, a + n) for a, n in zip(corner, lengths, strict=True))]
            output = self.answer(seen)
            if max(s.channels) >= len(output):
                raise JobError(
                    f"The model returns {len(output)} channels, and channel {max(s.channels)} is "
                    "asked for (counted from 0): use another model."
                )
            output = output[list(s.channels)]
            # A window at an edge keeps its margin there; that of others is written over.
            first = [margin * (a > 0) for a, margin in zip(corner, s.margin, strict=True)]
            stop = [
                min(n, size - a) for n, size, a in zip(output.shape[1:], sizes, corner, strict=True)
            ]
            kept = [slice(*ends) for ends in zip(first, stop, strict=True)]
            place = [slice(a + k.start, a + k.stop) for a, k in zip(corner, kept, strict=True)]
            result[:, *place] = output[:, *kept]
        return self._as_classes(result)

    def answer(self, image: Array) -> Array:
        """What the model and its last steps make of prepared sections of a size that it takes.

        Args:
            image: sections x rows x columns.

        Returns:
            Channels x sections x rows x columns of the output.
        """
        s = self.settings
        if self._sessions.runtime is None:
            content = self.content.cpu().numpy().tobytes()
            self._sessions.runtime = open_runtime(s.kind, content, self.device)
        lengths = dict(zip("zyx", image.shape, strict=True))
        space = [axis for axis in s.order if axis in lengths]
        # A network of single sections may have no axis z.
        turned = image[0] if "z" not in space else image
        own = "zyx" if "z" in space else "yx"
        turned = turned.transpose([own.index(axis) for axis in space])
        shape = [lengths.get(axis, 1) for axis in s.order]
        output = self._sessions.runtime(np.ascontiguousarray(turned).reshape(shape))
        # Steps take channels as the third axis from the end.
        by_section = np.moveaxis(planes(output, s.output_order), 0, 1)
        return np.moveaxis(applied(s.after, by_section), 0, 1)

    def _as_classes(self, foreground: Array) -> Array:
        """Probabilities of all classes from those of the others than the background."""
        foreground = foreground.clip(0, 1)
        # Sigmoids of several classes may add up to more than 1.
        foreground = foreground / np.maximum(foreground.sum(0), 1)
        return np.concatenate([1 - foreground.sum(0, keepdims=True), foreground])


@networks.register("fixed_3d", listed=False)
class Fixed3d(Fixed):
    """As `Fixed`, for models that see volumes."""

    dimensions: ClassVar = 3

    @property
    def stack(self) -> int:
        """The fewest sections that the model takes."""
        return max(2, int(self.settings.smallest[0]))

    @property
    def section_stride(self) -> int:
        """The grid of the model's poolings along z."""
        return max(1, int(self.settings.step[0]))

    @property
    def section_halo(self) -> int:
        """As `halo`, along z."""
        margin = int(self.settings.lost[0] + self.settings.margin[0])
        return -(-margin // self.section_stride) * self.section_stride


UNTRAINABLE = (
    "The model is that of another program and cannot be trained: let it teach a network first "
    "(train --method taught)."
)


def planes(output: Array, order: str) -> Array:
    """An output with any axes as channels x sections x rows x columns.

    Raises:
        JobError: it has other axes, or several entries along another one.
    """
    wanted = [axis for axis in order if axis in "czyx"]
    others = tuple(i for i, axis in enumerate(order) if axis not in "czyx")
    if output.ndim != len(order) or any(output.shape[i] != 1 for i in others):
        raise JobError(
            f"The model returns an output of {' x '.join(map(str, output.shape))} where its "
            f"description says '{order}': choose another model."
        )
    squeezed = output.squeeze(others)
    for axis in "cz":
        if axis not in wanted:
            squeezed = squeezed[None]
            wanted.insert(0, axis)
    return squeezed.transpose([wanted.index(axis) for axis in "czyx"])


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
