"""The loop: it learns, gives the same model after a stop, and survives a full memory."""

from __future__ import annotations

import contextlib
import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from napari_emda.data.voxel_grid import VoxelGrid
from napari_emda.errors import JobError
from napari_emda.events import Advanced, Notice, Phase, Saved, Stepped
from napari_emda.inference import checkpoint
from napari_emda.io.tiff import write_tiff
from napari_emda.jobs.execute import execute
from napari_emda.project.job_files import TrainJob
from napari_emda.settings.training import TrainSettings
from napari_emda.training import loop as train
from napari_emda.training.loop import fit


@pytest.fixture
def make(make_training, source, target, tmp_path):
    """A function that sets up a training in a folder of this name."""

    def make_one(folder="run", method="histogram", **values):
        return make_training([source, target], tmp_path / folder, method, **values)

    return make_one


def without_phases(events):
    """The events that the weights decide; closing it closes the training."""
    with contextlib.closing(events):
        yield from (event for event in events if not isinstance(event, Phase | Advanced))


def steps(events):
    return [event for event in events if isinstance(event, Stepped)]


# -- learning --------------------------------------------------------------------------------------


def test_the_loss_falls(make):
    values = {"steps": 60, "batch": 4, "augmentation": "weak", "learning_rate": 3e-3}
    values["network_settings"] = {"dropout": 0}
    losses = [
        event.losses["segmentation"] for event in steps(fit(make(method="source_only", **values)))
    ]
    assert np.mean(losses[-10:]) < 0.6 * np.mean(losses[:10])


def test_the_seed_decides_the_weights(make, same_weights):
    trainings = [make(name, seed=seed) for name, seed in (("a", 3), ("b", 3), ("c", 4))]
    losses = [[event.losses for event in steps(fit(training))] for training in trainings]
    assert losses[0] == losses[1] != losses[2]
    assert same_weights(trainings[0].method, trainings[1].method)
    assert not same_weights(trainings[0].method, trainings[2].method)


def test_it_reports_and_saves_as_often_as_asked(make):
    events = list(without_phases(fit(make(steps=7, report_every=3, save_every=5))))
    assert [(type(event), event.step) for event in events] == [
        (Stepped, 3),
        (Saved, 5),
        (Stepped, 6),
        (Stepped, 7),
        (Saved, 7),
    ]
    assert all(event.steps == 7 and event.rate > 0 for event in steps(events))


def test_reported_losses_are_means_over_the_steps_that_have_them(make, monkeypatch):
    training = make(steps=4, report_every=4)
    series = iter([{"a": 1.0}, {"a": 2.0}, {"a": 3.0, "b": 10.0}, {"a": 6.0, "b": 20.0}])
    weight = training.method.network.head.bias
    monkeypatch.setattr(
        training.method,
        "losses",
        lambda *_: {name: value + 0 * weight.sum() for name, value in next(series).items()},
    )
    assert steps(fit(training))[0].losses == {"a": 3.0, "b": 15.0}


def test_a_slow_training_is_saved_by_the_clock_too(make, monkeypatch):
    monkeypatch.setattr(train, "_SAVE_SECONDS", 0.0)
    saved = [event.step for event in fit(make(steps=3)) if isinstance(event, Saved)]
    assert saved == [1, 2, 3]


# -- stopping and going on -------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["histogram", "ynet"])
@pytest.mark.parametrize("stop", [1, 4])
def test_stopped_and_resumed_it_ends_bitwise_as_undisturbed(method, stop, make, same_weights):
    whole = make("whole", method, augmentation="strong")
    undisturbed = [event.losses for event in steps(fit(whole))]

    first = make("stopped", method, augmentation="strong")
    events = without_phases(fit(first))
    losses = [event.losses for event in (next(events) for _ in range(stop))]
    events.close()
    assert checkpoint.read_header(first.path).step == stop

    second = make("stopped", method, augmentation="strong")
    losses += [event.losses for event in steps(fit(second))]
    assert losses == undisturbed
    assert same_weights(whole.method, second.method)
    assert whole.path.read_bytes() == second.path.read_bytes()


def test_stopped_before_its_first_step_it_saves_nothing(make):
    training = make()
    fit(training).close()
    assert not training.path.exists()


def test_a_crash_costs_the_steps_since_the_last_checkpoint_alone(make, same_weights):
    whole = make("whole", save_every=2)
    list(fit(whole))

    crashing = make("crashed", save_every=2)
    step = crashing.step
    crashing.step = lambda batch, number: step(batch, number) if number < 5 else 1 / 0
    with pytest.raises(ZeroDivisionError):
        list(fit(crashing))
    assert checkpoint.read_header(crashing.path).step == 4

    resumed = make("crashed", save_every=2)
    assert [event.step for event in steps(fit(resumed))] == [5, 6]
    assert same_weights(whole.method, resumed.method)


def test_a_finished_training_has_nothing_left_to_do(make, same_weights):
    training = make()
    list(fit(training))
    again = make()
    assert steps(fit(again)) == []
    assert same_weights(training.method, again.method)


# -- when things go wrong --------------------------------------------------------------------------


FULL = {
    "CUDA": torch.OutOfMemoryError("CUDA out of memory. Tried to allocate"),
    "Linux": RuntimeError(
        "[enforce fail at alloc_cpu.cpp:115] DefaultCPUAllocator: can't allocate "
        "memory: you tried to allocate 4000000 bytes. Error code 12 (Cannot allocate memory)"
    ),
    "oneDNN": RuntimeError("could not create a primitive"),
    "Windows": RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 4 B."),
    "NumPy": MemoryError("Unable to allocate 4.00 GiB for an array"),
}


def small_memory(training, patches=math.inf, side=math.inf, error=FULL["CUDA"]):
    """Let the method run out of memory on larger batches or patches; returns the batch sizes."""
    losses = training.method.losses
    sizes = []

    def limited(batch, progress):
        image = batch["source"].image
        sizes.append(len(image))
        if len(image) > patches or image.shape[-1] > side:
            raise error
        return losses(batch, progress)

    training.method.losses = limited
    return sizes


@pytest.mark.parametrize("error", FULL.values(), ids=FULL.keys())
def test_out_of_memory_halves_the_batch_says_so_and_goes_on(error, make):
    training = make(batch=7, steps=2)
    sizes = small_memory(training, patches=2, error=error)
    events = list(fit(training))
    notices = [event.text for event in events if isinstance(event, Notice)]
    assert len(notices) == 2
    assert "going on with 4 patches at a time" in notices[0]
    assert "going on with 2 patches at a time" in notices[1]
    assert [event.step for event in steps(events)] == [1, 2]
    assert sizes == [7, 4, *[2, 2, 2, 1] * 2]
    assert training.settings.batch == 7


def test_micro_batches_add_up_to_the_gradient_of_the_whole(make):
    gradients = []
    for micro_batches in (1, 2, 4):
        training = make(batch=4, method="source_only", network_settings={"dropout": 0})
        training.method.eval()  # else each micro_batch is normalised by its own statistics
        training.micro_batches = micro_batches
        training.method.segmentation = lambda patches, _, net=training.method.network: (
            net(patches.image) ** 2
        ).mean()  # a mean over patches, unlike Dice
        training.optimiser.zero_grad()
        training._backward(training.batch(0), 0.0)
        gradients.append(torch.cat([p.grad.ravel() for p in training.method.parameters()]))
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(gradients[0], gradients[2], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("side", "remedy"), [(64, "choose patch size 64 or less"), (20, "choose a smaller network")]
)
def test_a_patch_too_large_for_the_memory_is_refused_with_one_that_fits(side, remedy, make):
    training = make(batch=2, patch=96)
    small_memory(training, side=side)
    with pytest.raises(JobError, match=rf"Not even one 96-pixel patch fits.*{remedy}"):
        list(fit(training))
    assert not training.path.exists()


def test_other_errors_are_not_taken_for_a_full_memory(make):
    training = make()
    training.method.losses = lambda *_: 1 / torch.zeros(2) @ torch.zeros(3)
    with pytest.raises(RuntimeError):
        list(fit(training))


@pytest.mark.parametrize("report_every", [1, 3])
def test_a_loss_that_is_not_finite_ends_the_training_and_is_never_saved(report_every, make):
    training = make(steps=9, report_every=report_every, save_every=2)
    losses = training.method.losses
    training.method.losses = lambda batch, progress: {
        name: loss * (math.nan if progress >= 3 / 9 else 1)
        for name, loss in losses(batch, progress).items()
    }
    with pytest.raises(JobError, match="NaN or infinite at step 4: start again with a tenth"):
        list(fit(training))
    _, kept = checkpoint.load_method(training.path)
    assert all(torch.isfinite(value).all() for value in kept.state_dict().values())


def test_stopped_with_a_loss_that_is_not_finite_it_keeps_the_last_checkpoint(make):
    training = make(steps=9, report_every=9, save_every=2)
    events = without_phases(fit(training))
    bias = training.method.network.head.bias
    assert next(events) == Saved(str(training.path), 2)

    def losses(batch, progress):
        if progress > 2.5 / 9:
            raise torch.OutOfMemoryError  # the one moment between two checks at which one can stop
        return {"segmentation": bias.sum() * math.nan}

    training.method.losses = losses
    assert isinstance(next(events), Notice)
    events.close()
    header, kept = checkpoint.load_method(training.path)
    assert header.step == 2
    assert all(torch.isfinite(value).all() for value in kept.state_dict().values())


# -- the target's labels ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "statistics"), [("histogram", "auto"), ("ynet", "auto"), ("source_only", "on")]
)
def test_the_targets_labels_never_reach_a_training(
    method, statistics, make_project, tmp_path, noise
):
    scrambled = noise.integers(0, 2, (4, 96, 96)).astype(np.uint8)
    write_tiff(
        tmp_path / "noise.tif",
        iter(scrambled),
        scrambled.shape,
        scrambled.dtype,
        VoxelGrid((50, 8, 8)),
    )
    weights = []
    for name, labels in (
        ("none", None),
        ("noise", tmp_path / "noise.tif"),
    ):
        with make_project(tmp_path / name, target_labels=labels) as project:
            values = {
                "steps": 3,
                "patch": 32,
                "batch": 2,
                "target_statistics": statistics,
                "device": "cpu",
            }
            list(
                execute(
                    TrainJob(
                        project=str(project.folder),
                        method=method,
                        settings=TrainSettings(**values),
                        network_settings={"base_channels": 8},
                    )
                )
            )
            weights.append(project.run().checkpoint.read_bytes())
    assert weights[0] == weights[1]


def test_annotations_of_the_target_do_reach_a_training(
    make_training, source, target, tmp_path, phantoms
):
    annotated = replace(target, annotations=phantoms["target"][1] + np.uint8(1))
    training = make_training([source, annotated], tmp_path / "a", "histogram", steps=1)
    assert "target_segmentation" in steps(fit(training))[0].losses


@pytest.mark.parametrize(("report", "save"), [(-1, math.inf), (math.inf, -1)])
def test_slow_steps_are_reported_and_saved_more_often_than_asked_for(
    report, save, make, monkeypatch
):
    """After a step that took longer than so many seconds; every one does after less than none."""
    monkeypatch.setattr(train, "_REPORT_SECONDS", report)
    monkeypatch.setattr(train, "_SAVE_SECONDS", save)
    events = list(fit(make(steps=4, report_every=4, save_every=4)))
    reported = [event.step for event in events if isinstance(event, Stepped)]
    saved = [event.step for event in events if isinstance(event, Saved)]
    assert reported == ([1, 2, 3, 4] if report < 0 else [4])
    assert saved == ([1, 2, 3, 4] if save < 0 else [4])


# -- one step --------------------------------------------------------------------------------------


def test_gradients_are_clipped_to_a_norm_of_one(make):
    training = make()
    losses = training.method.losses
    training.method.losses = lambda *given: {
        name: 1e4 * loss for name, loss in losses(*given).items()
    }
    training.step(training.batch(0), 0)
    gradients = [p.grad for p in training.method.parameters() if p.grad is not None]
    assert float(sum(g.square().sum() for g in gradients)) ** 0.5 == pytest.approx(1, rel=1e-3)


def test_every_step_drops_other_channels_and_always_the_same(make):
    def losses(folder, step):
        training = make(folder, network_settings={"dropout": 0.5})
        return float(training.step(training.batch(0), step)["segmentation"])

    assert losses("a", 1) == losses("b", 1) != losses("c", 2)


@pytest.mark.parametrize(("step", "factor"), [(0, 1.0), (5, 0.505), (10, 0.01)])
def test_steps_get_smaller_along_half_a_cosine(step, factor, make):
    training = make(method="source_only", steps=10, learning_rate=1e-2)
    training.step(training.batch(0), step)
    assert training.optimiser.param_groups[0]["lr"] == pytest.approx(factor * 1e-2)
