"""zarr stores on a disk that neither leave their folder nor keep the program waiting."""

from __future__ import annotations

import asyncio
import contextlib
import os
import stat
from collections.abc import AsyncIterator, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

import zarr
from zarr.errors import BaseZarrError
from zarr.storage import LocalStore, StorePath

from napari_emda.data.names import in_print
from napari_emda.errors import DataError, EmdaError, JobError
from napari_emda.io.atomic import replacing_file
from napari_emda.io.safe_files import LARGEST_JSON, refuse_link
from napari_emda.json_text import parse_json

if TYPE_CHECKING:
    from zarr.abc.store import ByteRequest
    from zarr.core.buffer import Buffer, BufferPrototype

# Characters of a library's text that a message repeats: some list all that they were given.
_LONGEST_REASON = 200

# The files that describe arrays and groups, in both formats of zarr.
_METADATA = ("zarr.json", ".zarray", ".zgroup", ".zattrs", ".zmetadata")


class CheckedStore(LocalStore):
    """A folder of zarr in which every file is looked at before it is opened.

    Special files and metadata beyond all sizes are refused. In a project, links are as well: it may
    come from somebody else, and a link would lead writing into other folders.

    Args:
        root: folder of the array or group.
        read_only: whether nothing may be written.
        follow_links: for images, which are only read; many users link their data.
    """

    # Whether the content of a file is on the disk before it takes the place of an older one.
    _durable = False

    def __init__(
        self, root: Path | str, *, read_only: bool = False, follow_links: bool = False
    ) -> None:
        super().__init__(root, read_only=read_only)
        self._follow_links = follow_links
        # Folders that were looked at, by key: a store has thousands of chunks in few of them.
        self._checked: dict[str, Path] = {}
        if not follow_links:
            refuse_link(self.root)

    def with_read_only(self, read_only: bool = False) -> Self:
        """The same store, for reading only or for reading and writing."""
        return type(self)(self.root, read_only=read_only, follow_links=self._follow_links)

    def check(self, key: str) -> Path:
        """The path of a key.

        Raises:
            JobError: it is or leads through a link, or is a special file or too large.
        """
        folder, _, name = key.rpartition("/")
        path = self._checked.get(folder) or self._check_folder(folder)
        if name:
            path = path / name
            self._refuse(path)
        if name in _METADATA and path.exists() and path.stat().st_size > LARGEST_JSON:
            raise JobError(
                f"'{in_print(str(path))}' is far too large for what it describes: restore it from "
                "a backup."
            )
        return path

    def _check_folder(self, key: str) -> Path:
        """The path of a folder, once all folders that lead to it were looked at."""
        path = self.root
        self._refuse(path)
        for part in filter(None, key.split("/")):
            path = path / part
            self._refuse(path)
        self._checked[key] = path
        return path

    def _refuse(self, path: Path) -> None:
        if not self._follow_links:
            refuse_link(path)
            return
        try:
            mode = path.stat().st_mode
        except OSError:
            return
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
            raise JobError(f"'{in_print(str(path))}' is neither a file nor a folder: delete it.")

    # -- what zarr calls --------------------------------------------------------------------------

    def get_sync(
        self,
        key: str,
        *,
        prototype: BufferPrototype | None = None,
        byte_range: ByteRequest | None = None,
    ) -> Buffer | None:
        """See `LocalStore`."""
        self.check(key)
        return super().get_sync(key, prototype=prototype, byte_range=byte_range)

    def set_sync(self, key: str, value: Buffer) -> None:
        """See `LocalStore`."""
        self._ensure_open_sync()
        self._check_writable()
        self._write(self.check(key), value)

    def delete_sync(self, key: str) -> None:
        """See `LocalStore`."""
        self.check(key)
        super().delete_sync(key)

    async def get(
        self,
        key: str,
        prototype: BufferPrototype | None = None,
        byte_range: ByteRequest | None = None,
    ) -> Buffer | None:
        """See `LocalStore`."""
        # zarr sends every file to another thread, of which a section has hundreds, and an empty
        # chunk has none.
        if not self.check(key).exists():
            return None
        return await super().get(key, prototype, byte_range)

    async def get_partial_values(
        self, prototype: BufferPrototype, key_ranges: Iterable[tuple[str, ByteRequest | None]]
    ) -> list[Buffer | None]:
        """See `LocalStore`."""
        ranges = list(key_ranges)
        for key, _ in ranges:
            self.check(key)
        return await super().get_partial_values(prototype, ranges)

    async def _set(self, key: str, value: Buffer, exclusive: bool = False) -> None:
        if not self._is_open:
            await self._open()
        self._check_writable()
        path = self.check(key)
        # zarr asks for this where metadata must not be replaced.
        if exclusive and path.exists():
            raise FileExistsError(path)
        await asyncio.to_thread(self._write, path, value)

    def _write(self, path: Path, value: Buffer) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        # zarr, too, writes beside the name first; what a killed program has left of that stays.
        with replacing_file(path, durable=False) as partial, partial.open("wb") as file:
            file.write(value.as_buffer_like())
            if self._durable:
                file.flush()
                os.fsync(file.fileno())

    async def delete(self, key: str) -> None:
        """See `LocalStore`."""
        self.check(key)
        await super().delete(key)

    async def delete_dir(self, prefix: str) -> None:
        """See `LocalStore`."""
        self.check(prefix)
        await super().delete_dir(prefix)

    async def list_dir(self, prefix: str) -> AsyncIterator[str]:
        """See `LocalStore`."""
        self.check(prefix)
        async for key in super().list_dir(prefix):
            yield key


class CheckedArray(zarr.Array[Any]):
    """An array of a project, whose damaged chunks are reported in a sentence that names it."""

    def __getitem__(self, selection: Any) -> Any:
        """See `zarr.Array`; DataError if a chunk cannot be decoded."""
        with naming_damage(self.place):
            return super().__getitem__(selection)

    def __setitem__(self, selection: Any, value: Any) -> None:
        """See `zarr.Array`; DataError if a chunk that is changed in part cannot be decoded."""
        with naming_damage(self.place):
            super().__setitem__(selection, value)

    @property
    def place(self) -> str:
        """The path of the array's folder."""
        return str(getattr(self.store, "root", self.store_path))


# What is no damage: a sentence already, a fault of the system, and an index beyond the end.
_NO_DAMAGE = (EmdaError, OSError, MemoryError, IndexError)


@contextlib.contextmanager
def naming_damage(
    place: str, remedy: str = "mend it with 'napari-emda check PROJECT --repair'"
) -> Iterator[None]:
    """A block in which whatever zarr and its codecs raise means that an array is damaged.

    Args:
        place: path of the array.
        remedy: what to do then.

    Raises:
        DataError: the array is damaged.
    """
    try:
        yield
    except _NO_DAMAGE as error:
        # zarr's error for a folder without metadata is one of the system's as well.
        if not isinstance(error, BaseZarrError):
            raise
        raise _damaged(place, error, remedy) from error
    # Every codec has errors of its own, and metadata that lie lead to any.
    except Exception as error:
        raise _damaged(place, error, remedy) from error


def _damaged(place: str, error: Exception, remedy: str) -> DataError:
    # Of zarr's texts of several sentences, the first.
    reason = (str(error).splitlines() or [type(error).__name__])[0].split(". ")[0].rstrip(".")
    return DataError(
        f"'{in_print(place)}' is damaged ({in_print(reason[:_LONGEST_REASON])}): {remedy}."
    )


def open_array(
    path: Path, mode: Literal["r", "r+"] = "r", *, durable: bool = False
) -> CheckedArray:
    """Open an array of a project.

    Args:
        path: its folder.
        mode: for reading only, or for reading and writing.
        durable: whether what is written is on the disk at once, see `DurableStore`.

    Raises:
        JobError: there is a link or a special file.
        DataError: there is no array, or its metadata are damaged.
        OSError: it cannot be read.
    """
    kind = DurableStore if durable else CheckedStore
    store = kind(path, read_only=mode == "r")
    with naming_damage(str(path)):
        try:
            return _described(store) or CheckedArray(zarr.open_array(store, mode=mode).async_array)
        except IndexError as error:
            # Nothing was indexed yet: it comes from metadata that lie.
            raise ValueError(error) from error


def _described(store: CheckedStore) -> CheckedArray | None:
    """The array of a store in the format that projects are written in; None for any other.

    zarr's own way leads through other threads, and takes some milliseconds on a busy machine. A
    decision on a patch opens a dozen arrays.
    """
    content = store.get_sync("zarr.json")
    described = None if content is None else parse_json(content.to_bytes())
    if not isinstance(described, dict) or described.get("node_type") != "array":
        return None
    return CheckedArray.from_dict(StorePath(store), described)


class DurableStore(CheckedStore):
    """A folder of zarr for what a user has made, which no power failure may take away.

    The content of each file is on the disk before it takes the place of an older one. Otherwise a
    change of one voxel could cost the whole chunk. That the file has its name is not: see
    `napari_emda.io.atomic.sync`.
    """

    _durable = True
