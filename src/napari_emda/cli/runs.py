"""Commands that run one job each: train, predict, score, export, and any job file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from napari_emda.cli.console import (
    BOX,
    SEPARATE,
    CheckpointOption,
    ClusterOption,
    JsonOption,
    MinimumSizeOption,
    ProjectArgument,
    RunOption,
    SchedulerOption,
    ThresholdOption,
    VolumeOption,
    WorkersOption,
    carry_out,
    print_result,
    print_table,
    where_of,
)
from napari_emda.cli.label_options import BackgroundOption, IgnoreOption, label_meaning
from napari_emda.errors import JobError, SettingsError
from napari_emda.project.job_files import ExportJob, PredictJob, ScoreJob, TrainJob, read_job
from napari_emda.project.project import Project
from napari_emda.settings.base import distribute, parse_assignments
from napari_emda.settings.prediction import PredictSettings
from napari_emda.settings.requirements import FIXED
from napari_emda.settings.training import TrainSettings


def train(
    project: ProjectArgument,
    method: Annotated[
        str | None, typer.Option(help="See 'napari-emda methods'; by default auto.")
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Optimiser steps.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of all random choices.")] = None,
    profile: Annotated[str | None, typer.Option(help="test, fast or standard.")] = None,
    start: Annotated[
        str | None,
        typer.Option(
            "--from",
            help="A run to start from; finetune starts from the latest, unless this is 'none'.",
        ),
    ] = None,
    resume: Annotated[
        str | None, typer.Option(help="A stopped run to continue with its own settings.")
    ] = None,
    keep: Annotated[
        str | None,
        typer.Option(help="The model to use afterwards: last, best, average, supervised or total."),
    ] = None,
    assignments: Annotated[
        list[str] | None, typer.Option("--set", help="KEY=VALUE, any setting.")
    ] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda or mps.")] = None,
    devices: Annotated[
        int | None, typer.Option(help="Train on so many GPUs, or in so many processes on the CPU.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Train a method; see 'napari-emda methods' for their names."""
    options = {"steps": steps, "seed": seed, "keep": keep, "device": device, "profile": profile}
    values = {
        **parse_assignments(assignments or []),
        **{key: value for key, value in options.items() if value is not None},
    }
    if resume is None:
        job, note = _new_training(project, method or "auto", start, values, devices)
    elif values or method is not None or start is not None:
        raise SettingsError(
            "--resume continues a run with its own settings: leave out the other options but "
            "--devices, or start a new run with --from."
        )
    else:
        job = TrainJob.parse(
            {"project": str(project), "method": "", "resume": resume, "devices": devices}
        )
        note = ""
    print_result(carry_out(job, note), as_json=as_json)


def _new_training(
    project: Path, method: str, start: str | None, values: dict[str, Any], devices: int | None
) -> tuple[TrainJob, str]:
    """The job of a new run.

    Args:
        project: its folder.
        method: its name.
        start: a run to start from, ``none``, or None for the method's default.
        values: settings of the training, the method and the network that the user gives.
        devices: how many train together; None for one.

    Returns:
        The job, and a notice if it starts from a run that the user did not name.
    """
    # They load torch, which takes seconds: not for ``--help``.
    from napari_emda.methods.base import methods
    from napari_emda.nn.network import networks

    cls = methods[method]
    note = ""
    goes_on = cls.requirements.annotations or cls.requirements.model != "none"
    if goes_on and start is None:
        # A further round of annotation continues with the model of the round before.
        start = Project.open(project).runs.latest()
        if start is not None:
            note = f"Starting from {start}; to start from scratch, use --from none."
        if start is not None and cls.taught and _job_of(project, start).method == FIXED:
            note = f"Learning what {start} predicts."
    start = None if start == "none" else start
    before = None if start is None else _job_of(project, start)
    default = TrainSettings() if before is None else before.settings
    network = networks[str(values.get("network", default.network))]
    method_settings, network_settings, shared = distribute(
        values, cls.Settings, network.Settings, TrainSettings
    )
    if weights := str(network_settings.get("weights", "")):
        # The process of the job may have another folder.
        network_settings["weights"] = str(Path(weights).expanduser().absolute())
    settings = _train_settings(method, before, shared)
    # The weights only fit a network of the same architecture.
    if before is not None and before.settings.network == network.name:
        network_settings = before.network_settings | network_settings
    network_settings = network.settings_for(settings.profile, network_settings).model_dump()
    job = TrainJob.parse(
        {
            "project": str(project),
            "method": method,
            "method_settings": cls.Settings.parse(method_settings).model_dump(),
            "settings": settings,
            "network_settings": network_settings,
            "start_from": start,
            "devices": devices,
        }
    )
    return job, note


def _job_of(project: Path, run: str) -> TrainJob:
    """The job of a run to start from."""
    job = Project.open(project).run(run).job()
    if not isinstance(job, TrainJob):
        raise JobError(f"'{run}' is not a training: choose a run that is one.")
    return job


def _train_settings(method: str, before: TrainJob | None, values: dict[str, Any]) -> TrainSettings:
    """Settings of the profile or, without one, of the run to start from, changed by the user."""
    profile = values.pop("profile", None)
    if before is not None:
        # The weights only fit as many sections as the network has seen.
        values = {"context": before.settings.context, **values}
    if before is None or profile is not None:
        return TrainSettings.for_profile(str(profile or "fast"), **values)
    return TrainSettings.parse({**before.settings_for(method).model_dump(), **values})


def predict(
    project: ProjectArgument,
    run: RunOption = None,
    checkpoint: CheckpointOption = "selected",
    volume: VolumeOption = None,
    box: Annotated[str, BOX] = "",
    mask: Annotated[
        Path | None,
        typer.Option(
            help="A mask or labels, coarser ones too: predict only blocks where it is not 0."
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Also write the probabilities there (.tif or .zarr).")
    ] = None,
    engine: Annotated[
        str | None,
        typer.Option(help="What computes on a processor: auto, torch or openvino."),
    ] = None,
    assignments: Annotated[
        list[str] | None, typer.Option("--set", help="KEY=VALUE, any setting.")
    ] = None,
    workers: WorkersOption = 1,
    scheduler: SchedulerOption = "",
    cluster: ClusterOption = None,
    as_json: JsonOption = False,
) -> None:
    """Segment a volume or a part of it. The next call goes on with what is missing."""
    values = {} if engine is None else {"engine": engine}
    settings = PredictSettings.parse(values | parse_assignments(assignments or []))
    job = PredictJob(
        project=str(project),
        run=run,
        checkpoint=checkpoint,
        volume=volume,
        box=box,
        mask=None if mask is None else str(mask),
        out=None if out is None else str(out),
        settings=settings,
        where=where_of(workers, scheduler, cluster),
    )
    print_result(carry_out(job), as_json=as_json)


def score(
    project: ProjectArgument,
    against: Annotated[Path, typer.Option(help="Label image of the volume, 0 = background.")],
    background: BackgroundOption = None,
    ignore: IgnoreOption = None,
    run: RunOption = None,
    checkpoint: CheckpointOption = "selected",
    volume: VolumeOption = None,
    box: Annotated[str, BOX] = "",
    objects: Annotated[
        bool, typer.Option("--objects", help="Also compare object by object.")
    ] = False,
    minimum_size: Annotated[int, typer.Option(help="Ignore objects of fewer voxels.")] = 0,
    separate: Annotated[float, SEPARATE] = 0.0,
    workers: WorkersOption = 1,
    scheduler: SchedulerOption = "",
    cluster: ClusterOption = None,
    as_json: JsonOption = False,
) -> None:
    """Compare a prediction with true labels. With --objects, object by object, too."""
    meaning = label_meaning(background, ignore)
    # Parsed, and not made, for the error message of an invalid ``minimum_size``.
    job = ScoreJob.parse(
        {
            "project": str(project),
            "run": run,
            "checkpoint": checkpoint,
            "volume": volume,
            "box": box,
            "against": str(against),
            "background": meaning.background,
            "ignore": meaning.ignore,
            "objects": objects,
            "minimum_size": minimum_size,
            "separate": separate,
            "where": where_of(workers, scheduler, cluster),
        }
    )
    result = carry_out(job)
    print_result(result, as_json=as_json, print_text=lambda: _print_scores(result, objects))


def _print_scores(result: dict[str, Any], objects: bool) -> None:
    columns = ["class", "IoU", "Dice", "average precision"]
    if objects:
        columns += ["object F1", "found", "true", "matched"]
    rows = []
    for name, scores in result["classes"].items():
        # Average precision is not defined where the labels have no voxel of the class.
        cells = [
            "-" if scores[key] is None else f"{scores[key]:.3f}"
            for key in ("iou", "dice", "average_precision")
        ]
        if objects:
            counts = scores["objects"]
            cells.append(f"{counts['f1']:.3f}")
            cells += [str(counts[key]) for key in ("objects", "truth_objects", "matched")]
        rows.append([name, *cells])
    title = f"{result['volume']}, run {result['run']}, {result['voxels']} voxels"
    print_table(title, columns, rows)
    if objects:
        _print_object_scores(result)


# Their columns in the second table; see `napari_emda.evaluation.object_scores.compare_objects`.
_OBJECT_SCORES = {
    "ap_50": "AP .5",
    "ap_75": "AP .75",
    "ap_50_95": "AP .5:.95",
    "panoptic_quality": "PQ",
    "vi_split": "VI split",
    "vi_merge": "VI merge",
    "rand_error": "Rand error",
    "count_error": "count error",
}


def _print_object_scores(result: dict[str, Any]) -> None:
    rows = []
    for name, scores in result["classes"].items():
        values = [scores["objects"][key] for key in _OBJECT_SCORES]
        rows.append([name, *("-" if value is None else f"{value:.3f}" for value in values)])
    print_table("Objects", ["class", *_OBJECT_SCORES.values()], rows)


def export(
    project: ProjectArgument,
    what: Annotated[str, typer.Option(help="See 'napari-emda formats'; mask, for example.")],
    to: Annotated[
        Path, typer.Option(help="The file to write; 'napari-emda formats' lists the endings.")
    ],
    run: RunOption = None,
    checkpoint: CheckpointOption = "selected",
    volume: VolumeOption = None,
    box: Annotated[str, BOX] = "",
    class_name: Annotated[
        str | None, typer.Option("--class", help="The class to export, if there are several.")
    ] = None,
    threshold: ThresholdOption = None,
    minimum_size: MinimumSizeOption = None,
    separate: Annotated[float | None, SEPARATE] = None,
    assignments: Annotated[
        list[str] | None, typer.Option("--set", help="KEY=VALUE, any setting of the export.")
    ] = None,
    overwrite: Annotated[bool, typer.Option(help="Replace an existing file.")] = False,
    workers: WorkersOption = 1,
    scheduler: SchedulerOption = "",
    cluster: ClusterOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write a mask, objects, tables, meshes or a model to a file.

    Images are TIFF or OME-Zarr, with their voxel size; 'napari-emda formats' lists all.
    """
    from napari_emda.export.base import exporters

    settings = exporters[what].Settings
    # Scripts written for earlier versions give the first two with any export. One that has no such
    # setting ignores them, whereas an unknown name in ``--set`` is an error.
    options = {"threshold": threshold, "minimum_size": minimum_size, "separate": separate}
    values = {
        key: value
        for key, value in options.items()
        if value is not None and key in settings.model_fields
    }
    job = ExportJob(
        project=str(project),
        what=what,
        # Absolute, so that the path in the result does not depend on the current folder.
        to=str(to.absolute()),
        run=run,
        checkpoint=checkpoint,
        volume=volume,
        box=box,
        class_name=class_name,
        settings=settings.parse(values | parse_assignments(assignments or [])).model_dump(),
        overwrite=overwrite,
        where=where_of(workers, scheduler, cluster),
    )
    print_result(carry_out(job), as_json=as_json)


def run(
    job: Annotated[Path, typer.Argument(help="A job file, as in a run's folder.")],
    as_json: JsonOption = False,
) -> None:
    """Run a job file. With --json, write events and read commands as JSON lines."""
    if not as_json:
        carry_out(read_job(job))
        return
    from napari_emda.jobs import worker

    raise typer.Exit(worker.run(job))
