"""The command line: every step of the workflow, without a screen."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterable
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from napari_emda.errors import EmdaError, ExitCode, JobError, explained
from napari_emda.jobs.stop_signals import stop_signals

if TYPE_CHECKING:
    import typer

# Little is imported here: until `main` runs, Ctrl-C ends in a traceback.

# 128 + SIGINT, by which typer says that the user has pressed Ctrl-C.
_INTERRUPTED = 130

# With fewer, the loop in which zarr works cannot be made, and says so in a traceback of its own.
_FEWEST_FILES = 16

# Where each command is defined, in the order of the workflow; ``--help`` lists them in this order.
COMMANDS = {
    "new": "new_project.new",
    "train": "runs.train",
    "predict": "runs.predict",
    "suggest": "projects.suggest",
    "annotate": "projects.annotate",
    "check-points": "check_points.check_points",
    "score": "runs.score",
    "objects": "objects.objects",
    "export": "runs.export",
    "name-clusters": "projects.name_clusters",
    "report": "reports.report",
    "pack": "packing.pack_project",
    "unpack": "packing.unpack_project",
    "models": "models.models",
    "check": "checking.check_project",
    "allow": "checking.allow_files",
    "check-workers": "workers.check_workers",
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
    import typer

    app = typer.Typer(
        add_completion=False,
        no_args_is_help=True,
        # Plain help texts: rich would draw boxes around them.
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
    )
    # Its docstring is the help text. With a callback, typer keeps the name of a command that is the
    # only one.
    app.callback()(import_module(f"{__name__}.version").options)
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
    """Run a command and exit with an `ExitCode`; what is wrong is one line on standard error."""
    try:
        stop_signals.install()
        status = _status_of(sys.argv[1:] if arguments is None else arguments)
        # What was to be done is done: from here on, a signal could only spoil the status.
        stop_signals.ignore()
    except KeyboardInterrupt:
        status = ExitCode.STOPPED
        stop_signals.ignore()
    if stop_signals.asked:
        # Python notes if an interrupt leaves a text that is executed, as dataclasses do on import,
        # and ``python -m`` then ends by SIGINT in place of our status; any other text resets that.
        exec("")
    sys.exit(status)


def _status_of(arguments: list[str]) -> int:
    """Run a command, and print what is wrong; its exit status."""
    try:
        _print_anything()
        _check_open_files()
        return _run(repeat_option(arguments, "--classes"))
    except Exception as error:  # noqa: BLE001 - whatever it is, it becomes one sentence
        return _report(error)


def _check_open_files() -> None:
    """JobError if the system allows too few open files for any work."""
    # Windows has no such limit.
    if sys.platform == "win32":
        return
    import resource

    most = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if 0 <= most < _FEWEST_FILES:
        raise JobError(
            f"The system allows this program {most} open files, and it needs {_FEWEST_FILES} at "
            "least: raise the limit (ulimit -n)."
        )


def _print_anything() -> None:
    """Print characters that the encoding of a terminal or file lacks as escapes."""
    for stream in (sys.stdout, sys.stderr):
        # Tests put other streams there.
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")


def _run(arguments: list[str]) -> int:
    """Run a command; its exit status."""
    import typer

    from napari_emda.cli.progress import Stopped

    try:
        Path.cwd()
    except FileNotFoundError as error:
        raise explained(error) or JobError(str(error)) from None
    names = [name for name in arguments[:1] if name in COMMANDS]
    try:
        command = typer.main.get_command(make_app(names or COMMANDS))
        # A signal may have come in the middle of an import that has hidden it.
        if stop_signals.asked:
            return ExitCode.STOPPED
        # Not standalone: click would print a usage text of several lines for invalid arguments.
        status = command.main(arguments, prog_name="napari-emda", standalone_mode=False)
        sys.stdout.flush()
    except (Stopped, typer.Abort):
        return ExitCode.STOPPED
    except typer.TyperException as error:
        text = error.format_message() if hasattr(error, "format_message") else str(error)
        # Raised when there are no arguments; its text is the help. Typer does not export the class.
        if type(error).__name__ == "NoArgsIsHelpError":
            typer.echo(text)  # noqa: TID251 (the help has colours)
            return ExitCode.DONE
        command_name = f"{names[0]} " if names else ""
        stop = "" if text.endswith((".", "?")) else "."
        raise EmdaError(f"{text}{stop} See 'napari-emda {command_name}--help'.") from None
    # Typer catches Ctrl-C, and returns what a shell makes of it.
    if status == _INTERRUPTED:
        return ExitCode.STOPPED
    # Typer returns the code of `typer.Exit`, and else what the command returns: None.
    return status if isinstance(status, int) else ExitCode.DONE


def _report(error: Exception) -> int:
    """Write one line on an error, which scripts can read from the end of a log; the exit status."""
    # Whatever a library makes of a signal that has come in the middle of its work.
    if stop_signals.asked:
        return ExitCode.STOPPED
    if isinstance(error, BrokenPipeError) and error.filename is None:
        # As with ``napari-emda methods | head``: nobody reads the rest.
        sys.stdout = open(os.devnull, "w")  # noqa: PTH123, SIM115
        return ExitCode.DONE
    from napari_emda.data.names import in_one_line
    from napari_emda.io import error_log

    error_for_user = explained(error)
    if error_for_user is None:
        text = error_log.internal(error)
    else:
        text = str(error_for_user)
        if error_for_user is not error and (log := error_log.note(error)) is not None:
            text = f"{text} Its origin is noted in '{log}'."
    try:
        sys.stderr.write(in_one_line(text) + "\n")
        sys.stderr.flush()
    except OSError:
        # The log is on the disk that is full: the status still says that it is no fault of ours.
        sys.stderr = io.StringIO()
    return ExitCode.INTERNAL_ERROR if error_for_user is None else ExitCode.INVALID_INPUT
