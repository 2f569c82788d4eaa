"""The folder of a new project: typed, chosen, or proposed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from napari.layers import Image
from qtpy.QtWidgets import QFileDialog

from napari_emda._gui.common.text_box import TextBox
from napari_emda._gui.data.project_setup import empty_folder, proposed_folder
from napari_emda._gui.session import in_short


class FolderBox(TextBox):
    """A box for the path of a new project."""

    def __init__(self) -> None:
        super().__init__(
            "A new folder for models, annotations and predictions. Your files stay where they are."
        )

    @property
    def path(self) -> Path:
        """The folder that is typed."""
        return Path(self.text().strip()).expanduser()

    def propose(self, images: Sequence[Image | None]) -> None:
        """Propose a new folder beside one of the images, unless the user has named one."""
        if not self.isModified():
            self.setText(in_short(proposed_folder(images)))

    def browse(self) -> None:
        """Let the user choose a folder."""
        parent = Path(self.text()).expanduser().parent
        folder = QFileDialog.getExistingDirectory(self, "Folder for the project", str(parent))
        if folder:
            self.setText(str(empty_folder(Path(folder))))
            self.setModified(True)
