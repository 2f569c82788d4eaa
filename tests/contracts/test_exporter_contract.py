"""The contract of exporters; every registered exporter is tested."""

from __future__ import annotations

from importlib import import_module

import numpy as np
import pytest
import zarr
from scipy import ndimage

from napari_emda import registry
from napari_emda.data.voxel_grid import VoxelGrid
from napari_emda.errors import DataError, JobError
from napari_emda.events import Saved, TileDone
from napari_emda.export.base import Exporter, ImageExporter, exporters
from napari_emda.io.read import open_image
from napari_emda.jobs.execute import execute
from napari_emda.project.job_files import ExportJob
from napari_emda.project.project import Project
from tests.export.exporting import export

SPACING = (50.0, 8.0, 4.0)
PREDICTED = [name for name in exporters.names() if exporters[name].needs_prediction]
FILES = [(name, suffix) for name in PREDICTED for suffix in exporters[name].suffixes()]


@pytest.fixture
def probabilities():
    """Probabilities of one class: smooth blobs."""
    field = ndimage.gaussian_filter(
        np.random.default_rng(0).standard_normal((6, 60, 50)), (1, 4, 4)
    )
    values = np.clip(128 + 100 * (field / field.std() - 0.8), 0, 255).astype(np.uint8)[None]
    return zarr.create_array(zarr.storage.MemoryStore(), data=values, chunks=(1, 1, 32, 32))


def content(path):
    """The bytes of a file, or of all files of a folder."""
    files = sorted(path.rglob("*")) if path.is_dir() else [path]
    return {str(file.relative_to(path)): file.read_bytes() for file in files if file.is_file()}


@pytest.mark.parametrize("name", exporters.names())
def test_an_exporter_has_a_docstring_suffixes_and_defaults(name):
    cls = exporters[name]
    assert cls.__doc__ != Exporter.__doc__
    assert cls.suffixes()
    assert all(suffix.startswith(".") and suffix.islower() for suffix in cls.suffixes())
    cls(cls.Settings())


@pytest.mark.parametrize(("name", "suffix"), FILES)
def test_it_writes_one_file_and_reports_progress(name, suffix, probabilities, tmp_path):
    path = tmp_path / f"a{suffix}"
    *tiles, last = export(name, probabilities, path, VoxelGrid(SPACING))
    assert last == Saved(path=str(path))
    assert [file.name for file in tmp_path.iterdir()] == [path.name]
    assert all(isinstance(tile, TileDone) for tile in tiles)
    progress = [tile.done / tile.total for tile in tiles]
    assert progress == sorted(progress)
    assert progress[-1] == 1


@pytest.mark.parametrize(("name", "suffix"), FILES)
def test_images_keep_the_voxel_size(name, suffix, probabilities, tmp_path):
    if not issubclass(exporters[name], ImageExporter):
        pytest.skip("not an image")
    path = tmp_path / f"a{suffix}"
    list(export(name, probabilities, path, VoxelGrid(SPACING)))
    stored = open_image(path)
    assert stored.array.shape == probabilities.shape[1:]
    assert stored.spacing == pytest.approx(SPACING, rel=1e-6)
    assert stored.unit == "nm"


@pytest.mark.parametrize(("name", "suffix"), FILES)
def test_existing_files_are_replaced_only_with_overwrite(name, suffix, probabilities, tmp_path):
    path = tmp_path / f"a{suffix}"
    list(export(name, probabilities, path, VoxelGrid(SPACING)))
    before = content(path)
    with pytest.raises(DataError, match="exists already"):
        list(export(name, probabilities, path, VoxelGrid(SPACING)))
    assert content(path) == before
    other = 255 - np.asarray(probabilities)
    list(export(name, other, path, VoxelGrid(SPACING), overwrite=True))
    assert content(path) != before


@pytest.mark.parametrize(("name", "suffix"), FILES)
@pytest.mark.parametrize("existing", [False, True])
def test_a_stopped_export_leaves_nothing(
    name, suffix, existing, probabilities, tmp_path, monkeypatch
):
    """Wherever it is stopped; a file that it should replace does not change."""
    monkeypatch.setattr("napari_emda.io.pyramid.block_shape", lambda *_: (4, 32, 32))
    path = tmp_path / f"a{suffix}"
    if existing:
        list(export(name, probabilities, path, VoxelGrid(SPACING)))
    before = content(path) if existing else {}
    other = 255 - np.asarray(probabilities)
    count = len(list(export(name, other, tmp_path / f"b{suffix}", VoxelGrid(SPACING)))) - 1
    files = sorted(tmp_path.iterdir())
    for stop in {1, 2, count // 2, count - 1}:
        events = export(name, other, path, VoxelGrid(SPACING), overwrite=existing)
        for _ in range(stop):
            next(events)
        events.close()
        assert sorted(tmp_path.iterdir()) == files
        if existing:
            assert content(path) == before


@pytest.mark.parametrize("name", exporters.names())
def test_a_wrong_suffix_is_refused_before_a_model_is_opened(name, tmp_path):
    """Otherwise it would be refused after a long prediction."""
    zarr.save_array(tmp_path / "image.zarr", np.zeros((2, 8, 8), np.uint8))
    with Project.create(tmp_path / "p", ("none", "some")) as project:
        project.volumes.add(tmp_path / "image.zarr", "target", spacing=SPACING)
        run = project.folder / "runs" / "001-none"
        run.mkdir(parents=True)
        (run / "checkpoint.safetensors").write_bytes(b"no model")
    for to, message in (
        ("a.docx", "name must end in"),
        ("none/a.tif", "name must end in|does not exist"),
    ):
        job = ExportJob(
            project=str(project.folder), what=name, to=str(tmp_path / to), run="001-none"
        )
        with pytest.raises((DataError, JobError), match=message):
            list(execute(job))


ASCII = '''
from pathlib import Path
import numpy as np
from napari_emda.data.probabilities import Mask
from napari_emda.events import TileDone
from napari_emda.export.base import Exporter, ImageExporter, exporters
from napari_emda.io.atomic import replacing_file
from napari_emda.settings.objects import ObjectSettings

@exporters.register("ascii")
class Ascii(Exporter):
    """The mask as text."""
    formats = {"Text": (".txt",)}
    Settings = ObjectSettings

    def write(self, result, path):
        mask = Mask(result.probabilities, self.settings.threshold)
        with replacing_file(path) as partial, partial.open("w") as file:
            for z in range(mask.shape[0]):
                for line in mask[z]:
                    print(*line, sep="", file=file)
                box = (z, z + 1, 0, mask.shape[1], 0, mask.shape[2])
                yield TileDone(result.volume.name, box, z + 1, mask.shape[0])
'''


def test_an_exporter_of_another_package_is_one_file(tmp_path, monkeypatch, probabilities):
    class Entry:
        name = "ascii"
        value = "ascii_exporter"

        def load(self):
            return import_module("ascii_exporter")

    (tmp_path / "ascii_exporter.py").write_text(ASCII)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(registry, "entry_points", lambda group: [Entry()])
    monkeypatch.setattr(exporters, "_complete", False)
    monkeypatch.setattr(exporters, "_entries", dict(exporters._entries))
    list(export("ascii", probabilities, tmp_path / "a.txt", VoxelGrid(SPACING), threshold=0.7))
    lines = (tmp_path / "a.txt").read_text().splitlines()
    expected = (np.asarray(probabilities)[0] >= 0.7 * 255).astype(int).reshape(-1, 50)
    assert lines == ["".join(map(str, row)) for row in expected]
