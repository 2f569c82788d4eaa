"""A trained network as a bioimage.io package: one zip that deepImageJ, ilastik and bioimageio.core run."""

from __future__ import annotations

import gc
import io
import math
import warnings
from collections.abc import Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_emda.data.units import nanometres
from napari_emda.data.voxel_grid import VoxelGrid
from napari_emda.errors import DataError, SettingsError
from napari_emda.io.atomic import replacing_file, workspace
from napari_emda.io.write import UNITS

if TYPE_CHECKING:
    from torch import nn

CITATIONS = (
    (
        "Roels et al. (2019): Domain adaptive segmentation in volume electron microscopy imaging",
        "10.48550/arXiv.1810.09734",
    ),
)
"""Whom to cite for any model of this package, as (text, DOI)."""
_TAGS = ("electron microscopy", "segmentation", "2d", "pytorch", "napari-emda")
_EPS = 1e-6
"""Added to what the format divides by."""


@dataclass(frozen=True)
class ModelCard:
    """What a model package says of the model.

    Attributes:
        name: a title, 5 to 128 characters: letters, digits, spaces and ``_-()``.
        description: one sentence on what it segments, in which images.
        classes: names of all classes, background first.
        grid: on which the network works; it sees sections, so that y and x are stated.
        tags: under which others find it, beside those of every model of this package.
        authors: names.
        citations: (text, DOI or None) each.
        licence: SPDX identifier.
        documentation: Markdown; None for a short text from the rest.
    """

    name: str
    description: str
    classes: tuple[str, ...]
    grid: VoxelGrid
    tags: tuple[str, ...] = ()
    authors: tuple[str, ...] = ()
    citations: tuple[tuple[str, str | None], ...] = CITATIONS
    licence: str = "BSD-3-Clause"
    documentation: str | None = None


def write_package(
    network: nn.Module,
    path: Path,
    example: NDArray[Any],
    card: ModelCard,
    *,
    stride: int,
    halo: int = 0,
    mean: float | None = None,
    standard_deviation: float | None = None,
    percentiles: tuple[float, float] | None = None,
) -> None:
    """Save a network as a bioimage.io model package (format 0.5, weights as TorchScript).

    The package holds a test image and what the network makes of it, so that any program can check that it runs the
    model as it should.

    Args:
        network: B x 1 x H x W standardised grey values (float32) to B x C x H x W class probabilities; on the CPU, in
            evaluation mode.
        path: ends in .zip; what is there is replaced.
        example: (H, W) grey values as they come, both sides multiples of ``stride`` and at least ``2 halo + stride``.
        card: what the package says of the model.
        stride: sides of an input are multiples of this.
        halo: pixels at the rim of a tile that lack context; a multiple of ``stride`` is not needed.
        mean: of the grey values, by which they are standardised; None standardises each image by its own.
        standard_deviation: as ``mean``.
        percentiles: two of each image that become 0 and 1 before it is standardised; None leaves grey values as they
            come.

    Raises:
        SettingsError: the extra ``bioimageio`` is not installed, or the card says what the format does not allow.
        DataError: the example has sides that the network does not take.
    """
    spec = _spec()
    smallest = -(-(2 * halo + stride) // stride) * stride
    if example.ndim != 2 or any(side % stride or side < smallest for side in example.shape):
        raise DataError(
            f"The example image is {' × '.join(map(str, example.shape))} pixels: give one section whose sides are "
            f"multiples of {stride} and at least {smallest}."
        )
    standard = (
        None
        if mean is None or standard_deviation is None
        else (float(mean), float(standard_deviation))
    )
    looks = _Preprocessing(spec, standard, percentiles)
    with workspace(path) as folder, replacing_file(path) as package:
        _write_weights_and_tests(network, example, looks, folder)
        axes = _Axes(spec, card, smallest, stride, halo)
        _save(spec, card, axes, looks, folder, package)


def _spec() -> Any:
    try:
        from bioimageio.spec.model import v0_5
    except ImportError:
        raise SettingsError(
            'Model packages need bioimageio.spec, which is not installed: pip install "napari-emda[bioimageio]".'
        ) from None
    return v0_5


def _write_weights_and_tests(
    network: nn.Module, example: NDArray[Any], preprocessing: _Preprocessing, folder: Path
) -> None:
    """weights.pt, input.npy (as it comes) and output.npy."""
    import torch

    image = example.astype(np.float32)[None, None]
    standardised = torch.from_numpy(preprocessing(image))
    with torch.no_grad(), warnings.catch_warnings():
        # torch calls TorchScript deprecated, but it is what the programs that run such packages can load.
        warnings.filterwarnings("ignore", ".*torch.jit", DeprecationWarning)
        traced = torch.jit.trace(network, standardised)
        torch.jit.save(traced, str(folder / "weights.pt"))
        np.save(folder / "output.npy", traced(standardised).numpy())
    np.save(folder / "input.npy", image)


@dataclass(frozen=True)
class _Preprocessing:
    """What is done to grey values before the network sees them, and the same in the words of the format."""

    spec: Any
    standard: tuple[float, float] | None
    percentiles: tuple[float, float] | None

    def __call__(self, image: NDArray[np.float32]) -> NDArray[np.float32]:
        """The standardised image, 1 x 1 x H x W."""
        if self.percentiles:
            low, high = np.percentile(image, self.percentiles).astype(np.float32)
            image = (image - low) / (high - low + np.float32(_EPS))
        mean, deviation = self.standard or (image.mean(), image.std() + _EPS)
        return (image - np.float32(mean)) / np.float32(deviation)

    def described(self) -> list[Any]:
        """Steps, in order."""
        spec, steps = self.spec, []
        each = {"axes": [spec.AxisId(name) for name in ("channel", "y", "x")], "eps": _EPS}
        if self.percentiles:
            low, high = self.percentiles
            kwargs = spec.ScaleRangeKwargs(min_percentile=low, max_percentile=high, **each)
            steps.append(spec.ScaleRangeDescr(kwargs=kwargs))
        if self.standard is None:
            kwargs = spec.ZeroMeanUnitVarianceKwargs(**each)
            return [*steps, spec.ZeroMeanUnitVarianceDescr(kwargs=kwargs)]
        mean, deviation = self.standard
        kwargs = spec.FixedZeroMeanUnitVarianceKwargs(mean=mean, std=deviation)
        return [*steps, spec.FixedZeroMeanUnitVarianceDescr(kwargs=kwargs)]


@dataclass(frozen=True)
class _Axes:
    """The axes of input and output, in the words of the format."""

    spec: Any
    card: ModelCard
    smallest: int
    stride: int
    halo: int

    def _space(self, name: str) -> dict[str, Any]:
        size = self.card.grid.spacing["zyx".index(name)]
        return {
            "id": self.spec.AxisId(name),
            "scale": _divisible(size),
            "unit": UNITS.get(nanometres(self.card.grid.unit) or 0),
        }

    def inputs(self) -> list[Any]:
        size = self.spec.ParameterizedSize(min=self.smallest, step=self.stride)
        space = [self.spec.SpaceInputAxis(**self._space(name), size=size) for name in "yx"]
        return [self.spec.BatchAxis(), self._channels(["grey"]), *space]

    def outputs(self) -> list[Any]:
        space = [self._output(name) for name in "yx"]
        return [self.spec.BatchAxis(), self._channels(list(self.card.classes)), *space]

    def _channels(self, names: Sequence[str]) -> Any:
        identifiers = [
            "".join(c if c.isalnum() and c.isascii() else "_" for c in name) for name in names
        ]
        return self.spec.ChannelAxis(
            channel_names=[self.spec.Identifier(name) for name in identifiers]
        )

    def _output(self, name: str) -> Any:
        size = self.spec.SizeReference(
            tensor_id=self.spec.TensorId("image"), axis_id=self.spec.AxisId(name)
        )
        if not self.halo:
            return self.spec.SpaceOutputAxis(**self._space(name), size=size)
        return self.spec.SpaceOutputAxisWithHalo(**self._space(name), size=size, halo=self.halo)


def _divisible(size: float) -> float:
    """The closest number of 36 bits: the format checks that n * size / size is n, which 120 and 4.6 for one fail.

    Products with up to 17 bits, sides below 131 072, are then exact.
    """
    mantissa, exponent = math.frexp(size)
    return math.ldexp(round(mantissa * 2**36), exponent - 36)


def _save(
    spec: Any,
    card: ModelCard,
    axes: _Axes,
    preprocessing: _Preprocessing,
    folder: Path,
    package: Path,
) -> None:
    from bioimageio.spec import save_bioimageio_package
    from pydantic import ValidationError

    (folder / "README.md").write_text(card.documentation or _documentation(card), encoding="utf-8")
    try:
        model = spec.ModelDescr(**_description(spec, card, axes, preprocessing, folder))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "description"
        raise SettingsError(
            f"The model's {place} is not allowed in a package: {first['msg']}."
        ) from None
    with redirect_stdout(io.StringIO()):  # progress bars, which would break a stream of JSON lines
        save_bioimageio_package(model, output_path=package)
    del model
    with warnings.catch_warnings():
        # The library leaves the packed files open, and Windows cannot remove open files.
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


def _description(
    spec: Any, card: ModelCard, axes: _Axes, preprocessing: _Preprocessing, folder: Path
) -> dict[str, Any]:
    import torch

    def file(name: str) -> Any:
        return spec.FileDescr(source=folder / name)

    image = spec.InputTensorDescr(
        id=spec.TensorId("image"),
        description="A section, grey values as they come.",
        axes=axes.inputs(),
        test_tensor=file("input.npy"),
        preprocessing=preprocessing.described(),
    )
    probabilities = spec.OutputTensorDescr(
        id=spec.TensorId("probabilities"),
        description="Of each class.",
        axes=axes.outputs(),
        test_tensor=file("output.npy"),
        data=spec.IntervalOrRatioDataDescr(type="float32", range=(0.0, 1.0)),
    )
    version = torch.__version__.partition("+")[0]
    weights = spec.TorchscriptWeightsDescr(source=folder / "weights.pt", pytorch_version=version)
    return {
        "name": card.name,
        "description": card.description,
        "authors": [spec.Author(name=name) for name in card.authors],
        "cite": [spec.CiteEntry(text=text, doi=doi) for text, doi in card.citations],
        "license": card.licence,
        "tags": [*_TAGS, *card.tags],
        "documentation": file("README.md"),
        "inputs": [image],
        "outputs": [probabilities],
        "weights": spec.WeightsDescr(torchscript=weights),
    }


def _documentation(card: ModelCard) -> str:
    _, y, x = card.grid.spacing
    unit = card.grid.unit
    classes = "\n".join(f"- channel {k}: {name}" for k, name in enumerate(card.classes))
    return (
        f"# {card.name}\n\n{card.description}\n\n## Input\n\nSections of an electron-microscopy volume with pixels of "
        f"{y:g} × {x:g} {unit} (y × x).\n\n## Output\n\nClass probabilities:\n\n{classes}\n\n## Validation\n\n"
        "Compare the prediction with labels of a few sections of your own volume before using it.\n\n"
        "Trained with napari-emda.\n"
    )
