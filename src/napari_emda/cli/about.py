"""Commands that list methods, strategies, networks and formats, and the demonstration."""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from napari_emda.cli.console import JsonOption, echo, print_result, print_table
from napari_emda.cli.progress import watch
from napari_emda.errors import JobError
from napari_emda.jobs.stop_signals import stop_signals

if TYPE_CHECKING:
    from napari_emda.registry import Registry

# Measured as processor time with one thread: the other core is left to the user.
_MINUTES = "about 6 minutes on two cores"


def sentence(entry: type[Any]) -> str:
    """The first paragraph of a docstring, on one line."""
    return " ".join((entry.__doc__ or "").split("\n\n")[0].split())


def describe(entry: type[Any]) -> dict[str, Any]:
    """A method, strategy, network or exporter, with the JSON schema of its settings."""
    described = {
        "name": entry.name,
        "summary": sentence(entry),
        "schema": entry.Settings.model_json_schema(),
    }
    if hasattr(entry, "requirements"):
        described["requirements"] = entry.requirements.model_dump()
    # Each kind of entry declares some of these.
    for key in ("formats", "classes", "profiles"):
        if hasattr(entry, key):
            described[key] = getattr(entry, key)
    if hasattr(entry, "recommended"):
        # Its own, because a variant of a recommended method is another method.
        described["recommended"] = vars(entry).get("recommended", 0)
    return described


def _describe_all(registry: Registry[Any], name: str | None = None) -> list[dict[str, Any]]:
    """The entry of that name, or all entries."""
    names = [name] if name else registry.names()
    return [describe(registry[entry]) for entry in names]


def _print_entries(registry: Registry[Any], name: str | None, shared: type[Any] | None) -> None:
    """Print all names with their summaries, or one entry with its settings.

    Args:
        registry: of the entries.
        name: of one entry; None for all.
        shared: settings that every entry has besides its own.
    """
    if name is None:
        rows = [[entry["name"], entry["summary"]] for entry in _describe_all(registry)]
        print_table("Names", ["name", "what it does"], rows)
        return
    entry = registry[name]
    echo(sentence(entry))
    if entry.Settings.model_fields:
        _print_settings(name, entry.Settings)
    if shared is not None:
        _print_settings("every training", shared)


def _print_settings(name: str, settings: type[Any]) -> None:
    rows = []
    for key, field in settings.model_json_schema().get("properties", {}).items():
        limits = ", ".join(map(str, field.get("enum", [])))
        if not limits and ("minimum" in field or "maximum" in field):
            limits = f"{field.get('minimum', '')} … {field.get('maximum', '')}"
        rows.append([key, json.dumps(field.get("default")), limits, field["description"]])
    print_table(f"Settings of {name}", ["setting", "default", "limits", "what it is"], rows)


def list_methods(
    name: Annotated[str | None, typer.Argument(help="One method, with its settings.")] = None,
    as_json: JsonOption = False,
) -> None:
    """List the training methods, or the settings of one."""
    # Here and below: they load torch, which takes seconds, and no other command needs them.
    from napari_emda.active_learning.strategy import strategies
    from napari_emda.export.base import exporters
    from napari_emda.inference.device import Compute
    from napari_emda.methods.base import methods
    from napari_emda.nn.network import networks
    from napari_emda.settings.training import TrainSettings

    if not as_json:
        _print_entries(methods, name, TrainSettings)
        return
    # All registries at once: the dock asks a child process, and each would take seconds to start.
    described = {
        "methods": _describe_all(methods, name),
        "strategies": _describe_all(strategies),
        "exporters": _describe_all(exporters),
        "networks": _describe_all(networks),
        "device": str(Compute.choose()),
    }
    echo(json.dumps(described))


def list_strategies(
    name: Annotated[str | None, typer.Argument(help="One strategy, with its settings.")] = None,
    as_json: JsonOption = False,
) -> None:
    """List the query strategies, or the settings of one."""
    from napari_emda.active_learning.strategy import strategies

    if as_json:
        echo(json.dumps({"strategies": _describe_all(strategies, name)}))
    else:
        _print_entries(strategies, name, None)


def list_networks(
    name: Annotated[str | None, typer.Argument(help="One network, with its settings.")] = None,
    as_json: JsonOption = False,
) -> None:
    """List the networks to train, or the settings of one."""
    from napari_emda.nn.network import networks

    if as_json:
        echo(json.dumps({"networks": _describe_all(networks, name)}))
    else:
        _print_entries(networks, name, None)


def list_formats(as_json: JsonOption = False) -> None:
    """List the file formats to read, and what can be exported."""
    from napari_emda.export.base import exporters
    from napari_emda.io.reader import all_readers
    from napari_emda.io.write import shortest

    if as_json:
        readers = [
            {"name": r.name, "summary": sentence(r), "formats": r.formats, "suffixes": r.suffixes}
            for r in all_readers()
        ]
        echo(json.dumps({"readers": readers, "exporters": _describe_all(exporters)}))
        return
    columns = ["what", "name ends in", "what it is"]
    rows = [[", ".join(r.formats), " ".join(r.suffixes), sentence(r)] for r in all_readers()]
    print_table("Images and labels are read from", columns, rows)
    entries = [exporters[name] for name in exporters.names()]
    rows = [
        [
            entry.name,
            # The usual ones, so that the table is not too wide.
            " ".join(shortest([suffixes[0] for suffixes in entry.formats.values()])),
            sentence(entry),
        ]
        for entry in entries
    ]
    print_table("What can be exported", columns, rows)


def demo(
    headless: Annotated[
        bool, typer.Option(help="Without a window: adapt, annotate, retrain, predict, export.")
    ] = False,
    seed: Annotated[int, typer.Option(help="Seed of the phantom and of all training.")] = 0,
    folder: Annotated[
        Path | None, typer.Option(help="Where to put the project; by default a new folder here.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Show the whole workflow on a synthetic pair of volumes."""
    if not headless:
        _check_display()
        # Before napari and torch are imported, which takes seconds.
        echo("Drawing two synthetic volumes and opening napari: about 10 s …", err=True)
        from napari_emda._gui.demo import open_demo

        # An exception in the middle of an event would end neither the viewer nor its loop.
        stop_signals.release()
        open_demo(seed)
        return
    folder = folder or _free_folder("napari-emda-demo")
    echo(
        f"Adapting, annotating and predicting on synthetic volumes: {_MINUTES}.\n"
        f"The project is in {folder}; Ctrl-C stops.",
        err=True,
    )
    from napari_emda.cli.headless_demo import run_demo
    from napari_emda.inference.device import configure_process

    configure_process()
    result, rows = run_demo(folder, seed, watch)
    print_table("Target IoU on the phantom", ["model", "IoU", "Dice"], rows)
    echo(f"Before, after and truth side by side: {result['picture']}")
    print_result(result, as_json=as_json)


def _check_display() -> None:
    """JobError if the viewer cannot be opened; Qt would abort the process without a display."""
    displays = ("DISPLAY", "WAYLAND_DISPLAY")
    if sys.platform == "linux" and not any(os.environ.get(name) for name in displays):
        raise JobError(
            "There is no display to open the viewer on: run 'napari-emda demo --headless' instead."
        )
    if not any(importlib.util.find_spec(name) for name in ("PyQt6", "PySide6", "PyQt5", "PySide2")):
        raise JobError(
            'The viewer needs Qt, which is not installed: pip install "napari-emda[all]", or use '
            "--headless."
        )


def _free_folder(name: str) -> Path:
    """``NAME``, or the first of ``NAME-2``, ``NAME-3`` … that does not exist."""
    path = Path(name)
    count = 2
    while path.exists():
        path = Path(f"{name}-{count}")
        count += 1
    return path
