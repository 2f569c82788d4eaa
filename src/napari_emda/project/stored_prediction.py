"""A volume's prediction on disk, block by block, and which blocks of it are done."""

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
from napari_emda.io.chunk_files import ChunkFiles
from napari_emda.project.run_folder import RunFolder
from napari_emda.settings.base import with_new_names

CHUNK = 512
"""Side of a chunk in pixels: a section on view decodes few of them, and a volume is not too many files."""
_COMPRESSION = ZstdCodec(level=1)
"""Level 1 writes twice as fast as zarr's own choice; the files grow by a tenth."""

Bytes = NDArray[np.uint8]


class StoredPrediction:
    """A volume's probabilities and uncertainty on disk, and which tiles of them are done.

    ``probabilities.zarr/<volume>``: uint8 (C - 1, z, y, x), 255 times the probability of classes 1 ... C - 1, the names
    of all C being its attribute ``classes``;
    ``uncertainty.zarr/<volume>``: uint8 (z, y, x), 255 times the entropy over log C, or another measure, which its
    attribute ``measure`` then names; ``predicted-<volume>.jsonl``: the tiles done.

    Args:
        run: whose model predicts.
        volume: its name.
    """

    def __init__(self, run: RunFolder, volume: str) -> None:
        self.run = run
        self.volume = volume
        self.journal = run.journal(volume)

    # -- reading -------------------------------------------------------------------------------------------------

    @property
    def probabilities(self) -> zarr.Array[Any]:
        """Opened for reading."""
        return zarr.open_array(self.run.probabilities(self.volume), mode="r")

    @property
    def uncertainty(self) -> zarr.Array[Any]:
        """Opened for reading."""
        return zarr.open_array(self.run.uncertainty(self.volume), mode="r")

    @property
    def measure(self) -> str:
        """What the uncertainty was measured by; empty for the entropy of the prediction."""
        return str(self.uncertainty.attrs.get("measure", ""))

    def complete(self, model: str, *, uncertainty: bool = False) -> bool:
        """Whether every tile was predicted with this model of the run (and, if asked, its uncertainty kept)."""
        head, done = self._read()
        if not head or head.get("model") != model:
            return False
        return len(done) >= int(head["tiles"]) and (bool(head["uncertainty"]) or not uncertainty)

    def _read(self) -> tuple[dict[str, Any], set[int]]:
        """What the journal says of model and plan, and the tiles done; nothing where it cannot be trusted."""
        text = self.journal.read_text() if self.journal.exists() else ""
        # A line without its end was being written in a crash.
        lines = text[: text.rfind("\n") + 1].splitlines()
        try:
            head = json.loads(lines[0]) if lines else {}
            head = with_new_names(head, {"neighbours": "z_smoothing"})
            tiles = range(int(head["tiles"]))
            kept = bool(head["uncertainty"])
        except (ValueError, TypeError, KeyError, AttributeError):
            return {}, set()
        arrays = [self.run.probabilities(self.volume), self.run.uncertainty(self.volume)]
        if not all((array / "zarr.json").exists() for array in arrays[: 1 + kept]):
            return {}, set()  # somebody has made room
        return head, {int(line) for line in lines[1:] if line.isdecimal() and int(line) in tiles}

    # -- writing -------------------------------------------------------------------------------------------------

    def begin(
        self,
        head: dict[str, Any],
        shape: tuple[int, ...],
        *,
        classes: Sequence[str],
        uncertainty: bool,
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
            self._write_journal(head, done)  # a torn last line would run into the next one
            return done
        self.journal.unlink(missing_ok=True)  # first: it must never vouch for tiles that are wiped
        _create(self.run.probabilities(self.volume), shape, {"classes": list(classes)})
        if uncertainty:
            _create(self.run.uncertainty(self.volume), shape[1:])
        self._write_journal(head, set())
        return set()

    def _write_journal(self, head: dict[str, Any], done: set[int]) -> None:
        lines = [json.dumps(head), *map(str, sorted(done))]
        write_text(self.journal, "\n".join(lines) + "\n")

    def begin_uncertainty(self, shape: tuple[int, ...], measure: str) -> zarr.Array[Any]:
        """Make the map of uncertainty anew for another measure than the prediction's entropy, and name it after it."""
        return _create(self.run.uncertainty(self.volume), shape, {"measure": measure})

    def writer(self, *, uncertainty: bool) -> Callable[[Box, Bytes, Bytes | None], None]:
        """A function that puts the probabilities and the uncertainty of a box of voxels on disk.

        Several threads may call it at once, each with a box of its own.
        """
        paths = (self.run.probabilities(self.volume), self.run.uncertainty(self.volume))
        opened = [ChunkFiles(zarr.open_array(path, mode="r+")) for path in paths[: 1 + uncertainty]]

        def write(box: Box, values: Bytes, uncertainty: Bytes | None) -> None:
            opened[0].write((slice(0, len(values)), *box.slices), values)
            if uncertainty is not None:
                opened[1].write(box.slices, uncertainty)

        return write

    def tile_done(self, index: int) -> None:
        """Note that a tile is on disk."""
        with self.journal.open("a") as file:
            file.write(f"{index}\n")

    def forget(self) -> None:
        """Have all tiles predicted anew next time."""
        self.journal.unlink(missing_ok=True)


def _create(
    path: Path, shape: tuple[int, ...], attributes: dict[str, Any] | None = None
) -> zarr.Array[Any]:
    zarr.open_group(path.parent, mode="a")
    chunks = (1,) * (len(shape) - 2) + tuple(min(CHUNK, n) for n in shape[-2:])
    return zarr.create_array(
        path,
        shape=shape,
        dtype="uint8",
        chunks=chunks,
        compressors=_COMPRESSION,
        fill_value=0,
        overwrite=True,
        attributes=attributes,
    )
