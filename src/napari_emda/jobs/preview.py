"""What the user looks at, predicted now and then while a training runs."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from napari_emda.data.box import Box
from napari_emda.data.resampled import Resampled
from napari_emda.data.volume import Volume
from napari_emda.events import Event, Preview, Translated
from napari_emda.inference.predictor import Predictor, predict_box
from napari_emda.inference.tiles import finish_tile, make_tile, read_tile
from napari_emda.io.atomic import replacing_file
from napari_emda.methods.base import Translator
from napari_emda.nn.normalisation import evaluating, in_domain
from napari_emda.project.run_folder import RunFolder
from napari_emda.training.trainer import Training

PREVIEW_SECONDS = 2.0
SLOWEST_PREVIEW = 4.0
"""Seconds between two preview_writer, however much each costs."""
_SIDE = 1536


class PreviewRequest:
    """What the user is looking at; set from another thread, read between two events of training."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._wish: tuple[str, Box] | None = None
        self.changed = False

    def set(self, volume: str, box: Box) -> None:
        """Ask for preview_writer of this part of a section."""
        with self._lock:
            self.changed = self.changed or self._wish != (volume, box)
            self._wish = volume, box

    @property
    def wished(self) -> bool:
        """Whether anything was asked for."""
        return self._wish is not None

    def get(self) -> tuple[str, Box] | None:
        """The part asked for, if any."""
        with self._lock:
            self.changed = False
            return self._wish


class PreviewWriter:
    """Predicts what the user looks at, now and then, between two steps of training."""

    def __init__(
        self,
        training: Training,
        volumes: dict[str, Volume],
        request: PreviewRequest,
        folder: RunFolder,
    ) -> None:
        self._training, self._volumes, self._request, self._folder = (
            training,
            volumes,
            request,
            folder,
        )
        self._last = 0.0
        self._cost = 0.0

    @property
    def _wanted(self) -> bool:
        """Whether anything was asked for, and there is anything to be seen."""
        return self._request.wished and not self._training.header.features_only

    def due(self, step: int) -> Iterator[Event]:
        """A Preview, when the view changed or some time went by; as a rule a fifth of the time goes into them."""
        now, pause = time.perf_counter(), min(4 * self._cost, SLOWEST_PREVIEW)
        wait = pause if self._request.changed else max(PREVIEW_SECONDS, pause)
        if not self._wanted or now - self._last < wait:
            return
        training = self._training
        if training.measures_target() and not training.measured:
            training.adapt_statistics()
        yield from self._shown(
            Predictor(training.method.predictor, training.header, training.compute), step
        )
        self._last = time.perf_counter()
        self._cost = self._last - now

    def last(self, model: Path, step: int) -> Iterator[Event]:
        """What the model that was kept makes of the view."""
        if self._wanted:
            device = self._training.compute.device.type
            yield from self._shown(
                Predictor.load(model, device, self._training.settings.precision), step
            )

    def _shown(self, predictor: Predictor, step: int) -> Iterator[Event]:
        wish = self._request.get()
        if wish is None or wish[0] not in self._volumes:
            return
        volume, box = self._volumes[wish[0]], _visible(wish[1], self._volumes[wish[0]].shape)
        path = self._folder.preview("preview")
        _save(path, predict_box(predictor, volume, box))
        yield Preview(step, volume.name, box.bounds, str(path), predictor.header.classes[1:])
        yield from self._translated(predictor, volume, box, step)

    def _translated(
        self, predictor: Predictor, viewed: Volume, box: Box, step: int
    ) -> Iterator[Event]:
        """At the place on view, a piece of the volume whose look the method changes, as it is and changed."""
        translator = self._training.method.translator
        if translator is None:
            return
        volume = next(v for v in self._volumes.values() if v.domain == translator.domain)
        box = _visible(_same_place(box, viewed, volume), volume.shape)
        path = self._folder.preview("translated")
        _save(path, translate_box(translator, predictor, volume, box))
        yield Translated(step, volume.name, box.bounds, str(path))


def _save(path: Path, values: NDArray[np.uint8]) -> None:
    """Whole, since the viewer may read it at any moment; not durable, since the next one replaces it soon."""
    with replacing_file(path, durable=False) as partial:
        np.save(partial, values, allow_pickle=False)


def translate_box(
    translator: Translator, predictor: Predictor, volume: Volume, box: Box
) -> NDArray[np.uint8]:
    """One box of one section as it is and translated, 2 x rows x columns; three standard deviations are black, white.

    Args:
        translator: of the volume's domain.
        predictor: knows pixel size, grey values and device.
        volume: what is translated.
        box: of one section, in voxels.
    """
    view = Resampled(volume, predictor.header.pixel_size)
    tile = make_tile(view, box, translator.reach, translator.stride)
    image = read_tile(view, tile, predictor.statistics_of(volume)).to(predictor.compute.device)
    height, width = image.shape[-2:]
    ends = (0, -width % translator.stride, 0, -height % translator.stride)
    padded = torch.nn.functional.pad(image, ends, mode="replicate")
    with evaluating(translator.network), in_domain(translator.network, translator.domain):
        changed = translator.network(padded).float()[..., :height, :width]
    pair = finish_tile(view, tile, torch.cat([image, changed], dim=1))[0]
    return ((pair + 3) / 6 * 255).clamp(0, 255).round().byte().cpu().numpy()


def _same_place(box: Box, viewed: Volume, other: Volume) -> Box:
    """A box of one volume's voxels in those of another that begins at the same corner of the world."""
    factors = [a / b for a, b in zip(viewed.grid.spacing, other.grid.spacing, strict=True)]
    return Box.from_bounds([round(n * factors[i // 2]) for i, n in enumerate(box.bounds)])


def _visible(box: Box, shape: tuple[int, int, int]) -> Box:
    """One section of the box, inside the volume, at most so large around its middle."""
    box = box.clip(shape)
    z = min(box.start[0], shape[0] - 1)
    low, high = [], []
    for a, b, n in zip(box.start[1:], box.stop[1:], shape[1:], strict=True):
        a, b = (a, b) if b > a else (0, n)
        middle, half = (a + b) // 2, min(b - a, _SIDE) // 2
        low.append(max(a, middle - half))
        high.append(max(low[-1] + 1, min(b, middle + half)))
    return Box((z, low[0], low[1]), (z + 1, high[0], high[1]))
