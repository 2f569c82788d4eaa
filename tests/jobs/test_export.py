"""The export job: which class, and what is refused before anything is predicted."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile
import zarr
from skimage.measure import label

from napari_emda.errors import DataError, SettingsError
from napari_emda.jobs.execute import execute
from napari_emda.project.job_files import ExportJob
from tests.jobs.conftest import CLASSES, RUN


def export(project, what, to, **fields):
    job = ExportJob(project=str(project), run=RUN, what=what, to=str(to), **fields)
    return list(execute(job))


def test_objects_of_the_named_class_are_exported(predicted, values, tmp_path):
    for k, name in enumerate(CLASSES[1:]):
        export(predicted, "objects", tmp_path / f"{name}.tif", class_name=name)
        expected = label(values[k] == 200, connectivity=1)
        exported = tifffile.imread(tmp_path / f"{name}.tif")
        np.testing.assert_array_equal(exported > 0, expected > 0)
        assert exported.max() == expected.max()


def test_the_probability_of_a_class_is_exported_as_tiff(predicted, values, tmp_path):
    export(predicted, "probabilities", tmp_path / "p.tif", class_name="membrane")
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "p.tif"), values[1])
    export(predicted, "probabilities", tmp_path / "p.zarr")
    np.testing.assert_array_equal(zarr.open_array(tmp_path / "p.zarr" / "0")[:], values)


def test_the_end_of_an_export_says_what_the_file_cannot_state(predicted, tmp_path):
    for name, is_lost in (("m.tif", True), ("m.ome.tif", False), ("m.h5", False)):
        last = export(predicted, "mask", tmp_path / name, box="1:2,3:,:")[-1]
        assert last.status == "done"
        assert ("does not state that its first voxel lies at" in last.text) == is_lost


def test_classes_are_called_by_their_names_in_an_ome_tiff(predicted, values, tmp_path):
    export(predicted, "probabilities", tmp_path / "p.ome.tif")
    with tifffile.TiffFile(tmp_path / "p.ome.tif") as file:
        np.testing.assert_array_equal(file.asarray(), values)
        described = tifffile.xml2dict(file.ome_metadata)["OME"]["Image"]["Pixels"]
    assert [channel["Name"] for channel in described["Channel"]] == list(CLASSES[1:])


@pytest.mark.parametrize(
    ("what", "to", "fields", "error", "message"),
    [
        ("objects", "a.tif", {}, SettingsError, "there are 2: choose the class mitochondria or m"),
        ("table", "a.csv", {}, SettingsError, "choose the class mitochondria or membrane"),
        ("table", "a.csv", {"class_name": "membran"}, SettingsError, "mean 'membrane'"),
        ("mask", "a.tif", {"class_name": "membrane"}, SettingsError, "all classes at once"),
        ("mask", "a.csv", {}, DataError, "name must end in"),
        ("mask", "a.tif", {"settings": {"threshold": 2}}, SettingsError, "threshold = 2"),
        ("mask", "a.tif", {"settings": {"size": 2}}, SettingsError, "no setting 'size'"),
        ("probabilities", "a.tif", {}, DataError, "takes the probability of one class"),
        ("masks", "a.tif", {}, SettingsError, "no export 'masks'. Did you mean 'mask'"),
    ],
)
def test_an_impossible_export_is_refused_before_anything_is_predicted(
    what, to, fields, error, message, predicted, tmp_path, monkeypatch
):
    monkeypatch.setattr(
        "napari_emda.jobs.export.ensure_predicted", lambda *_: pytest.fail("this may take hours")
    )
    with pytest.raises(error, match=message):
        export(predicted, what, tmp_path / to, **fields)
    assert not (tmp_path / to).exists()
