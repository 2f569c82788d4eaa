"""zarr stores in zip files, which unpack to no more than they should."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from zarr.storage import ZipStore

from napari_emda.errors import DataError
from napari_emda.io.safe_files import LARGEST_JSON
from napari_emda.io.unfolding import check_packed_size
from napari_emda.io.zip_file import check_list

if TYPE_CHECKING:
    from zarr.abc.store import ByteRequest
    from zarr.core.buffer import Buffer, BufferPrototype

# The files that describe arrays and groups.
_METADATA = (".json", ".zarray", ".zgroup", ".zattrs", ".zmetadata")
# Bytes of a chunk or a shard.
LARGEST_CHUNK = 2**32


class CheckedZip(ZipStore):
    """A zip file of zarr, for reading, in which every entry is looked at before it is unpacked.

    Args:
        path: of the file.
    """

    def __init__(self, path: Path) -> None:
        check_list(path)
        super().__init__(path, read_only=True, mode="r")
        self._sync_open()
        self.folder = self._only_folder()

    def _only_folder(self) -> str:
        """The folder that everything is in, where a folder was packed as a whole; else empty."""
        names = self._zf.namelist()
        if any(name in ("zarr.json", ".zgroup", ".zarray") for name in names):
            return ""
        folders = {name.split("/")[0] for name in names if not name.startswith("__MACOSX")}
        return folders.pop() if len(folders) == 1 else ""

    def read_chunk(self, key: str, expected: int) -> bytes:
        """An entry that unfolds to ``expected`` bytes once it was taken out of the zip file.

        Raises:
            FileNotFoundError: there is none.
            ValueError: it is larger than what it should unfold to.
        """
        with self._lock:
            try:
                entry = self._zf.getinfo(key)
            except KeyError:
                raise FileNotFoundError(key) from None
            check_packed_size(entry.file_size, expected)
            return self._zf.read(entry)

    async def get(
        self,
        key: str,
        prototype: BufferPrototype,
        byte_range: ByteRequest | None = None,
    ) -> Buffer | None:
        """See `ZipStore`; DataError if an entry is too large."""
        try:
            size = self._zf.getinfo(key).file_size
        except KeyError:
            return None
        if size > (LARGEST_JSON if key.endswith(_METADATA) else LARGEST_CHUNK):
            raise DataError(
                f"{Path(self.path).name} holds '{key}' of {size} bytes, which cannot be right: "
                "save or copy it again."
            )
        return await super().get(key, prototype, byte_range)
