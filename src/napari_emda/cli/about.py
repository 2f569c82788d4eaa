"""What there is: methods, strategies, networks, their settings, and a demonstration."""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from napari_emda.cli.console import JsonOption, answer, table
from napari_emda.cli.progress import watch
from napari_emda.errors import JobError
from napari_emda.settings.training import TrainSettings


def _settings_table(name: str, settings: type[Any]) -> None:
    rows = []
    for key, field in settings.model_json_schema().get("properties", {}).items():
        limits = (
            ", ".join(map(str, field.get("enum", [])))
            or f"{field.get('minimum', '')} … {field.get('maximum', '')}"
        )
        rows.append(
            [
                key,
                json.dumps(field.get("default")),
                limits if limits != " … " else "",
                field["description"],
            ]
        )
    table(f"Settings of {name}", ["setting", "default", "limits", "what it is"], rows)


def sentence(entry: type[Any]) -> str:
    """The first paragraph of a docstring, on one line."""
    return " ".join((entry.__doc__ or "").split("\n\n")[0].split())


def describe(entry: type[Any]) -> dict[str, Any]:
    """What a dock or a script must know of a method, a strategy, a network or an export."""
    schema = entry.Settings.model_json_schema()
    described = {"name": entry.name, "summary": sentence(entry), "schema": schema}
    if hasattr(entry, "requirements"):
        described["requirements"] = entry.requirements.model_dump()
    for key in ("formats", "classes", "profiles"):
        if hasattr(entry, key):
            described[key] = getattr(entry, key)
    return described


def _list(registry: Any, name: str | None, extra: list[type[Any]]) -> None:
    if name is None:
        table(
            "Names",
            ["name", "what it does"],
            [[n, describe(registry[n])["summary"]] for n in registry.names()],
        )
        return
    typer.echo(describe(registry[name])["summary"])
    for settings in (registry[name].Settings, *extra):
        if settings.model_fields:
            _settings_table(
                name if settings is registry[name].Settings else "every training", settings
            )


def list_methods(
    name: Annotated[str | None, typer.Argument(help="One method, with its settings.")] = None,
    as_json: JsonOption = False,
) -> None:
    """List the training methods, or the settings of one."""
    from napari_emda.active_learning.strategy import strategies
    from napari_emda.export.base import exporters
    from napari_emda.inference.device import Compute
    from napari_emda.methods.base import methods
    from napari_emda.nn.network import networks

    if not as_json:
        _list(methods, name, [TrainSettings])
        return
    names = [name] if name else methods.names()
    typer.echo(
        json.dumps(
            {
                "methods": [describe(methods[n]) for n in names],
                "strategies": [describe(strategies[n]) for n in strategies.names()],
                "exporters": [describe(exporters[n]) for n in exporters.names()],
                "networks": [describe(networks[n]) for n in networks.names()],
                "device": str(Compute.choose()),
            }
        )
    )


def list_strategies(
    name: Annotated[str | None, typer.Argument(help="One strategy, with its settings.")] = None,
    as_json: JsonOption = False,
) -> None:
    """List the query strategies, or the settings of one."""
    from napari_emda.active_learning.strategy import strategies

    if not as_json:
        _list(strategies, name, [])
        return
    names = [name] if name else strategies.names()
    typer.echo(json.dumps({"strategies": [describe(strategies[n]) for n in names]}))


def list_formats(as_json: JsonOption = False) -> None:
    """List the files that can be read, and what can be exported."""
    from napari_emda.export.base import exporters
    from napari_emda.io.reader import all_readers

    entries = [exporters[name] for name in exporters.names()]
    if as_json:
        read = [
            {"name": r.name, "summary": sentence(r), "formats": r.formats, "suffixes": r.suffixes}
            for r in all_readers()
        ]
        typer.echo(json.dumps({"readers": read, "exporters": [describe(e) for e in entries]}))
        return
    rows = [[", ".join(r.formats), " ".join(r.suffixes), sentence(r)] for r in all_readers()]
    table("Images and labels are read from", ["what", "name ends in", "what it is"], rows)
    rows = [[e.name, " ".join(e.suffixes()), sentence(e)] for e in entries]
    table("What can be exported", ["what", "name ends in", "what it is"], rows)


def list_networks(
    name: Annotated[str | None, typer.Argument(help="One network, with its settings.")] = None,
    as_json: JsonOption = False,
) -> None:
    """List the networks that can be trained, or the settings of one."""
    from napari_emda.nn.network import networks

    if not as_json:
        _list(networks, name, [])
        return
    names = [name] if name else networks.names()
    typer.echo(json.dumps({"networks": [describe(networks[n]) for n in names]}))


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
    """Show it all on a synthetic pair of volumes."""
    if not headless:
        _check_screen()
        from napari_emda._gui.demo import open_demo

        open_demo(seed)
        return
    from napari_emda.cli.headless_demo import run_demo
    from napari_emda.inference.device import configure_process

    configure_process()
    result, rows = run_demo(folder or _free("napari-emda-demo"), seed, watch)
    table("Target IoU on the phantom", ["model", "IoU", "Dice"], rows)
    answer(result, as_json=as_json)


def _check_screen() -> None:
    if sys.platform == "linux" and not any(
        os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY")
    ):
        raise JobError(
            "There is no display to open the viewer on: run 'napari-emda demo --headless' instead."
        )
    if not any(importlib.util.find_spec(name) for name in ("PyQt6", "PySide6", "PyQt5", "PySide2")):
        raise JobError(
            'The viewer needs Qt, which is not installed: pip install "napari-emda[all]", or use --headless.'
        )


def _free(name: str) -> Path:
    path, count = Path(name), 2
    while path.exists():
        path, count = Path(f"{name}-{count}"), count + 1
    return path
