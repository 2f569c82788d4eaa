"""Previews: the section that the user is looking at, predicted while a training runs."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
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
from napari_emda.training.phases import Phases
from napari_emda.training.trainer import Training

# Seconds between two previews of the same view, if they are cheap. The model changes little in
# less time, and every preview interrupts the training.
PREVIEW_SECONDS = 2.0
# A preview is followed by four times its duration of training, so previews take a fifth of the
# time ...
_PAUSE_FACTOR = 4
# ... but after this many seconds the next one is due, however long one takes. Otherwise a large
# view on a slow machine would seem to have stopped.
SLOWEST_PREVIEW = 4.0
# Largest side of a preview in voxels. It bounds time and memory when the user has zoomed out on a
# large section; a canvas on a usual screen shows about as many pixels.
_SIDE = 1536
# Grey values of a translation: this many standard deviations below the mean are black, above it
# white.
_GREY_RANGE = 3


class PreviewRequest:
    """The section that the user is looking at.

    It is set in another thread and read between two events of training.

    Args:
        stop_asked: whether somebody wants the job to end.

    Attributes:
        hurry: whether the user waits for the job to end: only what is needed is done.
    """

    def __init__(self, stop_asked: Callable[[], bool] = lambda: False) -> None:
        self.stop_asked = stop_asked
        self.hurry = threading.Event()
        self._lock = threading.Lock()
        self._view: tuple[str, Box] | None = None
        self.changed = False

    def set(self, volume: str, box: Box) -> None:
        """Ask for previews of this part of a section."""
        with self._lock:
            self.changed = self.changed or self._view != (volume, box)
            self._view = (volume, box)

    @property
    def is_set(self) -> bool:
        """Whether previews were asked for."""
        return self._view is not None

    def get_unseen(self) -> tuple[str, Box] | None:
        """As `get`; the view counts as changed afterwards if it did before."""
        return self._view

    def get(self) -> tuple[str, Box] | None:
        """Volume and box to preview, if any; from now on they count as unchanged."""
        with self._lock:
            self.changed = False
            return self._view


class PreviewWriter:
    """Predicts the user's view from time to time, between two steps of training.

    Args:
        training: whose network predicts.
        volumes: by name; a view of any other volume is ignored.
        request: the view.
        folder: of the run; the images are written into it.

    Attributes:
        phases: of the training, which previews interrupt.
    """

    def __init__(
        self,
        training: Training,
        volumes: dict[str, Volume],
        request: PreviewRequest,
        folder: RunFolder,
    ) -> None:
        self._training = training
        self._volumes = volumes
        self._request = request
        self._folder = folder
        self.phases = Phases(training, self._on_view)
        self._last = 0.0  # when the last preview was finished
        self._cost = 0.0  # seconds that it took

    @property
    def _wanted(self) -> bool:
        """Whether previews were asked for and the network predicts classes."""
        return self._request.is_set and not self._training.header.features_only

    def due(self, step: int) -> Iterator[Event]:
        """Preview, and Translated for methods with a translator, if it is time for them.

        Previews of a new view come sooner than further ones of the same view.
        """
        now = time.perf_counter()
        pause = min(_PAUSE_FACTOR * self._cost, SLOWEST_PREVIEW)
        wait = pause if self._request.changed else max(PREVIEW_SECONDS, pause)
        if not self._wanted or now - self._last < wait:
            return
        training = self._training
        yield self.phases.preview(step)
        # Until the target's normalisation statistics are measured, the network would use the
        # source's and look worse on the target than it is.
        if training.measures_target() and not training.measured:
            yield from training.adapt_statistics()
        predictor = Predictor(training.method.predictor, training.header, training.compute)
        yield from self._previews(predictor, step)
        yield self.phases.began(step)
        self._last = time.perf_counter()
        self._cost = self._last - now

    def last(self, model: Path, step: int) -> Iterator[Event]:
        """The preview of the model that was kept."""
        if self._wanted:
            yield self.phases.last_preview()
            device = self._training.compute.device.type
            predictor = Predictor.load(model, device, self._training.settings.precision)
            yield from self._previews(predictor, step)

    def _on_view(self) -> tuple[Volume, Box] | None:
        """The volume and the part of a section that the next preview shows."""
        return self._shown(self._request.get_unseen()) if self._wanted else None

    def _shown(self, view: tuple[str, Box] | None) -> tuple[Volume, Box] | None:
        if view is None or view[0] not in self._volumes:
            return None
        volume = self._volumes[view[0]]
        return volume, _visible(view[1], volume.shape)

    def _previews(self, predictor: Predictor, step: int) -> Iterator[Event]:
        shown = self._shown(self._request.get())
        if shown is None:
            return
        volume, box = shown
        path = self._folder.preview("preview")
        _save(path, predict_box(predictor, volume, box))
        yield Preview(step, volume.name, box.bounds, str(path), predictor.header.classes[1:])
        yield from self._translations(predictor, volume, box, step)

    def _translations(
        self, predictor: Predictor, viewed: Volume, box: Box, step: int
    ) -> Iterator[Event]:
        """The translated volume at the same place, before and after its translation."""
        translator = self._training.method.translator
        if translator is None:
            return
        volume = next(v for v in self._volumes.values() if v.domain == translator.domain)
        box = _visible(_same_place(box, viewed, volume), volume.shape)
        path = self._folder.preview("translated")
        _save(path, translate_box(translator, predictor, volume, box))
        yield Translated(step, volume.name, box.bounds, str(path))


def _save(path: Path, values: NDArray[np.uint8]) -> None:
    # Atomic, because the viewer may read the file at any moment. Not durable, because waiting for
    # the disk would delay the training, and the next preview replaces this one soon.
    with replacing_file(path, durable=False) as partial:
        np.save(partial, values, allow_pickle=False)


def translate_box(
    translator: Translator, predictor: Predictor, volume: Volume, box: Box
) -> NDArray[np.uint8]:
    """Translate a box of one section to the appearance of the other domain.

    Args:
        translator: of the volume's domain.
        predictor: its pixel size, grey-value statistics and device are used.
        volume: what is translated.
        box: of one section, in voxels.

    Returns:
        2 x rows x columns uint8: the standardised section, then its translation. Three standard
        deviations below the mean are black, three above it white.
    """
    view = Resampled(volume, predictor.header.pixel_size)
    tile = make_tile(view, box, translator.reach, translator.stride)
    image = read_tile(view, tile, predictor.statistics_of(volume)).to(predictor.compute.device)
    height, width = image.shape[-2:]
    # The network halves its maps, so sides must be multiples of the stride: pad, and cut it off.
    padding = (0, -width % translator.stride, 0, -height % translator.stride)
    padded = torch.nn.functional.pad(image, padding, mode="replicate")
    with evaluating(translator.network), in_domain(translator.network, translator.domain):
        translated = translator.network(padded).float()[..., :height, :width]
    both = torch.cat([image, translated], dim=1)
    both = finish_tile(view, tile, both)[0]
    grey = (both + _GREY_RANGE) / (2 * _GREY_RANGE) * 255
    return grey.clamp(0, 255).round().byte().cpu().numpy()


def _same_place(box: Box, viewed: Volume, other: Volume) -> Box:
    """The box in voxels of another volume, if both begin at the same corner of the world."""
    factors = [a / b for a, b in zip(viewed.grid.spacing, other.grid.spacing, strict=True)]
    # Bounds are z0, z1, y0, y1, x0, x1: two of them for each axis.
    return Box.from_bounds([round(n * factors[i // 2]) for i, n in enumerate(box.bounds)])


def _visible(box: Box, shape: tuple[int, int, int]) -> Box:
    """One section of the box, inside the volume, cut to `_SIDE` around its middle."""
    box = box.clip(shape)
    z = min(box.start[0], shape[0] - 1)
    starts = []
    stops = []
    for start, stop, size in zip(box.start[1:], box.stop[1:], shape[1:], strict=True):
        # A view beside the volume leaves nothing after clipping: show the volume's middle then.
        if stop <= start:
            start = 0
            stop = size
        middle = (start + stop) // 2
        half = min(stop - start, _SIDE) // 2
        first = max(start, middle - half)
        starts.append(first)
        # At least one voxel, also where half a side is 0.
        stops.append(max(first + 1, min(stop, middle + half)))
    return Box((z, starts[0], starts[1]), (z + 1, stops[0], stops[1]))
