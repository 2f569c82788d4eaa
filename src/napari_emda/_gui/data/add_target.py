"""Adds another target to the open project."""

from __future__ import annotations

import threading
from typing import Any

from napari.layers import Image
from qtpy.QtWidgets import QWidget

from napari_emda._gui.common.layer_volumes import refusal, spacing_of
from napari_emda._gui.common.widgets import Sentence, button, column, labelled
from napari_emda._gui.data.layer_widgets import LayerChoice, VoxelSize
from napari_emda._gui.data.project_setup import Pick, check_pick, store
from napari_emda._gui.session import Session
from napari_emda.project.file import VolumeEntry


class AddTarget(QWidget):
    """An image layer, its voxel size, and the button that adds it."""

    def __init__(self, session: Session) -> None:
        super().__init__()
        self._session = session
        self._stop = threading.Event()
        self.image = LayerChoice(session.viewer, Image, refusal)
        self.image.setToolTip("Another volume to segment with the same model.")
        self.spacing = VoxelSize()
        self.add = button(
            "Add this target", "Check the layer and add it to the project.", self.add_target
        )
        self.reason = Sentence()
        column(
            self,
            labelled(("target image", self.image), (None, self.spacing)),
            self.reason,
            self.add,
        )
        self.image.chosen.connect(self._on_image)
        session.project_changed.connect(self.refresh)
        # A check that runs when the viewer closes ends at its next section.
        session.closing.connect(self._stop.set)
        self.refresh()

    def refresh(self, event: Any = None) -> None:
        """List the images that are not in the project yet."""
        opened = self._session.opened
        self.image.refresh(
            lambda layer: opened is None or not (opened.is_output(layer) or opened.is_volume(layer))
        )
        reason = ""
        if opened is None:
            reason = "Set up or open a project first."
        elif not self.image.layers():
            reason = "Open another image in napari first."
        self.reason.show_text(reason, "hint")
        self.add.setEnabled(not reason)

    def _on_image(self) -> None:
        layer = self.image.layer()
        self.spacing.set_value(None if layer is None else spacing_of(layer))

    def add_target(self) -> None:
        """Check the layer in the background, then add it; an error leaves the disk unchanged."""
        session = self._session
        opened = session.opened
        layer = self.image.layer()
        if session.runner.busy:
            session.say(session.runner.busy, "error")
            return
        if opened is None or not isinstance(layer, Image):
            session.say("Choose an image first.", "error")
            return
        project = opened.project
        pick = Pick(
            layer,
            "target",
            self.spacing.value(),
            sections_are_independent=self.spacing.sections_are_independent,
        )
        # Until the work is done, a second click would add the volume twice.
        self.add.setEnabled(False)

        # In a worker thread, because checking reads the whole volume.
        def work() -> list[VolumeEntry]:
            check_pick(pick, len(project.classes), self._stop)
            return store(project, [pick], self._stop)

        def done(entries: list[VolumeEntry]) -> None:
            opened.show_volume(project.volumes.add_entry(entries[0]), layer)
            session.project_changed.emit()
            session.say(
                f"'{entries[0].name}' was added to the project: suggest patches or predict.",
                "done",
            )

        def failed(text: str) -> None:
            # Enables the button again.
            self.refresh()
            session.say(text, "error")

        session.in_background(work, done, failed)
