"""The command line: every verb of the story, without a screen."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import NoReturn

import typer

from napari_emda.cli import about, projects, runs
from napari_emda.cli.progress import Stopped
from napari_emda.errors import EmdaError

DONE, FAULT, MISTAKE, STOPPED = 0, 1, 2, 3

app = typer.Typer(
    help="Adapt, annotate, retrain and segment volume EM. 'napari-emda demo' shows it all.",
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
VERBS: dict[str, Callable[..., None]] = {
    "new": projects.new,
    "train": runs.train,
    "predict": runs.predict,
    "suggest": projects.suggest,
    "annotate": projects.annotate,
    "score": runs.score,
    "export": runs.export,
    "name-clusters": projects.name_clusters,
    "methods": about.list_methods,
    "strategies": about.list_strategies,
    "networks": about.list_networks,
    "formats": about.list_formats,
    "run": runs.run,
    "demo": about.demo,
}
"""In the order of the story, as ``--help`` lists them."""
for name, verb in VERBS.items():
    app.command(name)(verb)


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
        verb = f"{arguments[0]} " if arguments and arguments[0] in VERBS else ""
        _leave(f"{text}{'' if text.endswith(('.', '?')) else '.'} See 'napari-emda {verb}--help'.")
    sys.exit(status if isinstance(status, int) else DONE)


def _leave(text: str) -> NoReturn:
    sys.stderr.write(" ".join(text.split()) + "\n")
    sys.exit(MISTAKE)
