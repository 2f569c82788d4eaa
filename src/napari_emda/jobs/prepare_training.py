"""From a job to a training. All checks are made here, before a run's folder is created."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from napari_emda.data.label_values import check_annotations, check_labels_now
from napari_emda.data.resampled import common_pixel_size
from napari_emda.data.spectrum import Spectrum
from napari_emda.data.volume import Domain, Volume
from napari_emda.errors import DataError, JobError, SettingsError
from napari_emda.inference import checkpoint
from napari_emda.inference.device import Compute
from napari_emda.inference.encoder_weights import encoder_file, load_encoder, settings_of_file
from napari_emda.inference.model_header import ModelHeader
from napari_emda.jobs.training_header import header_of, is_labelled, summary_of
from napari_emda.methods.base import Method, methods
from napari_emda.nn.network import Network, networks
from napari_emda.project.job_files import TrainJob
from napari_emda.project.project import Project
from napari_emda.project.run_folder import RunFolder
from napari_emda.sampling.sampler import PatchSampler
from napari_emda.settings.requirements import TAUGHT, Available
from napari_emda.settings.training import LOSSES, TrainSettings
from napari_emda.training.state import TrainingState
from napari_emda.training.trainer import Training, seed_of
from napari_emda.training.validation import Validator

VolumesOf = Callable[[Domain], list[Volume]]


def prepare(
    project: Project,
    job: TrainJob,
    folder: RunFolder | None,
    volumes_of: VolumesOf | None = None,
    rank: int = 0,
    ranks: int = 1,
) -> tuple[Training, dict[str, Volume]]:
    """The training that a job asks for, and the volumes that it learns from by name.

    Args:
        project: where the volumes are.
        job: what to train.
        folder: of the run to continue; None for a new one.
        volumes_of: see `training_on`; by default it opens the volumes of the project.
        rank: of this process among those that train together.
        ranks: how many these are.

    Raises:
        EmdaError: the job does not fit the project.
    """
    start = None if job.start_from is None else checkpoint.find(project.run(job.start_from))
    volumes_of = volumes_of or project.volumes.open_all
    training, volumes = training_on(volumes_of, project.classes, job, folder, start, rank, ranks)
    if methods[job.method].taught:
        # Who uses what a model has taught owes to its makers what their licence asks for.
        teacher = project.run(str(job.method_settings["teacher"]))
        said = checkpoint.read_header(checkpoint.find(teacher)).description
        kept = said.model_copy(update={"name": "", "score": None})
        training.header = training.header.model_copy(update={"description": kept})
    return training, volumes


def training_on(
    volumes_of: VolumesOf,
    classes: tuple[str, ...],
    job: TrainJob,
    folder: RunFolder | None = None,
    start: Path | None = None,
    rank: int = 0,
    ranks: int = 1,
) -> tuple[Training, dict[str, Volume]]:
    """The training that a job asks for, on volumes from anywhere.

    Args:
        volumes_of: opens all volumes of a domain; called only for domains that are needed.
        classes: names of the project's classes, background first.
        job: what to train; its project is not opened.
        folder: where checkpoints go; a training whose checkpoint lies there is continued.
        start: a checkpoint to take the network's weights from.
        rank: of this process among those that train together; only the first one, 0, validates.
        ranks: how many these are.

    Returns:
        The training, and the volumes that it learns from by name.

    Raises:
        EmdaError: the job does not fit the volumes.
    """
    cls = methods[job.method]
    method_settings = cls.Settings.parse(job.method_settings)
    settings = job.settings
    _check_keep(settings, cls)
    _check_objects(settings, cls)
    compute = Compute.choose(settings.device, settings.precision)
    # A checkpoint that is given without a run is a model as well.
    teacher = str(job.method_settings.get("teacher", "")) if cls.taught else ""
    model = job.start_from or teacher or ("" if start is None else start.name)
    volumes = [
        cls.learns_from(volume, method_settings, settings)
        for volume in _volumes(volumes_of, job, cls, model)
    ]
    before = None if start is None else checkpoint.read_header(start)
    if before is not None and networks[before.network.name].foreign:
        raise JobError(
            f"The run '{model}' is the model of another program, which cannot be trained: let it "
            f"teach a network first (method {TAUGHT}), and start from that."
        )
    job, encoder = _with_encoder(job, before, folder)
    sampler = _sampler(volumes, job, cls, before, folder, rank, ranks)
    _check_labels(sampler, cls, model)
    _check_continued(sampler, folder)
    predicted = cls.predicted_classes(method_settings, classes)
    header = header_of(job, method_settings, sampler, predicted, before)
    summary = summary_of(sampler, header, before)
    # `build` draws the initial weights: the same seed gives the same training.
    torch.manual_seed(seed_of(settings.seed, 0))
    method = header.build(summary)
    _check_patch(settings.patch, method.network)
    if encoder is not None:
        load_encoder(encoder, method.network)
    header = header.model_copy(update={"flips": method.postprocessing.flips})
    if start is not None:
        checkpoint.start_from(start, method.network, predicted)
        method.continues()
    validator = None
    if rank == 0:
        validator = _validator(volumes_of, classes, header, settings, method.predictor)
    if validator is not None:
        header = header.model_copy(update={"shapes": validator.priors})
    training = Training(
        method,
        sampler,
        header,
        TrainingState(settings=settings),
        # A new run gets its folder from the job once all checks have passed.
        folder or RunFolder(Path()),
        compute,
        validator,
    )
    return training, {volume.name: volume for volume in volumes}


def _with_encoder(
    job: TrainJob, before: ModelHeader | None, folder: RunFolder | None
) -> tuple[TrainJob, Path | None]:
    """The job with the settings of its pretrained encoder, and the file to load it from.

    A training that goes on, or starts from another run, has its encoder from there.
    """
    path = encoder_file(job.settings.network, job.network_settings)
    if path is None:
        return job, None
    known = before
    if folder is not None and folder.checkpoint.exists():
        known = checkpoint.read_header(folder.checkpoint)
    is_known = known is not None and known.network.name == job.settings.network
    if known is not None and is_known:
        values = {**known.network.settings, "learning": job.network_settings.get("learning")}
        values = {key: value for key, value in values.items() if value is not None}
        return job.model_copy(update={"network_settings": values}), None
    values = settings_of_file(job.settings.network, path, job.network_settings)
    return job.model_copy(update={"network_settings": values}), path


def _check_patch(patch: int, network: Network) -> None:
    """SettingsError if the network cannot see patches of this side."""
    if patch % network.stride:
        fits = -(-patch // network.stride) * network.stride
        raise SettingsError(
            f"The network '{network.name}' sees patches whose side is a multiple of "
            f"{network.stride} pixels, and patch is {patch}: choose patch={fits}, or a smaller "
            "window."
        )


def _sampler(
    volumes: list[Volume],
    job: TrainJob,
    cls: type[Method],
    before: ModelHeader | None,
    folder: RunFolder | None,
    rank: int,
    ranks: int,
) -> PatchSampler:
    settings = job.settings
    stack = _stack(job)
    # A network that goes on sees neighbours as far away as before.
    depth = before is not None and (before.context > 0 or before.network.section_ratio > 0)
    return PatchSampler(
        volumes,
        settings.patch,
        settings.batch,
        source_batches=cls.source_batches,
        pixel_size=settings.pixel_size or _pixel_size_of(before, volumes),
        seed=settings.seed,
        rank=rank,
        ranks=ranks,
        boxes={"source": settings.source_box, "target": settings.target_box},
        context=settings.context,
        objects=settings.objects != "off",
        stack=stack,
        section_distance=before.section_distance if before is not None and depth else 0,
        spectrum=_spectrum(volumes, settings, before, folder),
    )


def _pixel_size_of(before: ModelHeader | None, volumes: list[Volume]) -> float:
    """The pixel size of the model to start from, where its source is not there; else 0.

    With the source, the coarsest volume sets the size, as in the training of the model.
    """
    return before.pixel_size if before is not None and not _has_source(volumes) else 0


def _has_source(volumes: list[Volume]) -> bool:
    return any(volume.domain == "source" for volume in volumes)


def _spectrum(
    volumes: list[Volume],
    settings: TrainSettings,
    before: ModelHeader | None,
    folder: RunFolder | None,
) -> Spectrum | None:
    """The spectrum to which volumes are filtered, see `PatchSampler`.

    Args:
        volumes: to learn from.
        settings: of the training.
        before: header of the model to start from.
        folder: of the run to continue.

    Raises:
        SettingsError: a common spectrum is asked for, and there is nothing to share it with.
    """
    if folder is not None and folder.checkpoint.exists():
        # Images must look to a network as they did before.
        return checkpoint.read_header(folder.checkpoint).spectrum
    if settings.spectrum == "own" or (settings.spectrum == "auto" and not _has_spectrum(before)):
        return ()
    pixel_size = (
        settings.pixel_size or _pixel_size_of(before, volumes) or common_pixel_size(volumes)
    )
    # A spectrum belongs to a pixel size.
    if before is not None and before.spectrum and before.pixel_size == pixel_size:
        return before.spectrum
    if before is not None and not _has_source(volumes) and before.pixel_size == pixel_size:
        # The network has seen its source unfiltered: the target is brought to the power of that.
        profile = before.profiles.get("source")
        if profile is not None:
            return profile.spectrum
    if settings.spectrum == "common" and len({volume.domain for volume in volumes}) < 2:
        raise SettingsError(
            "spectrum=common compares a source with a target, and this training uses only one of "
            "them: choose spectrum=own, or a method that uses both, such as auto."
        )
    return None


def _has_spectrum(header: ModelHeader | None) -> bool:
    return header is not None and bool(header.spectrum)


def _stack(job: TrainJob) -> int:
    """Sections of a patch: 1 for a network that sees single sections."""
    cls = networks[job.settings.network]
    if cls.dimensions == 2:
        return 1
    settings: Any = cls.Settings.parse(job.network_settings)
    return int(settings.sections)


def _volumes(volumes_of: VolumesOf, job: TrainJob, cls: type[Method], model: str) -> list[Volume]:
    """The volumes of the domains that the method uses.

    A target's label image is never used, only what was annotated in the project.
    """
    domains: set[Domain] = set(cls.requirements.all_domains)
    # Normalisation statistics are measured on the target, whether or not the method learns from it.
    if job.settings.target_statistics == "on":
        domains.add("target")
    sources = volumes_of("source") if "source" in domains else []
    targets = volumes_of("target") if "target" in domains else []
    volumes = [*sources, *(volume.without_labels() for volume in targets)]
    available = {volume.domain for volume in volumes}
    cls.requirements.check(job.method, Available(domains=available, run=model))
    if not volumes:
        raise JobError("The project has no volume: add the image that is to be segmented.")
    for volume in volumes:
        check_annotations(volume)
    return volumes


def _check_keep(settings: TrainSettings, cls: type[Method]) -> None:
    """SettingsError if the model is to be kept by a loss that will not be known."""
    keep = settings.keep
    if keep not in LOSSES:
        return
    if not cls.unlabelled_losses:
        suitable = ", ".join(name for name in methods.names() if methods[name].unlabelled_losses)
        raise SettingsError(
            f"keep={keep} needs a method with a loss on unlabelled patches, and {cls.name} has "
            f"none: choose last, best or average, or one of the methods {suitable}."
        )
    if not settings.validations:
        raise SettingsError(
            f"keep={keep} compares the models of the validations, and validations=0 makes none: "
            "choose 1 or more."
        )


def _check_objects(settings: TrainSettings, cls: type[Method]) -> None:
    """SettingsError if objects are to be learnt by a method that looks at no labels."""
    if settings.objects != "off" and cls.requirements.labels == "unused":
        raise SettingsError(
            f"objects={settings.objects} is learnt from labels, which {cls.name} does not use: "
            "choose objects=off, or another method."
        )


def _check_labels(sampler: PatchSampler, cls: type[Method], model: str) -> None:
    """DataError or JobError if the training boxes lack labels that the method needs."""
    for domain in sampler.domains:
        for region in sampler.regions(domain):
            check_labels_now(region.view.volume, region.positions)
    labelled = is_labelled(sampler)
    requirements = cls.requirements
    uses_labels = requirements.labels == "needed" or (
        requirements.labels == "optional" and labelled
    )
    # Background alone would teach the network to predict background everywhere.
    if uses_labels and "source" in sampler.domains and not sampler.foreground("source"):
        raise DataError(
            "The source's labels have no foreground in the training box: add labels or enlarge "
            "the box."
        )
    annotated = sampler.labelled("target")
    available = Available(labelled=labelled, annotated=annotated, run=model)
    requirements.check(cls.name, available)


def _check_continued(sampler: PatchSampler, folder: RunFolder | None) -> None:
    """JobError if the run to continue has seen its images with other grey values than today's.

    Checkpoints of format 1 brought a whole stack of independent images to one range of grey values.
    Their network would suddenly see other images.
    """
    if folder is None or not folder.checkpoint.exists():
        return
    if checkpoint.read_header(folder.checkpoint).range_per_section:
        return
    if any(statistics.ranges for statistics in sampler.statistics.values()):
        raise JobError(
            f"An older version began the run '{folder.name}' with one range of grey values for all "
            "independent images, and now each image has its own range: use the run's model as it "
            f"is, or start a new run from {folder.name}."
        )


def _validator(
    volumes_of: VolumesOf,
    classes: tuple[str, ...],
    header: ModelHeader,
    settings: TrainSettings,
    network: Network,
) -> Validator | None:
    """Scores predictions of the target without its labels, with every method alike.

    Runs of different methods can therefore be compared. None if validation is off, or if neither a
    source nor the header tells what objects of the predicted classes look like.
    """
    sources = volumes_of("source")
    shapes = sources or header.shapes
    if not settings.validations or not shapes or header.classes != classes:
        return None
    # Without annotations too: a score that saw them would favour runs that were trained on them.
    targets = [replace(volume, labels=None, annotations=None) for volume in volumes_of("target")]
    return Validator.of(sources, targets, header, settings, network)
