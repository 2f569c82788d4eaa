"""Verbs of a project: what lies in it, what to annotate, what was annotated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from napari_emda.cli.console import (
    JsonOption,
    ProjectArgument,
    RunOption,
    VolumeOption,
    answer,
    carry_out,
    table,
)
from napari_emda.data.voxel_grid import Spacing
from napari_emda.errors import JobError
from napari_emda.io.checks import check_labels, values_notices
from napari_emda.io.read import open_labels
from napari_emda.io.write import VOLUME_SUFFIXES, check_destination
from napari_emda.project import clusters
from napari_emda.project.job_files import ExportJob, PredictJob, SuggestJob
from napari_emda.project.learning_curve import Round, advice, rounds
from napari_emda.project.project import Project
from napari_emda.project.region import Region
from napari_emda.settings.base import distribute, parse_assignments
from napari_emda.settings.suggestion import QuerySettings

if TYPE_CHECKING:
    from napari_emda.data.volume import Domain, LabelsZero


def new(
    project: ProjectArgument,
    source: Annotated[
        tuple[Path, Path] | None,
        typer.Option(
            metavar="IMAGE LABELS", help="The labelled volume, if there is one: image and labels."
        ),
    ] = None,
    target: Annotated[Path | None, typer.Option(help="The image to be segmented.")] = None,
    spacing: Annotated[
        Spacing | None, typer.Option(metavar="Z Y X", help="Voxel size of the source in nm.")
    ] = None,
    target_spacing: Annotated[
        Spacing | None, typer.Option(metavar="Z Y X", help="Voxel size of the target in nm.")
    ] = None,
    classes: Annotated[
        list[str] | None, typer.Option(help="Names of the classes, background first.")
    ] = None,
    independent: Annotated[
        bool, typer.Option(help="The sections are independent images, such as fields of view.")
    ] = False,
    target_independent: Annotated[bool, typer.Option(help="The same of the target alone.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Make a project from a labelled source and an unlabelled target, or from one of them alone."""
    names = tuple(classes) if classes else ("background", "foreground")
    apart: dict[Domain, bool] = {
        "source": independent,
        "target": independent or target_independent,
    }
    entries, notices = create(project, names, source, target, spacing, target_spacing, apart)
    result = {
        "project": str(project),
        "classes": list(names),
        "volumes": entries,
        "notices": notices,
    }
    for notice in notices:
        typer.echo(notice, err=True)
    answer(
        result,
        as_json=as_json,
        text=lambda: typer.echo(
            f"Project {project}: "
            + ", ".join(f"{e['domain']} {e['name']} ({_nm(e['spacing'])} nm)" for e in entries)
        ),
    )


def _nm(spacing: Spacing) -> str:
    return " x ".join(f"{v:g}" for v in spacing)


def create(
    folder: Path,
    classes: tuple[str, ...],
    source: tuple[Path, Path] | None,
    target: Path | None,
    spacing: Spacing | None,
    target_spacing: Spacing | None,
    independent: dict[Domain, bool],
) -> tuple[list[dict[str, Any]], list[str]]:
    """Check everything, then make the project; returns its volumes and what to know of them."""
    from napari_emda.io.checks import check_pair

    notices = check_pair(source, target, classes, spacing, target_spacing)
    with Project.create(folder, classes) as project:
        entries = []
        if source is not None:
            entries.append(
                project.volumes.add(
                    source[0],
                    "source",
                    labels=source[1],
                    spacing=spacing,
                    sections_are_independent=independent["source"],
                )
            )
        if target is not None:
            entries.append(
                project.volumes.add(
                    target,
                    "target",
                    spacing=target_spacing,
                    sections_are_independent=independent["target"],
                )
            )
    return [entry.model_dump() for entry in entries], notices


def suggest(
    project: ProjectArgument,
    strategy: Annotated[str, typer.Option(help="See 'napari-emda strategies'.")] = "entropy",
    count: Annotated[int, typer.Option(help="How many patches.")] = 5,
    patch: Annotated[int, typer.Option(help="Side of a patch in voxels of the target.")] = 128,
    run: RunOption = None,
    volume: Annotated[
        str | None, typer.Option(help="A target's name; by default all targets.")
    ] = None,
    audit: Annotated[
        bool, typer.Option(help="Draw the patches by lot, to measure the model.")
    ] = False,
    assignments: Annotated[
        list[str] | None, typer.Option("--set", help="KEY=VALUE, any setting.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Rank the targets' patches and record the best as suggestions."""
    from napari_emda.active_learning.strategy import strategies

    values = {
        "strategy": strategy,
        "count": count,
        "patch": patch,
        **parse_assignments(assignments or []),
    }
    cls = strategies[strategy := str(values["strategy"])]
    own, shared = distribute(values, cls.Settings, QuerySettings)
    with Project.open(project, exclusive=True) as opened:
        job = SuggestJob(
            project=str(project),
            run=opened.run(run).name if audit else run,
            volume=volume,
            audit=audit,
            settings=QuerySettings.parse(shared),
            strategy_settings=own,
        )
        result = carry_out(job)
        opened.regions.suggest(result["regions"], result["strategy"], result["run"] or "")
    rows = [[r["volume"], r["box"], f"{r['score']:.3f}"] for r in result["regions"]]
    answer(
        result,
        as_json=as_json,
        text=lambda: table("Suggested", ["volume", "box z,y,x", "score"], rows),
    )


def annotate(
    project: ProjectArgument,
    labels: Annotated[
        Path, typer.Option("--from", help="Label image of the target, 0 = background.")
    ],
    regions: Annotated[
        str,
        typer.Option(
            help="suggested: the patches that are open; all: everything not annotated yet."
        ),
    ] = "suggested",
    zero: Annotated[
        str,
        typer.Option(
            help="What 0 means where all is taken: background, unannotated (nobody looked), or sections (background in "
            "sections that hold a label, unannotated in the others)."
        ),
    ] = "background",
    volume: VolumeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Take the suggested patches, or all, from a label image; tells how far the model agreed."""
    for value, allowed in (
        (regions, ("suggested", "all")),
        (zero, ("background", "unannotated", "sections")),
    ):
        if value not in allowed:
            raise JobError(
                f"'{value}' is not known here: choose {', '.join(allowed[:-1])} or {allowed[-1]}."
            )
    with Project.open(project, exclusive=True) as opened:
        name, classes = volume or opened.volumes.target().name, opened.classes
        if regions == "all":
            meaning: LabelsZero = "background" if zero == "background" else "unannotated"
            sections = zero == "sections"
            taken = [
                opened.annotations.import_labels(
                    open_labels(labels).array, name, meaning, whole_sections=sections
                )
            ]
        else:
            taken = opened.annotations.take(labels, name)
        known = opened.regions.all()
    if not taken:
        raise JobError(
            f"No patch of '{name}' is open for annotation: {_where_patches_are_open(known)}."
        )
    array = open_labels(labels).array
    for notice in values_notices(
        labels.name, check_labels(name, array, array.shape, len(classes)), classes
    ):
        typer.echo(notice, err=True)
    curve = rounds(known)
    result = {
        "annotated": [region.model_dump(mode="json") for region in taken],
        "rounds": [asdict(each) for each in curve],
        "advice": advice(curve),
    }
    answer(result, as_json=as_json, text=lambda: _tell_agreement(len(taken), curve))


def _where_patches_are_open(regions: Sequence[Region]) -> str:
    others = sorted({region.volume for region in regions if region.state == "suggested"})
    return (
        f"name {' or '.join(others)} with --volume" if others else "run 'napari-emda suggest' first"
    )


def _tell_agreement(taken: int, curve: list[Round]) -> None:
    typer.echo("1 patch annotated." if taken == 1 else f"{taken} patches annotated.")
    if curve:
        rows = [
            [
                str(e.number),
                "audit" if e.audit else "",
                e.run,
                str(e.patches),
                str(e.iou),
                str(e.dice),
            ]
            for e in curve
        ]
        table(
            "The model before it saw the patches",
            ["round", "", "run", "patches", "IoU (95 %)", "Dice (95 %)"],
            rows,
        )
    if text := advice(curve):
        typer.echo(text)


def name_clusters(
    project: ProjectArgument,
    named: Annotated[
        list[str] | None,
        typer.Option(
            "--class", help="CLASS=CLUSTERS, such as mitochondria=3,5; as often as needed."
        ),
    ] = None,
    run: RunOption = None,
    volume: VolumeOption = None,
    out: Annotated[
        Path | None, typer.Option(help="Also write the mask that follows there (.tif or .zarr).")
    ] = None,
    overwrite: Annotated[bool, typer.Option(help="Replace an existing file.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Say which clusters of a run without labels are which class, or list them; predicts first what is not."""
    from napari_emda.inference.checkpoint import find, read_header

    given = clusters.parse_names(named or [])
    if out is not None:
        check_destination(out.absolute(), VOLUME_SUFFIXES, overwrite)  # before anything is named
    with Project.open(project, exclusive=True) as opened:
        run, volume = opened.run(run).name, volume or opened.volumes.target().name
        header = read_header(find(opened.run(run)))
        outputs = opened.predictions.outputs(run, header.classes)
        if not outputs.are_clusters:
            raise JobError(
                f"The run '{run}' predicts classes and no clusters: choose a run of iic with --run."
            )
        names = clusters.renamed(outputs.cluster_names, given)
        clusters.check_names(names, outputs.count, opened.classes)  # before a long prediction
        if opened.predictions.of(run, volume) is None or not given:
            carry_out(PredictJob(project=str(project), run=run, volume=volume))
        found = opened.predictions.name_clusters(run, volume, names)
    if out is not None:
        places = {"project": str(project), "to": str(out.absolute()), "run": run, "volume": volume}
        carry_out(ExportJob.parse({"what": "mask", "overwrite": overwrite, **places}))
    sizes = clusters.shares(found.stored).round(4).tolist()
    rows = [
        {"cluster": k, "share": share, "class": names.get(k)}
        for k, share in enumerate(sizes, start=1)
    ]
    result = {
        "run": run,
        "volume": volume,
        "clusters": rows,
        "mask": None if out is None else str(out),
    }
    texts = [[str(k), f"{share:.1%}", names.get(k, "")] for k, share in enumerate(sizes, start=1)]
    answer(
        result,
        as_json=as_json,
        text=lambda: table(f"Clusters of {run}", ["cluster", "share", "class"], texts),
    )
