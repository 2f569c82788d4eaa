"""The command that finds and measures objects."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from napari_emda.cli.console import (
    SEPARATE,
    CheckpointOption,
    JsonOption,
    MinimumSizeOption,
    ProjectArgument,
    RunOption,
    ThresholdOption,
    VolumeOption,
    carry_out,
    echo,
    print_result,
    print_table,
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
    as_json: JsonOption = False,
) -> None:
    """Find and measure the objects of a volume; they are kept in the run's folder."""
    options = {"threshold": threshold, "minimum_size": minimum_size, "separate": separate}
    values = {key: value for key, value in options.items() if value is not None}
    job = ObjectsJob(
        project=str(project),
        run=run,
        checkpoint=checkpoint,
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
