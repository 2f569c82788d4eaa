"""Adds another target to the open project."""

from __future__ import annotations

import threading
from typing import Any

from napari.layers import Image
from qtpy.QtWidgets import QWidget

from napari_emda._gui.common.layer_volumes import refusal, sizes_of
from napari_emda._gui.common.widgets import Sentence, button, column, labelled
from napari_emda._gui.data.complaint import Complaint
from napari_emda._gui.data.layer_widgets import LayerChoice, VoxelSize
from napari_emda._gui.data.project_setup import Pick, check_pick, store
from napari_emda._gui.data.remarks import sizes_needed
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
        self.spacing = VoxelSize("voxel size of the other target")
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
        self._complaint = Complaint(session, self._state)
        self.image.chosen.connect(self._on_image)
        self.image.enables(self.spacing)
        self.spacing.edited.connect(self._on_size)
        session.project_changed.connect(self.refresh)
        # A check that runs when the viewer closes ends at its next section.
        session.closing.connect(self._stop.set)
        self.refresh()

    def _state(self) -> object:
        size = self.spacing
        return self.image.layer(), size.numbers, size.sections_are_independent

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
        reason = reason or sizes_needed({"the target": self.spacing.missing()})
        self.spacing.mark_missing(needed=self.image.layer() is not None)
        self.reason.show_text(reason, "hint")
        self.add.setEnabled(not reason)

    def _on_size(self) -> None:
        self._complaint.review()
        self.refresh()

    def _on_image(self) -> None:
        layer = self.image.layer()
        self.spacing.set_value((None, None, None) if layer is None else sizes_of(layer))

    def add_target(self) -> None:
        """Check the layer in the background, then add it; an error leaves the disk unchanged."""
        layer = self.image.layer()
        if not isinstance(layer, Image):
            self._complaint.show("Choose an image first.")
            return
        independent = self.spacing.sections_are_independent
        value = self.spacing.value()
        self.add_pick(Pick(layer, "target", value, sections_are_independent=independent))

    def add_pick(self, pick: Pick) -> None:
        """Add a target as it was chosen here or elsewhere, see `add_target`."""
        session = self._session
        opened = session.opened
        if session.runner.busy or opened is None:
            session.say(session.runner.busy or "Set up or open a project first.", "error")
            return
        project = opened.project
        # Until the work is done, a second click would add the volume twice.
        self.add.setEnabled(False)

        # In a worker thread, because checking reads the whole volume.
        def work() -> list[VolumeEntry]:
            check_pick(pick, len(project.classes), self._stop)
            return store(project, [pick], self._stop)

        def done(entries: list[VolumeEntry]) -> None:
            opened.show_volume(project.volumes.add_entry(entries[0]), pick.image)
            session.project_changed.emit()
            session.say(
                f"'{entries[0].name}' was added to the project: suggest patches or predict.",
                "done",
            )

        def failed(text: str) -> None:
            # Enables the button again.
            self.refresh()
            self._complaint.show(text)

        session.in_background(work, done, failed)
