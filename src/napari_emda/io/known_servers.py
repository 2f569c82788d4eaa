r"""Servers that this user reads images from.

A project from somebody else may name any address. Reading it tells the server who works with the
project and when, under the user's name where the environment holds credentials. So only servers are
read that the user has named or allowed on this computer. On Windows, the same holds for shares:
opening ``\\server\share\a.tif`` logs in there.
"""

from __future__ import annotations

from pathlib import Path, PurePath, PureWindowsPath
from urllib.parse import urlsplit

from napari_emda.errors import DataError
from napari_emda.io.atomic import write_text
from napari_emda.io.cache import cache_folder
from napari_emda.io.safe_files import read_file


class UnknownServer(DataError):
    """An image lies on a server that the user has not named yet.

    Attributes:
        server: see `server_of`.
    """

    def __init__(self, server: str) -> None:
        super().__init__(
            f"An image of this project lies at {server}, which was never read on this computer: if "
            "you trust it, allow it (napari-emda allow PROJECT)."
        )
        self.server = server


def share_of(path: PurePath) -> str:
    r"""The share on which Windows finds a path, such as ``\\server\share``; else empty."""
    return path.drive if path.drive.startswith("\\\\") else ""


def server_of(address: str) -> str:
    """The server of an address, its bucket, or the share of a path on one.

    >>> server_of("https://example.org/a/stack.zarr")
    'https://example.org'

    Raises:
        DataError: the address holds a login, or no server.
    """
    if share := share_of(PureWindowsPath(address)):
        return share.lower()
    try:
        parts = urlsplit(address)
        server = parts.hostname or ""
        port = "" if parts.port is None else f":{parts.port}"
    except ValueError:  # such as a port that is no number
        server = ""
    if not server:
        raise DataError(f"'{address}' names no server: write it as in https://example.org/a.zarr.")
    if "@" in parts.netloc:
        raise DataError(
            f"The address at {server} holds a login, which the project would keep for everyone to "
            "read: leave it out, and set the credentials in the environment."
        )
    return f"{parts.scheme.lower()}://{server}{port}"


def allow(address: str) -> None:
    """Note that the user wants to read from the server of an address."""
    server = server_of(address)
    servers = _known()
    if server not in servers:
        path = _path()
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, "".join(f"{line}\n" for line in sorted({*servers, server})))


def check_known(address: str) -> None:
    """Check that the user has named or allowed the server of an address.

    Raises:
        UnknownServer: that has not happened on this computer, or the cache was emptied since.
        DataError: see `server_of`.
    """
    server = server_of(address)
    if server not in _known():
        raise UnknownServer(server)


def _path() -> Path:
    return cache_folder() / "servers.txt"


def _known() -> set[str]:
    try:
        # One a line: shares may hold spaces.
        return set(read_file(_path()).decode("utf-8", "replace").splitlines())
    except OSError:  # there is none yet
        return set()
