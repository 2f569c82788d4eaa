"""A target with patches that were suggested, without a window."""

from __future__ import annotations

from napari_emda._gui.annotate.patches import Patches
from napari_emda._gui.annotate.tools import Tools

REGIONS = [
    {"volume": "target", "box": "1:2,0:16,0:16", "score": 0.9},
    {"volume": "target", "box": "3:4,8:24,8:24", "score": 0.8},
    {"volume": "target", "box": "2:3,0:16,16:32", "score": 0.7},
]


def suggest(patches, regions, strategy="entropy", run="001-fake"):
    """Record suggestions and show them, all steps at once."""
    for _ in patches.taking(regions, strategy, run):
        pass


def with_suggestions(session, project):
    """The patches of a project that is opened, with `REGIONS` suggested."""
    session.adopt(project)
    patches = Patches(session, session.opened, Tools())
    patches.open()
    suggest(patches, REGIONS)
    return patches
