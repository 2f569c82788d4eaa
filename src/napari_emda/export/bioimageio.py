"""Save a network as a bioimage.io package, which deepImageJ, ilastik and bioimageio.core run."""

from __future__ import annotations

import gc
import io
import math
import warnings
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_emda.data.units import nanometres
from napari_emda.errors import DataError, SettingsError, naming
from napari_emda.export.model_card import ModelCard
from napari_emda.io.atomic import replacing_file, workspace
from napari_emda.io.writers.ome_zarr import UNITS
from napari_emda.project.model_file import IN_PACKAGE

if TYPE_CHECKING:
    from torch import nn

# What users search for; the export adds 2d or 3d and the name of the network.
_TAGS = ("electron microscopy", "segmentation", "pytorch", "napari-emda")
# Share of the sections of a stack at each end that lack context: what is left is half of a stack.
_RIM = 4

# Added to what the format divides by, so that a constant image is not divided by 0. The default of
# the format; negligible beside the standard deviation of an image.
_EPS = 1e-6


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
    limits: tuple[float, float] | None = None,
    attach: Callable[[Path], None] | None = None,
) -> None:
    """Save a network as a bioimage.io model package (format 0.5, weights as TorchScript).

    The package holds a test image and the network's output for it, so that any program can check
    that it runs the model correctly.

    Args:
        network: B x channels x H x W standardised grey values (float32) to B x C x H x W class
            probabilities, with an axis z before H for a 3-D network; on the CPU, in evaluation
            mode.
        path: ends in .zip; an existing file is replaced.
        example: grey values as stored, (H, W), or (channel, H, W) for a network that sees several
            sections, or (z, H, W) for a 3-D network; both sides multiples of ``stride`` and at
            least ``2 halo + stride``.
        card: what the package states about the model.
        stride: sides of an input are multiples of this, in pixels.
        halo: pixels at the rim of a tile that lack context; need not be a multiple of ``stride``.
        mean: of the grey values, by which they are standardised; None standardises each image by
            its own mean and standard deviation.
        standard_deviation: as ``mean``.
        percentiles: low and high percentile of each image that become 0 and 1 before it is
            standardised; None leaves the grey values as they are.
        limits: to which grey values are clipped after that; None leaves them as they are.
        attach: writes the model as napari-emda stores it to a path, for projects that start from
            the package; None to leave it out.

    Raises:
        SettingsError: the extra ``bioimageio`` is not installed, or the card states what the format
            does not allow.
        DataError: the network does not take an example of these sides.
    """
    spec = _spec()
    # The smallest multiple of the stride that leaves one stride of pixels with full context.
    smallest_side = -(-(2 * halo + stride) // stride) * stride
    stack = example[None] if example.ndim == 2 else example
    wanted = card.sections or len(card.seen)
    if stack.shape[:-2] != (wanted,) or any(
        side % stride or side < smallest_side for side in stack.shape[-2:]
    ):
        raise DataError(
            f"The example image is {' × '.join(map(str, example.shape))} pixels: give "
            f"{'one section' if wanted == 1 else f'{wanted} sections'} whose sides are multiples "
            f"of {stride} and at least {smallest_side}."
        )
    if card.sections:
        stack = stack[None]
    moments = (
        None
        if mean is None or standard_deviation is None
        else (float(mean), float(standard_deviation))
    )
    preprocessing = _Preprocessing(spec, moments, percentiles, limits, deep=card.sections > 0)
    with naming(path), workspace(path) as folder, replacing_file(path) as package:
        _write_weights_and_tests(network, stack, preprocessing, folder)
        if attach is not None:
            attach(folder / IN_PACKAGE)
        axes = _Axes(spec, card, smallest_side, stride, halo)
        _save(spec, card, axes, preprocessing, folder, package)


def _spec() -> Any:
    """The classes that describe a model in format 0.5."""
    # An optional dependency: imported when a model is exported, and by nobody else.
    try:
        from bioimageio.spec.model import v0_5
    except ImportError:
        raise SettingsError(
            "Model packages need bioimageio.spec, which is not installed: "
            'pip install "napari-emda[bioimageio]".'
        ) from None
    return v0_5


def _write_weights_and_tests(
    network: nn.Module, example: NDArray[Any], preprocessing: _Preprocessing, folder: Path
) -> None:
    """Write weights.pt, input.npy (grey values as stored) and output.npy."""
    import torch

    image = example.astype(np.float32)[None]
    standardised = torch.from_numpy(preprocessing(image))
    with torch.no_grad(), warnings.catch_warnings():
        # torch calls TorchScript deprecated, but the programs that run such packages load it.
        warnings.filterwarnings("ignore", ".*torch.jit", DeprecationWarning)
        traced = torch.jit.trace(network, standardised)
        # By way of memory: where the disk is full, torch's own writer ends the process.
        weights = io.BytesIO()
        torch.jit.save(traced, weights)
        (folder / "weights.pt").write_bytes(weights.getvalue())
        # Of the traced network, not of ours: it is the one that other programs run.
        np.save(folder / "output.npy", traced(standardised).numpy())
    np.save(folder / "input.npy", image)


@dataclass(frozen=True)
class _Preprocessing:
    """How grey values are prepared for the network: as a function, and as the format describes it.

    Both must do the same in the same order; bioimageio.core checks it with the test image.

    Attributes:
        spec: the format's classes.
        moments: mean and standard deviation to standardise by; None for those of each image.
        percentiles: that become 0 and 1 first; None to leave the grey values as they are.
        limits: to which grey values are clipped after that; None to leave them as they are.
        deep: whether the image has an axis z.
    """

    spec: Any
    moments: tuple[float, float] | None
    percentiles: tuple[float, float] | None
    limits: tuple[float, float] | None = None
    deep: bool = False

    def __call__(self, image: NDArray[np.float32]) -> NDArray[np.float32]:
        """The standardised image, as the network takes it."""
        if self.percentiles:
            # float32 throughout: the test image must come out the same in other programs.
            low, high = np.percentile(image, self.percentiles).astype(np.float32)
            image = (image - low) / (high - low + np.float32(_EPS))
        if self.limits:
            lowest, highest = self.limits
            image = np.clip(image, np.float32(lowest), np.float32(highest))
        # With fixed moments the format adds no epsilon.
        mean, deviation = self.moments or (image.mean(), image.std() + _EPS)
        return (image - np.float32(mean)) / np.float32(deviation)

    def described(self) -> list[Any]:
        """The steps in order, as the format describes them."""
        spec = self.spec
        steps = []
        # Without the batch axis: each image is measured by itself.
        names = ("channel", "z", "y", "x") if self.deep else ("channel", "y", "x")
        per_image = {"axes": [spec.AxisId(name) for name in names], "eps": _EPS}
        if self.percentiles:
            low, high = self.percentiles
            kwargs = spec.ScaleRangeKwargs(min_percentile=low, max_percentile=high, **per_image)
            steps.append(spec.ScaleRangeDescr(kwargs=kwargs))
        if self.limits:
            low, high = self.limits
            steps.append(spec.ClipDescr(kwargs=spec.ClipKwargs(min=low, max=high)))
        if self.moments is None:
            kwargs = spec.ZeroMeanUnitVarianceKwargs(**per_image)
            return [*steps, spec.ZeroMeanUnitVarianceDescr(kwargs=kwargs)]
        mean, deviation = self.moments
        kwargs = spec.FixedZeroMeanUnitVarianceKwargs(mean=mean, std=deviation)
        return [*steps, spec.FixedZeroMeanUnitVarianceDescr(kwargs=kwargs)]


@dataclass(frozen=True)
class _Axes:
    """The axes of input and output, as the format describes them."""

    spec: Any
    card: ModelCard
    smallest_side: int
    stride: int
    halo: int

    def _space(self, name: str) -> dict[str, Any]:
        size = self.card.grid.spacing["zyx".index(name)]
        if name == "z":
            size = self.card.distance
        return {
            "id": self.spec.AxisId(name),
            "scale": _divisible(size),
            # None for pixel sizes that are no lengths: the format leaves the unit out.
            "unit": UNITS.get(nanometres(self.card.grid.unit) or 0),
        }

    def inputs(self) -> list[Any]:
        size = self.spec.ParameterizedSize(min=self.smallest_side, step=self.stride)
        space = [self.spec.SpaceInputAxis(**self._space(name), size=size) for name in "yx"]
        if self.card.sections:
            # TorchScript keeps the number of sections of its tracing.
            depth = self.spec.SpaceInputAxis(**self._space("z"), size=self.card.sections)
            space.insert(0, depth)
        return [self.spec.BatchAxis(), self._channels(self.card.seen), *space]

    def outputs(self) -> list[Any]:
        space = [self._output(name, self.halo) for name in "yx"]
        if self.card.sections:
            space.insert(0, self._output("z", self.card.sections // _RIM))
        return [self.spec.BatchAxis(), self._channels(list(self.card.classes)), *space]

    def _channels(self, names: Sequence[str]) -> Any:
        # The format takes identifiers only; the README of the package has the names as they are.
        identifiers = [
            "".join(c if c.isalnum() and c.isascii() else "_" for c in name) for name in names
        ]
        return self.spec.ChannelAxis(
            channel_names=[self.spec.Identifier(name) for name in identifiers]
        )

    def _output(self, name: str, halo: int) -> Any:
        # As large as the input: the network resamples nothing.
        size = self.spec.SizeReference(
            tensor_id=self.spec.TensorId("image"), axis_id=self.spec.AxisId(name)
        )
        # The format has no halo of 0: that is an axis of another type.
        if not halo:
            return self.spec.SpaceOutputAxis(**self._space(name), size=size)
        return self.spec.SpaceOutputAxisWithHalo(**self._space(name), size=size, halo=halo)


def _divisible(size: float) -> float:
    """Round a pixel size to 36 significant bits, so that the format accepts it.

    The format compares sizes through their physical length: n * size / size must be n, which fails
    for 120 pixels of 4.6 nm. A double has 53 bits. With 36 of them in the size, products with sides
    of up to 17 bits (below 131 072 pixels) are exact. The relative error is at most 2^-36.
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

    (folder / "README.md").write_text(card.readme, encoding="utf-8")
    try:
        model = spec.ModelDescr(**_description(spec, card, axes, preprocessing, folder))
    except ValidationError as error:
        # pydantic lists all faults; the first one fits into a sentence.
        fault = error.errors()[0]
        location = ".".join(map(str, fault["loc"])) or "description"
        raise SettingsError(
            f"The model's {location} is not allowed in a package: {fault['msg']}."
        ) from None
    # The library prints progress bars, which would break the stream of JSON lines of a job.
    with redirect_stdout(io.StringIO()):
        save_bioimageio_package(model, output_path=package)
    # The library leaves the packed files open, and Windows cannot remove open files: collecting the
    # model closes them, before the workspace is deleted.
    del model
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


def _description(
    spec: Any, card: ModelCard, axes: _Axes, preprocessing: _Preprocessing, folder: Path
) -> dict[str, Any]:
    """The arguments of the format's model description.

    Args:
        spec: the format's classes.
        card: what the package states about the model.
        axes: of input and output.
        preprocessing: of the grey values.
        folder: holds README.md, weights.pt, input.npy and output.npy, and what is attached.
    """
    import torch

    def file(name: str) -> Any:
        return spec.FileDescr(source=folder / name)

    image = spec.InputTensorDescr(
        id=spec.TensorId("image"),
        description=card.image,
        axes=axes.inputs(),
        test_tensor=file("input.npy"),
        preprocessing=preprocessing.described(),
    )
    probabilities = spec.OutputTensorDescr(
        id=spec.TensorId("probabilities"),
        description="Probability of each class.",
        axes=axes.outputs(),
        test_tensor=file("output.npy"),
        data=spec.IntervalOrRatioDataDescr(type="float32", range=(0.0, 1.0)),
    )
    # "2.8.0+cu128" names a build; the format takes the version only.
    version = torch.__version__.partition("+")[0]
    weights = spec.TorchscriptWeightsDescr(source=folder / "weights.pt", pytorch_version=version)
    return {
        "name": card.name,
        "description": card.description,
        "authors": [spec.Author(name=name) for name in card.authors],
        "cite": [spec.CiteEntry(text=text, doi=doi) for text, doi in card.citations],
        "license": card.licence,
        "tags": [*_TAGS, "3d" if card.sections else "2d", *card.tags],
        "documentation": file("README.md"),
        "attachments": [file(IN_PACKAGE)] if (folder / IN_PACKAGE).exists() else [],
        "inputs": [image],
        "outputs": [probabilities],
        "weights": spec.WeightsDescr(torchscript=weights),
    }
