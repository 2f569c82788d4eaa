"""Names that come from files: which of them may become part of a path, and which are shown."""

from __future__ import annotations

import os
import re
from typing import Annotated

from pydantic import AfterValidator

# Bytes of a name: file systems allow 255, and ours add an ending and a random part to it.
LONGEST = 180
# "/" and "\" lead into other folders, ":" to another drive or stream of Windows.
_SEPARATORS = frozenset("/\\:")
# Windows takes such names for devices, whatever follows the dot.
_DEVICE = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])(\.|$)", re.IGNORECASE)


def check_file_name(name: str) -> str:
    """Check that a name stays in its folder when it becomes part of a path.

    This is the one rule for the names of volumes, runs and regions, whichever file they are from.

    Raises:
        ValueError: it is empty, "." or "..", too long, or has a separator or a character that is
            not shown.
    """
    check_shown_name(name)
    if name in (".", "..") or _SEPARATORS & set(name):
        raise ValueError(f"'{name}' cannot be the name of a file")
    return name


def is_device(name: str) -> bool:
    """Whether Windows takes the name of a file for a device, as it does ``aux.tif``."""
    return _DEVICE.match(name) is not None


def check_shown_name(name: str) -> str:
    """Check that a name, such as that of a class, can be shown as it is.

    Raises:
        ValueError: it is empty or too long, or has a character that is not shown, such as those
            that move the cursor of a terminal.
    """
    if not name.strip():
        raise ValueError("A name is empty")
    if not name.isprintable():
        raise ValueError(f"'{in_print(name)}' has characters that cannot be shown")
    if len(name.encode()) > LONGEST:
        raise ValueError(f"The name '{name[:20]}...' is too long")
    return name


def is_utf8(path: str) -> bool:
    """Whether a path can be written into a text, as JSON is.

    Names of files are any bytes on Linux; Python writes those that are no text as surrogates.
    """
    try:
        os.fsencode(path).decode("utf-8")
    except UnicodeError:
        return False
    return True


def _empty_or_file_name(name: str) -> str:
    return check_file_name(name) if name else name


FileName = Annotated[str, AfterValidator(check_file_name)]
"""The type of a name that becomes part of a path."""
OptionalFileName = Annotated[str, AfterValidator(_empty_or_file_name)]
"""As `FileName`, or empty."""
ShownName = Annotated[str, AfterValidator(check_shown_name)]
"""The type of a name that is only shown."""


def in_one_line(text: str) -> str:
    r"""A text in one line, with every character that is not shown written as an escape.

    >>> in_one_line("a\n\x1b[2J  b")
    'a \\x1b[2J b'
    """
    return " ".join(in_print(text).split())


def in_print(text: str) -> str:
    r"""A text with every character that is not shown written as an escape; lines stay lines.

    >>> in_print("a\x1b[2Jb")
    'a\\x1b[2Jb'
    """
    return "".join(
        character
        if character.isprintable() or character == "\n"
        else character.encode("unicode_escape", "surrogatepass").decode("ascii")
        for character in text
    )
