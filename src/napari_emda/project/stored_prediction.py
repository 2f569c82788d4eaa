"""A volume's prediction on disk, tile by tile, with a journal of the tiles that are done."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.codecs import ZstdCodec

from napari_emda.data.box import Box
from napari_emda.io.atomic import write_text
from napari_emda.io.checked_store import CheckedStore, open_array
from napari_emda.io.chunk_files import ChunkFiles
from napari_emda.io.safe_files import LARGEST_LINES, open_to_append_text, read_file
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

Bytes = NDArray[np.uint8]


class StoredPrediction:
    """A volume's probabilities and uncertainty on disk, and the tiles of them that are done.

    - ``probabilities.zarr/<volume>``: uint8 (C - 1, z, y, x), 255 times the probability of classes
      1 to C - 1. The attribute ``classes`` holds the names of all C.
    - ``uncertainty.zarr/<volume>``: uint8 (z, y, x), 255 times the entropy over log C, or another
      measure, which the attribute ``measure`` then names.
    - ``predicted-<volume>.jsonl``: the journal. Its first line, the header, holds everything that
      the tiles depend on; every other line is the index of a tile that is done.

    Args:
        run: the run whose model predicts.
        volume: name of the volume.
    """

    def __init__(self, run: RunFolder, volume: str) -> None:
        self.run = run
        self.volume = volume
        self.journal = run.journal(volume)

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
    def measure(self) -> str:
        """The measure of the uncertainty; empty for the entropy of the prediction."""
        return str(self.uncertainty.attrs.get("measure", ""))

    def complete(
        self, model: str, shape: tuple[int, ...] | None = None, *, uncertainty: bool = False
    ) -> bool:
        """Whether all tiles are predicted.

        Args:
            model: with this model of the run.
            shape: of the image as it is now, (z, y, x); None for that of the prediction.
            uncertainty: whether the uncertainty must be stored as well.
        """
        header, done = self._read()
        if not header or header.get("model") != model:
            return False
        # The first version did not store the shape.
        if shape is not None and header.get("shape", list(shape)) != list(shape):
            return False
        has_all_tiles = len(done) >= int(header["tiles"])
        return has_all_tiles and (bool(header["uncertainty"]) or not uncertainty)

    def _read(self) -> tuple[dict[str, Any], set[int]]:
        """The journal's header, and the tiles done; both empty if the journal cannot be trusted."""
        text = ""
        if self.journal.exists():
            text = read_file(self.journal, LARGEST_LINES).decode(errors="replace")
        # A last line without its end was being written when the program crashed: "1" may be the
        # beginning of "10".
        lines = text[: text.rfind("\n") + 1].splitlines()
        try:
            header = json.loads(lines[0]) if lines else {}
            # Its name in the first version.
            header = with_new_names(header, {"neighbours": "z_smoothing"})
            tiles = range(int(header["tiles"]))
            has_uncertainty = bool(header["uncertainty"])
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            return {}, set()
        arrays = {self.run.probabilities(self.volume): 4}
        if has_uncertainty:
            arrays[self.run.uncertainty(self.volume)] = 3
        # The user may have deleted an array to make room, or put another one there.
        shape = header.get("shape")
        if not all(_has_shape(array, axes, shape) for array, axes in arrays.items()):
            return {}, set()
        # Longer lines are no index, and Python refuses to read numbers of thousands of digits.
        numbers = (int(line) for line in lines[1:] if line.isdecimal() and len(line) < 20)
        return header, {number for number in numbers if number in tiles}

    # -- writing ----------------------------------------------------------------------------------

    def begin(
        self,
        header: dict[str, Any],
        shape: tuple[int, ...],
        *,
        classes: Sequence[str],
        uncertainty: bool,
    ) -> set[int]:
        """Continue a prediction with the same header, or start a new one.

        If the stored prediction is complete and the new header differs only in how the volume is
        cut into tiles, the prediction stays complete: probabilities do not depend on the tiles.

        Args:
            header: everything that the tiles depend on: model, number of tiles, settings.
            shape: of the probabilities, (C - 1, z, y, x).
            classes: names of the C classes.
            uncertainty: whether the uncertainty is stored as well.

        Returns:
            Indices of the tiles that are done.
        """
        stored_header, done = self._read()
        complete = bool(stored_header) and len(done) == int(stored_header["tiles"])
        if complete and _without_plan(stored_header) == _without_plan(header):
            stored_header = header
            done = set(range(header["tiles"]))
        if stored_header == header:
            # The next line would continue an incomplete last one, so the journal is written anew.
            self._write_journal(header, done)
            return done
        # Before the arrays: a journal must never list tiles that are wiped.
        self.journal.unlink(missing_ok=True)
        _create(self.run.probabilities(self.volume), shape, {"classes": list(classes)})
        if uncertainty:
            _create(self.run.uncertainty(self.volume), shape[1:])
        self._write_journal(header, set())
        return set()

    def _write_journal(self, header: dict[str, Any], done: set[int]) -> None:
        lines = [json.dumps(header), *map(str, sorted(done))]
        write_text(self.journal, "\n".join(lines) + "\n")

    def begin_uncertainty(self, shape: tuple[int, ...], measure: str) -> zarr.Array[Any]:
        """Create the uncertainty array anew, for another measure than the prediction's entropy."""
        return _create(self.run.uncertainty(self.volume), shape, {"measure": measure})

    def writer(self, *, uncertainty: bool) -> Callable[[Box, Bytes, Bytes | None], None]:
        """A function that writes the probabilities and the uncertainty of a box of voxels.

        Several threads may call it at the same time, each with another box.
        """
        # Opened once, because opening an array reads its metadata from disk.
        paths = [self.run.probabilities(self.volume)]
        if uncertainty:
            paths.append(self.run.uncertainty(self.volume))
        probability_files, *uncertainty_files = (
            ChunkFiles(zarr.open_array(CheckedStore(path), mode="r+")) for path in paths
        )

        def write(box: Box, probabilities: Bytes, uncertainty: Bytes | None) -> None:
            probability_files.write((slice(0, len(probabilities)), *box.slices), probabilities)
            if uncertainty is not None:
                uncertainty_files[0].write(box.slices, uncertainty)

        return write

    def tile_done(self, index: int) -> None:
        """Note that a tile is done; call it after the tile is on disk."""
        with open_to_append_text(self.journal) as file:
            file.write(f"{index}\n")

    def forget(self) -> None:
        """Let the next prediction start anew."""
        self.journal.unlink(missing_ok=True)


def _has_shape(path: Path, axes: int, shape: object) -> bool:
    """Whether there is an array of ours for a volume of this shape; None for any shape."""
    try:
        array = zarr.open_array(CheckedStore(path), mode="r")
    except (OSError, ValueError, KeyError, TypeError):
        return False
    is_ours = array.ndim == axes and array.dtype == np.uint8
    return is_ours and shape in (None, list(array.shape[-3:]))


def _without_plan(header: dict[str, Any]) -> dict[str, Any]:
    """The entries of a header on which the probabilities depend."""
    return {key: value for key, value in header.items() if key not in _PLAN}


def _create(
    path: Path, shape: tuple[int, ...], attributes: dict[str, Any] | None = None
) -> zarr.Array[Any]:
    # The volumes of a run are the arrays of one group, which any reader of zarr can list.
    zarr.open_group(CheckedStore(path.parent), mode="a")
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
