"""A model starts a project without its source: it predicts the same, and what lies is refused."""

from __future__ import annotations

import gc
import hashlib
import json
import shutil
import zipfile

import numpy as np
import pytest
import zarr
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from napari_emda.data.appearance import Appearance
from napari_emda.data.resampled import Resampled
from napari_emda.errors import EmdaError
from napari_emda.inference.checkpoint import read_header
from napari_emda.inference.predict import predict
from napari_emda.inference.predictor import Predictor
from napari_emda.project.model_file import IN_PACKAGE, ModelFile, model_at
from napari_emda.project.model_import import check_model, import_model
from napari_emda.project.project import Project
from napari_emda.project.run_folder import RunFolder
from napari_emda.project.stored_prediction import StoredPrediction
from napari_emda.settings.prediction import PredictSettings
from tests.cli.calling import answer as emda
from tests.cli.calling import call
from tests.conftest import CLASSES, SMALL_TRAINING, SPACING
from tests.project.test_old_versions import STORED
from tests.this_process import commands_here

SMALL = [f"--set={key}={value}" for key, value in SMALL_TRAINING.items() if key != "steps"]


@pytest.fixture(scope="module")
def old(make_project, tmp_path_factory):
    """A project with a run of source_only and one of adabn, which has seen its target."""
    folder = tmp_path_factory.mktemp("old") / "old"
    make_project(folder).close()
    for method in ("source_only", "adabn"):
        with commands_here():
            emda("train", folder, "--method", method, "--steps", 4, "--set=base_channels=8", *SMALL)
    return folder


def new(folder, model, image, *options):
    """Make a project of a model and a target; returns the name of its run."""
    answer = emda("new", folder, "--model", model, "--target", image, *options)
    assert answer["run"] == "001-imported"
    return answer


def predicted(folder, volume, run=None):
    """Predict a volume; returns the stored probabilities."""
    options = ["--run", run] if run else []
    run = emda("predict", folder, "--volume", volume, "--set=device=cpu", *options)["run"]
    return np.asarray(zarr.open_array(folder / "runs" / run / "probabilities.zarr" / volume)[:])


def test_a_header_keeps_what_a_start_without_the_source_needs(old, phantoms, source):
    header = read_header(old / "runs" / "001-source_only" / "checkpoint.safetensors")
    profile = header.profiles["source"]
    labels = phantoms["source"][1]
    assert profile.shares == pytest.approx([np.mean(labels == k) for k in (0, 1)])
    image = phantoms["source"][0].astype(float)
    levels = np.linspace(0, 1, len(profile.quantiles))
    expected = (np.quantile(image, levels) - image.mean()) / image.std()
    np.testing.assert_allclose(profile.quantiles, expected, atol=0.02)
    assert profile.appearance == Appearance.of(Resampled(source, header.pixel_size))
    assert header.profiles.keys() == {"source"}


def test_a_model_predicts_in_a_new_project_what_it_predicted_before(old, phantom_files, tmp_path):
    image = phantom_files["target", "image"]
    before = predicted(old, "target", "001-source_only")
    # The name is that of another volume, whose grey values must not be used.
    renamed = shutil.copyfile(image, tmp_path / "source.tif")
    new(tmp_path / "p", old / "runs" / "001-source_only", renamed)
    np.testing.assert_array_equal(predicted(tmp_path / "p", "source"), before)
    with Project.open(tmp_path / "p") as project:
        assert project.classes == CLASSES
        assert project.run().finished
        assert not project.runs.interrupted()
        run = project.run("001-imported")
        origin = json.loads(run.origin_file.read_text())
    assert emda("check", tmp_path / "p")["damages"] == []
    file = old / "runs" / "001-source_only" / "checkpoint.safetensors"
    assert origin["sha256"] == hashlib.sha256(file.read_bytes()).hexdigest()
    # The moments of the optimiser are of no use here.
    assert run.checkpoint.stat().st_size < 0.5 * file.stat().st_size


@pytest.mark.parametrize("domain", ["source", "target"])
def test_a_model_that_was_adapted_predicts_as_on_the_volume_that_looks_alike(
    old, phantom_files, tmp_path, domain
):
    before = predicted(old, domain, "002-adabn")
    image = shutil.copyfile(phantom_files[domain, "image"], tmp_path / "image.tif")
    new(tmp_path / "p", old / "runs" / "002-adabn", image)
    np.testing.assert_array_equal(predicted(tmp_path / "p", "image"), before)


@pytest.mark.parametrize(
    "settings", [{"context": 1}, {"network": "unet_3d"}, {"objects": "contour"}]
)
def test_a_model_of_any_network_predicts_the_same(
    make_training, source, target, phantom_files, tmp_path, settings
):
    training = make_training([source], tmp_path / "run", **settings)
    training.write(0)
    expected = RunFolder(tmp_path / "expected")
    expected.path.mkdir()
    list(predict(Predictor.load(training.path, "cpu"), target, PredictSettings(), expected))
    new(tmp_path / "p", training.path, phantom_files["target", "image"])
    name = phantom_files["target", "image"].stem
    stored = np.asarray(StoredPrediction(expected, "target").probabilities)
    np.testing.assert_array_equal(predicted(tmp_path / "p", name), stored)


def test_a_model_is_adapted_and_corrected_without_its_source(old, phantom_files, tmp_path):
    folder = tmp_path / "p"
    answer = new(folder, old, phantom_files["target", "image"])
    assert answer["notices"][-1].startswith("Domain gap")
    kept = read_header(old / "runs" / "002-adabn" / "checkpoint.safetensors").profiles
    few = ["--steps", 2, *SMALL]
    assert "choose source_free, which adapts a model" in refusal(
        "train", folder, "--method", "auto"
    )
    run = emda("train", folder, "--method", "source_free", *few)["run"]
    header = read_header(folder / "runs" / run / "checkpoint.safetensors")
    assert header.pixel_size == SPACING[1]
    assert header.profiles["source"].quantiles == kept["target"].quantiles
    assert header.profiles["source"].shares == kept["source"].shares
    emda("suggest", folder, "--count", 1, "--patch", 32)
    emda("annotate", folder, "--from", phantom_files["target", "labels"])
    again = emda("train", folder, "--method", "finetune", *few)
    assert again["run"] == "003-finetune"


def refusal(*arguments):
    """The sentence with which a command is refused."""
    status, _, err = call(*arguments)
    assert status == 2, err
    return err


def test_a_model_of_an_earlier_version_is_imported_and_says_what_it_lacks(tmp_path, phantom_files):
    with zipfile.ZipFile(STORED) as archive:
        archive.extractall(tmp_path / "stored")
    image = phantom_files["target", "image"]
    answer = new(tmp_path / "p", tmp_path / "stored" / "p" / "runs" / "001-auto", image)
    assert "kept nothing of its volumes" in answer["notices"][-1]
    assert predicted(tmp_path / "p", answer["volumes"][0]["name"]).any()
    few = ["--method", "source_free", "--steps", 1, *SMALL]
    status, _, err = call("train", tmp_path / "p", *few)
    assert status == 0
    assert "does not say how its source looked" in err


def test_clusters_of_an_earlier_version_are_no_classes(tmp_path):
    with zipfile.ZipFile(STORED) as archive:
        archive.extractall(tmp_path)
    with (
        pytest.raises(EmdaError, match="found clusters"),
        model_at(tmp_path / "p" / "runs" / "002-iic", tmp_path / "new"),
    ):
        pass


def rewritten(path, change):
    """Change the metadata of a model in place, as other libraries read and write them."""
    with safe_open(path, "np") as file:
        values = json.loads(file.metadata()["napari_emda"])
    change(values)
    save_file(load_file(path), path, {"napari_emda": json.dumps(values)})


DAMAGES = {
    "newer": (lambda values: values.update(format=99), "update napari-emda"),
    "no classes": (lambda values: values["model"].update(classes=["a"]), "two classes"),
    "features": (lambda values: values["model"].update(features_only=True), "without labels"),
    "clusters": (lambda values: values["model"].update(outputs="clusters"), "found clusters"),
    "path": (lambda values: values["model"].update(method="../x"), "not a model"),
    "pixel size": (lambda values: values["model"].update(pixel_size=float("nan")), "not a model"),
    "settings": (lambda values: values.update(training={"settings": [1]}), "not a model"),
    "half a character": (
        lambda values: values["model"]["network"]["settings"].update(attention="\ud800"),
        "not a model",
    ),
    "no training": (lambda values: values.pop("training"), "not a model"),
    "network": (lambda values: values["model"].update(network={"settings": 1}), "not a model"),
    "shares": (
        lambda values: values["model"]["profiles"]["source"].update(shares=[2, -1]),
        "not a model",
    ),
    "spectrum": (
        lambda values: values["model"]["profiles"]["source"].update(spectrum=[1.0]),
        "not a model",
    ),
    "texture": (
        lambda values: values["model"]["profiles"]["source"]["appearance"].update(noise=-1),
        "not a model",
    ),
}


@pytest.mark.parametrize(("change", "text"), DAMAGES.values(), ids=DAMAGES)
def test_a_model_that_lies_is_refused_in_a_sentence(old, tmp_path, change, text):
    path = tmp_path / "model.safetensors"
    shutil.copyfile(old / "runs" / "001-source_only" / "checkpoint.safetensors", path)
    rewritten(path, change)
    with pytest.raises(EmdaError, match=text) as caught, model_at(path, tmp_path / "p"):
        pass
    assert "\n" not in str(caught.value)


def test_files_that_are_no_models_are_refused_in_a_sentence(old, tmp_path):
    image = tmp_path / "image.tif"
    image.write_bytes(b"II*")
    torn = tmp_path / "torn.safetensors"
    whole = old / "runs" / "001-source_only" / "checkpoint.safetensors"
    torn.write_bytes(whole.read_bytes()[:-1])
    foreign = tmp_path / "foreign.zip"
    with zipfile.ZipFile(foreign, "w") as archive:
        archive.writestr("rdf.yaml", "type: model")
        archive.writestr("weights.pt", b"a pickle")
    damaged = tmp_path / "damaged.zip"
    damaged.write_bytes(foreign.read_bytes()[:40])
    empty = tmp_path / "empty"
    empty.mkdir()
    package = tmp_path / "package"
    package.mkdir()
    (package / "rdf.yaml").write_text("type: model")
    (package / IN_PACKAGE).symlink_to(whole)
    texts = {
        image: "is no model",
        torn: "damaged",
        foreign: "no weights as napari-emda stores them",
        damaged: "damaged",
        empty: "neither the folder of a run",
        package: "is a link",
        tmp_path / "nothing": "cannot be read",
    }
    for path, text in texts.items():
        with pytest.raises(EmdaError, match=text) as caught, model_at(path, tmp_path / "p"):
            pass
        assert "\n" not in str(caught.value)
    assert not (tmp_path / "p").exists()


def test_a_package_is_unpacked_up_to_a_size(old, tmp_path, monkeypatch):
    whole = old / "runs" / "001-source_only" / "checkpoint.safetensors"
    package = tmp_path / "model.zip"
    with zipfile.ZipFile(package, "w") as archive:
        archive.write(whole, IN_PACKAGE)
    with model_at(package, tmp_path / "p") as file:
        assert file.model.classes == CLASSES
    # The folders above the project are only made with it.
    with model_at(package, tmp_path / "several" / "folders" / "p") as file:
        assert file.model.classes == CLASSES
    assert [path.name for path in tmp_path.iterdir()] == ["model.zip"]
    monkeypatch.setattr("napari_emda.project.model_file.LARGEST_MODEL", 1000)
    with pytest.raises(EmdaError, match="larger"), model_at(package, tmp_path / "p"):
        pass


@pytest.mark.parametrize(
    "kind", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA]
)
def test_a_package_with_any_byte_changed_is_refused_in_a_sentence(tmp_path, noise, kind):
    """Each kind of compression has errors of its own."""
    package = tmp_path / "model.zip"
    with zipfile.ZipFile(package, "w", kind) as archive:
        archive.writestr(IN_PACKAGE, noise.bytes(2000))
    whole = package.read_bytes()
    for place in range(0, len(whole), 7):
        package.write_bytes(whole[:place] + bytes([whole[place] ^ 0x85]) + whole[place + 1 :])
        with pytest.raises(EmdaError) as caught, model_at(package, tmp_path / "p"):
            pass
        assert "None" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["model.zip"]


def test_a_profile_may_leave_out_what_nobody_knows(old, phantom_files, tmp_path):
    path = tmp_path / "model.safetensors"
    shutil.copyfile(old / "runs" / "001-source_only" / "checkpoint.safetensors", path)
    rewritten(path, lambda values: values["model"]["profiles"]["source"].pop("shares"))
    new(tmp_path / "p", path, phantom_files["target", "image"])


def test_a_model_for_other_volumes_is_refused_or_noticed(old):
    path = old / "runs" / "001-source_only" / "checkpoint.safetensors"
    model = ModelFile.read(path).model
    size = model.pixel_size
    assert check_model(model, CLASSES, size, "t") == []
    assert "2.0 times as coarse" in check_model(model, CLASSES, 2 * size, "t")[0]
    assert "4.0 times as fine" in check_model(model, CLASSES, size / 4, "t")[0]
    with pytest.raises(EmdaError, match=r"4\.0 times as coarse"):
        check_model(model, CLASSES, 4 * size, "t")
    with pytest.raises(EmdaError, match="predicts background, mitochondria"):
        check_model(model, ("background", "nuclei"), size, "t")
    with pytest.raises(EmdaError, match="no length"):
        check_model(model.model_copy(update={"unit": "pixel"}), CLASSES, size, "t")


def test_a_project_that_cannot_be_made_leaves_nothing_in_the_way(old, phantom_files, tmp_path):
    folder = tmp_path / "p"
    torn = tmp_path / "torn.safetensors"
    shutil.copyfile(old / "runs" / "001-source_only" / "checkpoint.safetensors", torn)
    with (
        Project.create(folder, CLASSES) as project,
        model_at(torn, folder) as file,
        pytest.raises(EmdaError, match="cut short"),
        project.volumes.added_together(),
    ):
        project.volumes.add(phantom_files["target", "image"], "target")
        torn.write_bytes(torn.read_bytes()[:-1])
        import_model(project, file)
    shutil.copyfile(old / "runs" / "001-source_only" / "checkpoint.safetensors", torn)
    new(folder, torn, phantom_files["target", "image"])


def test_a_project_that_was_begun_with_a_model_is_begun_again(old, phantom_files, tmp_path):
    folder = tmp_path / "p"
    image = phantom_files["target", "image"]
    with Project.create(folder, CLASSES) as project, model_at(old, folder) as file:
        # As if it were killed before the volume is written.
        project.volumes.add(image, "target")
        import_model(project, file)
        before = (folder / "runs" / "001-imported" / "checkpoint.safetensors").read_bytes()
    project_file = json.loads((folder / "project.json").read_text())
    (folder / "project.json").write_text(json.dumps(project_file | {"volumes": []}))
    (folder / "runs" / "001-imported" / ".checkpoint-0a1b2c3d-partial.safetensors").touch()
    mine = folder / "runs" / "001-imported" / "notes.txt"
    mine.write_text("years of work")
    assert "not empty" in refusal("new", folder, "--model", old, "--target", image)
    mine.unlink()
    new(folder, old, image)
    assert [run.name for run in (folder / "runs").iterdir()] == ["001-imported"]
    assert (folder / "runs" / "001-imported" / "checkpoint.safetensors").read_bytes() == before


# -- my models, files and packages ----------------------------------------------------------------


@pytest.fixture
def own(tmp_path, monkeypatch):
    """The folder of the user's models, empty."""
    folder = tmp_path / "models"
    monkeypatch.setenv("NAPARI_EMDA_MODELS", str(folder))
    return folder


def weights(path):
    """The tensors of a model, without the moments of an optimiser."""
    tensors = load_file(path)
    return {name: tensor for name, tensor in tensors.items() if not name.startswith("optimiser.")}


def assert_same(one, other):
    assert one.keys() == other.keys()
    for name, tensor in one.items():
        np.testing.assert_array_equal(tensor, other[name])


def test_a_run_becomes_one_file_that_says_nothing_of_its_volumes(old, tmp_path):
    path = tmp_path / "model.safetensors"
    arguments = ["--run", "002-adabn", "--what", "model_file", "--to", path]
    emda("export", old, *arguments, "--set=tissue=phantom", "--set=licence=CC-BY-4.0")
    assert_same(weights(path), weights(old / "runs" / "002-adabn" / "checkpoint.safetensors"))
    header = read_header(path)
    assert header.statistics == {}
    assert header.description.name == "mitochondria 002-adabn"
    assert header.description.licence == "CC-BY-4.0"
    with model_at(path, tmp_path / "p") as file:
        assert set(file.model.profiles) == {"source", "target"}


# The library leaves the packed files open.
@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")
@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_a_package_starts_a_project_as_its_run_does(old, phantom_files, tmp_path):
    pytest.importorskip("bioimageio.spec")
    package = tmp_path / "model.zip"
    image = phantom_files["target", "image"]
    emda("export", old, "--run", "001-source_only", "--what", "model", "--to", package)
    gc.collect()
    with zipfile.ZipFile(package) as archive:
        archive.extractall(tmp_path / "unpacked")
    copies = []
    for name, model in (("zip", package), ("folder", tmp_path / "unpacked")):
        new(tmp_path / name, model, image)
        copies.append(weights(tmp_path / name / "runs/001-imported/checkpoint.safetensors"))
    new(tmp_path / "run", old / "runs" / "001-source_only", image)
    expected = weights(tmp_path / "run" / "runs/001-imported/checkpoint.safetensors")
    for copy in copies:
        assert_same(copy, expected)


def test_my_models_come_in_the_order_of_how_close_a_target_looks(old, own, phantom_files):
    assert emda("models")["models"] == []
    emda("models", "--add", old / "runs" / "001-source_only", "--name", "of the source")
    emda("models", "--add", old, "--name", "adapted", "--tissue", "phantom", "--score", 0.5)
    (own / "damaged.safetensors").write_bytes(b"no model")
    by_name = emda("models")["models"]
    assert [model["name"] for model in by_name] == ["adapted", "of the source"]
    assert by_name[0]["tissue"] == "phantom"
    assert by_name[0]["score"] == 0.5
    assert by_name[0]["classes"] == list(CLASSES)
    assert {model["gap"] for model in by_name} == {None}
    for domain, first in (("target", "adapted"), ("source", None)):
        listed = emda("models", "--target", phantom_files[domain, "image"])["models"]
        gaps = [model["gap"]["distance"] for model in listed]
        assert gaps == sorted(gaps)
        assert first in (None, listed[0]["name"])
        # Both models know the source's look, the adapted one the target's as well.
        assert gaps[0] == 0
    status, out, err = call("models")
    assert status == 0
    assert "damaged" in err
    assert "of the source" in out


def test_a_model_of_a_name_that_is_taken_or_leads_elsewhere_is_not_added(old, own):
    emda("models", "--add", old, "--name", "../../a")
    assert [path.name for path in own.iterdir()] == ["a.safetensors"]
    assert "already" in refusal("models", "--add", old, "--name", "a")
    assert "score" in refusal("models", "--add", old, "--name", "b", "--score", 2)
    assert "name it with --add" in refusal("models", "--name", "b")
    assert "give one of them" in refusal("models", "--add", old, "--target", "t.tif")
    assert "name it with --target" in refusal("models", "--target-spacing", 50, 8, 8)
    assert "cannot be shown" in refusal("models", "--add", old, "--name", "\x1b[2J")
    # Windows takes any file of this name for a device.
    emda("models", "--add", old, "--name", "aux")
    assert {path.name for path in own.iterdir()} == {"a.safetensors", "model_aux.safetensors"}


def test_that_some_models_are_not_listed_is_said(own, monkeypatch):
    monkeypatch.setattr("napari_emda.project.my_models._MOST", 2)
    own.mkdir()
    for name in "abc":
        (own / f"{name}.safetensors").touch()
    assert "Only the first 2 of 3 models are listed" in call("models")[2]


def test_what_a_description_says_is_carried_on(old, own, phantom_files, tmp_path):
    emda("models", "--add", old, "--name", "m", "--tissue", "phantom", "--licence", "CC0-1.0")
    new(tmp_path / "p", own / "m.safetensors", phantom_files["target", "image"])
    few = ["--method", "source_free", "--steps", 1, *SMALL]
    run = emda("train", tmp_path / "p", *few)["run"]
    about = read_header(tmp_path / "p" / "runs" / run / "checkpoint.safetensors").description
    assert (about.name, about.tissue, about.licence) == ("", "phantom", "CC0-1.0")


def test_a_package_of_another_program_predicts_teaches_and_is_shared(
    phantom_files, tmp_path, phantoms
):
    pytest.importorskip("onnxruntime")
    from tests.foreign_package import NEW, answer, write

    package = write(tmp_path / "tiny.zip", NEW)
    folder = tmp_path / "p"
    image = phantom_files["target", "image"]
    new(folder, package, image)
    stored = predicted(folder, image.stem)[0] / 255
    expected = np.stack([answer(section) for section in phantoms["target"][0]])
    inside = (slice(None), slice(4, -4), slice(4, -4))
    np.testing.assert_allclose(stored[inside], expected[inside], atol=0.6 / 255)
    assert Project.open(folder).classes == ("background", "mitochondria")
    few = ["--steps", 60, *SMALL, "--set=base_channels=8", "--set=learning_rate=0.01"]
    run = emda("train", folder, "--method", "taught", *few)["run"]
    job = json.loads((folder / "runs" / run / "job.json").read_text())
    assert job["method_settings"]["teacher"] == "001-imported"
    checkpoint = folder / "runs" / run / "checkpoint.safetensors"
    assert read_header(checkpoint).description.licence == "CC-BY-4.0"
    learnt = predicted(folder, image.stem, run)[0] / 255
    assert np.corrcoef(expected.ravel(), learnt.ravel())[0, 1] > 0.8
    emda("suggest", folder, "--count", 1, "--patch", 32)
    emda("annotate", folder, "--from", phantom_files["target", "labels"])
    few[1] = 1
    assert "cannot be trained: let it teach a network first (method taught)" in refusal(
        "train", folder, "--method", "finetune", "--from", "001-imported", *few
    )
    assert emda("train", folder, "--method", "finetune", *few)["run"] == "003-finetune"
    # Another project, and a file for others, hold all of it.
    shared = tmp_path / "shared.safetensors"
    emda("export", folder, "--what", "model_file", "--run", "001-imported", "--to", shared)
    new(tmp_path / "q", shared, image)
    np.testing.assert_array_equal(predicted(tmp_path / "q", image.stem)[0] / 255, stored)
    assert "share the package" in refusal(
        "export", folder, "--what", "model", "--run", "001-imported", "--to", tmp_path / "m.zip"
    )
    assert emda("check", folder)["damages"] == []
    report = tmp_path / "report.html"
    emda("report", folder, "--to", report)
    assert "It learnt what run 001-imported predicts (file tiny.zip" in report.read_text()


@pytest.mark.parametrize("stated", [True, False])
def test_the_pixel_size_of_a_package_is_stated_or_asked_for(stated, phantom_files, tmp_path):
    pytest.importorskip("onnxruntime")
    from tests.foreign_package import NEW, OLD, write

    package = write(tmp_path / "tiny.zip", NEW if stated else OLD)
    image = phantom_files["target", "image"]
    path = tmp_path / "m.safetensors"
    if stated:
        assert "4.0 times as coarse" in refusal(
            *("new", tmp_path / "p", "--model", package, "--target", image),
            *("--target-spacing", 50, 32, 32),
        )
        emda("models", "--add", package, "--to", path)
    else:
        answer = new(tmp_path / "p", package, image)
        assert "so it sees pixels of 8 nm" in answer["notices"][0]
        assert "give it in nm with --model-pixel-size" in refusal(
            "models", "--add", package, "--to", path
        )
        emda("models", "--add", package, "--to", path, "--model-pixel-size", 8)
    assert ModelFile.read(path).model.pixel_size == 8
    assert not (tmp_path / "p").exists() or not stated
