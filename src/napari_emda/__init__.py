"""Interactive, domain-adaptive segmentation of volume electron microscopy.

Importing the package loads neither torch nor Qt; public names come on first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from napari_emda.data.box import Box
    from napari_emda.data.volume import IGNORE, Volume
    from napari_emda.errors import DataError, EmdaError, JobError, SettingsError
    from napari_emda.predict import predict
    from napari_emda.project import Project
    from napari_emda.query import suggest
    from napari_emda.settings import PredictSettings, QuerySettings, TrainSettings
    from napari_emda.train import fit

__version__ = "0.1.0"

_HOMES = {
    "IGNORE": "data.volume",
    "Box": "data.volume",
    "Volume": "data.volume",
    "DataError": "errors",
    "EmdaError": "errors",
    "JobError": "errors",
    "SettingsError": "errors",
    "predict": "predict",
    "Project": "project",
    "suggest": "query",
    "fit": "train",
    "PredictSettings": "settings",
    "QuerySettings": "settings",
    "TrainSettings": "settings",
}

__all__ = [
    "IGNORE",
    "Box",
    "DataError",
    "EmdaError",
    "JobError",
    "PredictSettings",
    "Project",
    "QuerySettings",
    "SettingsError",
    "TrainSettings",
    "Volume",
    "fit",
    "predict",
    "suggest",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
