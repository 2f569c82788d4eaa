"""Sample data: the phantom, and the download of VNC from a server on this machine."""

from __future__ import annotations

import hashlib
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import tifffile
from napari.layers import Layer
from PIL import Image

from napari_emda._gui import sample_data
from napari_emda.errors import DataError

REAL_HASHES = Path(__file__).parents[3] / "shared" / "data" / "vnc-files.sha256"


def test_the_phantom_comes_as_three_layers_with_their_voxel_size():
    layers = [Layer.create(*data) for data in sample_data.phantom_pair()]
    assert [type(layer).__name__ for layer in layers] == ["Image", "Labels", "Image"]
    assert [tuple(layer.scale) for layer in layers] == [(50, 8, 8), (50, 8, 8), (30, 10, 10)]
    for layer in layers:
        assert {str(unit) for unit in layer.units} == {"nanometer"}
    source, labels, target = layers
    np.testing.assert_array_equal(source.extent.world, labels.extent.world)
    assert source.extent.world[1, 2] < target.extent.world[0, 2], "the volumes do not overlap"
    # One slider goes through both.
    np.testing.assert_allclose(
        source.extent.world[:, 0], target.extent.world[:, 0], atol=target.scale[0]
    )


class Quiet(SimpleHTTPRequestHandler):
    asked: list[str] = []  # noqa: RUF012

    def do_GET(self):
        self.asked.append(self.path)
        super().do_GET()

    def log_message(self, *_):
        pass


@pytest.fixture
def server(tmp_path, monkeypatch):
    """A small VNC: three sections, of which one mask is 1-bit, as in the original."""
    root = tmp_path / "served"
    mask = np.zeros((3, 20, 24), bool)
    mask[:, 5:9, 4:11] = True
    image = np.random.default_rng(0).integers(0, 255, mask.shape, np.uint8)
    for part in ("stack1/raw", "stack2/raw", "stack1/mitochondria"):
        (root / part).mkdir(parents=True)
    for z in range(3):
        tifffile.imwrite(root / "stack1" / "raw" / f"{z:02}.tif", image[z])
        tifffile.imwrite(root / "stack2" / "raw" / f"{z:02}.tif", 255 - image[z])
        section = mask[z] if z == 1 else np.where(mask[z], 255, 3).astype(np.uint8)
        Image.fromarray(section).save(root / "stack1" / "mitochondria" / f"{z:02}.png")
    hashes = {
        str(p.relative_to(root).as_posix()): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in root.rglob("*")
        if p.is_file()
    }
    Quiet.asked.clear()
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(root))) as http:
        thread = threading.Thread(target=http.serve_forever, daemon=True)
        thread.start()
        monkeypatch.setattr(sample_data, "vnc_hashes", lambda: hashes)
        monkeypatch.setenv(sample_data.URL_VARIABLE, f"http://127.0.0.1:{http.server_port}/")
        monkeypatch.setenv(sample_data.CACHE_VARIABLE, str(tmp_path / "cache"))
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        monkeypatch.setattr("pooch.core.time.sleep", lambda _: None)
        yield root, image, mask
        http.shutdown()
        thread.join()


def test_vnc_is_downloaded_once_and_read_as_it_is(server):
    _, image, mask = server
    for _ in range(2):
        (grey, grey_meta, _), (labels, labels_meta, kind) = sample_data.vnc()
        np.testing.assert_array_equal(grey, image)
        np.testing.assert_array_equal(labels, mask)
        assert labels.dtype == np.uint8
        assert kind == "labels"
        assert grey_meta["scale"] == labels_meta["scale"] == (50, 4.6, 4.6)
    assert len(Quiet.asked) == 6
    ((grey, _, _),) = sample_data.vnc_unlabelled()
    np.testing.assert_array_equal(grey, 255 - image)


def test_a_changed_file_is_refused(server):
    root, _, _ = server
    (root / "stack1" / "raw" / "01.tif").write_bytes(b"something else")
    with pytest.raises(DataError, match="damaged or has changed"):
        sample_data.vnc()


def test_a_missing_file_and_a_missing_server_are_named(server, monkeypatch):
    root, _, _ = server
    (root / "stack1" / "raw" / "01.tif").unlink()
    with pytest.raises(DataError, match="cannot be downloaded"):
        sample_data.vnc()
    monkeypatch.setenv(sample_data.URL_VARIABLE, "http://127.0.0.1:9/")
    with pytest.raises(DataError, match=f"set {sample_data.URL_VARIABLE}"):
        sample_data.vnc_unlabelled()


def test_the_hashes_of_all_sections_are_known():
    hashes = sample_data.vnc_hashes()
    for part, suffix in (
        ("stack1/raw", "tif"),
        ("stack2/raw", "tif"),
        ("stack1/mitochondria", "png"),
    ):
        assert {f"{part}/{z:02}.{suffix}" for z in range(20)} <= hashes.keys()
    assert all(len(h) == 64 for h in hashes.values())


@pytest.mark.skipif(
    not REAL_HASHES.exists(), reason="the list of original hashes (../shared/data) is not here"
)
def test_the_hashes_are_those_of_the_original_files():
    original = dict(
        line.split()[::-1]
        for line in REAL_HASHES.read_text().splitlines()
        if not line.startswith("#")
    )
    for path, sha256 in sample_data.vnc_hashes().items():
        assert original[path] == sha256
