"""Loads, while the user reads, what napari would load in the middle of the work."""

from __future__ import annotations

import contextlib
import threading
from importlib import import_module

import numpy as np
import pint
from napari.layers import Labels, Shapes
from napari.utils import DirectLabelColormap

# What napari imports for the first labels and for the first table of a layer.
_MODULES = ("pandas", "skimage.morphology", "PIL.Image")

_begun = threading.Event()
_done = threading.Event()


def is_loaded() -> bool:
    """Whether everything is loaded."""
    return _done.is_set()


def load_units() -> None:
    """Read the definitions of all units; call it from the main thread, before `load_ahead`.

    Every layer has units. The first use of pint's registry reads them for a fraction of a second,
    and a thread that comes meanwhile finds a registry without units: the file that was dropped then
    would not open.
    """
    pint.get_application_registry().parse_units("pixel")


def load_ahead() -> None:
    """Import modules, and make layers that nobody sees; call it from a worker thread.

    The first labels with colours of their own compile functions with numba, for seconds. Without
    this, the window would stand still when the first suggestions come.
    """
    # Once for all docks of the process.
    if _begun.is_set():
        return
    _begun.set()
    for name in _MODULES:
        # An optional package of napari's may be missing.
        with contextlib.suppress(ImportError):
            import_module(name)
    # Like the annotations and the suggestions, so that the same functions are compiled.
    colours = {None: "transparent", 0: "transparent", 1: "red", 2: "blue"}
    labels = np.zeros((1, 8, 8), np.uint8)
    Labels(labels, colormap=DirectLabelColormap(color_dict=colours))
    corners = np.array([[0, 0, 0], [0, 0, 9], [0, 9, 9], [0, 9, 0]], float)
    Shapes([corners], shape_type="rectangle", ndim=3)
    _done.set()
