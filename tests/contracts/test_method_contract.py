"""The contract of training methods; every registered method is tested."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

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
from napari_emda.jobs.teaching import returned_by, taught_volumes, with_teacher
from napari_emda.methods.base import methods
from napari_emda.nn.network import Network, networks
from napari_emda.nn.networks.unet import UNet
from napari_emda.project.job_files import TrainJob
from napari_emda.sampling.augmentation import Augmentation
from napari_emda.sampling.patches import Patches
from napari_emda.settings.base import Settings
from napari_emda.settings.training import TrainSettings
from napari_emda.training.loop import fit

NAMES = methods.names()
LEARNS_OBJECTS = [name for name in NAMES if methods[name].requirements.labels != "unused"]
THREE_CLASSES = ("background", "a", "b")


@pytest.fixture(params=NAMES)
def name(request):
    return request.param


@pytest.fixture
def volumes(source, target, phantoms):
    """A function that returns the volumes that a method needs, with two or three classes."""

    def volumes_of(name, *, classes=2, annotated=None, numbered=False):
        source_labels = phantoms["source"][1].copy()
        target_labels = phantoms["target"][1].copy()
        if classes == 3:
            for ids in (source_labels, target_labels):
                ids[:, :40][ids[:, :40] == 0] = 2
        # The halves of what is one object for a mask.
        ids = source_labels * (1 + (np.arange(96) > 50)).astype(np.uint32) if numbered else None
        annotated = methods[name].requirements.annotations if annotated is None else annotated
        annotations = target_labels + np.uint8(1) if annotated else None
        taught = None
        if methods[name].taught:
            # Unsure of everything: a teacher's answers for the classes but the background.
            taught = np.full((classes - 1, *target_labels.shape), 100, np.uint8)
            taught[0][target_labels == 1] = 200
        return [
            replace(source, labels=source_labels, ids=ids, classes=classes),
            replace(target, annotations=annotations, classes=classes, taught=taught),
        ]

    return volumes_of


@pytest.fixture(scope="module")
def noise_file(tmp_path_factory):
    """Random labels of the phantom's shape, as a TIFF."""
    path = tmp_path_factory.mktemp("noise") / "noise.tif"
    labels = np.random.default_rng(0).integers(0, 2, (4, 96, 96)).astype(np.uint8)
    write_tiff(path, iter(labels), labels.shape, labels.dtype, VoxelGrid((50, 8, 8)))
    return path


def finite_losses(events, steps):
    """The losses of these steps of a training, which must be finite."""
    reports = [event for event in events if isinstance(event, Stepped)]
    assert [event.step for event in reports] == steps
    for event in reports:
        assert event.losses
        assert all(np.isfinite(loss) for loss in event.losses.values())
    return [event.losses for event in reports]


def test_its_docstring_starts_with_a_sentence(name):
    cls = methods[name]
    sentence = " ".join(cls.__doc__.split("\n\n")[0].split())
    assert sentence.endswith(".")
    assert len(sentence) < 160
    assert cls.name == name
    assert cls.requirements.all_domains
    assert issubclass(cls.Settings, Settings)


def test_every_parameter_belongs_to_one_group(name, volumes, make_training, tmp_path):
    method = make_training(volumes(name), tmp_path / "run", name).method
    grouped = [id(p) for parameters in method.parameter_groups().values() for p in parameters]
    assert len(set(grouped)) == len(grouped)
    assert set(grouped) == {id(p) for p in method.parameters() if p.requires_grad}


def test_it_trains_stops_and_resumes_bitwise(name, volumes, make_training, tmp_path, same_weights):
    """On a target without labels, unless the method needs annotations; objects, if it can."""
    learns_objects = name in LEARNS_OBJECTS
    values = {"steps": 4, "objects": "contour" if learns_objects else "off"}
    complete, stopped, resumed = (
        make_training(volumes(name, numbered=learns_objects), tmp_path / folder, name, **values)
        for folder in ("a", "b", "b")
    )
    expected = finite_losses(fit(complete), [1, 2, 3, 4])
    events = fit(stopped)
    stepped = (event for event in events if isinstance(event, Stepped))
    losses = finite_losses([next(stepped) for _ in range(2)], [1, 2])
    events.close()
    losses += finite_losses(fit(resumed), [3, 4])
    assert losses == expected
    assert same_weights(complete.method, resumed.method)
    header, loaded = checkpoint.load_method(complete.path)
    assert header.network.objects == learns_objects
    if learns_objects:
        predictor = Predictor(loaded.predictor, header, complete.compute)
        outputs = predictor.outputs(torch.randn(2, 1, 20, 33), "target", flips=True)
        assert outputs.shape == (2, 4, 20, 33)
        assert ((outputs >= 0) & (outputs <= 1)).all()


def test_it_trains_with_neighbouring_sections(name, volumes, make_training, tmp_path):
    training = make_training(volumes(name), tmp_path / "run", name, context=1, steps=4)
    for step in (0, 3):  # the first and the last stage
        batch = training.on_device(training.batch(step), step)
        assert all(patches.image.shape[1] == 3 for patches in batch.values())
        losses = training.step(batch, step)
        assert all(loss.isfinite() for loss in losses.values())
    predictor = Predictor(training.method.predictor, training.header, training.compute)
    domain = training.sampler.domains[0]
    image = training.sampler.anywhere(domain, 0).image
    assert predictor.probabilities(image, domain).isfinite().all()
    with pytest.raises(RuntimeError):
        predictor.probabilities(image[:, :1], domain)


@pytest.mark.parametrize("progress", [0.0, 0.999])
def test_its_losses_are_scalars_with_gradients(name, progress, volumes, make_training, tmp_path):
    training = make_training(volumes(name), tmp_path / "run", name)
    losses = training.method.losses(training.batch(0), progress)
    assert all(loss.shape == () for loss in losses.values())
    assert set(methods[name].unlabelled_losses) <= losses.keys()
    assert set(losses) != set(methods[name].unlabelled_losses)
    sum(losses.values()).backward()
    # In its first stage a method may train something else than the network.
    module = training.method.network if progress > 0.9 else training.method
    gradients = [p.grad for p in module.parameters() if p.grad is not None]
    assert any(gradient.abs().sum() > 0 for gradient in gradients)
    assert all(gradient.isfinite().all() for gradient in gradients)


def test_prepared_batches_depend_only_on_the_seed_of_the_augmentation(
    name, volumes, make_training, tmp_path
):
    training = make_training(volumes(name), tmp_path / "run", name)
    state = torch.get_rng_state()
    batch, first, second = (
        {domain: patches.map(torch.clone) for domain, patches in training.sampler.batch(0).items()}
        for _ in range(3)
    )
    first = training.method.prepare(first, Augmentation("strong", 7), 0.5)
    second = training.method.prepare(second, Augmentation("strong", 7), 0.5)
    assert torch.equal(torch.get_rng_state(), state)
    for domain, patches in first.items():
        assert isinstance(patches, Patches)
        assert torch.equal(patches.image, second[domain].image)
        assert patches.image.shape == batch[domain].image.shape


def test_it_trains_with_annotations_of_the_target(name, volumes, make_training, tmp_path):
    training = make_training(volumes(name, annotated=True), tmp_path / "run", name, steps=1)
    finite_losses(fit(training), [1])


def test_hidden_labels_of_the_target_change_nothing(
    name, make_project, noise_file, phantoms, tmp_path, same_weights
):
    """Bitwise the same weights without them and with noise; only annotations are used."""
    settings = TrainSettings(steps=4, patch=32, batch=2, device="cpu", validations=0)
    trained = []
    for folder, labels in (("none", None), ("noise", noise_file)):
        with make_project(tmp_path / folder, target_labels=labels) as project:
            if methods[name].requirements.annotations:
                project.annotations.require("target")[0] = phantoms["target"][1][0] + 1
            job = TrainJob(
                project=str(project.folder),
                method=name,
                settings=settings,
                network_settings={"base_channels": 8},
            )
            if methods[name].requirements.model != "none":
                first, _ = prepare(project, job.model_copy(update={"method": "source_only"}), None)
                first.folder = project.runs.new("source_only")
                first.write(0)
                job = job.model_copy(update={"start_from": first.folder.name})
            volumes_of = None
            if methods[name].taught:
                job = with_teacher(project, job)
                volumes_of = returned_by(taught_volumes(project, job))
            training, _ = prepare(project, job, None, volumes_of)
        for step in (0, 3):  # the first and the last stage
            training.step(training.batch(step), step)
        trained.append(training.method)
    assert same_weights(*trained)


def test_it_trains_with_three_classes_and_batches_of_one(name, volumes, make_training, tmp_path):
    training = make_training(
        volumes(name, classes=3), tmp_path / "run", name, classes=THREE_CLASSES, batch=1, steps=1
    )
    finite_losses(fit(training), [1])
    header, loaded = checkpoint.load_method(training.path)
    predictor = Predictor(loaded.predictor, header, training.compute)
    predicted = predictor.probabilities(torch.randn(1, 1, 20, 33), "target")
    assert predicted.shape == (1, len(header.classes), 20, 33)
    assert header.classes == methods[name].predicted_classes(
        methods[name].Settings(), THREE_CLASSES
    )
    torch.testing.assert_close(predicted.sum(1), torch.ones(1, 20, 33))


def test_another_run_can_start_from_its_predictor(name, volumes, make_training, tmp_path):
    training = make_training(volumes(name), tmp_path / "run", name, steps=1)
    list(fit(training))
    assert isinstance(training.method.predictor, Network)
    network = training.header.network.build()
    checkpoint.start_from(training.path, network, training.header.classes)
    x = torch.randn(1, 1, 32, 32)
    before, after = (
        Predictor(net, training.header, training.compute).probabilities(x, "target")
        for net in (training.method.predictor, network)
    )
    if training.method.predictor.offset.any():
        # The offset is now part of the head's bias, which rounds differently.
        torch.testing.assert_close(after, before, rtol=0, atol=0.01)
    else:
        assert torch.equal(after, before)


@pytest.mark.parametrize("name", LEARNS_OBJECTS)
def test_its_supervised_loss_teaches_objects(name, volumes, make_training, tmp_path):
    batches = volumes(name, numbered=True)
    training = make_training(batches, tmp_path / "run", name, objects="contour", seed=1)
    method = training.method
    # Patches of the objects, and not of the background between them.
    batch = next(
        batch
        for batch in map(training.batch, range(50))
        if any((patches.borders > 0).any() for patches in batch.values())
    )
    sum(method.losses(batch, 0.999).values()).backward()
    gradient = method.network.object_head.weight.grad
    assert gradient.isfinite().all()
    assert all(of_map.abs().sum() > 0 for of_map in gradient)


def test_a_3d_network_learns_objects_too(volumes, make_training, tmp_path):
    training = make_training(
        volumes("source_only", numbered=True),
        tmp_path / "run",
        steps=2,
        network="unet_3d",
        objects="contour",
    )
    finite_losses(fit(training), [1, 2])
    header, loaded = checkpoint.load_method(training.path)
    predictor = Predictor(loaded.predictor, header, training.compute)
    # One stack.
    sections = loaded.predictor.settings.sections
    outputs = predictor.outputs(torch.randn(sections, 1, 40, 33), "source")
    assert outputs.shape == (sections, 4, 40, 33)
    assert loaded.predictor.object_head.weight.isfinite().all()


def test_a_method_without_labels_refuses_to_learn_objects(volumes, make_training, tmp_path):
    with pytest.raises(SettingsError, match="which iic does not use: choose objects=off"):
        make_training(volumes("iic"), tmp_path / "run", "iic", objects="contour")


class Deep(UNet):
    """Also classifies a coarser map, in training."""

    def __init__(self, classes, settings=None, channels=1):
        super().__init__(classes, settings, channels)
        self.auxiliary_heads.append(torch.nn.Conv2d(self.widths[1], classes, 1))

    def features(self, maps):
        return [self.decoder(maps), maps[1]][: 1 + self.training]


class Plain(UNet):
    """Has no attention gates."""

    class Settings(Settings):
        """None but these."""

        base_channels: int = 8
        depth: int = 3
        dropout: float = 0.0
        attention: ClassVar = False


@pytest.fixture
def others(monkeypatch):
    """Two more networks, for a while."""
    assert networks.names()  # all that there are, are loaded
    for other in (Deep, Plain):
        monkeypatch.setattr(other, "name", other.__name__.lower())
        monkeypatch.setitem(networks._entries, other.name, other)


def test_its_supervised_loss_teaches_all_heads_of_a_network(
    name, others, volumes, make_training, tmp_path
):
    training = make_training(volumes(name), tmp_path / "run", name, network="deep")
    method = training.method
    sum(method.losses(training.batch(0), 0.999).values()).backward()
    assert isinstance(method.network, Deep)
    for head in (method.network.head, *method.network.auxiliary_heads):
        taught = head.weight.grad is not None and bool(head.weight.grad.abs().sum() > 0)
        unsupervised = methods[name].requirements.labels == "unused"
        assert taught or (unsupervised and head is not method.network.head)


def test_what_it_demands_of_a_network_is_there_or_it_says_which_has_it(
    name, others, volumes, make_training, tmp_path
):
    if "attention" not in methods[name].architecture:
        make_training(volumes(name), tmp_path / "run", name, network="plain")
        return
    with pytest.raises(SettingsError, match="'attention', which plain does not have: choose"):
        make_training(volumes(name), tmp_path / "run", name, network="plain")
