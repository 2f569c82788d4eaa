"""What an exporter is: one kind of result, written to a file of the user's choice."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

from numpy.typing import DTypeLike

from napari_emda.data.array import Array
from napari_emda.data.block_runner import IN_TURN, BlockRunner
from napari_emda.data.box import Box
from napari_emda.data.cropped import Cropped
from napari_emda.data.probabilities import ClassProbability
from napari_emda.data.volume import Volume
from napari_emda.errors import SettingsError
from napari_emda.events import Event, Saved, TileDone, stage
from napari_emda.io.write import check_destination, save_volume
from napari_emda.io.writer import Surface, Writer, check_library, image_formats, writer_of
from napari_emda.objects.edited import EditedObjects
from napari_emda.objects.edits import ObjectEdit
from napari_emda.objects.replay import replay, splitter
from napari_emda.objects.separation import find_separate_objects_in
from napari_emda.objects.table import find_extents
from napari_emda.project.found_objects import identity_of
from napari_emda.registry import Registry, did_you_mean
from napari_emda.settings import base
from napari_emda.settings.objects import SeparationSettings


@dataclass
class CarriedEdits:
    """Edits of the objects of a volume, which its exports contain.

    Attributes:
        edits: by the name of the class.
        prediction: header of the prediction that is exported.
        clusters: class by cluster, if the run predicts clusters.
        sentence: what became of the edits, once objects were found.
    """

    edits: Mapping[str, Sequence[ObjectEdit]] = field(default_factory=dict)
    prediction: dict[str, Any] = field(default_factory=dict)
    clusters: dict[int, str] = field(default_factory=dict)
    sentence: str = ""


@dataclass(frozen=True)
class Result:
    """A run's model and its prediction of a volume.

    Attributes:
        run: its name.
        model: file of the model's checkpoint.
        volume: what was predicted; its voxel size goes into the file.
        classes: names of all classes but the background; of a run that predicts unnamed clusters,
            the names of the clusters.
        class_ids: the classes that are exported, from 1.
        prediction: (C - 1, z, y, x) uint8, channel c being class c + 1, read lazily; None for
            exporters that need none.
        edits: of its objects.
        object_maps: contours and distances of the model, (2, z, y, x) uint8, read lazily; None if
            it learnt no objects.
        runner: carries out the work on the blocks of the volume.
    """

    run: str
    model: Path
    volume: Volume
    classes: tuple[str, ...]
    class_ids: tuple[int, ...]
    prediction: Array | None = None
    edits: CarriedEdits = field(default_factory=CarriedEdits)
    object_maps: Array | None = None
    runner: BlockRunner = IN_TURN

    def in_box(self, box: Box) -> Result:
        """The same of a part of the volume, which keeps its place in space."""
        prediction = self.prediction
        if prediction is not None:
            prediction = Cropped(prediction, box)
        volume = replace(self.volume, grid=self.volume.grid.from_voxel(box.start))
        return replace(self, volume=volume, prediction=prediction)

    @property
    def probabilities(self) -> Array:
        """The prediction, for exporters that need one."""
        # The job predicts before an exporter with `needs_prediction` is called.
        assert self.prediction is not None
        return self.prediction

    def find_objects(
        self, settings: SeparationSettings, folder: Path
    ) -> Generator[TileDone, None, tuple[Array, int]]:
        """Number the objects of the one class that is exported, and carry out their edits.

        Args:
            settings: what counts as foreground and as an object.
            folder: takes the ids as a zarr array: those of a whole volume need not fit into memory.

        Yields:
            An event per block.

        Returns:
            The ids, (z, y, x) uint32, and the highest of them.
        """
        (class_id,) = self.class_ids
        volume = self.volume
        search = find_separate_objects_in(
            folder,
            self.probabilities,
            settings,
            volume.grid,
            class_id,
            volume.name,
            self.object_maps,
            self.runner,
        )
        name = self.classes[class_id - 1]
        edits = self.edits.edits.get(name, ())
        if not edits:
            return (yield from search)
        found, _ = yield from stage(search, 0, 2)
        extents = yield from stage(find_extents(found, volume.name, self.runner), 1, 2)
        objects = EditedObjects(found, extents)
        base = identity_of(self.edits.prediction, self.edits.clusters, settings, volume.name, name)
        probability = ClassProbability(self.probabilities, class_id)
        replayed = replay(
            objects, edits, base, splitter(volume.grid, probability, self.object_maps)
        )
        self.edits.sentence = replayed.sentence()
        return objects, int(objects.ids.max(initial=0))


class Exporter(ABC):
    """Base of all exporters: their settings plus `write`.

    The first paragraph of the docstring is the sentence in the dock and in the documentation.

    Args:
        settings: of the class's own ``Settings``.
    """

    name: ClassVar[str]
    formats: ClassVar[Mapping[str, tuple[str, ...]]]
    """Endings of the files by format, the usual one first: ``{"TIFF": (".tif", ".tiff")}``."""
    classes: ClassVar[Literal["all", "one", "all or one"]] = "all"
    """How many classes go into a file. Unless it is "all", the user may choose one."""
    needs_prediction: ClassVar[bool] = True
    """Whether the volume must be predicted."""
    takes_box: ClassVar[bool] = False
    """Whether a part of the volume can be exported."""
    needs_names: ClassVar[bool] = True
    """Whether predicted clusters must have class names."""

    class Settings(base.Settings):
        """Settings of the exporter; none by default."""

    def __init__(self, settings: Any) -> None:
        self.settings = settings

    @classmethod
    def suffixes(cls) -> tuple[str, ...]:
        """All endings, the usual one first."""
        return tuple(suffix for suffixes in cls.formats.values() for suffix in suffixes)

    @classmethod
    def class_ids(cls, names: Sequence[str], chosen: str | None) -> tuple[int, ...]:
        """The classes that are exported, from 1.

        Args:
            names: of all classes but the background.
            chosen: the class that the user wants; None for the only one, or for all.

        Raises:
            SettingsError: there is no such class, the exporter takes no choice, or needs one.
        """
        if chosen is None:
            if cls.classes == "one" and len(names) > 1:
                raise SettingsError(
                    f"'{cls.name}' takes one class, and there are {len(names)}: choose the class "
                    f"{' or '.join(names)}."
                )
            # Ids count from 1: 0 is the background, which has no name here.
            return tuple(range(1, len(names) + 1))
        if cls.classes == "all":
            raise SettingsError(f"'{cls.name}' takes all classes at once: choose no class.")
        if chosen not in names:
            raise SettingsError(f"There is no class '{chosen}'. {did_you_mean(chosen, names)}")
        return (names.index(chosen) + 1,)

    def check(self, path: Path, classes: Sequence[str]) -> None:
        """Raise an error for what cannot be exported, before a long prediction starts.

        Args:
            path: where to write; its ending is one of the exporter's.
            classes: names of the exported classes.

        Raises:
            DataError: one sentence with the remedy.
        """
        return

    def lost(self, result: Result, path: Path) -> str:
        """What of a result the file cannot state, as a sentence; empty if nothing."""
        return ""

    @abstractmethod
    def write(self, result: Result, path: Path) -> Iterator[Event]:
        """Write the file, whole or not at all (`napari_emda.io.atomic`), also when stopped.

        Args:
            result: what is exported.
            path: where to write; an existing file may be replaced.

        Yields:
            `TileDone` events whose share ``done / total`` never falls.
        """

    def export(
        self, result: Result, path: Path | str, *, overwrite: bool = False
    ) -> Iterator[Event]:
        """Check and write.

        Args:
            result: what is exported.
            path: where to write.
            overwrite: replace an existing file.

        Yields:
            The events of `write`, and `Saved` at the end.

        Raises:
            DataError: the path has another ending, cannot be written, or exists already.
        """
        # Before `write`, which may take hours: a wrong ending or a missing folder shows at once.
        path = check_destination(path, self.suffixes(), overwrite)
        self.check(path, [result.classes[k - 1] for k in result.class_ids])
        yield from self.write(result, path)
        yield Saved(path=str(path))


class ImageExporter(Exporter):
    """Base of exporters of images, in all formats that have a writer."""

    formats: ClassVar = image_formats()

    def check(self, path: Path, classes: Sequence[str]) -> None:
        """Raise DataError if the format's library is missing."""
        check_library(self.writer(path))

    def lost(self, result: Result, path: Path) -> str:
        """What the format cannot state of the place of the voxels."""
        return self.writer(path).lost(result.volume.grid)

    @staticmethod
    def writer(path: Path) -> type[Writer]:
        """The writer of a checked path."""
        writer = writer_of(path)
        assert writer is not None
        return writer


def save_image(
    channels: Sequence[Array],
    path: Path,
    dtype: DTypeLike,
    volume: Volume,
    *,
    labels: bool = False,
    names: Sequence[str] = (),
    surfaces: Mapping[int, Surface] | None = None,
    runner: BlockRunner = IN_TURN,
) -> Generator[TileDone]:
    """Save (z, y, x) arrays with the voxel size of a volume; see `save_volume`."""
    yield from save_volume(
        channels,
        path,
        dtype,
        volume.grid,
        volume.name,
        labels=labels,
        names=names,
        surfaces=surfaces,
        runner=runner,
    )


# The third name is the entry point group by which other packages add exporters.
exporters: Registry[type[Exporter]] = Registry(
    "export", "napari_emda.export", "napari_emda.exporters", Exporter
)
