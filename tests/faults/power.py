"""What is left of a folder when the power fails: only what was synced surely is on the disk."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

VARIANTS = ("synced", "names", "zeros", "content")
"""What the disk holds beyond what was synced: nothing; all names, with files that are empty or full
of zeros where their content was not synced; all content, under the names that were synced."""


@dataclass
class Tree:
    """A folder by the numbers of its files, which stay the same when they are renamed.

    Attributes:
        root: number of the folder itself.
        folders: names and numbers in each folder.
        files: content of each file.
    """

    root: int
    folders: dict[int, dict[str, int]] = field(default_factory=dict)
    files: dict[int, bytes] = field(default_factory=dict)

    @classmethod
    def of(cls, folder: Path) -> Tree:
        """The folder as it is now."""
        tree = cls(folder.stat().st_ino)
        for path in (folder, *folder.rglob("*")):
            if path.is_dir():
                names = {child.name: child.stat().st_ino for child in path.iterdir()}
                tree.folders[path.stat().st_ino] = names
            else:
                tree.files[path.stat().st_ino] = path.read_bytes()
        return tree

    def write(self, folder: Path, number: int | None = None) -> None:
        """Make the folder."""
        folder.mkdir()
        for name, child in self.folders.get(self.root if number is None else number, {}).items():
            if child in self.folders:
                self.write(folder / name, child)
            else:
                (folder / name).write_bytes(self.files.get(child, b""))


def synced(before: Tree, record: Path) -> Tree:
    """What a folder surely holds: what it held before, and what was synced since."""
    tree = Tree(before.root, dict(before.folders), dict(before.files))
    copies = [path for path in record.iterdir() if path.suffix in (".folder", ".file")]
    for path in sorted(copies, key=lambda path: int(path.name.split(".")[0])):
        number = int(path.name.split(".")[1])
        if path.suffix == ".file":
            tree.files[number] = path.read_bytes()
            continue
        lines = path.read_text(errors="surrogateescape").splitlines()
        entries = (line.split("\t", 1) for line in lines)
        tree.folders[number] = {name: int(child) for child, name in entries}
    return tree


def after_power_failure(before: Tree, now: Tree, record: Path, variant: str) -> Tree:
    """What a folder may hold when the power has failed.

    Args:
        before: the folder before the command began, all of it on the disk.
        now: as the command left it.
        record: of the command's changes, with copies.
        variant: one of `VARIANTS`.
    """
    surely = synced(before, record)
    folders = {number: {} for number in now.folders} | surely.folders
    files = dict(surely.files)
    if variant in ("names", "zeros"):
        folders |= now.folders
    if variant == "zeros":
        for number, content in now.files.items():
            files.setdefault(number, bytes(len(content)))
    if variant == "content":
        files |= now.files
    return Tree(before.root, folders, files)
