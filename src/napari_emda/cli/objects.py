"""The command that finds and measures objects, lists the suspicious ones and edits them."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from napari_emda.cli.console import (
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
    echo,
    print_result,
    print_table,
    where_of,
)
from napari_emda.project.job_files import ObjectsJob
from napari_emda.settings.base import parse_assignments
from napari_emda.settings.objects import SeparationSettings


def objects(
    project: ProjectArgument,
    run: RunOption = None,
    checkpoint: CheckpointOption = "selected",
    volume: VolumeOption = None,
    class_name: Annotated[
        str | None, typer.Option("--class", help="Only the objects of this class.")
    ] = None,
    threshold: ThresholdOption = None,
    minimum_size: MinimumSizeOption = None,
    separate: Annotated[float | None, SEPARATE] = None,
    assignments: Annotated[
        list[str] | None, typer.Option("--set", help="KEY=VALUE, any setting of objects.")
    ] = None,
    queue: Annotated[
        bool, typer.Option("--queue", help="List the suspicious ones of the objects found.")
    ] = False,
    most: Annotated[int, typer.Option(min=1, help="How many of them to list.")] = 20,
    edits: Annotated[
        list[str] | None,
        typer.Option(
            "--edit",
            help="Decide on objects found: 'good 3', 'delete 3', 'merge 3 7', 'redraw 3', or "
            "'split 3 Z,Y,X Z,Y,X' with a voxel of each part.",
        ),
    ] = None,
    undo: Annotated[bool, typer.Option("--undo", help="Take the latest edit back.")] = False,
    redo: Annotated[bool, typer.Option("--redo", help="Repeat the edit taken back last.")] = False,
    workers: WorkersOption = 1,
    scheduler: SchedulerOption = "",
    cluster: ClusterOption = None,
    as_json: JsonOption = False,
) -> None:
    """Find and measure the objects of a volume.

    They are kept in the run's folder.

    With --queue, --edit, --undo or --redo, nothing is found anew.
    """
    if queue or edits or undo or redo:
        from napari_emda.cli.object_edits import Request, proofread

        steps = Request(tuple(edits or ()), undo=undo, redo=redo, queue=queue, most=most)
        proofread(steps, project, run, volume, class_name, as_json=as_json)
        return
    options = {"threshold": threshold, "minimum_size": minimum_size, "separate": separate}
    values = {key: value for key, value in options.items() if value is not None}
    job = ObjectsJob(
        project=str(project),
        run=run,
        checkpoint=checkpoint,
        where=where_of(workers, scheduler, cluster),
        volume=volume,
        class_name=class_name,
        settings=SeparationSettings.parse(values | parse_assignments(assignments or [])),
    )
    result = carry_out(job)
    print_result(result, as_json=as_json, print_text=lambda: _print_numbers(result))


def _print_numbers(result: dict[str, Any]) -> None:
    numbers = result["classes"]
    size = next(iter(numbers.values()))["size"]
    rows = [
        [
            name,
            str(found["objects"]),
            f"{found['total']:.4g}",
            "-" if found["median"] is None else f"{found['median']:.4g}",
        ]
        for name, found in numbers.items()
    ]
    title = f"{result['volume']}, run {result['run']}"
    print_table(title, ["class", "objects", f"total {size}", f"median {size}"], rows)
    echo(f"Ids and tables are in {result['path']}.")
