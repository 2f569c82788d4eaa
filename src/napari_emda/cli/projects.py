"""Commands that change a project: suggestions, annotations and cluster names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from napari_emda.cli.console import (
    ClusterOption,
    JsonOption,
    ProjectArgument,
    RunOption,
    SchedulerOption,
    VolumeOption,
    WorkersOption,
    carry_out,
    echo,
    print_result,
    print_table,
    where_of,
)
from napari_emda.cli.label_options import (
    ZERO,
    BackgroundOption,
    IgnoreOption,
    check_choice,
    label_meaning,
)
from napari_emda.errors import JobError
from napari_emda.io.checks import check_labels, values_notices
from napari_emda.io.read import open_labels
from napari_emda.io.writer import image_formats
from napari_emda.project import clusters
from napari_emda.project.job_files import ExportJob, PredictJob, SuggestJob
from napari_emda.project.learning_curve import Round, advice, rounds
from napari_emda.project.project import Project
from napari_emda.project.region import Region
from napari_emda.settings.base import distribute, parse_assignments
from napari_emda.settings.suggestion import QuerySettings


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
        bool, typer.Option(help="Draw the patches at random, to measure the model.")
    ] = False,
    assignments: Annotated[
        list[str] | None, typer.Option("--set", help="KEY=VALUE, any setting.")
    ] = None,
    workers: WorkersOption = 1,
    scheduler: SchedulerOption = "",
    cluster: ClusterOption = None,
    as_json: JsonOption = False,
) -> None:
    """Rank the patches of the targets, and suggest the best ones."""
    # Loads torch, which takes seconds: not for ``--help``.
    from napari_emda.active_learning.strategy import strategies

    # ``--set`` wins, also over the defaults of the other options.
    values = {
        "strategy": strategy,
        "count": count,
        "patch": patch,
        **parse_assignments(assignments or []),
    }
    cls = strategies[str(values["strategy"])]
    strategy_settings, query_settings = distribute(values, cls.Settings, QuerySettings)
    with Project.open(project, exclusive=True) as opened:
        job = SuggestJob(
            project=str(project),
            # An audit measures a model, so without one it must fail; ``opened.run`` does.
            run=opened.run(run).name if audit else run,
            volume=volume,
            audit=audit,
            settings=QuerySettings.parse(query_settings),
            strategy_settings=strategy_settings,
            where=where_of(workers, scheduler, cluster),
        )
        result = carry_out(job)
        opened.regions.suggest(result["regions"], result["strategy"], result["run"] or "")
    rows = [[r["volume"], r["box"], f"{r['score']:.3f}"] for r in result["regions"]]
    print_result(
        result,
        as_json=as_json,
        print_text=lambda: print_table("Suggested", ["volume", "box z,y,x", "score"], rows),
    )


def annotate(
    project: ProjectArgument,
    labels: Annotated[
        Path, typer.Option("--from", help="Label image of the target, 0 = background.")
    ],
    regions: Annotated[
        str,
        typer.Option(
            help="suggested: the patches that are suggested and still open; all: everything that "
            "is not annotated yet."
        ),
    ] = "suggested",
    zero: Annotated[
        str,
        typer.Option(
            help="What 0 means with --regions all: background, unannotated, or sections "
            "(background in sections that contain a label, unannotated in the others)."
        ),
    ] = "background",
    background: BackgroundOption = None,
    ignore: IgnoreOption = None,
    volume: VolumeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Annotate patches from a label image. Prints how well the model agreed with it."""
    check_choice("--regions", regions, ("suggested", "all"))
    check_choice("--zero", zero, ZERO)
    # A suggested patch is annotated as a whole, so 0 is background there.
    meaning = label_meaning(background, ignore, zero if regions == "all" else "background")
    with Project.open(project, exclusive=True) as opened:
        name = volume or opened.volumes.target().name
        classes = opened.classes
        if regions == "all":
            array = open_labels(labels).array
            annotated = [opened.annotations.import_labels(array, name, meaning=meaning)]
        else:
            annotated = opened.annotations.take(labels, name, meaning=meaning)
        all_regions = opened.regions.all()
    if not annotated:
        raise JobError(
            f"No patch of '{name}' is open for annotation: {_where_patches_are_open(all_regions)}."
        )
    array = open_labels(labels).array
    values = check_labels(
        name, array, array.shape, len(classes), meaning=meaning, one_class=meaning.is_partial
    )
    for notice in values_notices(labels.name, values, classes, meaning):
        echo(notice, err=True)
    curve = rounds(all_regions)
    result = {
        "annotated": [region.model_dump(mode="json") for region in annotated],
        "rounds": [asdict(entry) for entry in curve],
        "advice": advice(curve),
    }
    print_result(
        result, as_json=as_json, print_text=lambda: _print_agreement(len(annotated), curve)
    )


def _where_patches_are_open(regions: Sequence[Region]) -> str:
    """What to do if no patch of a volume is open."""
    others = sorted({region.volume for region in regions if region.state == "suggested"})
    if others:
        return f"name {' or '.join(others)} with --volume"
    return "run 'napari-emda suggest' first"


def _print_agreement(count: int, curve: list[Round]) -> None:
    echo("1 patch annotated." if count == 1 else f"{count} patches annotated.")
    if curve:
        rows = [
            [
                str(entry.number),
                "audit" if entry.audit else "",
                entry.run,
                str(entry.patches),
                str(entry.iou),
                str(entry.dice),
            ]
            for entry in curve
        ]
        print_table(
            "The model before it saw the patches",
            ["round", "", "run", "patches", "IoU (95 %)", "Dice (95 %)"],
            rows,
        )
    if text := advice(curve):
        echo(text)


def name_clusters(
    project: ProjectArgument,
    assignments: Annotated[
        list[str] | None,
        typer.Option("--class", help="CLASS=CLUSTERS, such as mitochondria=3,5; can be repeated."),
    ] = None,
    run: RunOption = None,
    volume: VolumeOption = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Also write the resulting mask there, such as m.tif or m.zarr."),
    ] = None,
    overwrite: Annotated[bool, typer.Option(help="Replace an existing file.")] = False,
    as_json: JsonOption = False,
) -> None:
    """List the clusters of a run without labels, or name them."""
    assigned = clusters.parse_names(assignments or [])
    with Project.open(project, exclusive=True) as opened:
        if out is not None:
            # Now, so that a wrong file name leaves the names as they were.
            suffixes = [suffix for group in image_formats().values() for suffix in group]
            opened.claim(out.absolute(), suffixes, overwrite=overwrite)
        run = opened.run(run).name
        volume = volume or opened.volumes.target().name
        names = _new_names(opened, run, assigned)
        # The list shows shares of the whole volume, so an unfinished prediction is completed. To
        # assign classes, what is predicted so far will do.
        if opened.predictions.of(run, volume) is None or not assigned:
            carry_out(PredictJob(project=str(project), run=run, volume=volume))
        prediction = opened.predictions.name_clusters(run, volume, names)
    if out is not None:
        carry_out(
            ExportJob(
                project=str(project),
                what="mask",
                to=str(out.absolute()),
                run=run,
                volume=volume,
                overwrite=overwrite,
            )
        )
    shares = clusters.shares(prediction.stored, prediction.predicted).round(4).tolist()
    result = {
        "run": run,
        "volume": volume,
        "clusters": [
            {"cluster": cluster, "share": share, "class": names.get(cluster)}
            for cluster, share in enumerate(shares, start=1)
        ],
        "mask": None if out is None else str(out),
    }
    print_result(result, as_json=as_json, print_text=lambda: _print_clusters(result))


def _print_clusters(result: dict[str, Any]) -> None:
    rows = [
        [str(entry["cluster"]), f"{entry['share']:.1%}", entry["class"] or ""]
        for entry in result["clusters"]
    ]
    print_table(f"Clusters of {result['run']}", ["cluster", "share", "class"], rows)


def _new_names(project: Project, run: str, assigned: dict[str, tuple[int, ...]]) -> dict[int, str]:
    """Class by cluster once the clusters are assigned; checked before a long prediction.

    Raises:
        JobError: the run predicts classes.
        SettingsError: there is no such cluster or class.
    """
    from napari_emda.inference.checkpoint import find, read_header

    header = read_header(find(project.run(run)))
    outputs = project.predictions.outputs(run, header.classes)
    if not outputs.are_clusters:
        raise JobError(
            f"The run '{run}' predicts classes, not clusters: choose a run of iic with --run."
        )
    names = clusters.renamed(outputs.cluster_names, assigned)
    clusters.check_names(names, outputs.count, project.classes)
    return names
