"""From a job to a training: what is wrong is found here, before a run's folder is made."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch

from napari_emda.data.volume import Domain, Volume
from napari_emda.errors import DataError, JobError, SettingsError
from napari_emda.inference import checkpoint
from napari_emda.inference.device import Compute
from napari_emda.inference.model_header import ModelHeader
from napari_emda.methods.base import DataSummary, Method, methods
from napari_emda.nn.network import NetworkConfig, networks
from napari_emda.project.job_files import TrainJob
from napari_emda.project.project import Project
from napari_emda.project.run_folder import RunFolder
from napari_emda.sampling.sampler import PatchSampler
from napari_emda.settings.base import Settings
from napari_emda.settings.requirements import Available
from napari_emda.settings.training import LOSSES, TrainSettings
from napari_emda.training.state import TrainingState
from napari_emda.training.trainer import Training, seed_of
from napari_emda.training.validation import Validator

VolumesOf = Callable[[Domain], list[Volume]]


def prepare(
    project: Project, job: TrainJob, folder: RunFolder | None
) -> tuple[Training, dict[str, Volume]]:
    """The training that a job asks for, and the volumes that it learns from by name.

    Args:
        project: where the volumes are.
        job: what to train.
        folder: of the run that is to be continued; None for a new one.

    Raises:
        EmdaError: the job does not fit the project.
    """
    start = None if job.start_from is None else checkpoint.find(project.run(job.start_from))
    return training_on(project.volumes.open_all, project.classes, job, folder, start)


def training_on(
    volumes_of: VolumesOf,
    classes: tuple[str, ...],
    job: TrainJob,
    folder: RunFolder | None = None,
    start: Path | None = None,
) -> tuple[Training, dict[str, Volume]]:
    """The training that a job asks for, on volumes from anywhere.

    Args:
        volumes_of: opens all volumes of a domain; asked only for what the method looks at.
        classes: their names, background first.
        job: what to train; its project is not looked at.
        folder: where checkpoints go, and where one to be continued may lie.
        start: a checkpoint to take the network's weights from.

    Returns:
        The training, and the volumes that it learns from by name.

    Raises:
        EmdaError: the job does not fit the volumes.
    """
    cls = methods[job.method]
    method_settings = cls.Settings.parse(job.method_settings)
    settings = job.settings
    _check_keep(settings, cls)
    volumes = [
        cls.learns_from(volume, method_settings, settings)
        for volume in _volumes(volumes_of, job, cls)
    ]
    sampler = _sampler(volumes, settings, cls)
    _check_labels(sampler, cls)
    _check_continued(sampler, folder)
    predicted = cls.predicted_classes(method_settings, classes)
    summary = DataSummary(
        {d: sampler.quantiles(d) for d in sampler.domains},
        sampler.labelled("target"),
        sampler.prior("source", len(predicted)),
        start is not None and _predicts(checkpoint.read_header(start), predicted),
        sampler.padding("source"),
        labelled=_labelled(sampler),
    )
    header = _header(job, method_settings, cls, sampler, predicted)
    torch.manual_seed(seed_of(settings.seed, 0))
    method = header.build(summary)
    header = header.model_copy(update={"flips": method.postprocessing.flips})
    if start is not None:
        checkpoint.start_from(start, method.network, predicted)
    compute = Compute.choose(settings.device, settings.precision)
    validator = _validator(volumes_of, classes, header, settings)
    state = TrainingState(settings=settings)
    run = folder or RunFolder(Path())
    training = Training(method, sampler, header, state, run, compute, validator)
    return training, {volume.name: volume for volume in volumes}


def _sampler(volumes: list[Volume], settings: TrainSettings, cls: type[Method]) -> PatchSampler:
    return PatchSampler(
        volumes,
        settings.patch,
        settings.batch,
        source_batches=cls.source_batches,
        pixel_size=settings.pixel_size,
        seed=settings.seed,
        boxes={"source": settings.source_box, "target": settings.target_box},
    )


def _header(
    job: TrainJob,
    method_settings: Settings,
    cls: type[Method],
    sampler: PatchSampler,
    classes: tuple[str, ...],
) -> ModelHeader:
    return ModelHeader(
        method=job.method,
        method_settings=method_settings.model_dump(),
        classes=classes,
        network=_network(job, cls, len(classes)),
        pixel_size=sampler.pixel_size,
        statistics=sampler.statistics,
        seed=job.settings.seed,
        prediction_domain="target" if cls.learns_target(sampler.domains) else "source",
        features_only=cls.requirements.labels == "optional" and not _labelled(sampler),
    )


def _network(job: TrainJob, cls: type[Method], classes: int) -> NetworkConfig:
    """What the job asks for and the method demands."""
    name = job.settings.network
    network = networks[name]
    for demanded in cls.architecture.keys() - network.Settings.model_fields.keys():
        able = [
            other for other in networks.names() if demanded in networks[other].Settings.model_fields
        ]
        raise SettingsError(
            f"{cls.name} needs a network with the setting '{demanded}', and {name} has none: choose "
            f"the network {' or '.join(able)}."
        )
    values = {**job.network_settings, **cls.architecture}
    settings = network.Settings.parse(values)
    return NetworkConfig(name=name, classes=classes, settings=settings.model_dump())


def _volumes(volumes_of: VolumesOf, job: TrainJob, cls: type[Method]) -> list[Volume]:
    """The volumes a method looks at; a target never brings labels but those annotated in the project."""
    domains: set[Domain] = set(cls.requirements.all_domains)
    if job.settings.target_statistics == "on":
        domains.add("target")
    sources = volumes_of("source") if "source" in domains else []
    targets = volumes_of("target") if "target" in domains else []
    volumes = [*sources, *(volume.without_labels() for volume in targets)]
    available = {volume.domain for volume in volumes}
    cls.requirements.check(job.method, Available(domains=available))
    if not volumes:
        raise JobError("The project has no volume: add the image that is to be segmented.")
    return volumes


def _check_keep(settings: TrainSettings, cls: type[Method]) -> None:
    keep = settings.keep
    if keep not in LOSSES:
        return
    if not cls.unlabelled_losses:
        able = ", ".join(name for name in methods.names() if methods[name].unlabelled_losses)
        raise SettingsError(
            f"keep={keep} is for methods that weigh labels against what nobody labelled, and {cls.name} does not: "
            f"choose last, best or average, or a method of {able}."
        )
    if not settings.validations:
        raise SettingsError(
            f"With validations=0 no model is looked at: ask for 1 or more to use keep={keep}."
        )


def _predicts(header: ModelHeader, classes: tuple[str, ...]) -> bool:
    return header.classes == classes and not header.features_only


def _labelled(sampler: PatchSampler) -> bool:
    return sampler.labelled("source") or sampler.labelled("target")


def _check_labels(sampler: PatchSampler, cls: type[Method]) -> None:
    """Whether there are labels where training may look, which may be a part of the volumes."""
    labelled = _labelled(sampler)
    requirements = cls.requirements
    looks_at_labels = requirements.labels == "needed" or (
        requirements.labels == "optional" and labelled
    )
    if looks_at_labels and "source" in sampler.domains and not sampler.foreground("source"):
        raise DataError(
            "The source's labels hold no foreground where training may look: add labels or enlarge "
            "the box."
        )
    annotated = sampler.labelled("target")
    requirements.check(cls.name, Available(labelled=labelled, annotated=annotated))


def _check_continued(sampler: PatchSampler, folder: RunFolder | None) -> None:
    if (
        folder is None
        or not (path := folder.checkpoint).exists()
        or checkpoint.read_header(path).range_per_section
    ):
        return
    if any(statistics.ranges for statistics in sampler.statistics.values()):
        raise JobError(
            f"An older version began the run '{folder.name}' and saw independent images in one range of grey values; "
            f"now each has its own: use its model as it is, or train anew with --from {folder.name}."
        )


def _validator(
    volumes_of: VolumesOf, classes: tuple[str, ...], header: ModelHeader, settings: TrainSettings
) -> Validator | None:
    """What looks at the target, whatever the method, so that runs can be compared; never at its labels.

    None where nothing is predicted that objects in a source could be compared with.
    """
    sources = volumes_of("source")
    if not settings.validations or not sources or header.classes != classes:
        return None
    targets = [replace(volume, labels=None, annotations=None) for volume in volumes_of("target")]
    return Validator.of(sources, targets, header, settings)
