"""Predictions that tests write themselves."""

from __future__ import annotations

import json
from pathlib import Path

from napari_emda.data.box import Box


def note_as_predicted(run: Path, volume: str, shape, boxes: list[Box] | None = None) -> None:
    """Write the journal of a prediction whose arrays a test has written.

    Args:
        run: folder of the run.
        volume: name of the volume.
        shape: of the volume, (z, y, x).
        boxes: that are predicted; by default all of the volume.
    """
    listed = [box.bounds for box in boxes or [Box.whole(shape)]]
    has_uncertainty = (run / "uncertainty.zarr" / volume).exists()
    lines = [{"uncertainty": has_uncertainty}, {"boxes": listed}]
    text = "".join(f"{json.dumps(line)}\n" for line in lines)
    (run / f"predicted-{volume}.jsonl").write_text(text)
