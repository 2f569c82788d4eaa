"""Two processes that train together learn what one learns from both halves of each batch.

The reference is one process that gets the patches of both, computes them in two micro-batches, and
knows nothing of ranks.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import fields
from functools import partial
from pathlib import Path
from unittest.mock import Mock

import pytest
import torch

from napari_emda.errors import JobError
from napari_emda.events import Notice, Saved, Stepped
from napari_emda.jobs.teaching import is_taught, with_teacher
from napari_emda.methods.base import methods
from napari_emda.project.job_files import TrainJob
from napari_emda.project.run_folder import RunFolder
from napari_emda.sampling.patches import Patches
from napari_emda.training.loop import fit
from napari_emda.training.ranks import Ranks, joined
from napari_emda.training.recorded_gradients import RecordedGradients
from napari_emda.training.state import TrainingState
from napari_emda.training.trainer import seed_of
from tests.conftest import SMALL_TRAINING
from tests.training.second_rank import hash_of, training_of
from tests.training.test_recorded_gradients import captured_on_the_cpu


class Second:
    """The second rank, a process."""

    def __init__(self, folder):
        self.meeting = folder / "ranks"
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.training.second_rank", str(self.meeting)],
            cwd=Path(__file__).parents[2],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def train(self, job, folder, full=0):
        """Let it take part in a training; `learnt` waits for what it has learnt."""
        asked = {"job": job.model_dump_json(), "folder": str(folder), "full": full}
        self.process.stdin.write(json.dumps(asked) + "\n")
        self.process.stdin.flush()

    def learnt(self):
        return self.process.stdout.readline().strip()


@pytest.fixture(scope="module")
def second(tmp_path_factory):
    second = Second(tmp_path_factory.mktemp("ranks"))
    with second.process:
        try:
            with joined(second.meeting, 0, 2, torch.device("cpu")):
                yield second
        finally:
            second.process.kill()


@pytest.fixture(scope="module")
def learnable(make_project, phantoms, tmp_path_factory):
    """A project whose target is annotated, with a run that has learnt nothing yet."""
    with make_project(tmp_path_factory.mktemp("learnable") / "project") as project:
        project.annotations.import_labels(phantoms["target"][1], "target")
        training = training_of(project, job_of(project, "source_only"))
        training.folder = project.runs.new("source_only")
        training.write(0)
        yield project


def job_of(project, method, **settings):
    needs_model = methods[method].requirements.model != "none"
    job = TrainJob(
        project=str(project.folder),
        method=method,
        settings={**SMALL_TRAINING, "steps": 4, **settings},
        network_settings={"base_channels": 8},
        start_from=project.runs.latest() if needs_model else None,
    )
    return with_teacher(project, job) if is_taught(job) else job


@pytest.fixture
def as_first(learnable, second, tmp_path):
    """A function that prepares a training as the first rank, of which the second is told."""

    def prepared(job, folder="run", full=0):
        training = training_of(learnable, job, 0, 2)
        training.folder = RunFolder(tmp_path / folder)
        training.folder.path.mkdir(exist_ok=True)
        training.ranks = Ranks(training.compute.device)
        second.train(job, training.folder.path, full)
        return training

    return prepared


def steps_of(training):
    """Take all steps; returns the losses of each."""
    return [training.step(training.batch(step), step) for step in range(training.settings.steps)]


def reference(project, job, first):
    """A training in one process, with the patches and the random numbers of two ranks.

    Args:
        project: with the volumes.
        job: of the training.
        first: the training of the first rank, for its patches.
    """
    whole = training_of(project, job)
    second = training_of(project, job, 1, 2)
    losses = whole.method.losses
    part = 0

    def batch(step):
        batches = [rank.batch(step) for rank in (first, second)]
        return {domain: both(*(of_rank[domain] for of_rank in batches)) for domain in batches[0]}

    def seeded(micro_batch, progress):
        nonlocal part
        step = round(progress * job.settings.steps)
        torch.manual_seed(seed_of(job.settings.seed, part, step, 2))
        part = 1 - part
        return losses(micro_batch, progress)

    whole.batch = batch
    whole.method.losses = seeded
    whole.micro_batches = 2
    return whole


def both(first, second):
    """The patches of two batches."""
    tensors = {
        field.name: torch.cat([getattr(patches, field.name) for patches in (first, second)])
        for field in fields(Patches)
        if getattr(first, field.name) is not None
    }
    return Patches(**tensors)


def check(project, second, first, job):
    """Compare two ranks with the reference."""
    before = [parameter.clone() for parameter in first.method.parameters()]
    losses = steps_of(first)
    expected = reference(project, job, first)
    expected_losses = steps_of(expected)
    assert second.learnt() == hash_of(first.method)
    close = partial(torch.testing.assert_close, rtol=0, atol=1e-5)
    close(losses, expected_losses)
    close(dict(first.method.state_dict()), dict(expected.method.state_dict()))
    assert not all(map(torch.equal, before, first.method.parameters()))


@pytest.mark.parametrize("method", methods.names())
def test_two_ranks_learn_what_one_does_in_two_micro_batches(method, learnable, second, as_first):
    job = job_of(learnable, method)
    check(learnable, second, as_first(job), job)


# The shorter one holds for all stages of a method.
@pytest.mark.slow
@pytest.mark.parametrize("method", methods.names())
def test_so_they_do_after_twenty_steps(method, learnable, second, as_first):
    job = job_of(learnable, method, steps=20, batch=4)
    check(learnable, second, as_first(job), job)


def test_a_batch_that_cannot_be_halved_is_shared_by_the_number_of_patches(
    learnable, second, as_first
):
    job = job_of(learnable, "dann", batch=3, steps=1)
    first = as_first(job)
    expected = reference(learnable, job, first)
    assert [len(patches.image) for patches in expected.batch(0).values()] == [3, 3]
    torch.testing.assert_close(steps_of(first), steps_of(expected))
    for mine, reference_parameter in zip(
        first.method.parameters(), expected.method.parameters(), strict=True
    ):
        torch.testing.assert_close(mine.grad, reference_parameter.grad, rtol=1e-4, atol=1e-6)
    assert second.learnt() == hash_of(first.method)


def test_all_begin_with_the_weights_of_the_first(learnable, second, as_first):
    first = as_first(job_of(learnable, "source_only", steps=1))
    with torch.no_grad():
        first.method.network.head.bias.add_(1)
    steps_of(first)
    assert second.learnt() == hash_of(first.method)


def test_replayed_steps_are_averaged_too(learnable, second, as_first, monkeypatch):
    """The second rank computes all of its steps."""
    monkeypatch.setattr(RecordedGradients, "_capture", captured_on_the_cpu)
    first = as_first(job_of(learnable, "source_only", steps=10))
    first.recorded = RecordedGradients(first._backward, first.method)
    steps_of(first)
    assert first.recorded.recorded
    assert second.learnt() == hash_of(first.method)


def test_if_one_runs_out_of_memory_both_go_on_with_smaller_parts(learnable, second, as_first):
    first = as_first(job_of(learnable, "source_only", batch=4), full=1)
    notices = [event.text for event in fit(first) if isinstance(event, Notice)]
    assert len(notices) == 1
    assert "going on with 1 patches at a time" in notices[0]
    assert second.learnt() == hash_of(first.method)


def test_a_step_is_not_repeated_by_one_alone(learnable, second, as_first):
    """Where memory is lacking for the optimiser, which the other one has not noticed."""
    first = as_first(job_of(learnable, "source_only", steps=1))
    first.optimiser.step = Mock(side_effect=torch.OutOfMemoryError("full"))
    with pytest.raises(torch.OutOfMemoryError, match="full"):
        list(fit(first))
    assert first.micro_batches == 1
    assert len(second.learnt()) == 64


def test_losses_that_differ_between_devices_are_refused(learnable, second, as_first):
    first = as_first(job_of(learnable, "source_only"))
    losses = first.method.losses
    first.method.losses = lambda *batch: {"another": losses(*batch)["segmentation"]}
    with pytest.raises(JobError, match="other losses, or teaches other weights, on each device"):
        list(fit(first))
    assert second.learnt() == "refused"


# -- stopping and going on -------------------------------------------------------------------------


def test_two_go_on_bitwise_and_one_can_go_on_alone(learnable, second, as_first, same_weights):
    """Although only the first rank validates, and measures the target between two steps."""
    job = job_of(learnable, "histogram", validations=1, save_every=1)
    whole = as_first(job, "whole")
    list(fit(whole))
    learnt = second.learnt()

    stopped = as_first(job, "stopped")
    events = fit(stopped)
    for event in events:
        if isinstance(event, Saved) and event.step == 2:
            break
    events.close()
    # The second waits for a step that does not come.
    steps_without_events(stopped, 2)
    second.learnt()
    shutil.copytree(stopped.folder.path, stopped.folder.path.with_name("alone"))

    resumed = as_first(job, "stopped")
    losses = [event.losses for event in fit(resumed) if isinstance(event, Stepped)]
    assert len(losses) == 2
    assert second.learnt() == learnt
    assert same_weights(whole.method, resumed.method)
    assert whole.path.read_bytes() == resumed.path.read_bytes()

    alone = training_of(learnable, job)
    alone.folder = RunFolder(stopped.folder.path.with_name("alone"))
    assert alone.load() == 2
    last = [event for event in fit(alone) if isinstance(event, Stepped)][-1]
    assert last.step == 4
    assert TrainingState.read(alone.path).settings == TrainingState.read(whole.path).settings


def steps_without_events(training, begin):
    """The rest of the steps, for the other rank to come to its end."""
    for step in range(begin, training.settings.steps):
        training.step(training.batch(step), step)
