"""Benchmarks: each is run from the project's folder, as in ``python -m benchmarks.train``.

Those of the viewer share no process with torch, so what they need is here and not in `common`.
"""

import argparse

from napari_emda.jobs.time_left import A_FEW_SECONDS


def parser_of(description: str | None) -> argparse.ArgumentParser:
    """A parser whose help is a module's docstring."""
    return argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )


def factor(shown: float, left: float) -> float:
    """How far a time left as shown is from the time that was left, in either direction.

    Shorter times are shown as "a few seconds", and count as `A_FEW_SECONDS`.
    """
    larger = max(shown, left, A_FEW_SECONDS)
    return larger / max(min(shown, left), A_FEW_SECONDS)
