"""Options that say where a job computes."""

from __future__ import annotations

import pytest

from napari_emda.settings.where import Where
from tests.cli.calling import call


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--workers", "0"], "workers = 0 is not allowed: it should be greater than or equal to 1"),
        (["--workers", "99999"], "less than or equal to 1024"),
        (["--workers", "2", "--scheduler", "tcp://a:1"], "leave out the number of workers"),
        (["--scheduler", "tcp://a:1", "--cluster", "a.yaml"], "choose either"),
    ],
)
def test_options_that_contradict_each_other_are_refused(options, said, refused, tmp_path):
    refused(["predict", tmp_path / "no project", *options], said)


def test_one_worker_is_this_process():
    assert not Where().elsewhere
    assert Where(cluster="a.yaml").elsewhere
    assert call("predict", "--help")[1].count("--workers") == 1


def test_workers_are_checked_only_where_there_are_others(refused, tmp_path):
    refused(["check-workers", tmp_path], "say which ones to check, with --workers")
