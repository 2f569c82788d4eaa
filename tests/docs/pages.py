"""Reads and runs the examples of the documentation's pages.

A fenced block of ``python`` is run; ``console`` is run command by command (``$``) and what is
printed is compared with the lines below, where … stands for anything; a block with a ``title`` is
written to a file of that name. Other blocks are for reading only.
"""

from __future__ import annotations

import contextlib
import gc
import importlib.util
import io
import re
import shlex
import subprocess
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from napari_emda import cli
from napari_emda.active_learning.strategy import strategies
from napari_emda.export.base import exporters
from napari_emda.io.reader import readers
from napari_emda.methods.base import methods
from napari_emda.nn.network import networks
from napari_emda.settings.training import PROFILES
from tests.this_process import commands_here

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
_FENCE = re.compile(r'^```(\w+)(?: title="([^"]+)")?\n(.*?)^```$', re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """One fenced block of a page."""

    language: str
    title: str
    text: str


def blocks(page: str) -> list[Block]:
    text = (DOCS / page).read_text(encoding="utf-8")
    return [Block(language, title or "", body) for language, title, body in _FENCE.findall(text)]


@contextlib.contextmanager
def installed(folder: Path) -> Iterator[None]:
    """A block in which the packages in a folder are found, as by a process that starts now."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        for registry in (strategies, exporters, readers, methods, networks):
            patch.setattr(registry, "_complete", False)
            patch.setattr(registry, "_entries", dict(registry._entries))
        yield
    for name, module in list(sys.modules.items()):
        if Path(getattr(module, "__file__", None) or "").parent == folder:
            del sys.modules[name]


def _status(arguments: list[str]) -> int:
    try:
        cli.main(arguments)
    except SystemExit as left:
        return int(left.code or 0)


# Of the profile `test`: what a page says of a training does not depend on the size of its patches.
_SMALL = {"patch": 32, "batch": 2}


@contextlib.contextmanager
def _small_trainings() -> Iterator[None]:
    """A block in which trainings of the profile ``test`` take little time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(PROFILES, "test", {**PROFILES["test"], **_SMALL})
        yield


@contextlib.contextmanager
def _packages_may_be_written(command: str) -> Iterator[None]:
    """A block in which warnings of the library that writes model packages are no errors."""
    if "--what model " not in command:
        yield
        return
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*torch.jit", DeprecationWarning)
        # Files that it has left open are closed here.
        warnings.filterwarnings("ignore", "unclosed file", ResourceWarning)
        yield
        gc.collect()


class Reader:
    """Does what a page says, in a folder.

    Args:
        folder: in which the commands run.
        environment: of processes.
        has_packages: whether packages in the folder are installed.
    """

    def __init__(
        self, folder: Path, environment: dict[str, str], *, has_packages: bool = False
    ) -> None:
        self.folder = folder
        self._environment = environment
        self._has_packages = has_packages
        self.status = 0
        self.commands: list[str] = []

    def follow(self, page: str) -> None:
        with installed(self.folder) if self._has_packages else contextlib.nullcontext():
            self._follow(page)

    def _follow(self, page: str) -> None:
        for block in blocks(page):
            if block.title:
                (self.folder / block.title).write_text(block.text, encoding="utf-8")
            elif block.language == "python":
                self._run([sys.executable, "-c", block.text], page, block.text)
                assert self.status == 0, f"{page}: the Python example failed"
            elif block.language == "console":
                self._console(block.text, page)

    def _console(self, text: str, page: str) -> None:
        for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
            command, _, expected = part.partition("\n")
            if command == "echo $?":
                assert str(self.status) == expected.strip(), (
                    f"{page}: exit code of {self.commands[-1]}"
                )
            elif "--what model" not in command or importlib.util.find_spec("bioimageio"):
                printed = self._napari_emda(command, page)
                assert matches(expected, printed), (
                    f"{page}: {command}\nshould print\n{expected}\nbut prints\n{printed}"
                )

    def _napari_emda(self, command: str, page: str) -> str:
        self.commands.append(command)
        program, *arguments = shlex.split(command)
        assert program == "napari-emda", command
        out, err = io.StringIO(), io.StringIO()
        # in this process, which has loaded torch already: a process for each command would take a
        # minute more
        with (
            contextlib.chdir(self.folder),
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
            commands_here(),
            _small_trainings(),
            _packages_may_be_written(command),
        ):
            self.status = _status(arguments)
        return err.getvalue() + out.getvalue()

    def _run(self, command: list[str], page: str, what: str) -> str:
        done = subprocess.run(
            command,
            cwd=self.folder,
            env=self._environment,
            capture_output=True,
            text=True,
            encoding="utf-8",
        )
        self.status = done.returncode
        assert "Traceback" not in done.stderr, f"{page}: {what}\n{done.stderr}"
        return done.stderr + done.stdout


def matches(expected: str, printed: str) -> bool:
    """Whether the lines were printed in this order; … stands for anything.

    Spaces at the end of a line do not count.

    What a command says on the way is on standard error and comes first; lines of it that are not
    shown are passed over.
    """
    pattern = r"(?:.*\n)*?"
    for line in expected.strip().splitlines():
        if line == "…":
            pattern += r"(?:.*\n)*?"
        else:
            pattern += (
                re.sub(r"(?:\\ )+", r" +", re.escape(line)).replace("…", ".*") + r" *\n(?:.*\n)*?"
            )
    return re.fullmatch(pattern, printed if printed.endswith("\n") else printed + "\n") is not None
