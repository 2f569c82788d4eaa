"""Fixtures of the tests of the command line."""

from __future__ import annotations

import pytest

from tests.cli.calling import call, listing
from tests.this_process import commands_here


@pytest.fixture(autouse=True)
def keep_this_process():
    """Neither lower this process's priority nor leave signal handlers behind."""
    with commands_here():
        yield


@pytest.fixture
def refused(tmp_path):
    """Checks that a command is refused as invalid input, in one line, and changes nothing."""

    def check(arguments, *parts, folder=None):
        folder = folder or tmp_path
        before = listing(folder), sorted(map(str, folder.rglob("*")))
        status, out, err = call(*arguments)
        assert status == 2, err
        assert err.count("\n") == 1
        assert err.rstrip()[-1] in ".?"
        assert out == ""
        for part in parts:
            assert part in err
        assert (listing(folder), sorted(map(str, folder.rglob("*")))) == before

    return check
