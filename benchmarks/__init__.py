"""Benchmarks: each is run from the project's folder, as in ``python -m benchmarks.train``.

Those of the viewer share no process with torch, so `parser_of` is here and not in `common`.
"""

import argparse


def parser_of(description: str | None) -> argparse.ArgumentParser:
    """A parser whose help is a module's docstring."""
    return argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
