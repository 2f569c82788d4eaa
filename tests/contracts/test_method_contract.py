"""What every training method keeps, whoever wrote it; a new one is tested by being registered."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from napari_emda.data.voxel_grid import VoxelGrid
from napari_emda.errors import SettingsError
from napari_emda.events import Stepped
from napari_emda.inference import checkpoint
from napari_emda.inference.predictor import Predictor
from napari_emda.io.tiff import write_tiff
from napari_emda.jobs.prepare_training import prepare
from napari_emda.methods.base import methods
from napari_emda.nn.network import Network, networks
from napari_emda.project.job_files import TrainJob
from napari_emda.sampling.augmentation import Augmentation
from napari_emda.sampling.sampler import Patches
from napari_emda.settings.base import Settings
from napari_emda.settings.training import TrainSettings
from napari_emda.training.loop import fit

NAMES = methods.names()
THREE = ("background", "a", "b")


@pytest.fixture(params=NAMES)
def name(request):
    return request.param


@pytest.fixture
def volumes(source, target, phantoms):
    """A function that gives the volumes a method needs, with two or three classes."""

    def chosen(name, *, classes=2, annotated=None):
        labels = [phantoms[domain][1].copy() for domain in ("source", "target")]
        if classes == 3:
            for ids in labels:
                ids[:, :40][ids[:, :40] == 0] = 2
        annotated = methods[name].requirements.annotations if annotated is None else annotated
        return [
            replace(source, labels=labels[0], classes=classes),
            replace(
                target, annotations=labels[1] + np.uint8(1) if annotated else None, classes=classes
            ),
        ]

    return chosen


@pytest.fixture(scope="module")
def noise_file(tmp_path_factory):
    """Random labels of the phantom's shape, as a TIFF."""
    path, labels = (
        tmp_path_factory.mktemp("noise") / "noise.tif",
        np.random.default_rng(0).integers(0, 2, (4, 96, 96)),
    )
    write_tiff(
        path, iter(labels.astype(np.uint8)), labels.shape, np.dtype(np.uint8), VoxelGrid((50, 8, 8))
    )
    return path


def finite(events, steps):
    """Run a training; check that it goes through all steps with finite losses."""
    reports = [event for event in events if isinstance(event, Stepped)]
    assert [event.step for event in reports] == steps
    for event in reports:
        assert event.losses
        assert all(np.isfinite(loss) for loss in event.losses.values())
    return [event.losses for event in reports]


def test_it_introduces_itself_in_a_sentence(name):
    cls = methods[name]
    first = " ".join(cls.__doc__.split("\n\n")[0].split())
    assert first.endswith(".")
    assert len(first) < 160
    assert cls.name == name
    assert cls.requirements.all_domains
    assert issubclass(cls.Settings, Settings)


def test_it_learns_every_parameter_once(name, volumes, make_training, tmp_path):
    training = make_training(volumes(name), tmp_path / "run", name)
    grouped = [p for parameters in training.method.parameter_groups().values() for p in parameters]
    learnt = [p for p in training.method.parameters() if p.requires_grad]
    assert len({id(p) for p in grouped}) == len(grouped)
    assert {id(p) for p in grouped} == {id(p) for p in learnt}


def test_it_trains_stops_and_resumes_bitwise(name, volumes, make_training, tmp_path, same_weights):
    """Here on a target without labels, unless it is the labels that the method learns from."""
    trainings = [
        make_training(volumes(name), tmp_path / folder, name, steps=4) for folder in ("a", "b", "b")
    ]
    whole, stopped, resumed = trainings
    undisturbed = finite(fit(whole), [1, 2, 3, 4])
    events = fit(stopped)
    losses = finite([next(events) for _ in range(2)], [1, 2])
    events.close()
    losses += finite(fit(resumed), [3, 4])
    assert losses == undisturbed
    assert same_weights(whole.method, resumed.method)


@pytest.mark.parametrize("progress", [0.0, 0.999])
def test_its_losses_are_scalars_that_teach_the_network(
    name, progress, volumes, make_training, tmp_path
):
    training = make_training(volumes(name), tmp_path / "run", name)
    losses = training.method.losses(training.batch(0), progress)
    assert all(loss.shape == () for loss in losses.values())
    assert set(methods[name].unlabelled_losses) <= losses.keys()
    assert set(losses) != set(methods[name].unlabelled_losses)
    sum(losses.values()).backward()
    learnt = (
        training.method.network if progress > 0.9 else training.method
    )  # stages may begin with something else
    gradients = [p.grad for p in learnt.parameters() if p.grad is not None]
    assert any(gradient.abs().sum() > 0 for gradient in gradients)
    assert all(gradient.isfinite().all() for gradient in gradients)


def test_what_it_prepares_follows_the_augmentations_seed_alone(
    name, volumes, make_training, tmp_path
):
    training = make_training(volumes(name), tmp_path / "run", name)
    batch = {
        domain: patches.map(torch.clone) for domain, patches in training.sampler.batch(0).items()
    }
    state, prepared = torch.get_rng_state(), []
    for _ in range(2):
        given = {domain: patches.map(torch.clone) for domain, patches in batch.items()}
        prepared.append(training.method.prepare(given, Augmentation("strong", 7), 0.5))
    assert torch.equal(torch.get_rng_state(), state)
    for domain, patches in prepared[0].items():
        assert isinstance(patches, Patches)
        assert torch.equal(patches.image, prepared[1][domain].image)
        assert patches.image.shape == batch[domain].image.shape


def test_it_learns_with_annotations_of_the_target_too(name, volumes, make_training, tmp_path):
    training = make_training(volumes(name, annotated=True), tmp_path / "run", name, steps=1)
    finite(fit(training), [1])


def test_the_targets_labels_change_nothing(
    name, make_project, noise_file, phantoms, tmp_path, same_weights
):
    """Bitwise: as if they were not there, whether they are noise or not; what is annotated in the project counts."""
    settings = TrainSettings(steps=4, patch=32, batch=2, device="cpu", validations=0)
    trained = []
    for folder, labels in (("none", None), ("noise", noise_file)):
        with make_project(tmp_path / folder, target_labels=labels) as project:
            if methods[name].requirements.annotations:
                project.annotations.require("target")[0] = phantoms["target"][1][0] + 1
            training, _ = prepare(
                project,
                TrainJob(
                    project=str(project.folder),
                    method=name,
                    settings=settings,
                    network_settings={"base_channels": 8},
                ),
                None,
            )
        for step in (0, 3):  # the first and the last stage
            training.step(training.batch(step), step)
        trained.append(training.method)
    assert same_weights(*trained)


def test_it_takes_three_classes_in_batches_of_one(name, volumes, make_training, tmp_path):
    chosen = volumes(name, classes=3)
    training = make_training(chosen, tmp_path / "run", name, classes=THREE, batch=1, steps=1)
    finite(fit(training), [1])
    header, loaded = checkpoint.load_method(training.path)
    predicted = Predictor(loaded.predictor, header, training.compute).probabilities(
        torch.randn(1, 1, 20, 33), "target"
    )
    assert predicted.shape == (1, len(header.classes), 20, 33)
    assert header.classes == methods[name].predicted_classes(methods[name].Settings(), THREE)
    torch.testing.assert_close(predicted.sum(1), torch.ones(1, 20, 33))


def test_what_predicts_is_a_network_that_another_run_can_start_from(
    name, volumes, make_training, tmp_path
):
    training = make_training(volumes(name), tmp_path / "run", name, steps=1)
    list(fit(training))
    assert isinstance(training.method.predictor, Network)
    network = training.header.network.build()
    checkpoint.start_from(training.path, network, training.header.classes)
    x = torch.randn(1, 1, 32, 32)
    old, new = (
        Predictor(net, training.header, training.compute)
        for net in (training.method.predictor, network)
    )
    old_p, new_p = old.probabilities(x, "target"), new.probabilities(x, "target")
    if (
        training.method.predictor.offset.any()
    ):  # now part of the head's bias, which rounds elsewhere
        torch.testing.assert_close(new_p, old_p, rtol=0, atol=0.01)
    else:
        assert torch.equal(new_p, old_p)


@pytest.mark.parametrize("network", [other for other in networks.names() if other != "unet"])
def test_it_trains_other_networks_at_all_their_resolutions(
    name, network, volumes, make_training, tmp_path
):
    def training():
        return make_training(volumes(name), tmp_path / "run", name, network=network)

    cls = methods[name]
    if not cls.architecture.keys() <= networks[network].Settings.model_fields.keys():
        with pytest.raises(SettingsError, match=f"{name} needs a network with the setting"):
            training()
        return
    method = training().method
    batch = training().batch(0)
    sum(method.losses(batch, 0.999).values()).backward()
    assert method.network.config.name == network
    if cls.requirements.labels != "unused":
        heads = [method.network.head, *method.network.auxiliary_heads]
        assert all(head.weight.grad.abs().sum() > 0 for head in heads)
