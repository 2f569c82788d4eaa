"""What goes wrong in the dock is said in one sentence; a fault of ours is raised."""

import errno

import pytest

from napari_emda._gui.process import runner
from napari_emda.errors import JobError

# What a library or the system raises, and words of what the dock says.
REFUSED = {
    "ours": (JobError("No."), "No."),
    "full disk": (OSError(errno.ENOSPC, "No space left on device", "a"), "make room"),
    "broken disk": (OSError(errno.EIO, "Input/output error", "a"), "check it"),
    "memory": (MemoryError(), "not enough memory"),
}


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path):
    monkeypatch.setenv("NAPARI_EMDA_CACHE", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_refused_is_one_sentence_wherever_the_dock_works(case, session, cache):
    error, words = REFUSED[case]

    def work():
        raise error

    with session.showing_errors():
        work()
    assert session.notices[-1][0] == "error"
    assert words in session.notices[-1][1]
    assert words in runner._guarded(work).error
    assert (cache / "errors.log").exists() != isinstance(error, JobError)


def test_a_fault_of_ours_is_no_sentence(session):
    with pytest.raises(KeyError), session.showing_errors():
        {}["missing"]
    assert not session.notices
