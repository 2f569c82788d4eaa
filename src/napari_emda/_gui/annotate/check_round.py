"""Check points one by one: the cross, the answers, what they say, and the calibration. No Qt."""

from __future__ import annotations

from typing import Any

import numpy as np
from napari.layers import Layer, Points
from psygnal import Signal

from napari_emda._gui.annotate.patches import Patches
from napari_emda._gui.common.adapters import look_at
from napari_emda._gui.open_project import OpenProject
from napari_emda._gui.predict.layers import rename_classes, roles
from napari_emda._gui.session import Session
from napari_emda.active_learning.check_points import CheckedPrediction, answer, draw_points
from napari_emda.active_learning.point_report import Report, report, stop_using, use
from napari_emda.data.box import Box
from napari_emda.data.units import nanometres
from napari_emda.errors import EmdaError
from napari_emda.project.check_points import CANNOT_TELL, Answers, AskedPoint, Draw

CROSS = "check point"
"""Role of the layer that marks the point."""
# Width in nm of what is shown around a point: an organelle with some surroundings.
_SEEN = 800.0
# The same in pixels, at least and at most, and where the voxel size is not known.
_FEWEST, _MOST, _USUAL = 48, 256, 96
# Parts of that width: from the point to the middle of each arm of the cross, and length of an arm.
# The point itself stays free, because that is what is asked about.
_ARM = 0.05
# Answers after which the estimates are shown again.
_EVERY = 10


class CheckRound:
    """The check points of the target on view.

    Args:
        session: shows messages.
        opened: the project.
        patches: that are left while points are answered.

    Attributes:
        number: of the point on view, from 1; 0 while none is asked about.
        points: of the prediction on view.
        report: what the answers say; None before anything was drawn.
        drawing: whether points are being drawn.
    """

    changed = Signal()
    """The point on view, the answers or the report have changed."""
    layer_added = Signal(Layer)
    """The cross was added, and needs the keys."""

    def __init__(self, session: Session, opened: OpenProject, patches: Patches) -> None:
        self._session = session
        self._opened = opened
        self._patches = patches
        self._checked: CheckedPrediction | None = None
        self._hidden: list[Layer] = []
        self.number = 0
        self.points: list[AskedPoint] = []
        self.report: Report | None = None
        self.drawing = False
        # Going to a patch is to leave the points.
        patches.changed.connect(self._on_patches)

    @property
    def active(self) -> bool:
        """Whether a point is asked about."""
        return self.number > 0

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, background first."""
        return self._opened.project.classes

    @property
    def left(self) -> int:
        """Number of points that are not answered."""
        return sum(point.answer is None for point in self.points)

    def why_not(self) -> str:
        """Why no points can be drawn; empty if they can."""
        project = self._opened.project
        if not project.volumes.targets():
            return "Check points need a target."
        if project.predictions.newest_run(self._patches.volume()) is None:
            return "Check points measure a prediction of the whole volume: press Predict first."
        return "Points are being drawn." if self.drawing else ""

    # -- the round ---------------------------------------------------------------------------

    def load(self) -> None:
        """Read the points and the report of the prediction of the target on view."""
        self._checked = None
        self.points = []
        self.report = None
        if not self.why_not():
            try:
                self._checked = CheckedPrediction.of(
                    self._opened.project, None, self._patches.volume()
                )
            except EmdaError:
                # It is being predicted; `begin` says so.
                self.changed.emit()
                return
            self._read()
            if self.points:
                self.report = report(self._opened.project, self._checked)
        self.changed.emit()

    def begin(self, count: int) -> None:
        """Go on with the open points, or draw new ones in the background.

        Raises:
            EmdaError: there is no complete prediction.
        """
        project = self._opened.project
        checked = self._checked = CheckedPrediction.of(project, None, self._patches.volume())
        self._read()
        if self.left:
            self._show_next()
            return
        self.drawing = True
        self.changed.emit()
        self._session.say(f"Drawing {count} points: the prediction is read.")

        def work() -> Draw:
            steps = draw_points(project, checked, count, 0)
            while True:
                try:
                    next(steps)
                except StopIteration as stop:
                    drawn: Draw = stop.value
                    return drawn

        self._session.in_background(work, self._on_drawn, self._on_failed)

    def _on_drawn(self, drawn: Draw) -> None:
        self.drawing = False
        # Another project may have been opened meanwhile.
        if self._session.opened is not self._opened:
            return
        with self._session.showing_errors():
            self._opened.project.check_points.add(drawn)
            self._read()
            self._show_next()
        self.changed.emit()

    def _on_failed(self, text: str) -> None:
        self.drawing = False
        self._session.say(text, "error")
        self.changed.emit()

    def answer(self, value: int) -> None:
        """Answer the point on view, and go to the next.

        Args:
            value: class id or `CANNOT_TELL`.
        """
        if not self.active or value >= len(self.classes):
            return
        project = self._opened.project
        answer(project, self.points, {self.number: value})
        # The voxel was written beside the brush.
        self._patches.paint.reread()
        self._read()
        answered = len(self.points) - self.left
        if answered % _EVERY == 0:
            self._review()
        self._show_next()

    def cannot_tell(self) -> None:
        """Answer that the point on view cannot be told, and go to the next."""
        self.answer(CANNOT_TELL)

    def undo(self) -> None:
        """Take the latest answer or calibration back."""
        checked = self._current()
        step = self._opened.project.check_points.undo(checked.run.name, checked.volume)
        self._patches.paint.reread()
        self._read()
        if step is None:
            self._session.say("There is no answer to take back.")
            return
        self._review()
        if isinstance(step, Answers):
            self._show_next()
        else:
            self._show_mask()
            self._session.say("The mask is as before.")
        self.changed.emit()

    def end(self) -> None:
        """Leave the points; those that are open can be answered later."""
        if not self.active:
            return
        self.number = 0
        self._patches.checking = False
        self._opened.remove_output(CROSS, self._volume)
        self._reveal()
        self._review()
        self._patches.reload()
        self._session.project_changed.emit()
        self.changed.emit()

    def _reveal(self) -> None:
        """Show again what was hidden; over the paint of a patch, nothing that the model says."""
        opened = self._opened
        of_model = {opened.output(role, self._volume) for role in (*roles(), "uncertainty")}
        covering = of_model if opened.annotating else set()
        for layer in self._hidden:
            if layer in opened.viewer.layers and layer not in covering:
                layer.visible = True
        self._hidden = []

    def _on_patches(self) -> None:
        if self._patches.current is not None:
            self.end()

    # -- the calibration ---------------------------------------------------------------------

    def use(self) -> None:
        """Calibrate the prediction from now on.

        Raises:
            JobError: there are too few answers, or the mask may be as good as it is.
        """
        checked = self._current()
        self.report = use(self._opened.project, checked)
        self._show_mask()
        self._session.say("The mask, and all that is exported, follow your points now.", "done")
        self.changed.emit()

    def stop_using(self) -> None:
        """Use the prediction as it was made."""
        checked = self._current()
        self.report = stop_using(self._opened.project, checked)
        self._show_mask()
        self._session.say("The mask is as before.")
        self.changed.emit()

    def _show_mask(self) -> None:
        """Draw the layers of the prediction again, which has other probabilities now."""
        checked = self._current()
        rename_classes(self._opened, checked.run.name, checked.volume)

    # -- one point ---------------------------------------------------------------------------

    def _current(self) -> CheckedPrediction:
        checked = self._checked
        if checked is None:
            checked = CheckedPrediction.of(self._opened.project, None, self._patches.volume())
        self._checked = checked
        return checked

    @property
    def _volume(self) -> str:
        return self._current().volume

    def _read(self) -> None:
        _, self.points = self._current().asked(self._opened.project)

    def _review(self) -> None:
        self.report = report(self._opened.project, self._current()) if self.points else None

    def _show_next(self) -> None:
        """Go to the first open point; end after the last one."""
        following = (n for n, point in enumerate(self.points, start=1) if point.answer is None)
        number = next(following, 0)
        if not number:
            self._review()
            self.end()
            self.changed.emit()
            return
        if not self.active:
            self._enter()
        self.number = number
        self._show(self.points[number - 1])
        self.changed.emit()

    def _enter(self) -> None:
        """Leave the patch, and hide whatever could sway the user."""
        if self._patches.current is not None:
            self._patches.step_back()
        self._opened.show_only(self._volume)
        self._patches.checking = True
        self._opened.auditing = True
        self._hidden = self._opened.shown()
        for layer in self._hidden:
            layer.visible = False

    def _show(self, point: AskedPoint) -> None:
        opened = self._opened
        z, y, x = point.voxel
        place = opened.place(self._volume)
        side = self._side(place.scale[-1], place.unit)
        half = side // 2
        # Around the point, and so beyond the volume where that is near its edge.
        box = Box((z, y - half, x - half), (z + 1, y - half + side, x - half + side))
        self._mark(np.array(point.voxel, float), side)
        look_at(opened.viewer, place, box, self._patches.canvas)
        self._session.moved_on.emit()

    def _side(self, size: float, unit: str) -> int:
        factor = nanometres(unit)
        if not factor:
            return _USUAL
        return int(min(max(_SEEN / (size * factor), _FEWEST), _MOST))

    def _mark(self, voxel: Any, side: int) -> None:
        """Move the cross, four arms around a voxel that stays free."""
        arm = max(_ARM * side, 2.0)
        places = voxel + arm * np.array([[0, -1, 0], [0, 1, 0], [0, 0, -1], [0, 0, 1]])
        layer = self._opened.output(CROSS, self._volume)
        if isinstance(layer, Points):
            layer.data = places
        else:
            layer = Points(
                places,
                name=self._opened.called(CROSS, self._volume),
                symbol=["vbar", "vbar", "hbar", "hbar"],
                size=arm,
                face_color="#ffd400",
                border_color="black",
                border_width=0.08,
                **self._opened.place(self._volume).arguments(),
            )
            self._opened.add_output(CROSS, self._volume, layer)
            layer.editable = False
            self.layer_added.emit(layer)
        # Its keys act while it is selected.
        self._opened.viewer.layers.selection.active = layer
