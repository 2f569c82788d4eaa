"""Trainings with neighbouring sections: resumed, scored, calibrated, continued and refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from napari_emda.data.resampled import Resampled
from napari_emda.data.voxel_grid import VoxelGrid
from napari_emda.errors import JobError
from napari_emda.events import Saved, Stepped
from napari_emda.inference import checkpoint
from napari_emda.inference.model_header import ModelHeader
from napari_emda.inference.predictor import Predictor
from napari_emda.nn.layers import middle
from napari_emda.settings.training import TrainSettings
from napari_emda.training.loop import fit
from napari_emda.training.prior_matching import CalibrationSample, calibrate
from napari_emda.training.validation import Validator


@pytest.fixture
def volumes(source, target):
    """Sections of 50 nm in the source and of 25 nm in the target."""
    thin = replace(target, image=np.repeat(target.image, 2, axis=0))
    return [source, replace(thin, grid=VoxelGrid((25.0, 8.0, 8.0)))]


def test_the_model_says_what_it_sees(volumes, make_training, tmp_path):
    training = make_training(volumes, tmp_path / "run", "auto", context=2, steps=1)
    list(fit(training))
    header = checkpoint.read_header(training.path)
    assert (header.context, header.section_distance, header.network.channels) == (2, 50.0, 5)
    sections = header.context_of(training.sampler.regions("target")[0].view).sections
    assert sections[3].tolist() == [1, 1, 3, 5, 7]


def test_the_weights_do_not_depend_on_stops(volumes, make_training, tmp_path, same_weights):
    complete, stopped, resumed = (
        make_training(volumes, tmp_path / folder, "auto", context=1, steps=4)
        for folder in ("a", "b", "b")
    )
    list(fit(complete))
    events = fit(stopped)
    stepped = (event for event in events if isinstance(event, Stepped))
    assert [next(stepped).step for _ in range(2)] == [1, 2]
    events.close()
    list(fit(resumed))
    assert same_weights(complete.method, resumed.method)
    assert complete.header == resumed.header


def test_validation_shows_each_tile_the_sections_of_the_whole_volume(volumes):
    source, target = volumes
    numbered = np.broadcast_to(np.arange(8.0)[:, None, None], target.shape)
    target = replace(target, image=numbered)
    header = ModelHeader(
        method="source_only",
        classes=("background", "a"),
        network={"classes": 2, "channels": 5},
        pixel_size=8.0,
        context=2,
        section_distance=50.0,
        spoilt={"target": (6,)},
    )
    expected = header.context_of(Resampled(target, 8.0)).sections
    validator = Validator.of([source], [target], header, TrainSettings(patch=32))
    assert len(validator.tiles) == 8
    for tile in validator.tiles:
        numbers = tile.volume.image[:, 0, 0].astype(int)
        z = numbers[tile.section]
        for step in (-1, 0, 1):
            if 0 <= z + step < 8:
                assert numbers[tile.section + step] == z + step
                row = numbers[tile.context.sections[tile.section + step]]
                assert row.tolist() == expected[z + step].tolist()


def test_calibration_sees_the_sections_that_prediction_sees(volumes, make_training, tmp_path):
    training = make_training(volumes, tmp_path / "run", "auto", context=1)
    (region,) = training.sampler.regions("target")
    shown = []

    def probabilities(image, domain, stacks, *, flips):
        shown.append(image)
        return torch.full((len(image), 2, *image.shape[2:]), 0.5)

    predictor = Predictor(training.method.predictor, training.header, training.compute)
    predictor.probabilities = probabilities
    postprocessing = training.method.postprocessing
    list(calibrate(predictor, [region], (), postprocessing, CalibrationSample(2, 96, False)))
    stacks = region.read(region.box)
    for image in shown:
        # At an end of the volume, both neighbours are one section.
        assert image.shape[1:] == (3, 96, 96)
        assert 2 <= len(image) <= 3
        places = [np.flatnonzero((stacks == one.numpy()).all((1, 2, 3))) for one in image]
        assert all(len(place) for place in places)


def test_reconstruction_restores_the_middle_section(volumes, make_training, tmp_path):
    """Other sections of the clean patches change nothing; the middle one does."""
    for name in ("ynet", "attention_ynet", "damt", "denoising"):
        training = make_training(volumes, tmp_path / name, name, context=1)
        training.method.eval()
        batch = training.batch(0)

        def losses(change, training=training, batch=batch):
            changed = {}
            for domain, patches in batch.items():
                clean = patches.clean.clone()
                change(clean)
                changed[domain] = replace(patches, clean=clean)
            with torch.no_grad():
                return training.method.losses(changed, 0.1)

        expected = losses(lambda clean: None)
        others = losses(lambda clean: clean[:, ::2].mul_(-3))
        own = losses(lambda clean: middle(clean).copy_(middle(clean).flip(-1)))
        restoring = [key for key in expected if "reconstruction" in key or "restoration" in key]
        assert restoring
        for key in restoring:
            assert torch.equal(expected[key], others[key])
            assert not torch.equal(expected[key], own[key])


@pytest.mark.parametrize("direction", ["source_to_target", "target_to_source"])
def test_style_transfer_translates_every_section_by_itself(
    direction, volumes, make_training, tmp_path
):
    settings = {"direction": direction, "stage": 0.5}
    training = make_training(
        volumes, tmp_path / "run", "style_transfer", settings, context=1, steps=2
    )
    assert isinstance(list(fit(training))[-1], Saved) or training.path.exists()
    generator = training.method.generator.eval()
    image = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        together = generator.sections(image)
        alone = [generator(image[:, channel : channel + 1]) for channel in range(3)]
    torch.testing.assert_close(together, torch.cat(alone, dim=1))


def test_a_training_starts_from_one_that_sees_as_many_sections(volumes, make_training, tmp_path):
    first = make_training(volumes, tmp_path / "first", context=1, steps=1)
    list(fit(first))
    same = make_training(volumes, tmp_path / "same", context=1)
    checkpoint.start_from(first.path, same.method.network, ("background", "mitochondria"))
    other = make_training(volumes, tmp_path / "other")
    with pytest.raises(JobError, match=r"another network \(context=1, here context=0\)"):
        checkpoint.start_from(first.path, other.method.network, ("background", "mitochondria"))


def test_a_header_must_name_as_many_sections_as_its_network_takes():
    values = {
        "method": "source_only",
        "classes": ("background", "a"),
        "network": {"classes": 2, "channels": 3},
        "pixel_size": 8.0,
    }
    assert ModelHeader(**values, context=1).context == 1
    for wrong in ({}, {"context": 2}, {"context": 1, "spoilt": {"v": (-1,)}}):
        with pytest.raises(ValidationError):
            ModelHeader(**values, **wrong)


def test_sparse_annotations_of_single_sections_teach_it(source, phantoms, make_training, tmp_path):
    """A patch of one section is enough: all else is not annotated."""
    annotations = np.zeros(source.shape, np.uint8)
    annotations[1, :48, :48] = phantoms["source"][1][1, :48, :48] + 1
    target = replace(source, name="t", domain="target", labels=None, annotations=annotations)
    training = make_training(
        [target], tmp_path / "run", "finetune", context=1, steps=60, learning_rate=3e-3, batch=4
    )
    losses = [event.losses for event in fit(training) if isinstance(event, Stepped)]
    (name,) = (key for key in losses[0] if key.endswith("segmentation"))
    first, last = (np.mean([row[name] for row in rows]) for rows in (losses[:10], losses[-10:]))
    assert last < 0.8 * first
