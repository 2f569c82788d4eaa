"""OpenVINO against torch: the same numbers, where it is faster, and never two in a prediction."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys

import numpy as np
import pytest
import torch

from napari_emda.errors import SettingsError
from napari_emda.events import Notice, TileDone
from napari_emda.inference import engine_choice, openvino_engine
from napari_emda.inference.predict import predict
from napari_emda.inference.section_stacks import SectionStacks
from napari_emda.io.cache import CACHE_VARIABLE
from napari_emda.nn.network import NetworkConfig
from napari_emda.nn.networks.unet import UNet
from napari_emda.project.run_folder import RunFolder
from napari_emda.project.stored_prediction import StoredPrediction
from napari_emda.settings.prediction import PredictSettings
from tests.inference.test_predict import normal, predictor, unet, volume

pytest.importorskip("openvino")

# One block a section, so that the network is converted once.
SHAPE = (5, 60, 50)


@pytest.fixture(autouse=True)
def nothing_remembered(tmp_path, monkeypatch):
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))


def with_objects():
    network = UNet(3, UNet.Settings(base_channels=8), channels=3)
    network.add_object_head()
    return network.eval()


def deep():
    return NetworkConfig(
        name="unet_3d", classes=2, section_ratio=1.0, settings={"base_channels": 8}
    ).build()


@pytest.mark.parametrize(
    ("make", "channels", "stacks"),
    [
        (unet, 1, SectionStacks()),
        (with_objects, 3, SectionStacks()),
        (deep, 1, SectionStacks(step=2, multiple=4, halo=4, trained=8)),
    ],
)
def test_openvino_computes_what_torch_does_with_any_number_of_threads(make, channels, stacks):
    torch.manual_seed(1)
    model = predictor(make().eval())
    image = torch.randn(5, channels, 90, 70)
    with torch.no_grad():
        expected = model.outputs(image, "target", stacks, flips=True)
        results = []
        threads = torch.get_num_threads()
        try:
            for number in (1, 2):
                torch.set_num_threads(number)
                model.engine = openvino_engine.OpenVino(bf16=False)
                results.append(model.outputs(image, "target", stacks, flips=True))
        finally:
            torch.set_num_threads(threads)
    assert expected.std() > 0.01
    torch.testing.assert_close(results[0], expected, rtol=0, atol=1e-4)
    assert torch.equal(*results)


def model_of_a_file():
    model = predictor(unet())
    model.model_file = "1"
    return model


def predicted(folder, model=None, shape=SHAPE, **values):
    """Predict into a folder; returns the notices, the boxes, and what is stored."""
    settings = PredictSettings.parse({"block": 64, **values})
    model = model or model_of_a_file()
    events = list(predict(model, volume(normal(shape)), settings, RunFolder(folder)))
    notices = [event.text for event in events if isinstance(event, Notice)]
    boxes = [event.box for event in events if isinstance(event, TileDone)]
    return notices, boxes, StoredPrediction(RunFolder(folder), "v")


def begin(folder, count, **values):
    """Predict a few blocks only."""
    settings = PredictSettings.parse({"block": 64, **values})
    events = predict(model_of_a_file(), volume(normal(SHAPE)), settings, RunFolder(folder))
    boxes = [event.box for event in itertools.islice(events, count)]
    events.close()
    return boxes


def test_a_volume_by_openvino_is_that_of_torch(tmp_path):
    # Blocks of three widths.
    shape = (2, 60, 200)
    *_, torchs = predicted(tmp_path / "torch", shape=shape, engine="torch")
    *_, openvinos = predicted(tmp_path / "openvino", shape=shape, engine="openvino")
    assert torchs.header | {"engine": "openvino"} == openvinos.header
    difference = torchs.probabilities[:].astype(int) - openvinos.probabilities[:]
    assert np.abs(difference).max() <= 1
    assert torchs.probabilities[:].std() > 1


@pytest.mark.parametrize(
    ("ratio", "differing", "engine", "notice"),
    [
        (2.0, 0.001, "openvino", ""),
        (1.05, 0.0, "torch", ""),
        (2.0, 0.003, "torch", "0.30% of the voxels"),
    ],
)
def test_auto_takes_the_faster_one_if_it_finds_the_same(
    ratio, differing, engine, notice, tmp_path, monkeypatch
):
    asked = []
    answer = lambda *arguments: asked.append(arguments) or (ratio, differing)  # noqa: E731
    monkeypatch.setattr(engine_choice, "_compared", answer)
    # A small volume is not worth the trial.
    *_, stored = predicted(tmp_path / "small")
    assert not asked and "engine" not in stored.header
    monkeypatch.setattr(engine_choice, "_WORTH", 0)
    for name in ("first", "second"):
        notices, _, stored = predicted(tmp_path / name)
        assert stored.header.get("engine", "torch") == engine
        assert [notice in text for text in notices] == ([True] if notice else [])
    # The second time it is remembered; another model is checked.
    assert len(asked) == 1
    other = model_of_a_file()
    other.model_file = "2"
    predicted(tmp_path / "other", other)
    assert len(asked) == 2


def test_the_trial_measures_both_and_leaves_nothing_behind(tmp_path, monkeypatch):
    monkeypatch.setattr(engine_choice, "_WORTH", 0)
    monkeypatch.setattr(engine_choice, "_GAIN", 0)
    model = model_of_a_file()
    notices, _, stored = predicted(tmp_path, model)
    assert not notices
    assert stored.header["engine"] == "openvino"
    speed, differing = engine_choice._remembered().values()
    assert speed > 0
    assert differing < 1e-3
    # Damaged, it is measured again.
    engine_choice._path().write_text('{"a": "b", "c": NaN')
    assert engine_choice._remembered() == {}


def test_what_openvino_cannot_compute_is_left_to_torch(tmp_path, monkeypatch):
    monkeypatch.setattr(engine_choice, "_WORTH", 0)

    def refuse(*_):
        raise RuntimeError("some lines\nno such operation")

    monkeypatch.setattr(openvino_engine, "_converted", refuse)
    notices, _, stored = predicted(tmp_path / "auto")
    assert notices == ["torch is used: OpenVINO cannot compute the network (no such operation)."]
    assert "engine" not in stored.header
    with pytest.raises(openvino_engine.CannotConvertError, match="choose engine=torch"):
        predicted(tmp_path / "asked", engine="openvino")


def test_a_prediction_goes_on_with_the_engine_that_began_it(tmp_path, monkeypatch):
    *_, whole = predicted(tmp_path / "whole", engine="openvino")
    folder = tmp_path / "parts"
    done = begin(folder, 2, engine="openvino")
    _, rest, stored = predicted(folder)
    assert rest and not set(done) & set(rest)
    assert stored.header["engine"] == "openvino"
    np.testing.assert_array_equal(stored.probabilities[:], whole.probabilities[:])
    # What is complete needs no engine; what was asked for begins anew.
    monkeypatch.setattr(engine_choice, "installed", str)
    assert predicted(folder)[1] == []
    _, again, stored = predicted(folder, engine="torch")
    assert len(again) == len(done) + len(rest)
    assert "engine" not in stored.header
    # Begun by torch, it is not finished by another one.
    begin(tmp_path / "torch", 2, engine="torch")
    monkeypatch.undo()
    monkeypatch.setattr(engine_choice, "_WORTH", 0)
    assert "engine" not in predicted(tmp_path / "torch")[2].header


def test_without_openvino_what_it_has_begun_is_kept(tmp_path, monkeypatch):
    done = begin(tmp_path, 2, engine="openvino")
    monkeypatch.setattr(engine_choice, "installed", str)
    with pytest.raises(SettingsError, match=r"begun with it: install .* which begins anew"):
        predicted(tmp_path)
    monkeypatch.undo()
    assert not set(done) & set(predicted(tmp_path)[1])


def test_openvino_on_another_device_is_refused_in_a_sentence(tmp_path, monkeypatch):
    model = model_of_a_file()
    gpu = torch.device("meta")
    monkeypatch.setattr(model, "compute", type(model.compute)(gpu, bf16=False))
    with pytest.raises(SettingsError, match="on processors alone: choose device=cpu"):
        predicted(tmp_path, model, engine="openvino")


def test_openvino_is_imported_without_its_telemetry(tmp_path):
    """It would note an id in the user's folder, and report the import to a server."""
    code = """if True:
        import sys
        from napari_emda.inference.openvino_engine import _import_quietly
        _import_quietly()
        import openvino
        from openvino.tools.ovc import telemetry_utils
        assert telemetry_utils.tm.__name__ == "openvino.tools.ovc.telemetry_stub"
        assert not [name for name in sys.modules if name.startswith("openvino_telemetry")]
    """
    environment = os.environ | {"HOME": str(tmp_path)}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)
    assert list(tmp_path.iterdir()) == []
