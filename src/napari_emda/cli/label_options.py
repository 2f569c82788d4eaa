"""Options that say what the numbers in a label image mean."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

from napari_emda.data.label_meaning import LabelMeaning
from napari_emda.errors import JobError

ZERO = ("background", "unannotated", "sections")
"""What 0 can mean: see the options' help."""

BackgroundOption = Annotated[
    int | None,
    typer.Option(
        "--background",
        help="The number of the background in the labels, such as 1 in ilastik's Simple "
        "Segmentation; the other numbers are the classes in their order.",
    ),
]
IgnoreOption = Annotated[
    list[str] | None,
    typer.Option(
        "--ignore",
        metavar="NUMBER",
        help="A number in the labels that says that nobody looked there, such as 255 or -1; can be "
        "repeated. 'none' if there is no such number.",
    ),
]


# Characters of a wrong value that a message repeats.
_LONGEST = 40


def label_meaning(
    background: int | None,
    ignore: Sequence[str] | None,
    zero: str = "background",
    *,
    one_is_background: bool = False,
) -> LabelMeaning:
    """The meaning that the options state.

    Args:
        background: of ``--background``.
        ignore: of ``--ignore``.
        zero: of ``--zero``.
        one_is_background: whether 1 is the background if 0 is not annotated and ``background`` is
            None; otherwise no number is.

    Raises:
        JobError: a value is not one that the option takes.
    """
    check_choice("--zero", zero, ZERO)
    ignored = None if ignore is None else _numbers(ignore)
    if zero == "unannotated":
        ignored = tuple(dict.fromkeys((0, *(ignored or ()))))
        if background is None and one_is_background:
            background = 1
    if background is not None and background in (ignored or ()):
        raise JobError(
            f"The number {background} cannot be background and ignored: give one of both."
        )
    return LabelMeaning(background, ignored, labelled_sections=zero == "sections")


def check_choice(option: str, value: str, allowed: Sequence[str]) -> None:
    """JobError if an option does not have one of its values."""
    if value not in allowed:
        raise JobError(
            f"'{value}' is not a value of {option}: choose {', '.join(allowed[:-1])} or "
            f"{allowed[-1]}."
        )


def _numbers(texts: Sequence[str]) -> tuple[int, ...]:
    if list(texts) == ["none"]:
        return ()
    try:
        return tuple(int(text) for text in texts)
    except ValueError:
        wrong = [text for text in texts if not text.lstrip("+-").isdigit()]
        # All of them are digits if one has thousands, which Python does not read.
        shown = (wrong or [max(texts, key=len)])[0][:_LONGEST]
        raise JobError(
            f"'{shown}' is not a value of --ignore: give a whole number, or none."
        ) from None
