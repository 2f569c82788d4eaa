"""What a prediction is made from, and how: it is never taken for that of something else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from napari_emda.data.volume import Volume
from napari_emda.inference import checkpoint
from napari_emda.inference.model_header import ModelHeader
from napari_emda.io.identity import file_identity, image_identity
from napari_emda.settings.prediction import PredictSettings


def origin(header: ModelHeader, model_file: str, volume: Volume) -> dict[str, Any]:
    """The model and the image of a prediction, as JSON; with others it is another prediction.

    Args:
        header: of the model.
        model_file: identity of its file; empty for a model in memory alone.
        volume: that is predicted.
    """
    grid = volume.grid
    return {
        "model": header.model,
        "model_file": model_file,
        "image": {} if volume.path is None else image_identity(volume.path),
        "shape": list(volume.shape),
        "grid": [*map(float, grid.spacing), grid.unit, grid.sections_are_independent],
        "domain": volume.domain,
    }


def origin_of_file(model: Path, volume: Volume) -> dict[str, Any]:
    """`origin` of a model that need not be loaded."""
    return origin(checkpoint.read_header(model), file_identity(model), volume)


def averaging(header: ModelHeader, volume: Volume, settings: PredictSettings) -> dict[str, Any]:
    """The settings that change a prediction: ``flips``, and the weight of ``z_smoothing``."""
    return {
        "flips": header.flips if settings.flips == "auto" else settings.flips == "on",
        "z_smoothing": header.z_smoothing_of(volume) if settings.z_smoothing else 0.0,
    }


def begun_with(stored: dict[str, Any], settings: PredictSettings) -> PredictSettings:
    """The settings with which a stored prediction goes on, from its header."""
    return settings.model_copy(
        update={
            "uncertainty": bool(stored["uncertainty"]),
            "flips": "on" if stored.get("flips") else "off",
            "z_smoothing": bool(stored.get("z_smoothing")),
        }
    )


def unusual(stored: dict[str, Any], header: ModelHeader, volume: Volume) -> str:
    """How a stored prediction differs from what the model asks for, in a sentence; or nothing.

    Args:
        stored: header of the stored prediction.
        header: of the model.
        volume: that was predicted.
    """
    usual = averaging(header, volume, PredictSettings())
    words = [
        f"{'with' if stored[key] else 'without'} {name}"
        for key, name in (("flips", "flipped copies"), ("z_smoothing", "smoothing along z"))
        if key in stored and stored[key] != usual[key]
    ]
    if not words:
        return ""
    return (
        f"The stored prediction of '{volume.name}' was made {' and '.join(words)}, and is used as "
        "it is; predict the volume again for what the model asks for."
    )
