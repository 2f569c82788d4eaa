"""Interactive, domain-adaptive segmentation of volume electron microscopy.

Importing the package loads neither torch nor Qt. The modules of the public names are imported when
a name is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from napari_emda.active_learning.suggest import suggest
    from napari_emda.data.box import Box
    from napari_emda.data.volume import IGNORE, Volume
    from napari_emda.data.voxel_grid import VoxelGrid
    from napari_emda.errors import DataError, EmdaError, JobError, SettingsError
    from napari_emda.inference.predict import predict
    from napari_emda.project.project import Project
    from napari_emda.settings.prediction import PredictSettings
    from napari_emda.settings.suggestion import QuerySettings
    from napari_emda.settings.training import TrainSettings
    from napari_emda.training.loop import fit

__version__ = "0.1.0"

# Public names and their modules. Importing them all at once would load torch, which takes seconds,
# also for a command that only prints its help.
_MODULES = {
    "IGNORE": "data.volume",
    "Box": "data.box",
    "Volume": "data.volume",
    "VoxelGrid": "data.voxel_grid",
    "DataError": "errors",
    "EmdaError": "errors",
    "JobError": "errors",
    "SettingsError": "errors",
    "predict": "inference.predict",
    "Project": "project.project",
    "suggest": "active_learning.suggest",
    "fit": "training.loop",
    "PredictSettings": "settings.prediction",
    "QuerySettings": "settings.suggestion",
    "TrainSettings": "settings.training",
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
    "VoxelGrid",
    "fit",
    "predict",
    "suggest",
]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
