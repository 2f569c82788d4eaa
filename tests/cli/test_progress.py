"""What a terminal and a log file show of a job."""

import io

import pytest

from napari_emda.cli.progress import Progress, watch
from napari_emda.errors import DataError
from napari_emda.events import Finished, Phase, Started, Stepped


class Terminal(io.StringIO):
    def isatty(self):
        return True

    def lines(self):
        """What was to be read on the line, one after the other."""
        return self.getvalue().split("\r\x1b[K")


def job():
    yield Started("train", "001-auto", "cpu", 40)
    yield Phase("Training", 40.0, {"Choosing the model": 10.0}, counted=True)
    for step in range(10, 41, 10):
        yield Stepped(step, 40, {"total": 0.5}, 20.0)
    yield Phase("Choosing the model", 10.0)
    yield Finished("done", "Run 001-auto is trained.", {"run": "001-auto"})


@pytest.fixture
def stderr(monkeypatch):
    def replace(stream):
        monkeypatch.setattr("sys.stderr", stream)
        return stream

    return replace


def test_a_terminal_shows_phases_from_before_the_start_to_the_end(stderr):
    terminal = stderr(Terminal())
    assert watch(job(), "Reading the images") == {"run": "001-auto"}
    lines = terminal.lines()
    assert lines[1] == "Reading the images …"
    assert "train 001-auto on cpu\n" in lines
    assert any(line.startswith("Choosing the model …") for line in lines)
    # Nothing is left of the line that was written again and again.
    assert terminal.getvalue().endswith("Run 001-auto is trained.\n\r\x1b[K")


def test_a_file_gets_each_phase_once_and_the_last_step(stderr):
    log = stderr(io.StringIO())
    watch(job(), "Reading the images")
    lines = log.getvalue().splitlines()
    assert lines[:2] == ["train 001-auto on cpu", "Training …"]
    assert any(line.startswith("step 40 of 40: total 0.500") for line in lines)
    assert lines[-2:] == ["Choosing the model …", "Run 001-auto is trained."]


def test_invalid_input_leaves_nothing_on_the_line(stderr):
    def refused():
        raise DataError("The file is gone.")
        yield

    terminal = stderr(Terminal())
    with pytest.raises(DataError):
        watch(refused(), "Loading the model")
    assert terminal.lines()[1:] == ["Loading the model …", ""]
    log = stderr(io.StringIO())
    with pytest.raises(DataError):
        watch(refused(), "Loading the model")
    assert log.getvalue() == ""


def test_the_time_left_includes_the_phases_after_the_last_step(monkeypatch):
    now = [0.0]
    terminal = Terminal()
    progress = Progress(terminal, clock=lambda: now[0])
    for event in job():
        progress.show(event)
        now[0] += 20
    last_step = next(line for line in terminal.lines() if line.startswith("step 40"))
    # Two seconds a step, and the end is as much work as ten of them.
    assert last_step.endswith("about 20 s left")
