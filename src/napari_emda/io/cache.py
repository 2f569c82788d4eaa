"""Where files are kept that can be made or downloaded again."""

from __future__ import annotations

import os
from pathlib import Path

import pooch

# Environment variable that names another folder to keep them in.
CACHE_VARIABLE = "NAPARI_EMDA_CACHE"


def cache_folder() -> Path:
    """The folder, in the user's own; it need not exist."""
    return Path(os.environ.get(CACHE_VARIABLE) or pooch.os_cache("napari-emda"))
