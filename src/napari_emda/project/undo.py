"""Decisions on patches, stored on disk, so that Undo works after a restart as well."""

from __future__ import annotations

import base64
import json
import os
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from napari_emda.io.atomic import append_line
from napari_emda.project.region import Region


@dataclass(frozen=True)
class Decision:
    """What there was before a decision on a region.

    Attributes:
        before: the region.
        painted: its annotations, uint8 of its shape, 0 = not annotated, k = class k - 1.
    """

    before: Region
    painted: NDArray[np.uint8]

    def to_json(self) -> str:
        """One line; the annotations as base64 of their deflated bytes."""
        # Annotations hold few values in large areas: deflated, a patch of 128 x 128 voxels takes a
        # few hundred bytes instead of 16 KiB.
        packed = base64.b64encode(zlib.compress(self.painted.astype(np.uint8).tobytes())).decode()
        return json.dumps({"before": self.before.model_dump(), "painted": packed})

    @classmethod
    def from_json(cls, line: bytes) -> Decision:
        """From `to_json`; ValueError when the line is damaged."""
        try:
            entry = json.loads(line)
            before = Region.model_validate(entry["before"])
            values = np.frombuffer(zlib.decompress(base64.b64decode(entry["painted"])), np.uint8)
        except (KeyError, TypeError, zlib.error) as error:
            raise ValueError(f"Not a decision: {error}") from error
        return cls(before, values.reshape(before.voxels.shape))


class DecisionLog:
    """``undo.jsonl``: the decisions of a round, the latest last; Undo removes the last line.

    Args:
        path: of the file; the first decision creates it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def last(self) -> Decision | None:
        """The latest decision; None if there is none. Incomplete lines are skipped."""
        for line in reversed(self._lines()):
            try:
                return Decision.from_json(line)
            except ValueError:
                continue
        return None

    def add(self, decision: Decision) -> None:
        """Append a decision, on disk when this returns.

        Call it before the decision is carried out: after a crash in between, Undo restores what is
        still there.
        """
        append_line(self._path, decision.to_json())

    def drop(self) -> None:
        """Forget the latest decision, after it was taken back."""
        lines = self._lines()
        # Incomplete lines behind it go as well.
        while lines:
            line = lines.pop()
            try:
                Decision.from_json(line)
            except ValueError:
                continue
            break
        self._cut(sum(len(line) for line in lines))

    def clear(self) -> None:
        """Forget all decisions: they cannot be taken back across a new round or an import."""
        self._cut(0)

    def _lines(self) -> list[bytes]:
        return self._path.read_bytes().splitlines(keepends=True) if self._path.exists() else []

    def _cut(self, size: int) -> None:
        if self._path.exists():
            # In place, without a copy: a crash before this line leaves a decision that Undo can
            # take back once more, to the same state.
            with self._path.open("rb+") as file:
                file.truncate(size)
                os.fsync(file.fileno())
