"""The curves of a training, from its events and from its log."""

from __future__ import annotations

import math
from typing import Any

from qtpy.QtWidgets import QVBoxLayout, QWidget

from napari_emda.events import Finished, Stepped, Validated
from napari_emda.project.job_files import TrainJob
from napari_emda.project.run_folder import RunFolder


class Curves(QWidget):
    """Plots of a training; empty until one starts.

    Attributes:
        losses: the plot of the losses; None before the first training.
        quality: the plot of the label-free score; None before the first training.
    """

    def __init__(self) -> None:
        super().__init__()
        self.losses: Any = None
        self.quality: Any = None
        self._layout = QVBoxLayout(self)
        self._layout.setContentsMargins(0, 0, 0, 0)

    def begin(self, job: TrainJob) -> None:
        """Clear the plots; for a resumed run, draw what it has logged."""
        if self.losses is None:
            # Imported here, because pyqtgraph takes a while to load, and the dock opens at once.
            from napari_emda._gui.train.plots import LossPlot, QualityPlot

            self.losses = LossPlot()
            self.quality = QualityPlot()
            self.quality.setXLink(self.losses)
            for plot in (self.losses, self.quality):
                self._layout.addWidget(plot)
        self.losses.clear_curves()
        self.quality.clear_curve()
        if job.resume is not None:
            # Steps after the checkpoint are trained, and reported, again.
            folder = RunFolder.of(job.project, job.resume)
            self.recall(folder, folder.saved_step)

    def recall(self, folder: RunFolder, last: float = math.inf) -> None:
        """Draw what a run has logged, up to a step."""
        if self.losses is None:
            return
        for entry in folder.log():
            if entry.get("step", 0) > last:
                continue
            if entry.get("event") == "stepped":
                self.losses.add(entry["step"], entry["losses"])
            elif entry.get("event") == "validated":
                self._show_quality(Validated(entry["step"], entry["scores"], entry.get("best", 0)))

    def take(self, event: object) -> None:
        """Draw the numbers of an event."""
        if self.losses is None:
            return
        if isinstance(event, Stepped):
            self.losses.add(event.step, event.losses)
        elif isinstance(event, Validated):
            self._show_quality(event)

    def _show_quality(self, event: Validated) -> None:
        self.quality.add(event.step, event.scores["score"])
        self.quality.mark(event.best, "would be kept")

    def end(self, last: object) -> None:
        """Mark the model that was kept."""
        if isinstance(last, Finished) and self.quality is not None and self.quality.scores:
            self.quality.mark(last.result.get("selected_step", self.quality.kept), "kept")
