"""OME-Zarr on the web and in the stores of clouds, read chunk by chunk.

Credentials are those that the libraries find in the environment; none is stored.
"""

from __future__ import annotations

from http import HTTPStatus
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import zarr
from zarr.storage import FsspecStore

from napari_emda.data.names import in_print
from napari_emda.errors import DataError, listed
from napari_emda.io.checked_zip import LARGEST_CHUNK
from napari_emda.io.location import Part
from napari_emda.io.readers.ome_zarr import open_node
from napari_emda.io.safe_files import LARGEST_JSON
from napari_emda.io.units import Stored

if TYPE_CHECKING:
    from zarr.abc.store import ByteRequest
    from zarr.core.buffer import Buffer, BufferPrototype

# The library that reads each kind of address.
_LIBRARIES = {"https": "aiohttp", "http": "aiohttp", "s3": "s3fs", "gs": "gcsfs"}
# Seconds that a chunk may take. Without a limit, a connection that broke silently would stop a
# training; a chunk of 64 MB takes as long at 1 MB/s.
_PATIENCE = 60.0
# Bytes that are asked for at a time, and letters of a server's words in a message.
_STEP = 2**20
_LONGEST_REASON = 120
_METADATA = ("zarr.json", ".zarray", ".zgroup", ".zattrs", ".zmetadata")


def open_address(address: str, part: Part) -> Stored:
    """Open an OME-Zarr image or a zarr array at an address.

    Args:
        address: of the image or array: ``https://``, ``http://``, ``s3://`` or ``gs://``.
        part: see `napari_emda.io.readers.ome_zarr.open_zarr`.

    Raises:
        DataError: an address of another kind, a library that is not installed, nothing there, no
            permission, no connection, or see `open_zarr`.
    """
    scheme = address.partition(":")[0]
    # fsspec takes such an address for one in another, which may be on this disk.
    if scheme not in _LIBRARIES or "::" in address:
        kinds = listed([f"{kind}://" for kind in _LIBRARIES], "or")
        raise DataError(
            f"'{address}' is an address that cannot be opened: use {kinds}, or download the image."
        )
    library = _LIBRARIES[scheme]
    if find_spec(library) is None or find_spec("fsspec") is None:
        raise DataError(
            f"'{address}' needs the library {library}: install it with pip install "
            "'napari-emda[remote]', or download the image."
        )
    try:
        node = zarr.open(_Remote.at(address, scheme), mode="r")
    except FileNotFoundError:
        raise DataError(
            f"'{address}' holds no OME-Zarr image and no zarr array: check the address, or "
            "download a file of another format."
        ) from None
    name = address.rstrip("/").rpartition("/")[2]
    return open_node(node, name, part, within="/")


def _unreachable(address: str, error: Exception) -> DataError:
    """One sentence on why something at an address cannot be read."""
    status = getattr(error, "status", None)
    if status in (401, 403) or isinstance(error, PermissionError):
        return DataError(
            f"'{address}' may not be read without a login ({status or error}): set the credentials "
            "that its store needs, or download the image."
        )
    words = in_print((str(error).splitlines() or [""])[0])[:_LONGEST_REASON]
    reason = words or type(error).__name__
    return DataError(
        f"'{address}' cannot be read ({reason}): check the address and the connection, or download "
        "the image."
    )


class _Remote(FsspecStore):
    """A store of which descriptions beyond all sizes are not read."""

    @classmethod
    def at(cls, address: str, scheme: str) -> _Remote:
        """The store of an address."""
        options: dict[str, Any] = {}
        if scheme in ("http", "https"):
            from aiohttp import ClientTimeout

            options["client_kwargs"] = {"timeout": ClientTimeout(total=_PATIENCE)}
        store = cls.from_url(address, storage_options=options, read_only=True)
        assert isinstance(store, cls)
        return store

    async def get(
        self,
        key: str,
        prototype: BufferPrototype,
        byte_range: ByteRequest | None = None,
    ) -> Buffer | None:
        """See `FsspecStore`; DataError for whatever a network and a server can do."""
        path = f"{self.path.rstrip('/')}/{key}"
        is_description = key.rpartition("/")[2] in _METADATA
        limit = LARGEST_JSON if is_description else LARGEST_CHUNK
        try:
            if byte_range is None and path.startswith("http"):
                content = await self._whole(path, limit)
                return None if content is None else prototype.buffer.from_bytes(content)
            if is_description:
                await self._check_size(path)
            return await super().get(key, prototype, byte_range)
        except DataError:
            raise
        # Each of the libraries has errors of its own.
        except Exception as error:
            raise _unreachable(path, error) from error

    async def _whole(self, path: str, limit: int) -> bytes | None:
        """What a web server sends, which may be more than it says; None if there is nothing."""
        session = await self.fs.set_session()
        content = bytearray()
        async with session.get(self.fs.encode_url(path), **self.fs.kwargs) as response:
            if response.status == HTTPStatus.NOT_FOUND:
                return None
            response.raise_for_status()
            if (response.content_length or 0) > limit:
                raise _too_large(path, str(response.content_length))
            async for block in response.content.iter_chunked(_STEP):
                content += block
                if len(content) > limit:
                    raise _too_large(path, f"more than {limit}")
        return bytes(content)

    async def _check_size(self, path: str) -> None:
        try:
            size = (await self.fs._info(path)).get("size")
        except self.allowed_exceptions:
            return
        if size is not None and size > LARGEST_JSON:
            raise _too_large(path, str(size))


def _too_large(path: str, size: str) -> DataError:
    what = "description of an image" if path.endswith(_METADATA) else "chunk of an image"
    return DataError(f"'{path}' of {size} bytes is far too large for a {what}: check the address.")
