"""A volume's prediction on disk, tile by tile, with a journal of the tiles that are done."""

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
from napari_emda.errors import DataError
from napari_emda.io.atomic import replacing_file, sync, sync_files, sync_tree
from napari_emda.io.checked_store import CheckedStore, naming_damage, open_array
from napari_emda.io.chunk_files import ChunkFiles
from napari_emda.io.journal import append, read_journal, sealed
from napari_emda.io.leftovers import clear_folder, clear_tree
from napari_emda.io.safe_files import inside
from napari_emda.json_text import parse_json
from napari_emda.project.run_folder import RunFolder
from napari_emda.settings.base import with_new_names

# Side of a chunk in pixels. A section of 2048 x 2048 is 16 chunks: few to decode for the viewer,
# and few files in a volume of many sections. Smaller chunks make more files, larger ones decode
# more than is on view.
CHUNK = 512
# Level 1 writes twice as fast as zarr's default; the files grow by a tenth.
_COMPRESSION = ZstdCodec(level=1)

# What the header says of how the volume is cut into tiles. Headers without "chunk" are of versions
# whose tiles did not end at the chunks: none of them may be continued with today's tiles.
_PLAN = ("tiles", "first", "chunk")
# What headers of older versions do not say: a complete prediction of theirs is taken as it is.
_LATER = ("shape", "model_file", "image", "grid", "domain", "precision")
# What tells an image from another one.
_IMAGE = ("shape", "image", "grid", "domain")

# Seconds between two syncs of the tiles that were written: so much work is lost at most when the
# power fails. Shorter, a GPU would write more files than a disk can sync.
_SYNC_EVERY = 5.0

Bytes = NDArray[np.uint8]
Write = Callable[..., None]


class StoredPrediction:
    """A volume's probabilities and uncertainty on disk, and the tiles of them that are done.

    - ``probabilities.zarr/<volume>``: uint8 (C - 1, z, y, x), 255 times the probability of classes
      1 to C - 1. The attribute ``classes`` holds the names of all C.
    - ``uncertainty.zarr/<volume>``: uint8 (z, y, x), 255 times the entropy over log C, or another
      measure, which the attribute ``measure`` then names.
    - ``object_maps.zarr/<volume>``: uint8 (2, z, y, x), of models that learnt objects: 255 times
      the probability of contours, and 255 times the distance to the contour as a fraction of the
      largest one that counts (`napari_emda.objects.borders.FARTHEST` pixels of the model).
    - ``predicted-<volume>.jsonl``: the journal. Its first line, the header, holds everything that
      the tiles depend on; the others list tiles that are done, ``{"tiles": [0, 1, 2]}``. In older
      versions, a line was the index of one tile.

    Args:
        run: the run whose model predicts.
        volume: name of the volume.
    """

    def __init__(self, run: RunFolder, volume: str) -> None:
        self.run = run
        self.volume = volume
        self.journal = run.journal(volume)
        self._written: dict[Path, ChunkFiles] = {}
        # Tiles that are written, and not in the journal yet.
        self._waiting: list[int] = []
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

    def complete(self, origin: Mapping[str, Any], *, uncertainty: bool = False) -> bool:
        """Whether all tiles are predicted.

        Args:
            origin: of which model and image, see `napari_emda.inference.origin`; only entries that
                it has are compared.
            uncertainty: whether the uncertainty must be stored as well.
        """
        header, done = self._read()
        if not header or not _agree(header, origin):
            return False
        has_all_tiles = len(done) >= int(header["tiles"])
        return has_all_tiles and (bool(header["uncertainty"]) or not uncertainty)

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
        """Everything that the tiles depend on; empty if there is no prediction."""
        return self._read()[0]

    def is_of_another_image(self, header: Mapping[str, Any]) -> bool:
        """Whether what is stored was predicted from another image than a new header says."""
        stored = self.header
        image = {key: header[key] for key in _IMAGE if key in header}
        return bool(stored) and not _agree(stored, image)

    def _read(self) -> tuple[dict[str, Any], set[int]]:
        """The journal's header, and the tiles done; both empty if the journal cannot be trusted."""
        texts = [line.text for line in read_journal(self.journal)]
        try:
            header = parse_json(texts[0] or b"") if texts else {}
            # Its name in the first version.
            header = with_new_names(header, {"neighbours": "z_smoothing"})
            tiles = range(int(header["tiles"]))
            has_uncertainty = bool(header["uncertainty"])
        except (ValueError, TypeError, KeyError, AttributeError, OverflowError):
            return {}, set()
        arrays = {self.run.probabilities(self.volume): 4}
        if has_uncertainty:
            arrays[self.run.uncertainty(self.volume)] = 3
        if header.get("object_maps"):
            arrays[self.run.object_maps(self.volume)] = 4
        # The user may have deleted an array to make room, or put another one there.
        shape = header.get("shape")
        if not all(_has_shape(array, axes, shape) for array, axes in arrays.items()):
            return {}, set()
        done: set[int] = set()
        for text in texts[1:]:
            numbers = _tiles_in(text)
            # Behind a damaged line nothing is sure. The tiles are predicted again.
            if numbers is None:
                break
            done.update(number for number in numbers if number in tiles)
        return header, done

    # -- writing ----------------------------------------------------------------------------------

    def begin(
        self,
        header: dict[str, Any],
        shape: tuple[int, ...],
        *,
        classes: Sequence[str],
        uncertainty: bool,
        object_maps: int = 0,
        any_precision: bool = False,
    ) -> set[int]:
        """Continue a prediction with the same header, or start a new one.

        If the stored prediction is complete and the new header differs only in how the volume is
        cut into tiles, the prediction stays complete: probabilities do not depend on the tiles.

        Args:
            header: everything that the tiles depend on: model, number of tiles, settings.
            shape: of the probabilities, (C - 1, z, y, x).
            classes: names of the C classes.
            uncertainty: whether the uncertainty is stored as well.
            object_maps: number of maps of objects that are stored as well.
            any_precision: whether a complete prediction of another number format will do.

        Returns:
            Indices of the tiles that are done.
        """
        stored_header, done = self._read()
        complete = bool(stored_header) and len(done) == int(stored_header["tiles"])
        free = (*_PLAN, "precision") if any_precision else _PLAN
        if complete and _agree(stored_header, header, free):
            if stored_header == header:
                return done
            # The tiles of another plan, or of a version whose header said less.
            header = {**header, "precision": stored_header.get("precision", header["precision"])}
            stored_header = header
            done = set(range(header["tiles"]))
        self._clear_leftovers()
        if stored_header == header:
            # Lines behind a damaged one would not be read, so the journal is written anew.
            self._write_journal(header, done)
            return done
        # Before the arrays: a journal must never list tiles that are wiped.
        self.forget()
        _create(self.run.probabilities(self.volume), shape, {"classes": list(classes)})
        if uncertainty:
            _create(self.run.uncertainty(self.volume), shape[1:])
        if object_maps:
            _create(self.run.object_maps(self.volume), (object_maps, *shape[1:]))
        self._write_journal(header, set())
        return set()

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

    def _write_journal(self, header: dict[str, Any], done: set[int]) -> None:
        lines = [json.dumps(header), *([json.dumps({"tiles": sorted(done)})] if done else [])]
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
        """A block at whose end all tiles that are done are in the journal, however it ends."""
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

    def tile_done(self, index: int) -> None:
        """Note that a tile is written; it is in the journal when it is surely on the disk."""
        self._waiting.append(index)
        is_free = self._syncing is None or self._syncing.done()
        if not is_free or time.monotonic() - self._last_sync < _SYNC_EVERY:
            return
        if self._syncing is not None:
            self._syncing.result()
        # Meanwhile, the network goes on.
        self._syncing = _in_thread(partial(self._record, self._waiting))
        self._waiting = []
        self._last_sync = time.monotonic()

    def _record(self, tiles: Sequence[int]) -> None:
        """Wait until all that was written is on the disk, then list tiles in the journal."""
        for array, files in self._written.items():
            sync_files(files.take_unsynced(), array)
        if tiles:
            append(self.journal, [json.dumps({"tiles": list(tiles)})])

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


def _tiles_in(line: bytes | None) -> list[int] | None:
    """The tiles in a line of a journal; None if it is no such line."""
    # Longer ones are no index, and Python refuses to read numbers of thousands of digits.
    if line is not None and line.isdigit() and len(line) < 20:
        return [int(line)]
    try:
        numbers = parse_json(line or b"")["tiles"]
    except (ValueError, TypeError, KeyError, OverflowError):
        return None
    if not isinstance(numbers, list) or not all(type(number) is int for number in numbers):
        return None
    return numbers


def _agree(
    stored: Mapping[str, Any], wanted: Mapping[str, Any], free: tuple[str, ...] = ()
) -> bool:
    """Whether a stored header has all entries of another one, but for some that are free."""
    return all(
        key in free or (stored[key] == value if key in stored else key in _LATER)
        for key, value in wanted.items()
    )


def _has_shape(path: Path, axes: int, shape: object) -> bool:
    """Whether there is an array of ours for a volume of this shape; None for any shape."""
    try:
        array = open_array(path)
    except (DataError, OSError):
        return False
    is_ours = array.ndim == axes and array.dtype == np.uint8
    return is_ours and shape in (None, list(array.shape[-3:]))


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
