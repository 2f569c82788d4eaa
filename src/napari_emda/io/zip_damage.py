"""Zip files that are damaged, encrypted or of another kind: each kind of damage has its own error.

zipfile has some, each of its decompressors has another one, and places in a file that cannot be
are refused by the system.
"""

from __future__ import annotations

import contextlib
import errno
import lzma
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator

from napari_emda.errors import EmdaError

DAMAGE = (
    EOFError,
    KeyError,
    OverflowError,
    # Passwords, and kinds of compression that are not known.
    RuntimeError,
    ValueError,
    lzma.LZMAError,
    struct.error,
    zipfile.BadZipFile,
    zlib.error,
)
"""What reading a zip file raises that is at fault itself, besides an OSError."""

# bz2 raises an OSError without a number; the system knows no place before the first byte.
_OF_CONTENT = (None, errno.EINVAL)


@contextlib.contextmanager
def damage_as(error_of: Callable[[str], EmdaError]) -> Iterator[None]:
    """A block that reads a zip file, in which damage of the file becomes an error of ours.

    Args:
        error_of: makes the error, of a reason.

    Raises:
        OSError: the system or the disk is at fault.
    """
    try:
        yield
    except (OSError, *DAMAGE) as error:
        if isinstance(error, OSError) and error.errno not in _OF_CONTENT:
            raise
        raise error_of(str(error) or type(error).__name__) from None
