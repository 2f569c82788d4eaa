"""The time left of jobs whose true length is known, with a clock of the test."""

import itertools

import numpy as np
import pytest

from napari_emda.events import Advanced, Phase, Started, Stepped, TileDone
from napari_emda.jobs.time_left import A_FEW_SECONDS, TimeLeft, duration, left_in_words


class Timeline:
    """Plays a job second by second, and compares what is shown with what is still to come."""

    def __init__(self):
        self.now = 100.0
        self.left = TimeLeft(lambda: self.now)
        self.items = []

    def add(self, seconds, event=None):
        """An event that comes after some seconds."""
        self.items.append((seconds, event))

    def watch(self):
        """What was shown each second: time, seconds left as shown, and those that were left."""
        end = self.now + sum(seconds for seconds, _ in self.items)
        seen = []
        for seconds, event in self.items:
            until = self.now + seconds
            while self.now < until:
                shown = self.left.shown_seconds()
                seen.append((self.now, shown, end - self.now, self.left.fraction()))
                self.now = min(until, self.now + 1.0)
            if event is not None:
                self.left.see(event)
        return seen


def worst(seen, begin=0.25):
    """The largest factor between what is shown and what is left, from a share of the job on.

    A twenty-fifth of the job more or less is right: at the end, a factor of seconds means nothing.
    """
    whole = seen[-1][0] - seen[0][0]
    late = [row for row in seen if row[0] >= seen[0][0] + begin * whole]
    assert all(row[1] is not None for row in late)
    slack = whole / 25
    return max(max((row[1] - slack) / row[2], (row[2] - slack) / row[1]) for row in late)


def training(steps=240, step=0.5, check=6.0, save=3.0, end=40.0, preview=0.0, rng=None):
    """A training as the loop tells it: scores at eight places, saves at six, and an end phase."""
    line = Timeline()
    checks = [round(steps * (i + 1) / 8) for i in range(8)]
    saves = [round(steps * (i + 1) / 6) for i in range(6)]
    # What is expected beforehand is twice too much of all, and not of all alike.
    work = {"Scoring": 2 * check / step, "Saving": 1.6 * save / step, "Choosing": 2.2 * end / step}

    def phase(name, done):
        ahead = {
            "Training": float(steps - done),
            "Scoring": work["Scoring"] * sum(step > done for step in checks),
            "Saving": work["Saving"] * sum(step > done for step in saves),
            "Choosing": work["Choosing"],
        }
        remaining = ahead["Training"] if name == "Training" else work.get(name, 0.0)
        if name in ("Training", "Choosing"):
            del ahead[name]
        if name == "Choosing":
            ahead = {}
        return Phase(name, remaining, ahead, name == "Training")

    line.add(7.0, Phase("Reading the images"))
    line.add(5.0, Started("train", "001", "cpu", steps))
    line.add(0.0, phase("Training", 0))
    line.add(4.0)  # threads start
    seconds = 0.0
    for done in range(1, steps + 1):
        seconds += step if rng is None else step * rng.uniform(0.3, 1.7)
        if done in checks:
            line.add(seconds, phase("Scoring", done))
            line.add(check, phase("Training", done))
            seconds = 0.0
        if done % 5 == 0 or done == steps:
            line.add(seconds, Stepped(done, steps, {}, 1 / step))
            seconds = 0.0
        if preview and done % 20 == 0:
            line.add(0.0, phase("Drawing the preview", done))
            line.add(preview, phase("Training", done))
        if done in saves:
            line.add(seconds, phase("Saving", done))
            line.add(save, phase("Training", done) if done < steps else None)
            seconds = 0.0
    line.add(0.0, phase("Choosing", steps))
    line.add(end)
    return line


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    "costs",
    [
        {},
        {"check": 0.5, "save": 0.2, "end": 1.0},
        {"preview": 3.0},
        {"check": 20.0, "end": 60.0},
        {"steps": 60, "step": 2.0, "end": 30.0},
    ],
)
def test_the_time_left_is_right_within_half_from_a_quarter_on(costs, seed):
    line = training(**costs, rng=np.random.default_rng(seed))
    assert worst(line.watch()) < 1.5


def test_the_bar_never_goes_back_and_is_not_full_before_the_end_phase():
    fractions = [row[3] for row in training().watch() if row[3] is not None]
    assert fractions == sorted(fractions)
    before_the_end = fractions[-41]
    assert 0.6 < before_the_end < 0.9


def test_the_time_on_view_counts_down_and_seldom_rises():
    seen = [row[1] for row in training(rng=np.random.default_rng(1)).watch() if row[1]]
    rises = sum(later > earlier for earlier, later in itertools.pairwise(seen))
    assert rises <= 3


@pytest.mark.parametrize("done_before", [0, 300])
def test_blocks_that_an_earlier_job_has_predicted_take_no_time(done_before):
    line = Timeline()
    line.add(3.0, Started("predict", "001", "cpu", 0))
    line.add(0.0, Phase("Predicting", 1.0, {}, counted=True))
    for done in range(done_before + 1, 401):
        line.add(1.5, TileDone("target", (0, 1, 0, 1, 0, 1), done, 400))
    seen = line.watch()
    assert worst(seen) < 1.2
    assert seen[10][3] == pytest.approx(done_before / 400, abs=0.06)


def test_a_child_without_phases_is_followed_by_its_steps():
    line = Timeline()
    line.add(2.0, Started("train", "001", "cpu", 400))
    for step in range(210, 401, 10):  # it continues a run
        line.add(5.0, Stepped(step, 400, {}, 2.0))
    assert worst(line.watch()) < 1.2
    assert line.left.phase == "Training"


def test_volumes_one_after_the_other_and_a_second_kind_of_blocks():
    line = Timeline()
    line.add(2.0, Started("suggest", "001", "cpu", 0))
    for volume, ahead in (("a", 3.0), ("b", 2.0)):
        line.add(0.0, Phase("Predicting", 1.0, {"Predicting": ahead - 2, "Ranking": 2.0}, True))
        for done in range(1, 31):
            line.add(1.0, TileDone(volume, (0, 1, 0, 1, 0, 1), done, 30))
    line.add(0.0, Phase("Ranking", 2.0, {}, True))
    for done in range(1, 16):
        line.add(3.0, TileDone("a", (0, 1, 0, 1, 0, 1), done, 15))
    assert worst(line.watch()) < 1.5


def test_a_long_phase_that_says_its_share_is_followed():
    line = Timeline()
    line.add(1.0, Started("train", "001", "cpu", 10))
    line.add(0.0, Phase("Training", 10.0, {"Adjusting": 10.0}, counted=True))
    for done in range(1, 11):
        line.add(1.0, Stepped(done, 10, {}, 1.0))
    line.add(0.0, Phase("Adjusting", 10.0))
    # It is four times as slow as was to be expected.
    for tile in range(1, 65):
        line.add(40 / 64, Advanced(tile, 64, tile / 64))
    seen = line.watch()
    assert worst(seen, begin=0.4) < 1.5
    fractions = [row[3] for row in seen if row[3] is not None]
    assert fractions == sorted(fractions)


def test_first_steps_that_load_code_promise_nothing():
    line = Timeline()
    line.add(0.5, Started("train", "001", "cpu", 60))
    line.add(0.0, Phase("Training", 60.0, {"Adjusting": 20.0}, counted=True))
    line.add(1.5, Stepped(2, 60, {}, 1.0))
    for step in range(4, 61, 2):
        line.add(0.1, Stepped(step, 60, {}, 20.0))
    line.add(0.0, Phase("Adjusting", 20.0))
    line.add(1.0)
    # 58 more steps like the first two would take most of a minute.
    assert all(shown is None or shown < A_FEW_SECONDS for _, shown, _, _ in line.watch())


def test_a_pause_costs_no_time():
    line = Timeline()
    line.left.see(Started("train", "001", "cpu", 400))
    for step in (10, 20, 30):
        line.now += 5
        line.left.see(Stepped(step, 400, {}, 2.0))
    before = line.left.shown_seconds()
    line.left.pause(True)
    line.now += 1000
    assert line.left.shown_seconds() == before
    line.left.pause(False)
    assert line.left.shown_seconds() == pytest.approx(before)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.2, "1 s"),
        (13.4, "13 s"),
        (58, "60 s"),
        (100, "2 min"),
        (3600, "60 min"),
        (5400, "1 h 30 min"),
        (7200, "2 h"),
    ],
)
def test_a_time_in_words(seconds, words):
    assert duration(seconds) == words


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.2, "a few seconds"), (9.9, "a few seconds"), (13.4, "13 s")]
)
def test_the_last_seconds_are_not_counted(seconds, words):
    assert left_in_words(seconds) == words
