"""Packing a project into one file, to hand it to somebody or to attach it to a publication."""

from __future__ import annotations

import hashlib
import os
import re
import time
import zipfile
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path, PurePath

from napari_emda.errors import DataError, JobError
from napari_emda.events import Phase
from napari_emda.io.atomic import replacing_file, workspace
from napari_emda.io.location import located
from napari_emda.io.read import open_image, open_labels
from napari_emda.io.reader import reader_of
from napari_emda.io.safe_files import inside, refuse_link
from napari_emda.project.file import ProjectFile, VolumeEntry, text_of
from napari_emda.project.packing.crops import boxes_to_keep, middle, write_in_place, write_part
from napari_emda.project.packing.manifest import (
    JOURNALS,
    MANIFEST,
    PROJECT,
    Images,
    PackedFile,
    PackHeader,
    check_distinct,
    check_member_name,
)
from napari_emda.project.packing.unpack import opened_pack
from napari_emda.project.project import Project
from napari_emda.project.run_folder import RUNS, RunFolder

# Files of a run that say who works on it, or show what is being done: nobody else needs them.
_OF_PROCESSES = re.compile(r"\..*|trained-by\.json|predicted-by-.*\.json|job\.log|.*\.npy")
# What was computed from a whole image, which a pack of crops does not hold.
_OF_IMAGES = re.compile(
    r"probabilities\.zarr|uncertainty\.zarr|object_maps\.zarr|objects"
    r"|predicted-.*\.jsonl|calibration-.*\.json"
)
# Bytes that are read at a time.
_STEP = 2**20
# 1980-01-01, in seconds since 1970: zip files know no times before.
_FIRST_TIME = 315_532_800
# 2107-12-31, nor after.
_LAST_TIME = 4_354_732_800


@dataclass(frozen=True)
class Packed:
    """What was packed.

    Attributes:
        path: of the file.
        files: how many it holds.
        size: bytes.
        left_out: images and labels that are not in it, as the packed project names them.
    """

    path: Path
    files: int
    size: int
    left_out: tuple[str, ...]


@dataclass(frozen=True)
class _Source:
    """A file to be packed: on the disk, or its content."""

    name: str
    path: Path | None = None
    content: bytes = b""


@dataclass
class _Images:
    """The images of a pack, as they are collected.

    Attributes:
        sources: files to be packed.
        left_out: paths of those that are not.
        beside: names beside the packed project, by the paths of the files that belong there.
        whole: names in the pack, by the paths of files that are packed whole.
    """

    sources: list[_Source] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    beside: dict[Path, str] = field(default_factory=dict)
    whole: dict[Path, str] = field(default_factory=dict)


def pack(
    project: Project, path: Path, images: Images = "none", *, overwrite: bool = False
) -> Generator[Phase, None, Packed]:
    """Pack a project; what is written is read back and compared.

    Left out are backups, what a repair has replaced, and what could be undone.

    Args:
        project: opened exclusively, so that nobody changes it meanwhile.
        path: of the file, which ends in .zip.
        images: ``none``; ``crops``: parts around the annotated patches, without the predictions,
            which belong to whole images; ``whole``: all images and labels that are files.
        overwrite: replace an older file.

    Yields:
        What is being done.

    Raises:
        JobError: a run is being trained or predicted, there is a link, or a name that not every
            system can store.
        DataError: an image cannot be read, or the file not be written there.
    """
    path = project.claim(path, (".zip",), overwrite=overwrite)
    _check_idle(project)
    with workspace(path) as folder:
        yield Phase("Collecting files")
        file, found = _collected(project, images, folder)
        sources = [
            _Source(PROJECT, content=text_of(file).encode()),
            *_own_files(project, images),
            *found.sources,
        ]
        _check_names(sources)
        with replacing_file(path) as partial:
            yield from _write(
                partial, sources, PackHeader(program=version("napari-emda"), images=images)
            )
            # What a failing disk has spoilt would be noticed when it is too late.
            with opened_pack(partial) as packed:
                for done, member in enumerate(packed.files):
                    yield from _shown("Reading back", done, len(packed.files))
                    packed.copy(member, lambda _: None)
    return Packed(path, len(sources), path.stat().st_size, tuple(dict.fromkeys(found.left_out)))


def _check_idle(project: Project) -> None:
    """JobError if a process writes into a run."""
    for name in project.runs.names():
        run = RunFolder.of(project.folder, name)
        if run.is_written:
            raise JobError(
                f"The run '{name}' is being trained or predicted: wait for its end, or stop it."
            )


# -- images ----------------------------------------------------------------------------------------


def _collected(project: Project, images: Images, folder: Path) -> tuple[ProjectFile, _Images]:
    """The packed ``project.json``, and the files of images that it names."""
    found = _Images()
    take = {"none": _without, "crops": _cropped, "whole": _whole}[images]
    entries = tuple(take(project, entry, found, folder) for entry in project.volumes.entries)
    return ProjectFile(classes=project.classes, volumes=entries), found


def _without(project: Project, entry: VolumeEntry, found: _Images, _: Path) -> VolumeEntry:
    """The entry with its files beside the packed project, where the receiver puts them."""
    paths = {"image": entry.image, "labels": entry.labels}
    beside = {
        kind: None if path is None else _beside(project, path, found)
        for kind, path in paths.items()
    }
    found.left_out += [path for path in beside.values() if path is not None]
    return entry.model_copy(update=beside)


def _beside(project: Project, stored: str, found: _Images) -> str:
    """Where the receiver puts a file: beside the project, under a name of its own."""
    if "://" in stored:
        return stored
    location = located(project.volumes.path(stored))
    if location.file not in found.beside:
        name = location.file.name
        taken = set(found.beside.values())
        count = 2
        while name in taken:
            name = f"{location.file.stem}-{count}{location.file.suffix}"
            count += 1
        found.beside[location.file] = name
    return f"../{found.beside[location.file]}{location.part}"


def _whole(project: Project, entry: VolumeEntry, found: _Images, _: Path) -> VolumeEntry:
    """The entry with its files in the pack."""
    packed = {}
    for kind, path in (("image", entry.image), ("labels", entry.labels)):
        if path is not None and "://" in path:
            found.left_out.append(path)
        elif path is not None:
            packed[kind] = _packed_whole(project.volumes.path(path), f"{entry.name}/{kind}", found)
    return entry.model_copy(update=packed)


def _packed_whole(path: Path, folder: str, found: _Images) -> str:
    location = located(path)
    file = location.file.resolve()
    if file not in found.whole:
        # Whatever cannot be read is refused with the words of its reader.
        open_image(path)
        top = f"volumes/{folder}"
        for part in reader_of(location.file).files(location.file):
            name = part.relative_to(location.file.parent).as_posix()
            found.sources.append(_Source(f"{top}/{name}", part))
        found.whole[file] = f"{top}/{location.file.name}"
    return f"{found.whole[file]}{location.part}"


def _cropped(project: Project, entry: VolumeEntry, found: _Images, folder: Path) -> VolumeEntry:
    """The entry with parts of its image in the pack.

    Around patches, they lie at their places in an empty volume, so that annotations fit; the labels
    of such a volume would say that it is background, and are left out.
    """
    image = open_image(project.volumes.path(entry.image)).array
    top = f"volumes/{entry.name}"
    parts: dict[str, str | None] = {"image": f"{top}/image.zarr", "labels": None}
    (folder / top).mkdir(parents=True)
    if entry.domain == "target" or project.annotations.open(entry.name):
        regions = [region for region in project.regions.all() if region.volume == entry.name]
        write_in_place(image, boxes_to_keep(regions, image.shape), folder / top / "image.zarr")
    else:
        box = middle(image.shape)
        write_part(image, box, folder / top / "image.zarr")
        if entry.labels is not None:
            labels = open_labels(project.volumes.path(entry.labels)).array
            write_part(labels, box, folder / top / "labels.zarr")
            parts["labels"] = f"{top}/labels.zarr"
    files = (path for path in sorted((folder / top).rglob("*")) if path.is_file())
    found.sources += [_Source(path.relative_to(folder).as_posix(), path) for path in files]
    return entry.model_copy(update=parts)


# -- files of the project --------------------------------------------------------------------------


def _own_files(project: Project, images: Images) -> Iterator[_Source]:
    """The files of the project's folder that travel."""
    folder = project.folder
    for name in JOURNALS:
        path = inside(folder, name)
        if path.is_file():
            yield _Source(name, path)
    yield from _tree(folder, "annotations")
    for name in sorted(project.runs.names()):
        yield from _run_files(folder, name, images)


def _run_files(folder: Path, name: str, images: Images) -> Iterator[_Source]:
    run = RunFolder.of(folder, name)
    for entry in sorted(os.scandir(run.path), key=lambda entry: entry.name):
        if _OF_PROCESSES.fullmatch(entry.name):
            continue
        if images == "crops" and _OF_IMAGES.fullmatch(entry.name):
            continue
        place = f"{RUNS}/{name}/{entry.name}"
        refuse_link(Path(entry.path))
        if entry.is_dir():
            yield from _tree(folder, place)
        elif entry.name in ("job.json", "log.jsonl"):
            yield _Source(place, content=_without_folders(run, Path(entry.path)))
        else:
            yield _Source(place, Path(entry.path))


def _without_folders(run: RunFolder, path: Path) -> bytes:
    """A job or a log that no longer says where the project lay, which names the user."""
    content = path.read_bytes()
    folders = {str(run.path.parents[1])}
    job = run.training()
    if job is not None and PurePath(job.project).is_absolute():
        folders.add(job.project)
    for folder in sorted(folders, key=len, reverse=True):
        # As JSON writes it: Windows has backslashes in paths.
        written = folder.replace("\\", "\\\\").encode("utf-8", "surrogateescape")
        content = content.replace(written, b".")
    return content


def _tree(folder: Path, place: str) -> Iterator[_Source]:
    """All files below a folder of the project but hidden ones; JobError for links."""
    top = inside(folder, *place.split("/"))
    for where, names, files in os.walk(top):
        names.sort()
        for name in names:
            refuse_link(Path(where, name))
        for name in sorted(files):
            path = Path(where, name)
            refuse_link(path)
            if not name.startswith("."):
                yield _Source(path.relative_to(folder).as_posix(), path)


def _check_names(sources: Sequence[_Source]) -> None:
    for source in sources:
        try:
            check_member_name(source.name)
        except ValueError as error:
            raise JobError(
                f"'{source.name}' cannot be packed ({error}): rename the file or folder."
            ) from None
    try:
        check_distinct(source.name for source in sources)
    except ValueError as error:
        raise JobError(
            f"The project cannot be packed, because other systems have no place for it ({error}): "
            "rename the volume, run or file."
        ) from None


# -- writing ---------------------------------------------------------------------------------------


def _write(path: Path, sources: list[_Source], header: PackHeader) -> Iterator[Phase]:
    lines = [header.model_dump_json()]
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for done, source in enumerate(sources):
            yield from _shown("Packing", done, len(sources))
            lines.append(_add(archive, source).model_dump_json())
        archive.writestr(_info(MANIFEST, time.time_ns()), "\n".join(lines) + "\n")


def _add(archive: zipfile.ZipFile, source: _Source) -> PackedFile:
    content = hashlib.sha256()
    size = 0
    changed = time.time_ns() if source.path is None else max(0, source.path.stat().st_mtime_ns)
    with archive.open(_info(source.name, changed), "w", force_zip64=True) as stream:
        for piece in _pieces(source):
            content.update(piece)
            size += len(piece)
            stream.write(piece)
    return PackedFile(name=source.name, size=size, sha256=content.hexdigest(), time=changed)


def _pieces(source: _Source) -> Iterator[bytes]:
    if source.path is None:
        yield source.content
        return
    try:
        with source.path.open("rb") as file:
            while piece := file.read(_STEP):
                yield piece
    except OSError as error:
        raise DataError(
            f"'{source.path}' cannot be read ({error.strerror}): check its permissions and its "
            "disk."
        ) from None


def _info(name: str, changed: int) -> zipfile.ZipInfo:
    date = time.gmtime(min(max(changed // 10**9, _FIRST_TIME), _LAST_TIME))
    info = zipfile.ZipInfo(name, (date[0], date[1], date[2], date[3], date[4], date[5]))
    info.external_attr = 0o100644 << 16
    return info


def _shown(what: str, done: int, total: int) -> Iterator[Phase]:
    """A phase for every tenth of the work."""
    if done % max(1, total // 10) == 0:
        yield Phase(f"{what}, {100 * done // total} %")
