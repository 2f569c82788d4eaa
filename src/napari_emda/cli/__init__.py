"""The command line: every step of the workflow, without a screen."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from importlib import import_module
from typing import NoReturn

import typer

from napari_emda.cli.progress import Stopped
from napari_emda.data.names import in_print
from napari_emda.errors import EmdaError, ExitCode

# Where each command is defined, in the order of the workflow; ``--help`` lists them in this order.
COMMANDS = {
    "new": "new_project.new",
    "train": "runs.train",
    "predict": "runs.predict",
    "suggest": "projects.suggest",
    "annotate": "projects.annotate",
    "score": "runs.score",
    "export": "runs.export",
    "name-clusters": "projects.name_clusters",
    "methods": "about.list_methods",
    "strategies": "about.list_strategies",
    "networks": "about.list_networks",
    "formats": "about.list_formats",
    "run": "runs.run",
    "demo": "about.demo",
}


def make_app(names: Iterable[str] = COMMANDS) -> typer.Typer:
    """The command line with these commands.

    Only their modules are imported. Some of them take a second, in which nothing is printed.
    """
    app = typer.Typer(
        help="Adapt, annotate, retrain and segment volume EM. 'napari-emda demo' shows the "
        "workflow.",
        add_completion=False,
        no_args_is_help=True,
        # Plain help texts: rich would draw boxes around them.
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
    )
    # With a callback, typer keeps the name of a command that is the only one.
    app.callback()(lambda: None)
    for name in names:
        module, function = COMMANDS[name].split(".")
        app.command(name)(getattr(import_module(f"{__name__}.{module}"), function))
    return app


def repeat_option(arguments: list[str], option: str) -> list[str]:
    """Write ``--classes a b c`` as ``--classes a --classes b --classes c``.

    Click takes a fixed number of values after an option. For a list, the option is repeated.
    """
    repeated: list[str] = []
    in_list = False
    for argument in arguments:
        if argument.startswith("-"):
            in_list = argument == option
        elif in_list and repeated[-1] != option:
            repeated.append(option)
        repeated.append(argument)
    return repeated


def main(arguments: list[str] | None = None) -> NoReturn:
    """Run a command and exit with an `ExitCode`; invalid input is one line on standard error."""
    arguments = repeat_option(sys.argv[1:] if arguments is None else arguments, "--classes")
    names = [name for name in arguments[:1] if name in COMMANDS]
    try:
        command = typer.main.get_command(make_app(names or COMMANDS))
        # Not standalone: click would print a usage text of several lines for invalid arguments.
        status = command.main(arguments, prog_name="napari-emda", standalone_mode=False)
    except EmdaError as error:
        _exit_invalid(str(error))
    except (Stopped, typer.Abort, KeyboardInterrupt):
        sys.exit(ExitCode.STOPPED)
    except typer.TyperException as error:
        text = error.format_message() if hasattr(error, "format_message") else str(error)
        # Raised when there are no arguments; its text is the help. Typer does not export the class.
        if type(error).__name__ == "NoArgsIsHelpError":
            typer.echo(text)
            sys.exit(ExitCode.DONE)
        command_name = f"{names[0]} " if names else ""
        stop = "" if text.endswith((".", "?")) else "."
        _exit_invalid(f"{text}{stop} See 'napari-emda {command_name}--help'.")
    # Typer returns the code of `typer.Exit`, and else what the command returns: None.
    sys.exit(status if isinstance(status, int) else ExitCode.DONE)


def _exit_invalid(text: str) -> NoReturn:
    """Exit with a message on one line, which scripts can read from the end of a log."""
    sys.stderr.write(" ".join(in_print(text).split()) + "\n")
    sys.exit(ExitCode.INVALID_INPUT)
