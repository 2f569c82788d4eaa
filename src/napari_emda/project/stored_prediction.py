"""A volume's prediction on disk, box by box, with a journal of the boxes that are done."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.codecs import ZstdCodec

from napari_emda.data.box import Box
from napari_emda.data.coverage import Coverage
from napari_emda.errors import DataError
from napari_emda.io.atomic import replacing_file, sync, sync_files, sync_tree
from napari_emda.io.checked_store import CheckedStore, naming_damage, open_array
from napari_emda.io.chunk_files import ChunkFiles
from napari_emda.io.journal import append, sealed
from napari_emda.io.leftovers import clear_folder, clear_tree
from napari_emda.io.safe_files import inside
from napari_emda.project.prediction_journal import PLAN, Journalled, line_of, read_boxes
from napari_emda.project.run_folder import RunFolder

# Side of a chunk in pixels. A section of 2048 x 2048 is 16 chunks: few to decode for the viewer,
# and few files in a volume of many sections. Smaller chunks make more files, larger ones decode
# more than is on view.
CHUNK = 512
# Level 1 writes twice as fast as zarr's default; the files grow by a tenth.
_COMPRESSION = ZstdCodec(level=1)

# What headers of older versions do not say: a complete prediction of theirs is taken as it is.
_LATER = ("shape", "model_file", "image", "grid", "domain", "precision")
# What headers do not say: older versions had no other engine.
_TORCH = {"engine": "torch"}
# What tells an image from another one.
_IMAGE = ("shape", "image", "grid", "domain")

# Seconds between two syncs of the boxes that were written: so much work is lost at most when the
# power fails. Shorter, a GPU would write more files than a disk can sync.
_SYNC_EVERY = 5.0

Bytes = NDArray[np.uint8]
Write = Callable[..., None]


class StoredPrediction:
    """A volume's probabilities and uncertainty on disk, and which part of the volume has them.

    Elsewhere the arrays hold zeros, which mean nothing: see `predicted`.

    - ``probabilities.zarr/<volume>``: uint8 (C - 1, z, y, x), 255 times the probability of classes
      1 to C - 1. The attribute ``classes`` holds the names of all C.
    - ``uncertainty.zarr/<volume>``: uint8 (z, y, x), 255 times the entropy over log C, or another
      measure, which the attribute ``measure`` then names.
    - ``object_maps.zarr/<volume>``: uint8 (2, z, y, x), of models that learnt objects: 255 times
      the probability of contours, and 255 times the distance to the contour as a fraction of the
      largest one that counts (`napari_emda.objects.borders.FARTHEST` pixels of the model).
    - ``predicted-<volume>.jsonl``: the journal, see `napari_emda.project.prediction_journal`. Its
      header holds everything that the prediction depends on.

    Args:
        run: the run whose model predicts.
        volume: name of the volume.
    """

    def __init__(self, run: RunFolder, volume: str) -> None:
        self.run = run
        self.volume = volume
        self.journal = run.journal(volume)
        self._written: dict[Path, ChunkFiles] = {}
        # Boxes that are written, and not in the journal yet; and whether their image is empty.
        self._waiting: list[tuple[Box, bool]] = []
        self._last_sync = time.monotonic()
        self._syncing: Future[None] | None = None

    # -- reading ----------------------------------------------------------------------------------

    @property
    def probabilities(self) -> zarr.Array[Any]:
        """Opened for reading."""
        return open_array(self.run.probabilities(self.volume))

    @property
    def uncertainty(self) -> zarr.Array[Any]:
        """Opened for reading."""
        return open_array(self.run.uncertainty(self.volume))

    @property
    def object_maps(self) -> zarr.Array[Any]:
        """Opened for reading."""
        return open_array(self.run.object_maps(self.volume))

    @property
    def measure(self) -> str:
        """The measure of the uncertainty; empty for the entropy of the prediction."""
        return str(self.uncertainty.attrs.get("measure", ""))

    def complete(
        self, origin: Mapping[str, Any], *, uncertainty: bool = False, box: Box | None = None
    ) -> bool:
        """Whether all of the volume is predicted.

        Args:
            origin: of which model and image, see `napari_emda.inference.origin`; only entries that
                it has are compared.
            uncertainty: whether the uncertainty must be stored as well.
            box: a part of the volume that is enough.
        """
        journal = self._read()
        if not self.is_of(origin, journal.header):
            return False
        if uncertainty and not journal.header["uncertainty"]:
            return False
        done = journal.predicted
        return done.is_all if box is None else done.covers(box)

    def is_of(self, origin: Mapping[str, Any], header: Mapping[str, Any] | None = None) -> bool:
        """Whether what is stored was predicted by this model from this image, see `complete`."""
        header = self.header if header is None else header
        return bool(header) and _agree(header, origin)

    @property
    def predicted(self) -> Coverage:
        """The part of the volume that is predicted; nothing of it if there is no prediction."""
        return self._read().predicted

    @property
    def state(self) -> tuple[int, ...]:
        """Differs once anything was predicted anew; empty if there is no prediction."""
        try:
            status = self.journal.stat()
        except OSError:
            return ()
        return status.st_ino, status.st_mtime_ns, status.st_size

    @property
    def header(self) -> dict[str, Any]:
        """Everything that the prediction depends on; empty if there is none."""
        return self._read().header

    def is_of_another_image(self, header: Mapping[str, Any]) -> bool:
        """Whether what is stored was predicted from another image than a new header says."""
        stored = self.header
        image = {key: header[key] for key in _IMAGE if key in header}
        return bool(stored) and not _agree(stored, image)

    def begun_by(self, header: Mapping[str, Any], free: Sequence[str]) -> tuple[str, bool]:
        """The engine of what `begin` would go on with, or nothing, and whether it is complete.

        Args:
            header: everything that the prediction depends on but the engine.
            free: see `begin`.
        """
        journal = self._read()
        engine = str((_TORCH | journal.header)["engine"])
        if "engine" in free and journal.predicted.is_all and _agree(journal.header, header, free):
            return engine, True
        stored = {key: journal.header[key] for key in journal.header if key not in PLAN}
        stored.pop("engine", None)
        return (engine if stored == header else ""), False

    def _read(self) -> Journalled:
        """The header, and the part that is predicted; both empty if they cannot be trusted."""
        journal = read_boxes(self.journal)
        arrays = {self.run.probabilities(self.volume): 4}
        if journal.header.get("uncertainty"):
            arrays[self.run.uncertainty(self.volume)] = 3
        if journal.header.get("object_maps"):
            arrays[self.run.object_maps(self.volume)] = 4
        # The user may have deleted an array to make room, or put another one there.
        stated = journal.header.get("shape")
        shapes = {_shape_of(array, axes) for array, axes in arrays.items()}
        shape = shapes.pop()
        if not journal.header or shapes or shape is None or stated not in (None, list(shape)):
            return Journalled()
        return journal.in_volume(shape)

    # -- writing ----------------------------------------------------------------------------------

    def begin(
        self,
        header: dict[str, Any],
        shape: tuple[int, ...],
        *,
        classes: Sequence[str],
        uncertainty: bool,
        object_maps: int = 0,
        free: Sequence[str] = (),
        tiles: Sequence[Box] = (),
    ) -> Coverage:
        """Continue a prediction with the same header, or start a new one.

        Args:
            header: everything that the prediction depends on: model, image, settings.
            shape: of the probabilities, (C - 1, z, y, x).
            classes: names of the C classes.
            uncertainty: whether the uncertainty is stored as well.
            object_maps: number of maps of objects that are stored as well.
            free: entries of the header in which a complete prediction may differ.
            tiles: how the volume is cut, by whose numbers older versions list what is done.

        Returns:
            The part of the volume that is predicted.
        """
        journal = self._read()
        if journal.predicted.is_all and _agree(_TORCH | journal.header, _TORCH | header, free):
            return journal.predicted
        self._clear_leftovers()
        stored = {key: value for key, value in journal.header.items() if key not in PLAN}
        continued = journal.numbered_by(tiles) if stored == header else None
        if continued is not None:
            # Lines behind a damaged one would not be read, so the journal is written anew.
            self._write_journal(header, continued)
            return Coverage.of((shape[1], shape[2], shape[3]), continued)
        # Before the arrays: a journal must never list boxes that are wiped.
        self.forget()
        _create(self.run.probabilities(self.volume), shape, {"classes": list(classes)})
        if uncertainty:
            _create(self.run.uncertainty(self.volume), shape[1:])
        if object_maps:
            _create(self.run.object_maps(self.volume), (object_maps, *shape[1:]))
        self._write_journal(header, ())
        return Coverage.nothing((shape[1], shape[2], shape[3]))

    def _clear_leftovers(self) -> None:
        """Remove what predictions that were killed have left of files."""
        clear_folder(self.run.path)
        arrays = (
            self.run.probabilities(self.volume),
            self.run.uncertainty(self.volume),
            self.run.object_maps(self.volume),
        )
        for array in arrays:
            clear_folder(array.parent)
            clear_tree(array)

    def _write_journal(self, header: dict[str, Any], done: Sequence[Box]) -> None:
        lines = [json.dumps(header), *([line_of(done)] if done else [])]
        with replacing_file(self.journal) as partial:
            partial.write_bytes(b"".join(map(sealed, lines)))

    def begin_uncertainty(self, shape: tuple[int, ...], measure: str) -> zarr.Array[Any]:
        """Create the uncertainty array anew, for another measure than the prediction's entropy."""
        array = _create(self.run.uncertainty(self.volume), shape, {"measure": measure})
        sync_tree(self.run.uncertainty(self.volume))
        return array

    def writer(self, *, uncertainty: bool, object_maps: bool = False) -> Write:
        """A function that writes what is predicted of a box of voxels.

        It takes the box, the probabilities, the uncertainty or None, and maps of objects if they
        are stored. Several threads may call it at the same time, each with another box.
        """
        # Opened once, because opening an array reads its metadata from disk.
        paths = [self.run.probabilities(self.volume)]
        if uncertainty:
            paths.append(self.run.uncertainty(self.volume))
        if object_maps:
            paths.append(self.run.object_maps(self.volume))
        self._written = {
            path: ChunkFiles(zarr.open_array(CheckedStore(path), mode="r+")) for path in paths
        }
        files = list(self._written.values())

        def write(
            box: Box, probabilities: Bytes, uncertainty: Bytes | None, maps: Bytes | None = None
        ) -> None:
            files[0].write((slice(0, len(probabilities)), *box.slices), probabilities)
            if uncertainty is not None:
                files[1].write(box.slices, uncertainty)
            if maps is not None:
                files[-1].write((slice(0, len(maps)), *box.slices), maps)

        return write

    @contextlib.contextmanager
    def recording(self) -> Iterator[None]:
        """A block at whose end all boxes that are done are in the journal, however it ends."""
        self._last_sync = time.monotonic()
        try:
            yield
        finally:
            syncing = self._syncing
            self._syncing = None
            if syncing is not None:
                syncing.result()
            self._record(self._waiting)
            self._waiting = []

    def box_done(self, box: Box, *, is_empty: bool = False) -> None:
        """Note that a box is written; it is in the journal when it is surely on the disk.

        Args:
            box: no part of it is missing.
            is_empty: whether its image is empty, and nothing but background was written.
        """
        self._waiting.append((box, is_empty))
        is_free = self._syncing is None or self._syncing.done()
        if not is_free or time.monotonic() - self._last_sync < _SYNC_EVERY:
            return
        if self._syncing is not None:
            self._syncing.result()
        # Meanwhile, the network goes on.
        self._syncing = _in_thread(partial(self._record, self._waiting))
        self._waiting = []
        self._last_sync = time.monotonic()

    def sync_written(self) -> None:
        """Wait until all that this object has written is on the disk.

        A process that writes boxes of a prediction that another one has begun calls this before it
        reports them.
        """
        for array, files in self._written.items():
            sync_files(files.take_unsynced(), array)

    def _record(self, done: Sequence[tuple[Box, bool]]) -> None:
        """Wait until all that was written is on the disk, then list boxes in the journal."""
        self.sync_written()
        lines = []
        for is_empty in (False, True):
            boxes = [box for box, empty in done if empty == is_empty]
            if boxes:
                lines.append(line_of(boxes, are_empty=is_empty))
        if lines:
            append(self.journal, lines)

    def forget(self) -> None:
        """Let the next prediction start anew."""
        self.journal.unlink(missing_ok=True)
        sync(self.journal.parent)


def _in_thread(work: Callable[[], None]) -> Future[None]:
    """Begin some work in a thread of its own."""
    pool = ThreadPoolExecutor(1, "sync")
    future = pool.submit(work)
    pool.shutdown(wait=False)
    return future


def _agree(stored: Mapping[str, Any], wanted: Mapping[str, Any], free: Sequence[str] = ()) -> bool:
    """Whether a stored header has all entries of another one, but for some that are free."""
    return all(
        key in free or (stored[key] == value if key in stored else key in _LATER)
        for key, value in wanted.items()
    )


def _shape_of(path: Path, axes: int) -> tuple[int, int, int] | None:
    """Voxels of the volume whose array of ours this is; None if there is no such array."""
    try:
        array = open_array(path)
    except (DataError, OSError):
        return None
    if array.ndim != axes or array.dtype != np.uint8:
        return None
    z, y, x = array.shape[-3:]
    return z, y, x


def _make_group(folder: Path) -> None:
    """Make the volumes of a run the arrays of one group, which any reader of zarr can list."""
    store = CheckedStore(folder)
    try:
        with naming_damage(str(folder)):
            zarr.open_group(store, mode="a")
    except DataError:
        # A power failure has spoilt its metadata, which say nothing but that it is a group.
        inside(folder, "zarr.json").unlink(missing_ok=True)
        zarr.open_group(store, mode="a")


def _create(
    path: Path, shape: tuple[int, ...], attributes: dict[str, Any] | None = None
) -> zarr.Array[Any]:
    _make_group(path.parent)
    # One class and one section per chunk, as the viewer shows them.
    chunks = (1,) * (len(shape) - 2) + tuple(min(CHUNK, side) for side in shape[-2:])
    return zarr.create_array(
        CheckedStore(path),
        shape=shape,
        dtype="uint8",
        chunks=chunks,
        compressors=_COMPRESSION,
        fill_value=0,
        overwrite=True,
        attributes=attributes,
    )
