"""Prediction of volumes of any size, block by block."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
import zarr
from numpy.typing import NDArray
from torch import Tensor

from napari_emda import checkpoint
from napari_emda.checkpoint import Header
from napari_emda.compute import Compute
from napari_emda.data.box import Box
from napari_emda.data.grey_values import Statistics
from napari_emda.data.sampling import prefetched
from napari_emda.data.volume import Domain, Resampled, Volume
from napari_emda.events import Event, Saved, TileDone
from napari_emda.nn.unet import UNet, evaluating, in_domain
from napari_emda.settings import PredictSettings
from napari_emda.tiles import Tile, check_finite, core_of, finish_tile, make_tile, plan, read_tile, unseen

CHUNK = 512
Bytes = NDArray[np.uint8]


class Predictor:
    """A network with all it needs to predict a volume.

    Args:
        network: gives logits.
        header: of its checkpoint.
        compute: device and number format; the network is moved there.
    """

    def __init__(self, network: UNet, header: Header, compute: Compute) -> None:
        self.network = network.to(compute.device)
        self.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.header, self.compute = header, compute

    @classmethod
    def load(cls, path: Path, device: str = "auto", precision: str = "auto") -> Predictor:
        """From a model's file, or from a run's folder: then the model that the run is to be used with."""
        header, method = checkpoint.load_method(checkpoint.find(path) if path.is_dir() else path)
        return cls(method.predictor, header, Compute.choose(device, precision))

    def domain_of(self, volume: Volume) -> Domain:
        """Whose normalisation statistics fit a volume."""
        return "source" if volume.domain == "source" else self.header.prediction_domain

    def statistics_of(self, volume: Volume) -> Statistics:
        """Grey values of a volume: those seen in training, else measured now."""
        return self.header.statistics_of(volume.at(self.header.pixel_size))

    def neighbours(self, volume: Volume) -> float:
        """Weight of each neighbouring section, see `with_neighbours`."""
        beside = volume.depth and volume.shape[0] > 1
        return self.header.neighbours if beside and volume.domain == "target" else 0.0

    def probabilities(self, image: Tensor, domain: Domain, *, flips: bool = False) -> Tensor:
        """Class probabilities, B x C x H x W float32, of standardised images B x 1 x H x W of any size."""
        stride = self.network.stride
        height, width = image.shape[-2:]
        right, below = -width % stride, -height % stride
        if right or below:
            image = torch.nn.functional.pad(image, (0, right, 0, below), mode="replicate")
        image = image.contiguous(memory_format=torch.channels_last)
        with evaluating(self.network), in_domain(self.network, domain), self.compute.autocast():
            if not flips:
                return self.network(image).float().softmax(1)[..., :height, :width]
            total = torch.zeros(())
            for axes in ((), (-1,), (-2,), (-1, -2)):
                total = self.network(image.flip(axes)).float().softmax(1).flip(axes) + total.to(image.device)
            return (total / 4)[..., :height, :width]


def with_neighbours(probabilities: Tensor, weight: float) -> Tensor:
    """Each section's probabilities averaged with those of the sections before and after it.

    The mean is geometric, so that it moves with the logits. The first and the last section stand in for the neighbour
    that they lack.

    Args:
        probabilities: of consecutive sections, B x C x H x W.
        weight: of each neighbour, between 0 and 1/3; the section itself has the rest of 1.
    """
    if not weight:
        return probabilities
    logs = probabilities.clamp_min(1e-6).log_()
    before, after = torch.cat([logs[:1], logs[:-1]]), torch.cat([logs[1:], logs[-1:]])
    return ((1 - 2 * weight) * logs + weight * (before + after)).softmax(1)


def entropy(probabilities: Tensor) -> Tensor:
    """Entropy over classes as a share of its maximum log C, B x H x W between 0 and 1 (Roels & Saeys 2019, eq. 1)."""
    return torch.special.entr(probabilities).sum(1) / float(np.log(probabilities.shape[1]))


def to_bytes(values: Tensor) -> Bytes:
    """0 ... 1 as 0 ... 255."""
    return (values * 255).round_().to(torch.uint8).cpu().numpy()


def foreground_bytes(probabilities: Tensor) -> Bytes:
    """Probabilities B x C x H x W of the classes 1 ... C - 1 as bytes that never add up to more than 255.

    Running sums are rounded, not the classes one by one: what is left to 255 is the background's share.
    """
    sums = (probabilities[:, 1:].cumsum(1) * 255).round_().clamp_(max=255)
    sums[:, 1:] -= sums[:, :-1].clone()
    return sums.to(torch.uint8).cpu().numpy()


def predict_box(predictor: Predictor, volume: Volume, box: Box) -> Bytes:
    """Probabilities of the foreground classes in one box of one section, uint8 (C - 1, rows, columns)."""
    view = volume.at(predictor.header.pixel_size)
    core = view.box_of(box)
    weight = predictor.neighbours(volume)
    tile = make_tile(view, core, predictor.network.halo, predictor.network.stride, sections=int(weight > 0))
    tile = Tile(core, tile.seen, box)
    image = read_tile(view, tile, predictor.statistics_of(volume)).to(predictor.compute.device)
    probabilities = with_neighbours(predictor.probabilities(image, predictor.domain_of(volume)), weight)
    return foreground_bytes(finish_tile(view, tile, core_of(tile, probabilities)))[0]


class Prediction:
    """A volume's probabilities and uncertainty on disk, and which tiles of them are done.

    ``probabilities.zarr/<volume>``: uint8 (C - 1, z, y, x), 255 times the probability of classes 1 ... C - 1, the names
    of all C being its attribute ``classes``;
    ``uncertainty.zarr/<volume>``: uint8 (z, y, x), 255 times the entropy over log C; ``predicted-<volume>.jsonl``: the
    tiles done.

    Args:
        folder: of the run, or another.
        volume: its name.
    """

    def __init__(self, folder: Path, volume: str) -> None:
        self.folder, self.name = folder, volume
        self.journal = folder / f"predicted-{volume}.jsonl"

    @property
    def probabilities(self) -> zarr.Array[Any]:
        """Opened for reading."""
        return zarr.open_array(self.folder / "probabilities.zarr" / self.name, mode="r")

    @property
    def uncertainty(self) -> zarr.Array[Any]:
        """Opened for reading."""
        return zarr.open_array(self.folder / "uncertainty.zarr" / self.name, mode="r")

    def complete(self, model: str, *, uncertainty: bool = False) -> bool:
        """Whether every tile was predicted with this model of the run (and, if asked, its uncertainty kept)."""
        head, done = self._read()
        known = bool(head) and head.get("model") == model and (head["uncertainty"] or not uncertainty)
        return known and len(done) >= int(head["tiles"])

    def _read(self) -> tuple[dict[str, Any], set[int]]:
        text = self.journal.read_text() if self.journal.exists() else ""
        lines = text[: text.rfind("\n") + 1].splitlines()  # a line without its end was being written in a crash
        try:
            head = json.loads(lines[0]) if lines else {}
        except ValueError:
            return {}, set()
        groups = ["probabilities.zarr", "uncertainty.zarr"][: 1 + bool(head.get("uncertainty"))]
        if not all((self.folder / group / self.name / "zarr.json").exists() for group in groups):
            return {}, set()  # somebody has made room
        return head, {int(line) for line in lines[1:] if line.isdigit()}

    def begin(
        self, head: dict[str, Any], shape: tuple[int, ...], *, classes: Sequence[str], uncertainty: bool
    ) -> set[int]:
        """Continue what was begun with the same model and plan, or start anew; returns the tiles done.

        Args:
            head: what the journal says of model and plan.
            shape: of the probabilities, (C - 1, z, y, x).
            classes: names of the C classes.
            uncertainty: whether that is kept, too.
        """
        known, done = self._read()
        if known == head:
            return done
        self.journal.unlink(missing_ok=True)  # first: it must never vouch for tiles that are wiped
        self._create("probabilities.zarr", shape, {"classes": list(classes)})
        if uncertainty:
            self._create("uncertainty.zarr", shape[1:])
        self.journal.write_text(json.dumps(head) + "\n")
        return set()

    def _create(self, group: str, shape: tuple[int, ...], attributes: dict[str, Any] | None = None) -> None:
        zarr.open_group(self.folder / group, mode="a")
        chunks = (1,) * (len(shape) - 2) + tuple(min(CHUNK, n) for n in shape[-2:])
        zarr.create_array(
            self.folder / group / self.name,
            shape=shape,
            dtype="uint8",
            chunks=chunks,
            fill_value=0,
            overwrite=True,
            attributes=attributes,
        )

    def writer(self, *, uncertainty: bool) -> Callable[[Box, Bytes, Bytes | None], None]:
        """A function that puts the probabilities and the uncertainty of a box of voxels on disk."""
        probabilities = zarr.open_array(self.folder / "probabilities.zarr" / self.name, mode="r+")
        doubts = zarr.open_array(self.folder / "uncertainty.zarr" / self.name, mode="r+") if uncertainty else None

        def write(box: Box, values: Bytes, doubt: Bytes | None) -> None:
            probabilities[(slice(None), *box.slices)] = values
            if doubts is not None and doubt is not None:
                doubts[box.slices] = doubt

        return write

    def tile_done(self, index: int) -> None:
        """Note that a tile is on disk."""
        with self.journal.open("a") as file:
            file.write(f"{index}\n")


def predict(predictor: Predictor, volume: Volume, settings: PredictSettings, folder: Path) -> Iterator[Event]:
    """Predict a whole volume into ``folder`` (see `Prediction`); stopped, it goes on where it was at the next call.

    Memory is bounded by the block. Reading, computing and writing overlap. DataError where the answer is not a number.

    Yields:
        TileDone after each block is on disk, Saved at the end.
    """
    view = volume.at(predictor.header.pixel_size)
    flips, weight = _asked(predictor, volume, settings)
    tiles = plan(view, predictor.network, settings, sections=int(weight > 0))
    classes = predictor.header.classes
    prediction = Prediction(folder, volume.name)
    head = {
        "model": predictor.header.model,
        "tiles": len(tiles),
        "first": list(tiles[0].core.bounds),
        "flips": flips,
        "neighbours": weight,
        "uncertainty": settings.uncertainty,
        "shape": list(volume.shape),
    }
    done = prediction.begin(head, (len(classes) - 1, *volume.shape), classes=classes, uncertainty=settings.uncertainty)
    for index in _predict_tiles(predictor, view, tiles, done, settings, prediction):
        prediction.tile_done(index)
        done.add(index)
        yield TileDone(volume.name, tiles[index].native.bounds, len(done), len(tiles))
    yield Saved(str(folder / "probabilities.zarr" / volume.name), predictor.header.step)


def _predict_tiles(
    predictor: Predictor,
    view: Resampled,
    tiles: list[Tile],
    done: set[int],
    settings: PredictSettings,
    prediction: Prediction,
) -> Iterator[int]:
    left = [index for index in range(len(tiles)) if index not in done]
    if not left:
        return
    statistics, domain = predictor.statistics_of(view.volume), predictor.domain_of(view.volume)
    flips, weight = _asked(predictor, view.volume, settings)
    write = prediction.writer(uncertainty=settings.uncertainty)
    fresh = unseen([tiles[index] for index in left])
    images = prefetched(lambda i: read_tile(view, fresh[i], statistics), 0, len(left), ahead=2)
    sections = torch.zeros(0)
    with ThreadPoolExecutor(1, "write") as writer:
        waiting: tuple[int, Future[None]] | None = None
        try:
            for index, image in zip(left, images, strict=True):
                new = predictor.probabilities(image.to(predictor.compute.device), domain, flips=flips)
                known = tiles[index].seen.shape[0] - len(new)
                sections = torch.cat([sections[len(sections) - known :], new]) if known else new
                result = core_of(tiles[index], with_neighbours(sections, weight))
                result = finish_tile(view, tiles[index], result)
                check_finite(view, tiles[index], result)
                values = np.moveaxis(foreground_bytes(result), 0, 1)
                doubt = to_bytes(entropy(result)) if settings.uncertainty else None
                if waiting is not None:
                    waiting[1].result()
                    yield waiting[0]
                waiting = index, writer.submit(write, tiles[index].native, values, doubt)
            if waiting is not None:
                waiting[1].result()
                yield waiting[0]
        finally:
            images.close()


def _asked(predictor: Predictor, volume: Volume, settings: PredictSettings) -> tuple[bool, float]:
    """Whether to average over flips, and the weight of the neighbouring sections."""
    flips = predictor.header.flips if settings.flips == "auto" else settings.flips == "on"
    return flips, predictor.neighbours(volume) if settings.neighbours else 0.0
