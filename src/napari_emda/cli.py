"""The command line: every verb of the story, without a screen."""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from rich.console import Console
from rich.table import Table

from napari_emda import clusters
from napari_emda.data.files import open_labels
from napari_emda.errors import EmdaError, JobError, SettingsError
from napari_emda.jobs import ExportJob, PredictJob, ScoreJob, SuggestJob, TrainJob, read_job
from napari_emda.learning_curve import Round, advice, rounds
from napari_emda.progress import Stopped, watch
from napari_emda.project import Project
from napari_emda.settings import PredictSettings, QuerySettings, TrainSettings, distribute, parse_assignments

if TYPE_CHECKING:
    from napari_emda.data.volume import Domain, LabelsZero
    from napari_emda.jobs import AnyJob

DONE, FAULT, MISTAKE, STOPPED = 0, 1, 2, 3

app = typer.Typer(
    help="Adapt, annotate, retrain and segment volume EM. 'napari-emda demo' shows it all.",
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

ProjectArgument = Annotated[Path, typer.Argument(help="The project's folder.", show_default=False)]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object on the last line.")]
RunOption = Annotated[str | None, typer.Option(help="A run, such as 003-ynet; by default the latest.")]
CheckpointOption = Annotated[
    str, typer.Option(help="Which model of the run: selected, last, or a step that it has kept.")
]
VolumeOption = Annotated[str | None, typer.Option(help="A volume's name; by default the first target.")]
DeviceOption = Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")]
Spacing = tuple[float, float, float]


def _settle() -> None:
    from napari_emda.compute import settle

    settle()


def _carry_out(job: AnyJob) -> dict[str, Any]:
    from napari_emda.execution import execute

    _settle()
    return watch(execute(job))


def _answer(result: dict[str, Any], *, as_json: bool, text: Callable[[], None] | None = None) -> None:
    if as_json:
        typer.echo(json.dumps(result))
    elif text is not None:
        text()


def _table(title: str, columns: list[str], rows: list[list[str]]) -> None:
    table = Table(title=title, title_justify="left")
    for column in columns:
        numbers = all(row[columns.index(column)].replace(".", "").replace("-", "").isdigit() for row in rows)
        table.add_column(column, justify="right" if rows and numbers else "left")
    for row in rows:
        table.add_row(*row)
    Console(width=None if sys.stdout.isatty() else 110).print(table)


# -- verbs -------------------------------------------------------------------------------------------------------


@app.command()
def new(
    project: ProjectArgument,
    source: Annotated[
        tuple[Path, Path] | None, typer.Option(help="The labelled volume, if there is one: image and labels.")
    ] = None,
    target: Annotated[Path | None, typer.Option(help="The image to be segmented.")] = None,
    spacing: Annotated[Spacing | None, typer.Option(help="Voxel size z y x of the source in nm.")] = None,
    target_spacing: Annotated[Spacing | None, typer.Option(help="Voxel size z y x of the target in nm.")] = None,
    classes: Annotated[list[str] | None, typer.Option(help="Names of the classes, background first.")] = None,
    independent: Annotated[
        bool, typer.Option(help="The first axis is no depth: the sections are images of their own.")
    ] = False,
    target_independent: Annotated[bool, typer.Option(help="The same of the target alone.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Make a project from a labelled source and an unlabelled target, or from one of them alone."""
    names = tuple(classes) if classes else ("background", "foreground")
    depth: dict[Domain, bool] = {"source": not independent, "target": not (independent or target_independent)}
    entries, notices = create(project, names, source, target, spacing, target_spacing, depth)
    result = {"project": str(project), "classes": list(names), "volumes": entries, "notices": notices}
    for notice in notices:
        typer.echo(notice, err=True)
    _answer(
        result,
        as_json=as_json,
        text=lambda: typer.echo(
            f"Project {project}: " + ", ".join(f"{e['domain']} {e['name']} ({_nm(e['spacing'])} nm)" for e in entries)
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
    depth: dict[Domain, bool],
) -> tuple[list[dict[str, Any]], list[str]]:
    """Check everything, then make the project; returns its volumes and what to know of them."""
    from napari_emda.data.checks import check_pair

    notices = check_pair(source, target, classes, spacing, target_spacing)
    with Project.create(folder, classes) as project:
        entries = []
        if source is not None:
            entries.append(
                project.add_volume(source[0], "source", labels=source[1], spacing=spacing, depth=depth["source"])
            )
        if target is not None:
            entries.append(project.add_volume(target, "target", spacing=target_spacing, depth=depth["target"]))
    return [entry.model_dump() for entry in entries], notices


@app.command()
def train(
    project: ProjectArgument,
    method: Annotated[str | None, typer.Option(help="See 'napari-emda methods'; by default histogram.")] = None,
    steps: Annotated[int | None, typer.Option(help="Optimiser steps.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of all random choices.")] = None,
    profile: Annotated[str | None, typer.Option(help="test, fast or standard.")] = None,
    start: Annotated[str | None, typer.Option("--from", help="A run whose network to start from.")] = None,
    resume: Annotated[str | None, typer.Option(help="A run that was stopped, to be continued as it was.")] = None,
    keep: Annotated[
        str | None, typer.Option(help="The model to use afterwards: last, best, average, supervised or total.")
    ] = None,
    assignments: Annotated[list[str] | None, typer.Option("--set", help="KEY=VALUE, any setting.")] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda or mps.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Train a method; see 'napari-emda methods' for their names."""
    folder = str(project)
    if resume is not None:
        if any(value is not None for value in (method, steps, seed, profile, start, keep, device)) or assignments:
            raise SettingsError("--resume continues a run as it was begun: leave the other options out, or use --from.")
        job = TrainJob(project=folder, method="", resume=resume)
    else:
        from napari_emda.methods.base import methods

        method = method or "auto"
        given = {"steps": steps, "seed": seed, "keep": keep, "device": device}
        values = {**parse_assignments(assignments or []), **{k: v for k, v in given.items() if v is not None}}
        cls = methods[method]
        own, shared = distribute(values, cls.Settings, TrainSettings)
        profile = profile or shared.pop("profile", None)
        job = TrainJob(
            project=folder,
            method=method,
            method_settings=cls.Settings.parse(own).model_dump(),
            settings=_train_settings(project, start, profile, shared),
            start_from=start,
        )
    _answer(_carry_out(job), as_json=as_json)


def _train_settings(project: Path, start: str | None, profile: str | None, values: dict[str, Any]) -> TrainSettings:
    """A profile's settings, or, when another run is continued, that run's."""
    if start is None or profile is not None:
        return TrainSettings.for_profile(str(profile or "fast"), **values)
    before = read_job(Project.open(project).run(start) / "job.json")
    if not isinstance(before, TrainJob):
        raise JobError(f"'{start}' is not a training run: name one.")
    return TrainSettings.parse({**before.settings.model_dump(), **values})


@app.command()
def predict(
    project: ProjectArgument,
    run: RunOption = None,
    checkpoint: CheckpointOption = "selected",
    volume: VolumeOption = None,
    out: Annotated[Path | None, typer.Option(help="Also write the probabilities there (.tif or .zarr).")] = None,
    assignments: Annotated[list[str] | None, typer.Option("--set", help="KEY=VALUE, any setting.")] = None,
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
    _answer(_carry_out(job), as_json=as_json)


@app.command()
def suggest(
    project: ProjectArgument,
    strategy: Annotated[str, typer.Option(help="See 'napari-emda strategies'.")] = "entropy",
    count: Annotated[int, typer.Option(help="How many patches.")] = 5,
    patch: Annotated[int, typer.Option(help="Side of a patch in voxels of the target.")] = 128,
    run: RunOption = None,
    volume: Annotated[str | None, typer.Option(help="A target's name; by default all targets.")] = None,
    audit: Annotated[bool, typer.Option(help="Draw the patches by lot, to measure the model.")] = False,
    assignments: Annotated[list[str] | None, typer.Option("--set", help="KEY=VALUE, any setting.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Rank the targets' patches and record the best as suggestions."""
    from napari_emda.query import strategies

    values = {"strategy": strategy, "count": count, "patch": patch, **parse_assignments(assignments or [])}
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
        result = _carry_out(job)
        opened.suggest(result["regions"], result["strategy"], result["run"] or "")
    rows = [[r["volume"], r["box"], f"{r['score']:.3f}"] for r in result["regions"]]
    _answer(result, as_json=as_json, text=lambda: _table("Suggested", ["volume", "box z,y,x", "score"], rows))


@app.command()
def annotate(
    project: ProjectArgument,
    labels: Annotated[Path, typer.Option("--from", help="Label image of the target, 0 = background.")],
    regions: Annotated[
        str, typer.Option(help="suggested: the patches that are open; all: everything not annotated yet.")
    ] = "suggested",
    zero: Annotated[
        str, typer.Option(help="What 0 means where all is taken: background, or unannotated (nobody looked).")
    ] = "background",
    volume: VolumeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Take the suggested patches, or all, from a label image; tells how far the model agreed."""
    for value, allowed in ((regions, ("suggested", "all")), (zero, ("background", "unannotated"))):
        if value not in allowed:
            raise JobError(f"'{value}' is not known here: choose {allowed[0]} or {allowed[1]}.")
    with Project.open(project, exclusive=True) as opened:
        name = volume or opened.target().name
        if regions == "all":
            meaning: LabelsZero = "background" if zero == "background" else "unannotated"
            taken = [opened.import_labels(open_labels(labels).array, name, meaning)]
        else:
            taken = opened.annotate_from(labels, name)
        curve = rounds(opened.regions())
    if not taken:
        raise JobError("No patch is open for annotation: run 'napari-emda suggest' first.")
    result = {
        "annotated": [region.model_dump(mode="json") for region in taken],
        "rounds": [asdict(each) for each in curve],
        "advice": advice(curve),
    }
    _answer(result, as_json=as_json, text=lambda: _tell_agreement(len(taken), curve))


def _tell_agreement(taken: int, curve: list[Round]) -> None:
    typer.echo(f"{taken} patches annotated.")
    if curve:
        rows = [
            [str(e.number), "audit" if e.audit else "", e.run, str(e.patches), str(e.iou), str(e.dice)] for e in curve
        ]
        _table(
            "The model before it saw the patches", ["round", "", "run", "patches", "IoU (95 %)", "Dice (95 %)"], rows
        )
    if text := advice(curve):
        typer.echo(text)


@app.command()
def score(
    project: ProjectArgument,
    against: Annotated[Path, typer.Option(help="Label image of the volume, 0 = background.")],
    run: RunOption = None,
    checkpoint: CheckpointOption = "selected",
    volume: VolumeOption = None,
    box: Annotated[str, typer.Option(help="z0:z1,y0:y1,x0:x1; by default everything.")] = "",
    as_json: JsonOption = False,
) -> None:
    """Compare a prediction with true labels: IoU, Dice, average precision."""
    job = ScoreJob(project=str(project), against=str(against), run=run, checkpoint=checkpoint, volume=volume, box=box)
    result = _carry_out(job)
    rows = [
        [name, *(f"{row[key]:.3f}" if row[key] is not None else "-" for key in ("iou", "dice", "average_precision"))]
        for name, row in result["classes"].items()
    ]
    title = f"{result['volume']}, run {result['run']}, {result['voxels']} voxels"
    _answer(result, as_json=as_json, text=lambda: _table(title, ["class", "IoU", "Dice", "average precision"], rows))


@app.command("export")
def export_command(
    project: ProjectArgument,
    what: Annotated[str, typer.Option(help="mask, objects, probabilities, table or model.")],
    to: Annotated[Path, typer.Option(help="The file to write: .tif, .zarr, .csv or .zip.")],
    run: RunOption = None,
    checkpoint: CheckpointOption = "selected",
    volume: VolumeOption = None,
    threshold: Annotated[float, typer.Option(help="Probability from which a voxel is foreground.")] = 0.5,
    minimum_size: Annotated[int, typer.Option(help="Smaller objects are left out, in voxels.")] = 0,
    overwrite: Annotated[bool, typer.Option(help="Replace an existing file.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Write a result: TIFF or OME-Zarr with voxel size, CSV, or a model package."""
    values = {"what": what, "threshold": threshold, "minimum_size": minimum_size, "overwrite": overwrite}
    places = {"project": str(project), "to": str(to.absolute()), "run": run, "checkpoint": checkpoint, "volume": volume}
    job = ExportJob.parse({**places, **values})
    _answer(_carry_out(job), as_json=as_json)


@app.command("name-clusters")
def name_clusters(
    project: ProjectArgument,
    named: Annotated[
        list[str] | None, typer.Option("--class", help="CLASS=CLUSTERS, such as mitochondria=3,5; as often as needed.")
    ] = None,
    run: RunOption = None,
    volume: VolumeOption = None,
    out: Annotated[Path | None, typer.Option(help="Also write the mask that follows there (.tif or .zarr).")] = None,
    overwrite: Annotated[bool, typer.Option(help="Replace an existing file.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Say which clusters of a run without labels are which class, or list them; predicts first what is not."""
    from napari_emda.checkpoint import find, read_header

    given = clusters.parse_names(named or [])
    with Project.open(project, exclusive=True) as opened:
        run, volume = opened.run(run).name, volume or opened.target().name
        if read_header(find(opened.run(run))).classes == opened.classes:
            raise JobError(f"The run '{run}' predicts classes and no clusters: choose a run of iic with --run.")
        if opened.clusters(run, volume) is None or not given:
            _carry_out(PredictJob(project=str(project), run=run, volume=volume))
        opened.name_clusters(run, volume, names := clusters.renamed(opened.names(run), given))
        found = opened.clusters(run, volume)
    assert found is not None
    if out is not None:
        places = {"project": str(project), "to": str(out.absolute()), "run": run, "volume": volume}
        _carry_out(ExportJob.parse({"what": "mask", "overwrite": overwrite, **places}))
    sizes = clusters.shares(found).round(4).tolist()
    rows = [{"cluster": k, "share": share, "class": names.get(k)} for k, share in enumerate(sizes, start=1)]
    result = {"run": run, "volume": volume, "clusters": rows, "mask": None if out is None else str(out)}
    texts = [[str(k), f"{share:.1%}", names.get(k, "")] for k, share in enumerate(sizes, start=1)]
    _answer(result, as_json=as_json, text=lambda: _table(f"Clusters of {run}", ["cluster", "share", "class"], texts))


# -- names and settings ------------------------------------------------------------------------------------------


def _settings_table(name: str, settings: type[Any]) -> None:
    rows = []
    for key, field in settings.model_json_schema().get("properties", {}).items():
        limits = (
            ", ".join(map(str, field.get("enum", []))) or f"{field.get('minimum', '')} … {field.get('maximum', '')}"
        )
        rows.append([key, json.dumps(field.get("default")), limits if limits != " … " else "", field["description"]])
    _table(f"Settings of {name}", ["setting", "default", "limits", "what it is"], rows)


def describe(entry: type[Any]) -> dict[str, Any]:
    """What a dock or a script must know of a method or strategy."""
    text = " ".join((entry.__doc__ or "").split("\n\n")[0].split())
    described = {"name": entry.name, "summary": text, "schema": entry.Settings.model_json_schema()}
    for key in ("domains", "needs_labels", "needs_annotations", "needs_prediction"):
        if hasattr(entry, key):
            described[key] = getattr(entry, key)
    return described


def _list(registry: Any, name: str | None, extra: list[type[Any]]) -> None:
    if name is None:
        _table("Names", ["name", "what it does"], [[n, describe(registry[n])["summary"]] for n in registry.names()])
        return
    typer.echo(describe(registry[name])["summary"])
    for settings in (registry[name].Settings, *extra):
        if settings.model_fields:
            _settings_table(name if settings is registry[name].Settings else "every training", settings)


@app.command("methods")
def methods_command(
    name: Annotated[str | None, typer.Argument(help="One method, with its settings.")] = None,
    as_json: JsonOption = False,
) -> None:
    """List the training methods, or the settings of one."""
    from napari_emda.compute import Compute
    from napari_emda.methods.base import methods
    from napari_emda.query import strategies

    if not as_json:
        _list(methods, name, [TrainSettings])
        return
    names = [name] if name else methods.names()
    typer.echo(
        json.dumps(
            {
                "methods": [describe(methods[n]) for n in names],
                "strategies": [describe(strategies[n]) for n in strategies.names()],
                "device": str(Compute.choose()),
            }
        )
    )


@app.command("strategies")
def strategies_command(
    name: Annotated[str | None, typer.Argument(help="One strategy, with its settings.")] = None,
    as_json: JsonOption = False,
) -> None:
    """List the query strategies, or the settings of one."""
    from napari_emda.query import strategies

    if not as_json:
        _list(strategies, name, [])
        return
    names = [name] if name else strategies.names()
    typer.echo(json.dumps({"strategies": [describe(strategies[n]) for n in names]}))


@app.command()
def run(
    job: Annotated[Path, typer.Argument(help="A job file, as in a run's folder.")], as_json: JsonOption = False
) -> None:
    """Carry out a job file; with --json events come out and commands go in as JSON lines."""
    if not as_json:
        _carry_out(read_job(job))
        return
    from napari_emda import child

    raise typer.Exit(child.run(job))


@app.command()
def demo(
    headless: Annotated[
        bool, typer.Option(help="Without a window: adapt, annotate, retrain, predict, export.")
    ] = False,
    seed: Annotated[int, typer.Option(help="Seed of the phantom and of all training.")] = 0,
    folder: Annotated[Path | None, typer.Option(help="Where to put the project; by default a new folder here.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Show it all on a synthetic pair of volumes."""
    if not headless:
        _check_screen()
        from napari_emda._gui.demo import open_demo

        open_demo(seed)
        return
    from napari_emda.demo import run_demo

    _settle()
    result, rows = run_demo(folder or _free("napari-emda-demo"), seed, watch)
    _table("Target IoU on the phantom", ["model", "IoU", "Dice"], rows)
    _answer(result, as_json=as_json)


def _check_screen() -> None:
    if sys.platform == "linux" and not any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY")):
        raise JobError("There is no display to open the viewer on: run 'napari-emda demo --headless' instead.")
    if not any(importlib.util.find_spec(name) for name in ("PyQt6", "PySide6", "PyQt5", "PySide2")):
        raise JobError(
            'The viewer needs Qt, which is not installed: pip install "napari-emda[all]", or use --headless.'
        )


def _free(name: str) -> Path:
    path, count = Path(name), 2
    while path.exists():
        path, count = Path(f"{name}-{count}"), count + 1
    return path


# -- the entry point ---------------------------------------------------------------------------------------------


def spread(arguments: list[str], option: str) -> list[str]:
    """``--classes a b c`` as ``--classes a --classes b --classes c``, which is what click understands."""
    spread_out: list[str] = []
    inside = fresh = False
    for argument in arguments:
        if argument.startswith("-"):
            inside = fresh = argument == option
        elif inside and not fresh:
            spread_out.append(option)
        else:
            fresh = False
        spread_out.append(argument)
    return spread_out


def main(arguments: list[str] | None = None) -> NoReturn:
    """Run a command; exit 0 done, 2 the caller's mistake (one line), 3 stopped on request, 1 our fault."""
    command = typer.main.get_command(app)
    arguments = spread(sys.argv[1:] if arguments is None else arguments, "--classes")
    try:
        status = command.main(arguments, prog_name="napari-emda", standalone_mode=False)
    except EmdaError as error:
        _leave(str(error))
    except (Stopped, typer.Abort, KeyboardInterrupt):
        sys.exit(STOPPED)
    except typer.TyperException as error:
        text = error.format_message() if hasattr(error, "format_message") else str(error)
        if type(error).__name__ == "NoArgsIsHelpError":
            typer.echo(text)
            sys.exit(DONE)
        _leave(text)
    sys.exit(status if isinstance(status, int) else DONE)


def _leave(text: str) -> NoReturn:
    sys.stderr.write(" ".join(text.split()) + "\n")
    sys.exit(MISTAKE)
