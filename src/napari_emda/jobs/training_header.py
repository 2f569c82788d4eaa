"""The header of the model of a new training, and what its method may know of the data."""

from __future__ import annotations

from typing import Any

import numpy as np

from napari_emda.errors import SettingsError
from napari_emda.evaluation.label_free import Prior
from napari_emda.inference.model_header import ModelHeader
from napari_emda.methods.base import DataSummary, Method, methods
from napari_emda.nn.network import NetworkConfig, networks
from napari_emda.project.job_files import TrainJob
from napari_emda.sampling.sampler import PatchSampler
from napari_emda.settings.base import Settings


def header_of(
    job: TrainJob,
    method_settings: Settings,
    sampler: PatchSampler,
    classes: tuple[str, ...],
    before: ModelHeader | None,
) -> ModelHeader:
    """The header, before anything is learnt.

    Args:
        job: what to train.
        method_settings: of its method.
        sampler: of the volumes.
        classes: names of the network's outputs.
        before: header of the model that the training starts from; None for a new network.

    Raises:
        SettingsError: the network lacks a setting that the method requires.
    """
    cls = methods[job.method]
    seen: dict[str, Any] = {}
    if sampler.context or sampler.stack > 1:
        seen = {"section_distance": sampler.section_distance, "spoilt": sampler.spoilt}
    header = ModelHeader(
        method=job.method,
        method_settings=method_settings.model_dump(),
        classes=classes,
        network=_network(job, cls, len(classes), sampler),
        pixel_size=sampler.pixel_size,
        statistics=sampler.statistics,
        spectrum=sampler.spectrum,
        seed=job.settings.seed,
        prediction_domain="target" if cls.learns_target(sampler.domains) else "source",
        outputs="clusters" if cls.finds_clusters else "classes",
        features_only=cls.requirements.labels == "optional" and not is_labelled(sampler),
        context=sampler.context,
        **seen,
    )
    return _with_profiles(header, sampler, cls, before)


def _network(
    job: TrainJob, cls: type[Method], classes: int, sampler: PatchSampler
) -> NetworkConfig:
    """The network of the job, with the settings that the method requires.

    Raises:
        SettingsError: the network has no such setting.
    """
    name = job.settings.network
    network = networks[name]
    for required in cls.architecture.keys() - network.Settings.model_fields.keys():
        suitable = [
            other for other in networks.names() if required in networks[other].Settings.model_fields
        ]
        raise SettingsError(
            f"{cls.name} needs a network with the setting '{required}', which {name} does not "
            f"have: choose the network {' or '.join(suitable)}."
        )
    # The method's values win: they are part of its definition, as attention is of attention_ynet.
    values = {**job.network_settings, **cls.architecture}
    settings = network.Settings.parse(values)
    return NetworkConfig(
        name=name,
        classes=classes,
        channels=2 * job.settings.context + 1,
        objects=job.settings.objects != "off",
        section_ratio=sampler.section_distance / sampler.pixel_size if sampler.stack > 1 else 0,
        settings=settings.model_dump(),
    )


def _with_profiles(
    header: ModelHeader, sampler: PatchSampler, cls: type[Method], before: ModelHeader | None
) -> ModelHeader:
    """The header with what is kept of each domain, and of those that the model knew before."""
    # Clusters are no classes. Annotated patches do not show how much of a class there is.
    counted = 0 if cls.finds_clusters else len(header.classes)
    profiles = {
        domain: sampler.profile(domain, counted if domain == "source" else 0)
        for domain in sampler.domains
    }
    shapes: tuple[Prior | None, ...] = ()
    # Another pixel size shows another spectrum and other shapes, and other classes other shares.
    if (
        before is not None
        and "source" not in profiles
        and before.pixel_size == header.pixel_size
        and before.classes == header.classes
    ):
        profiles |= {k: v for k, v in before.profiles.items() if k == "source"}
        shapes = before.shapes
    update: dict[str, Any] = {"profiles": profiles, "shapes": shapes}
    if before is not None:
        # The score and the name are those of the other model.
        kept = before.description.model_copy(update={"name": "", "score": None})
        update["description"] = kept
    return header.model_copy(update=update)


def summary_of(
    sampler: PatchSampler, header: ModelHeader, before: ModelHeader | None
) -> DataSummary:
    """What a method may know of the data; of a source that is not there, what the model says."""
    source = header.profiles.get("source")
    quantiles = {domain: sampler.quantiles(domain) for domain in sampler.domains}
    if source is not None:
        quantiles.setdefault("source", np.array(source.quantiles))
    return DataSummary(
        quantiles=quantiles,
        annotated=sampler.labelled("target"),
        prior=() if source is None else source.shares,
        continued=before is not None and _predicts(before, header.classes),
        padding=sampler.padding("source" if "source" in sampler.domains else "target"),
        labelled=is_labelled(sampler),
    )


def _predicts(header: ModelHeader, classes: tuple[str, ...]) -> bool:
    return header.classes == classes and not header.features_only


def is_labelled(sampler: PatchSampler) -> bool:
    """Whether anything has a label that a training may use."""
    return sampler.labelled("source") or sampler.labelled("target")
