"""Clicks on the canvas, told from drags."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

MouseCallback = Callable[[Any, Any], Iterator[None]]
_LEFT = 1


def on_click(clicked: Callable[[Any], object], heed: Callable[[Any], bool]) -> MouseCallback:
    """A callback for a viewer's ``mouse_drag_callbacks``.

    Args:
        clicked: called with the point of the world at which the left button was pressed and let go
            of.
        heed: called with the viewer when a button is pressed; False passes the click over.
    """

    def on_press(viewer: Any, event: Any) -> Iterator[None]:
        wanted = heed(viewer)
        yield
        moved = False
        while event.type == "mouse_move":
            moved = True
            yield
        if wanted and not moved and event.button == _LEFT:
            clicked(event.position)

    return on_press
