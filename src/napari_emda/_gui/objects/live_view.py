"""Shows at once what other settings of objects would do in the section on view."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from qtpy.QtCore import QObject, QTimer

from napari_emda._gui.common.adapters import show
from napari_emda._gui.common.outlined_labels import OutlinedLabels
from napari_emda._gui.objects.layers import ALL, LIVE, ONE
from napari_emda._gui.objects.live import objects_of_section
from napari_emda._gui.open_project import OpenProject
from napari_emda._gui.predict.layers import draw_outlines
from napari_emda._gui.session import Session
from napari_emda.data.box import Box
from napari_emda.settings.objects import SeparationSettings

# Milliseconds after the last change: who turns a wheel through ten values wants the last.
_PATIENCE = 120


class LiveObjects(QObject):
    """The objects of the section on view, found anew in a worker thread with each change.

    Args:
        session: of the dock.
        settings: that are set now.

    Attributes:
        found: the settings by which the objects of the volume were found; None if they were not.
    """

    def __init__(self, session: Session, settings: Callable[[], SeparationSettings]) -> None:
        super().__init__()
        self._session = session
        self._settings = settings
        self.found: SeparationSettings | None = None
        self._chosen: tuple[str, str, str | None] = ("", "", None)
        self._open = False
        self._shown = ""
        self._running = False
        self._again = False
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(_PATIENCE)
        self._timer.timeout.connect(self._find)
        session.mask_changed.connect(self._on_change)
        session.viewer.dims.events.point.connect(self._on_section)
        session.closing.connect(self.stop)

    def choose(self, run: str, volume: str, class_name: str | None) -> None:
        """Say whose objects are shown."""
        if (run, volume, class_name) != self._chosen:
            self.stop()
            self._chosen = (run, volume, class_name)

    def set_open(self, is_open: bool) -> None:
        """Follow the settings while the panel is open."""
        self._open = is_open
        if not is_open:
            self.stop()

    def stop(self) -> None:
        """Show the objects that were found again."""
        self._timer.stop()
        self._again = False
        opened = self._session.opened
        if opened is not None and self._shown:
            live = opened.output(LIVE, self._shown)
            if live is not None:
                live.visible = False
            self._show_found(opened, self._shown, visible=self._open)
        self._shown = ""

    @staticmethod
    def _show_found(opened: OpenProject, volume: str, *, visible: bool) -> None:
        for role in (ALL, ONE):
            layer = opened.output(role, volume)
            if layer is not None:
                layer.visible = visible

    def _on_change(self) -> None:
        if not self._open:
            return
        if self.found is not None and self._settings() == self.found:
            self.stop()
        else:
            self._timer.start()

    def _on_section(self) -> None:
        if self._shown:
            self._timer.start()

    def _find(self) -> None:
        """Find the objects of the section on view in a worker thread, the last change at last."""
        opened = self._session.opened
        run, volume, name = self._chosen
        if opened is None or not run or not self._open:
            return
        if self._running:
            self._again = True
            return
        prediction = opened.project.predictions.of(run, volume)
        if prediction is None:
            return  # there is nothing to show before it is predicted
        classes = prediction.outputs.reported[1:]
        class_id = 1 if name not in classes else 1 + classes.index(name)
        box = opened.section_on_view(volume)
        settings = self._settings()
        grid = opened.project.volumes.entry(volume).grid
        self._running = True

        def work() -> NDArray[np.uint32]:
            maps = prediction.object_maps
            return objects_of_section(prediction.reported, box, settings, grid, class_id, maps)

        def done(ids: NDArray[np.uint32]) -> None:
            self._running = False
            # The user may have gone on meanwhile.
            if self._session.opened is opened and self._open:
                self._show(opened, volume, box, ids)
            if self._again:
                self._again = False
                self._timer.start()

        def failed(text: str) -> None:
            self._running = False
            self._session.say(text, "error")

        self._session.in_background(work, done, failed)

    def _show(self, opened: OpenProject, volume: str, box: Box, ids: NDArray[np.uint32]) -> None:
        place = opened.place(volume).arguments(corner=box.start)
        self._shown = volume
        self._show_found(opened, volume, visible=False)
        layer = opened.output(LIVE, volume)
        # napari takes a third of a second to add a layer.
        if isinstance(layer, OutlinedLabels) and layer.data.shape == ids.shape:
            layer.data = ids
            layer.translate = place["translate"]
            show(layer)
            return
        layer = OutlinedLabels(ids, name=opened.called(LIVE, volume), multiscale=False, **place)
        draw_outlines(layer, outlines=True)
        layer.editable = False
        opened.add_output(LIVE, volume, layer)
