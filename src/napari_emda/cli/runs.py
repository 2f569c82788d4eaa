"""Verbs that compute: a job each."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from napari_emda.cli.console import (
    CheckpointOption,
    JsonOption,
    ProjectArgument,
    RunOption,
    VolumeOption,
    answer,
    carry_out,
    table,
)
from napari_emda.errors import JobError, SettingsError
from napari_emda.project.job_files import ExportJob, PredictJob, ScoreJob, TrainJob, read_job
from napari_emda.project.project import Project
from napari_emda.settings.base import distribute, parse_assignments
from napari_emda.settings.prediction import PredictSettings
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
            help="A run whose network to start from; finetune takes the latest, unless 'none'.",
        ),
    ] = None,
    resume: Annotated[
        str | None, typer.Option(help="A run that was stopped, to be continued as it was.")
    ] = None,
    keep: Annotated[
        str | None,
        typer.Option(help="The model to use afterwards: last, best, average, supervised or total."),
    ] = None,
    assignments: Annotated[
        list[str] | None, typer.Option("--set", help="KEY=VALUE, any setting.")
    ] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda or mps.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Train a method; see 'napari-emda methods' for their names."""
    note = ""
    if resume is not None:
        if (
            any(value is not None for value in (method, steps, seed, profile, start, keep, device))
            or assignments
        ):
            raise SettingsError(
                "--resume continues a run as it was begun: leave the other options out, or use --from."
            )
        job = TrainJob(project=str(project), method="", resume=resume)
    else:
        given = {"steps": steps, "seed": seed, "keep": keep, "device": device, "profile": profile}
        values = {
            **parse_assignments(assignments or []),
            **{k: v for k, v in given.items() if v is not None},
        }
        job, note = _new_training(project, method or "auto", start, values)
    answer(carry_out(job, note), as_json=as_json)


def _new_training(
    project: Path, method: str, start: str | None, values: dict[str, Any]
) -> tuple[TrainJob, str]:
    """The job, and what there is to say of it."""
    from napari_emda.methods.base import methods
    from napari_emda.nn.network import networks

    cls, note = methods[method], ""
    if cls.requirements.annotations and start is None:
        # A new round goes on from the one before unless asked not to.
        start = Project.open(project).runs.latest()
        note = "" if start is None else f"Going on from {start}; --from none starts anew."
    start = None if start == "none" else start
    before = None if start is None else _job_of(project, start)
    default = TrainSettings() if before is None else before.settings
    network = networks[str(values.get("network", default.network))]
    of_method, of_network, shared = distribute(
        values, cls.Settings, network.Settings, TrainSettings
    )
    settings = _train_settings(method, before, shared)
    if before is not None and before.settings.network == network.name:
        of_network = before.network_settings | of_network
    job = TrainJob(
        project=str(project),
        method=method,
        method_settings=cls.Settings.parse(of_method).model_dump(),
        settings=settings,
        network_settings=network.settings_for(settings.profile, of_network).model_dump(),
        start_from=start,
    )
    return job, note


def _job_of(project: Path, run: str) -> TrainJob:
    job = Project.open(project).run(run).job()
    if not isinstance(job, TrainJob):
        raise JobError(f"'{run}' is not a training run: name one.")
    return job


def _train_settings(method: str, before: TrainJob | None, values: dict[str, Any]) -> TrainSettings:
    """A profile's settings, or, when another run is continued, that run's."""
    profile = values.pop("profile", None)
    if before is None or profile is not None:
        return TrainSettings.for_profile(str(profile or "fast"), **values)
    return TrainSettings.parse({**before.settings_for(method).model_dump(), **values})


def predict(
    project: ProjectArgument,
    run: RunOption = None,
    checkpoint: CheckpointOption = "selected",
    volume: VolumeOption = None,
    out: Annotated[
        Path | None, typer.Option(help="Also write the probabilities there (.tif or .zarr).")
    ] = None,
    assignments: Annotated[
        list[str] | None, typer.Option("--set", help="KEY=VALUE, any setting.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Segment a whole volume; stopped, it goes on where it was."""
    settings = PredictSettings.parse(parse_assignments(assignments or []))
    job = PredictJob(
        project=str(project),
        run=run,
        checkpoint=checkpoint,
        volume=volume,
        out=None if out is None else str(out),
        settings=settings,
    )
    answer(carry_out(job), as_json=as_json)


def score(
    project: ProjectArgument,
    against: Annotated[Path, typer.Option(help="Label image of the volume, 0 = background.")],
    run: RunOption = None,
    checkpoint: CheckpointOption = "selected",
    volume: VolumeOption = None,
    box: Annotated[str, typer.Option(help="z0:z1,y0:y1,x0:x1; by default everything.")] = "",
    objects: Annotated[
        bool, typer.Option("--objects", help="Also count the objects that are found.")
    ] = False,
    minimum_size: Annotated[
        int, typer.Option(help="Smaller objects are not counted, in voxels.")
    ] = 0,
    as_json: JsonOption = False,
) -> None:
    """Compare a prediction with true labels: IoU, Dice, average precision; with --objects, object by object."""
    places = {
        "project": str(project),
        "run": run,
        "checkpoint": checkpoint,
        "volume": volume,
        "box": box,
    }
    job = ScoreJob.parse(
        {**places, "against": str(against), "objects": objects, "minimum_size": minimum_size}
    )
    result = carry_out(job)
    columns = ["class", "IoU", "Dice", "average precision"]
    rows = [
        [
            name,
            *(
                f"{row[key]:.3f}" if row[key] is not None else "-"
                for key in ("iou", "dice", "average_precision")
            ),
        ]
        for name, row in result["classes"].items()
    ]
    if objects:
        columns += ["object F1", "found", "true", "matched"]
        for line, row in zip(rows, result["classes"].values(), strict=True):
            found = row["objects"]
            line += [
                f"{found['f1']:.3f}",
                *(str(found[key]) for key in ("objects", "truth_objects", "matched")),
            ]
    title = f"{result['volume']}, run {result['run']}, {result['voxels']} voxels"
    answer(result, as_json=as_json, text=lambda: table(title, columns, rows))


def export(
    project: ProjectArgument,
    what: Annotated[str, typer.Option(help="See 'napari-emda formats'; mask, for example.")],
    to: Annotated[Path, typer.Option(help="The file to write: .tif, .zarr, .csv or .zip.")],
    run: RunOption = None,
    checkpoint: CheckpointOption = "selected",
    volume: VolumeOption = None,
    class_name: Annotated[
        str | None, typer.Option("--class", help="The class whose objects are wanted, of several.")
    ] = None,
    threshold: Annotated[
        float | None, typer.Option(help="Probability from which a voxel is foreground.")
    ] = None,
    minimum_size: Annotated[
        int | None, typer.Option(help="Smaller objects are left out, in voxels.")
    ] = None,
    assignments: Annotated[
        list[str] | None, typer.Option("--set", help="KEY=VALUE, any setting of the export.")
    ] = None,
    overwrite: Annotated[bool, typer.Option(help="Replace an existing file.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Write a result: TIFF or OME-Zarr with voxel size, CSV, or a model package."""
    from napari_emda.export.base import exporters

    settings = exporters[what].Settings
    # These two have always been taken for everything, although not every export uses them.
    options = {"threshold": threshold, "minimum_size": minimum_size}
    values = {k: v for k, v in options.items() if v is not None and k in settings.model_fields}
    job = ExportJob(
        project=str(project),
        what=what,
        to=str(to.absolute()),
        run=run,
        checkpoint=checkpoint,
        volume=volume,
        class_name=class_name,
        settings=settings.parse(values | parse_assignments(assignments or [])).model_dump(),
        overwrite=overwrite,
    )
    answer(carry_out(job), as_json=as_json)


def run(
    job: Annotated[Path, typer.Argument(help="A job file, as in a run's folder.")],
    as_json: JsonOption = False,
) -> None:
    """Carry out a job file; with --json events come out and commands go in as JSON lines."""
    if not as_json:
        carry_out(read_job(job))
        return
    from napari_emda.jobs import worker as child

    raise typer.Exit(child.run(job))
