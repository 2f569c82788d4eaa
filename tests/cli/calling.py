"""Running commands as a script does, and the files that they get."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json

import pytest

from napari_emda import cli
from napari_emda.data.voxel_grid import VoxelGrid
from napari_emda.io.tiff import write_tiff


def call(*arguments):
    """Run a command; its exit status, standard output and standard error."""
    out = io.StringIO()
    err = io.StringIO()
    with (
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        pytest.raises(SystemExit) as exited,
    ):
        cli.main([str(argument) for argument in arguments])
    return exited.value.code, out.getvalue(), err.getvalue()


def answer(*arguments):
    """The JSON object on the last line of a command that succeeds."""
    status, out, err = call(*arguments, "--json")
    assert status == 0, err
    return json.loads(out.splitlines()[-1])


def listing(folder):
    """Every file below a folder with its hash."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files
    }


def image(path, array, spacing=(50, 8, 8)):
    """A calibrated TIFF."""
    write_tiff(path, iter(array), array.shape, array.dtype, VoxelGrid(spacing))
    return path
