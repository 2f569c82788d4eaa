"""What is offered for a project that cannot be opened: to repair it, or to read from a server."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from napari_emda._gui.common.question import Question
from napari_emda._gui.session import Session, in_short
from napari_emda.errors import EmdaError
from napari_emda.io.known_servers import UnknownServer, allow
from napari_emda.project.checking.check import Checked, is_project, repair
from napari_emda.project.checking.damage import Reading
from napari_emda.project.project import OpenElsewhere, Project

Report = tuple[list[Checked], Path | None]
"""What was wrong, and the folder of all that was replaced."""


class RepairOffer(Question):
    """Offers *Check and repair* where a project could not be opened, and shows the report.

    Where its images lie on a server that was never read, it asks whether to read from it.

    Args:
        session: of the dock.
        open_again: opens a project, after its repair.
    """

    def __init__(self, session: Session, open_again: Callable[[Path], object]) -> None:
        super().__init__()
        self._session = session
        self._open_again = open_again

    @contextlib.contextmanager
    def offered_for(self, folder: Path) -> Iterator[None]:
        """A block that opens a project; if it fails, the repair is offered."""
        self.clear()
        try:
            yield
        except OpenElsewhere:
            raise
        except UnknownServer as error:
            self._ask_for(error.server, folder)
            raise
        except (EmdaError, OSError):
            # Any other folder may be one of the user's, in which nothing is to be moved.
            if is_project(folder):
                self._offer(folder)
            raise

    def _offer(self, folder: Path) -> None:
        self.ask(
            f"Something in the project '{folder.name}' seems to be damaged. It can be checked, and "
            "what can be repaired is repaired; nothing is deleted.",
            {
                "Check and repair": (
                    "Read all files of the project, and mend those that are damaged. What is "
                    "replaced goes to the folder 'rescued' in it.",
                    partial(self._start, folder),
                ),
                "Leave it as it is": ("Change nothing.", lambda: None),
            },
        )

    def _ask_for(self, server: str, folder: Path) -> None:
        """Ask whether a project may read its images from a server."""
        self.ask(
            f"Images of the project '{folder.name}' are read from {server}, with the credentials "
            "of your environment. The server sees who reads them and when.",
            {
                "Read from it": (
                    "Open the project. This computer does not ask for this server again.",
                    partial(self._allow, server, folder),
                ),
                "Do not open it": ("Contact nobody.", lambda: None),
            },
        )

    def _allow(self, server: str, folder: Path) -> None:
        allow(server)
        self._open_again(folder)

    def _start(self, folder: Path) -> None:
        self.ask(f"Checking the project '{folder.name}' …", {})
        self._session.in_background(
            partial(_repaired, folder), partial(self._done, folder), self._failed
        )

    def _failed(self, text: str) -> None:
        self.clear()
        self._session.say(text, "error")

    def _done(self, folder: Path, report: Report) -> None:
        found, rescued = report
        # First: it says whether the project opens now.
        self._open_again(folder)
        lines = [str(checked) for checked in found] or ["All files of the project can be read."]
        if rescued is not None:
            lines.append(f"What was replaced is in {in_short(str(rescued))}.")
        # Another panel may be open now: the message at the top is seen in any case.
        mended = sum(checked.mended for checked in found)
        count = "1 damage was" if len(found) == 1 else f"{len(found)} damages were"
        tone = "done" if mended == len(found) else "error"
        self._session.say(f"{count} found, {mended} repaired.", tone, "\n".join(lines))
        # In place of an offer that is made once more.
        self.ask("\n".join(lines), {"Close this report": ("It stays in 'rescued'.", lambda: None)})


def opened_for_viewer(folder: Path) -> Project:
    """Open a project that no other viewer may write to meanwhile.

    Raises:
        UnknownServer: the user has not allowed a server that it names.
        EmdaError: see `Project.open`.
    """
    project = Project.open(folder, exclusive=True)
    try:
        project.volumes.check_servers()
    except EmdaError:
        project.close()
        raise
    return project


def _repaired(folder: Path) -> Report:
    """Check and repair a project; the voxels of its images are not read, which may take hours."""
    found: list[Checked] = []
    findings = repair(folder, images=False)
    while True:
        try:
            finding = next(findings)
        except StopIteration as end:
            return found, end.value
        if not isinstance(finding, Reading):
            found.append(finding)
