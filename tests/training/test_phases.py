"""What a training says of the work that is ahead agrees with what comes."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch

from napari_emda.data.box import Box
from napari_emda.data.voxel_grid import VoxelGrid
from napari_emda.events import Phase
from napari_emda.inference.predictor import Predictor, predict_box
from napari_emda.training import phases as phases_module
from napari_emda.training.loop import fit
from napari_emda.training.phases import CALIBRATING, CHOOSING, PREVIEW, SCORING, TRAINING, Phases


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


@pytest.mark.parametrize("network", ["unet", "unet_3d"])
def test_work_is_in_proportion_to_what_the_network_sees(
    network, make_training, source, target, tmp_path, monkeypatch
):
    """Of one that sees single sections, and of one that sees stacks."""
    for constant in ("_OVERHEAD", "_PASS", "_WRITING"):
        monkeypatch.setattr(phases_module, constant, 0)
    grid = VoxelGrid((10.0, 8.0, 8.0))
    deep = [
        replace(
            volume,
            image=np.repeat(volume.image, 4, axis=0),
            labels=None if volume.labels is None else np.repeat(volume.labels, 4, axis=0),
            grid=grid,
        )
        for volume in (source, target)
    ]
    settings = {"network_settings": {"sections": 8}} if network == "unet_3d" else {}
    (tmp_path / "run").mkdir()
    training = make_training(
        deep, tmp_path / "run", "coral", network=network, steps=2, validations=1, **settings
    )
    seen = Counter()
    current = TRAINING

    def count(_, inputs):
        seen[TRAINING if torch.is_grad_enabled() else current] += inputs[0][:, 0].numel()

    training.method.predictor.encoder.register_forward_pre_hook(count)
    on_view = (deep[1], Box((3, 10, 20), (4, 50, 70)))
    phases = Phases(training, lambda: on_view)
    work = Counter()
    for event in fit(training, phases):
        if isinstance(event, Phase):
            current = event.name
            work[current] += event.work
            if current == CHOOSING:
                break
    current = PREVIEW
    work[PREVIEW] = phases.last_preview().work
    predict_box(Predictor(training.method.predictor, training.header, training.compute), *on_view)
    # A step goes forward, and back for about twice that.
    of_step = 3 * seen.pop(TRAINING) / training.settings.steps
    assert set(seen) == {SCORING, CALIBRATING, PREVIEW}
    for name, pixels in seen.items():
        # Ends of stacks are filled up.
        assert work[name] == pytest.approx(pixels / of_step, rel=0.1), name
