"""The pages' examples run in one folder, as a reader would run them."""

from __future__ import annotations

import os

import pytest

from tests.docs.pages import Reader


@pytest.fixture(scope="session")
def environment():
    """Of the commands: one thread, wide enough tables, UTF-8."""
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUTF8": "1", "NO_COLOR": "1"}


@pytest.fixture(scope="session")
def reader(tmp_path_factory, environment):
    """One who has followed the page on the command line."""
    reader = Reader(tmp_path_factory.mktemp("reader"), environment)
    reader.follow("command-line.md")
    return reader
