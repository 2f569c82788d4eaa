"""What the user decided on patches, as far as it can be taken back: on disk, so that it can be tomorrow, too."""

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
    """A decision, by what was there before.

    Attributes:
        before: the region as it was.
        painted: what was painted in it, uint8 of its shape, as in the annotations.
    """

    before: Region
    painted: NDArray[np.uint8]

    def to_json(self) -> str:
        """One line; what was painted as base64 of its deflated bytes."""
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
            raise ValueError(f"No decision: {error}") from error
        return cls(before, values.reshape(before.voxels.shape))


class DecisionLog:
    """``undo.jsonl``: the decisions of a round, the latest last; each is taken off the end when it is taken back.

    Args:
        path: of the file; made with the first line.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def last(self) -> Decision | None:
        """The latest decision; None when there is none. Lines that a crash has cut short are passed over."""
        for line in reversed(self._lines()):
            try:
                return Decision.from_json(line)
            except ValueError:
                continue
        return None

    def add(self, decision: Decision) -> None:
        """Append a decision, on disk when this returns; do so before carrying it out."""
        append_line(self._path, decision.to_json())

    def drop(self) -> None:
        """Forget the latest decision, once it is taken back."""
        lines = self._lines()
        while lines:
            line = lines.pop()
            try:
                Decision.from_json(line)
            except ValueError:
                continue
            break
        self._cut(sum(len(line) for line in lines))

    def clear(self) -> None:
        """Forget all: what lies behind a new round, or an import, is not taken back."""
        self._cut(0)

    def _lines(self) -> list[bytes]:
        return self._path.read_bytes().splitlines(keepends=True) if self._path.exists() else []

    def _cut(self, size: int) -> None:
        if self._path.exists():
            with self._path.open("rb+") as file:
                file.truncate(size)
                os.fsync(file.fileno())
