"""What a training says of the work that is ahead agrees with what comes."""

import pytest

from napari_emda.events import Phase
from napari_emda.training.loop import fit
from napari_emda.training.phases import CALIBRATING, CHOOSING, SCORING, TRAINING, Phases


@pytest.fixture
def make(make_training, source, target, tmp_path):
    """Makes trainings of six steps that are validated after every second one."""

    def make(name, method, **settings):
        path = tmp_path / name
        path.mkdir()
        defaults = {"steps": 6, "save_every": 2, "validations": 3, "base_channels": 2}
        training = make_training([source, target], path, method, **{**defaults, **settings})
        training.validated_at = (2, 4, 6)
        return training

    return make


@pytest.mark.parametrize(
    ("keep", "end"),
    [
        ("average", [CHOOSING, CALIBRATING, SCORING]),
        ("best", [CHOOSING, CALIBRATING]),
        ("last", [CHOOSING]),
    ],
)
def test_what_is_ahead_is_said_from_the_beginning_and_only_gets_less(keep, end, make):
    training = make("run", "auto", keep=keep)
    came = [event for event in fit(training) if isinstance(event, Phase)]
    assert [phase.name for phase in came[-len(end) :]] == end
    counts = {name: sum(phase.name == name for phase in came) for name in (SCORING, CALIBRATING)}
    assert counts[SCORING] == 3 + end.count(SCORING)
    assert counts[CALIBRATING] == 3 + end.count(CALIBRATING)
    # All that came besides the steps is what the first phase has said.
    for name in (SCORING, CALIBRATING, CHOOSING):
        work = sum(phase.work for phase in came if phase.name == name)
        assert came[0].ahead[name] == pytest.approx(work)
    assert came[-1].ahead == {}
    # Sums of the same numbers in another order differ in their last digits.
    totals = [round(sum(phase.ahead.values()) + phase.work, 6) for phase in came]
    assert totals == sorted(totals, reverse=True)
    assert totals[-1] < totals[0]


def test_a_slow_training_that_is_saved_more_often_says_so(make):
    phases = Phases(make("run", "source_only", steps=100, save_every=50))
    before = phases.began(0).ahead["Saving"]
    phases.saving(10)
    assert phases.began(10).ahead["Saving"] == pytest.approx(before / 2 * 9)
    assert phases.began(10).name == TRAINING
