"""What the Data panel asks while a project is open, so that none is changed or left unasked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from napari_emda._gui.common.question import Question
from napari_emda._gui.data.layer_widgets import LayerChoice, VoxelSize
from napari_emda._gui.data.project_setup import Pick
from napari_emda._gui.open_project import OpenProject
from napari_emda._gui.session import Session
from napari_emda.project.file import VolumeEntry

Sides = Sequence[tuple[LayerChoice, VoxelSize]]


class GridQuestion(Question):
    """Whether an edited voxel size changes the open project, or why it cannot.

    Args:
        session: of the dock.
        sides: the layers and voxel sizes of the panel.
    """

    def __init__(self, session: Session, sides: Sides) -> None:
        super().__init__()
        self._session = session
        self._sides = sides
        # The project whose voxel sizes may be edited for the sake of another project.
        self._unlocked: OpenProject | None = None
        self._shown: tuple[str, ...] = ()

    def review(self) -> None:
        """Ask about sizes that differ from the project's; disable those that must not change."""
        opened = self._session.opened
        locked = False
        changed: list[VolumeEntry] = []
        for choice, size in self._sides:
            entry = None if opened is None else opened.entry_of(choice.layer())
            # Models have learnt at this size, and predictions lie on this grid.
            fixed = entry is not None and opened is not None and bool(opened.runs)
            kept = fixed and self._unlocked is not opened
            # Nothing is asked about a layer that is not chosen.
            size.setEnabled(choice.layer() is not None and not kept)
            locked = locked or kept
            if entry is not None and not fixed and differs(size, entry):
                changed.append(entry)
        self._show(opened, changed, locked=locked)

    def _show(
        self, opened: OpenProject | None, changed: list[VolumeEntry], *, locked: bool
    ) -> None:
        name = "" if opened is None else opened.project.folder.name
        shown = (name, str(locked), *(entry.name for entry in changed))
        # Asked once, not at every key.
        if shown == self._shown:
            return
        self._shown = shown
        if locked:
            self.ask(
                f"The models of '{name}' were trained with these voxel sizes, so they stay as they "
                "are.",
                {
                    "Use other sizes in a new project": (
                        "Make the boxes editable, to start another project with these layers.",
                        self._unlock,
                    )
                },
            )
        elif changed:
            volumes = " and ".join(f"'{entry.name}'" for entry in changed)
            self.ask(
                f"The voxel size of {volumes} is not the one in the project '{name}'.",
                {
                    "Change it in the project": ("Correct the project.", self._change),
                    "Show the project's size": ("Undo the edit.", self.show_sizes),
                },
            )
        else:
            self.clear()

    def _unlock(self) -> None:
        self._unlocked = self._session.opened
        self.review()

    def _change(self) -> None:
        opened = self._session.opened
        if opened is None or self._session.runner.busy:
            self._session.say(self._session.runner.busy, "error")
            self._ask_again()
            return
        with self._session.showing_errors():
            for choice, size in self._sides:
                entry = opened.entry_of(choice.layer())
                spacing = size.value()
                if entry is not None and spacing is not None and differs(size, entry):
                    opened.project.volumes.change_grid(
                        entry.name,
                        spacing,
                        sections_are_independent=size.sections_are_independent,
                    )
            self._session.show_again()
        self._ask_again()

    def show_sizes(self) -> None:
        """Show the voxel sizes of the project."""
        opened = self._session.opened
        for choice, size in self._sides:
            entry = None if opened is None else opened.entry_of(choice.layer())
            if entry is not None:
                size.is_depth.setChecked(not entry.sections_are_independent)
                size.set_value(entry.grid.in_nanometres().spacing)
        self._ask_again()

    def _ask_again(self) -> None:
        self._shown = ()
        self.review()


class ProjectQuestion(Question):
    """What *Use these layers* does while another project is open.

    Args:
        session: of the dock.
        start: creates another project of the chosen layers.
        add: adds a target to the open project.
    """

    def __init__(
        self, session: Session, start: Callable[[], object], add: Callable[[Pick], object]
    ) -> None:
        super().__init__()
        self._session = session
        self._start = start
        self._add = add

    def about(self, opened: OpenProject, picks: Sequence[Pick], folder: str) -> None:
        """Ask what to do with layers that were chosen while a project is open."""
        name = opened.project.folder.name
        target = picks[-1]
        answers: dict[str, tuple[str, Callable[[], object]]] = {}
        in_project = [opened.is_volume(pick.image) for pick in picks]
        # The source is the project's, or there is none, and the target is new.
        if not in_project[-1] and all(in_project[:-1]):
            answers["Add the target to it"] = (
                f"'{target.image.name}' becomes another target of '{name}'.",
                partial(self._add, target),
            )
        answers["Start another project"] = (
            f"Create a project in {folder}, and close '{name}'.",
            self._start,
        )
        answers[f"Stay with '{name}'"] = ("Change nothing.", lambda: None)
        self.ask(
            f"The project '{name}' is open. Another project in {folder} would close it; all that is"
            " in it stays on disk.",
            answers,
        )


def differs(size: VoxelSize, entry: VolumeEntry) -> bool:
    """Whether a complete voxel size that is shown is not that of the project."""
    shown = size.value()
    if shown is None:
        return False
    stored = entry.grid.in_nanometres().spacing
    # The boxes show six decimals.
    same = np.allclose(shown, stored, rtol=1e-6, atol=1e-6)
    return not same or size.sections_are_independent != entry.sections_are_independent


def is_open_project(opened: OpenProject, picks: Sequence[Pick], sizes: Sequence[VoxelSize]) -> bool:
    """Whether the chosen layers are volumes of the open project, and nothing was edited."""
    entries = [opened.entry_of(pick.image) for pick in picks]
    pairs = zip(entries, sizes, strict=True)
    return all(entry is not None and not differs(size, entry) for entry, size in pairs)
