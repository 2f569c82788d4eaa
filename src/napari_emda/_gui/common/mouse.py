"""Clicks on the canvas, as opposed to drags."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

MouseCallback = Callable[[Any, Any], Iterator[None]]
# vispy numbers mouse buttons from 1.
_LEFT = 1


def on_click(clicked: Callable[[Any], object], heed: Callable[[Any], bool]) -> MouseCallback:
    """A callback for a viewer's ``mouse_drag_callbacks``.

    Args:
        clicked: called with the point of the world at which the left button was pressed and
            released.
        heed: called with the viewer when a button is pressed; False ignores the click.
    """

    def on_press(viewer: Any, event: Any) -> Iterator[None]:
        # Asked before the first `yield`: until the release, other callbacks may change the mode.
        wanted = heed(viewer)
        yield
        moved = False
        while event.type == "mouse_move":
            moved = True
            yield
        if wanted and not moved and event.button == _LEFT:
            clicked(event.position)

    return on_press
