"""Where the prediction of a volume lies in its run, and how much of it is done."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from napari_emda.data.box import Box
from napari_emda.io.atomic import write_text
from napari_emda.settings.base import with_new_names

CHUNK = 512


Bytes = NDArray[np.uint8]


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
        known = (
            bool(head) and head.get("model") == model and (head["uncertainty"] or not uncertainty)
        )
        return known and len(done) >= int(head["tiles"])

    def _read(self) -> tuple[dict[str, Any], set[int]]:
        text = self.journal.read_text() if self.journal.exists() else ""
        lines = text[
            : text.rfind("\n") + 1
        ].splitlines()  # a line without its end was being written in a crash
        try:
            head = (
                with_new_names(json.loads(lines[0]), {"neighbours": "z_smoothing"}) if lines else {}
            )
        except ValueError:
            return {}, set()
        groups = ["probabilities.zarr", "uncertainty.zarr"][: 1 + bool(head.get("uncertainty"))]
        if not all((self.folder / group / self.name / "zarr.json").exists() for group in groups):
            return {}, set()  # somebody has made room
        return head, {int(line) for line in lines[1:] if line.isdigit()}

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
            return done
        self.journal.unlink(missing_ok=True)  # first: it must never vouch for tiles that are wiped
        self._create("probabilities.zarr", shape, {"classes": list(classes)})
        if uncertainty:
            self._create("uncertainty.zarr", shape[1:])
        write_text(self.journal, json.dumps(head) + "\n")
        return set()

    def _create(
        self, group: str, shape: tuple[int, ...], attributes: dict[str, Any] | None = None
    ) -> None:
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
        uncertainties = (
            zarr.open_array(self.folder / "uncertainty.zarr" / self.name, mode="r+")
            if uncertainty
            else None
        )

        def write(box: Box, values: Bytes, uncertainty: Bytes | None) -> None:
            probabilities[(slice(None), *box.slices)] = values
            if uncertainties is not None and uncertainty is not None:
                uncertainties[box.slices] = uncertainty

        return write

    def tile_done(self, index: int) -> None:
        """Note that a tile is on disk."""
        with self.journal.open("a") as file:
            file.write(f"{index}\n")
