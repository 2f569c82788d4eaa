"""OME-Zarr at addresses of a server on this computer."""

from __future__ import annotations

import contextlib
import functools
import http.server
import json
import threading
from functools import partial
from pathlib import Path, PureWindowsPath

import numpy as np
import pytest
import zarr
from typer.testing import CliRunner

from napari_emda.cli import make_app
from napari_emda.errors import DataError
from napari_emda.io.identity import image_identity
from napari_emda.io.known_servers import UnknownServer, allow, check_known, server_of, share_of
from napari_emda.io.location import address_of, located
from napari_emda.io.read import open_image
from napari_emda.io.reader import volume_name
from napari_emda.project.project import Project
from tests.io.test_read import write_multiscale

VOLUME = np.random.default_rng(0).integers(0, 250, (5, 33, 41), dtype=np.uint8)


class Handler(http.server.SimpleHTTPRequestHandler):
    """Serves a folder; what is to go wrong is said by the names."""

    def send_head(self):
        for name, status in (("login", 401), ("forbidden", 403), ("broken", 500)):
            if name in self.path:
                self.send_error(status)
                return None
        return super().send_head()

    def do_GET(self):
        if "endless" in self.path and self.path.endswith("zarr.json"):
            self.send_response(200)
            self.end_headers()
            # Until the client hangs up, or it was far too much.
            with contextlib.suppress(OSError):
                for _ in range(64):
                    self.wfile.write(b" " * 2**20)
        elif "short" in self.path and "/c/" in self.path:
            self.send_response(200)
            self.send_header("Content-Length", "5000")
            self.end_headers()
            self.wfile.write(b"as much as there is")
        else:
            super().do_GET()

    def log_message(self, *arguments):
        """Nothing: the output belongs to the tests."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("served")
    for version in ("0.4", "0.5"):
        levels = [np.stack([VOLUME, VOLUME + 1]), VOLUME[None, :, ::2, ::2]]
        scales = [[1, 50, 4.5, 4], [1, 50, 9, 8]]
        write_multiscale(folder / f"a{version}.ome.zarr", levels, "czyx", scales, version)
    zarr.create_array(folder / "plain.zarr", data=VOLUME, chunks=(1, 16, 16))
    zarr.create_array(folder / "large.zarr", data=VOLUME[:1])
    (folder / "large.zarr" / "zarr.json").write_text(" " * 2**25)
    zarr.create_array(folder / "torn.zarr", data=VOLUME[:1])
    zarr.create_array(folder / "short.zarr", data=VOLUME[:1])
    (folder / "torn.zarr" / "zarr.json").write_text('{"zarr_format": 3, "node_type"')
    return folder


@pytest.fixture(scope="module")
def address(folder):
    handler = functools.partial(Handler, directory=folder)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_an_image_at_an_address(address, version):
    stored = open_image(f"{address}/a{version}.ome.zarr?channel=1")
    np.testing.assert_array_equal(stored.array[1:3, ::2, 5:20], (VOLUME + 1)[1:3, ::2, 5:20])
    assert stored.spacing == (50, 4.5, 4)
    second = open_image(f"{address}/a{version}.ome.zarr?channel=0&level=1")
    np.testing.assert_array_equal(second.array[:], VOLUME[:, ::2, ::2])
    assert second.spacing == (50, 9, 8)


def test_an_array_at_an_address_is_read_in_parts(address, monkeypatch):
    asked = []
    monkeypatch.setattr(Handler, "do_GET", _noting(asked, Handler.do_GET))
    array = open_image(f"{address}/plain.zarr").array
    asked.clear()
    np.testing.assert_array_equal(array[2, :10, :10], VOLUME[2, :10, :10])
    assert asked == ["/plain.zarr/c/2/0/0"]
    np.testing.assert_array_equal(array[:], VOLUME)


def _noting(paths, serve):
    def noted(handler):
        paths.append(handler.path)
        serve(handler)

    return noted


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("missing.zarr", "holds no OME-Zarr image and no zarr array: check the address"),
        ("login.zarr", "may not be read without a login \\(401\\): set the credentials"),
        ("forbidden.zarr", "may not be read without a login \\(403\\)"),
        ("broken.zarr", "cannot be read \\(500.*: check the address and the connection"),
        ("large.zarr", "of 33554432 bytes is far too large for a description"),
        ("endless.zarr", "of more than 16777216 bytes is far too large for a description"),
        ("torn.zarr", r"torn\.zarr cannot be read as OME-Zarr"),
        ("a0.4.ome.zarr", r"as in 'a0\.4\.ome\.zarr\?channel=0'"),
    ],
)
def test_what_cannot_be_read_at_an_address(address, name, message):
    with pytest.raises(DataError, match=message):
        open_image(f"{address}/{name}")


def test_a_chunk_of_another_size_than_the_server_says(address, monkeypatch):
    array = open_image(f"{address}/short.zarr").array
    with pytest.raises(DataError, match=r"c/0/0/0' cannot be read .* the connection"):
        array[:]
    array = open_image(f"{address}/plain.zarr").array
    monkeypatch.setattr("napari_emda.io.remote.LARGEST_CHUNK", 100)
    with pytest.raises(DataError, match=r"c/0/0/0' of \d+ bytes is far too large for a chunk"):
        array[0, :10, :10]


def test_a_server_that_is_gone_is_no_damage(folder):
    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(Handler, directory=folder)
    )
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}/plain.zarr"
    array = open_image(address).array
    server.shutdown()
    server.server_close()
    with pytest.raises(DataError, match=r"plain\.zarr/c/0/0/0' cannot be read .* the connection"):
        array[0, :10, :10]
    with pytest.raises(DataError, match="check the address and the connection"):
        open_image(address)


@pytest.mark.parametrize(("scheme", "library"), [("s3", "s3fs"), ("gs", "gcsfs")])
def test_a_missing_library_is_named(scheme, library, monkeypatch):
    monkeypatch.setattr("napari_emda.io.remote.find_spec", lambda name: None)
    with pytest.raises(DataError, match=rf"library {library}: .*napari-emda\[remote\]"):
        open_image(f"{scheme}://bucket/a.zarr")


def test_a_project_keeps_an_address(address, tmp_path):
    image = f"{address}/a0.5.ome.zarr?channel=1"
    with Project.create(tmp_path / "p", ("background", "structure")) as project:
        project.volumes.add(image, "target")
        assert project.volumes.files() == []
    assert json.loads((tmp_path / "p" / "project.json").read_text())["volumes"][0]["image"] == image
    with Project.open(tmp_path / "p") as project:
        (volume,) = project.volumes.open_all()
    assert volume.name == "a0.5_channel1"
    np.testing.assert_array_equal(volume.image[:], VOLUME + 1)
    assert image_identity(volume.path) == {
        "address": image[: -len("?channel=1")],
        "part": "?channel=1",
    }


@pytest.fixture
def received(address, tmp_path, monkeypatch):
    """The folder of a project that somebody else made, and the requests that the server gets."""
    requests = []
    monkeypatch.setattr(Handler, "do_GET", _noting(requests, Handler.do_GET))
    monkeypatch.setattr(Handler, "do_HEAD", _noting(requests, Handler.do_HEAD))
    with Project.create(tmp_path / "p", ("background", "structure")) as project:
        project.volumes.add(f"{address}/a0.5.ome.zarr?channel=1", "target")
    monkeypatch.setenv("NAPARI_EMDA_CACHE", str(tmp_path / "cache of another computer"))
    requests.clear()
    return tmp_path / "p", requests


def test_a_received_project_contacts_no_server_before_the_user_allows_it(received, address):
    folder, requests = received
    with Project.open(folder) as project:
        for read in (project.volumes.open_all, partial(project.volumes.shape, "a0.5_channel1")):
            with pytest.raises(UnknownServer, match=rf"lies at {address}, .*napari-emda allow"):
                read()
    result = CliRunner().invoke(make_app(["check"]), ["check", str(folder)])
    assert "was never read on this computer" in result.output
    assert requests == []
    result = CliRunner().invoke(make_app(["allow"]), ["allow", str(folder)])
    assert result.output == f"Images may be read from {address} on this computer from now on.\n"
    assert requests == []
    with Project.open(folder) as project:
        assert project.volumes.shape("a0.5_channel1") == VOLUME.shape
    assert requests


def test_another_port_is_another_server(received):
    folder, _ = received
    allow("http://127.0.0.1:1/a.zarr")
    with Project.open(folder) as project, pytest.raises(UnknownServer):
        project.volumes.open_all()


def test_a_share_of_windows_is_a_server(tmp_path, monkeypatch):
    monkeypatch.setenv("NAPARI_EMDA_CACHE", str(tmp_path))
    image = r"\\Server\My data\brain\a.tif"
    assert share_of(PureWindowsPath(image)) == r"\\Server\My data"
    assert share_of(PureWindowsPath(r"C:\data\a.tif")) == share_of(Path("//server/a/b.tif")) == ""
    with pytest.raises(UnknownServer, match="my data"):
        check_known(image)
    allow(image)
    check_known(r"\\server\my data\b.tif")
    with pytest.raises(UnknownServer):
        check_known(r"\\server\other\a.tif")


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("https://me:secret@example.org/a.zarr", "holds a login, which the project would keep"),
        ("https://example.org@evil.org/a.zarr", "The address at evil.org holds a login"),
        ("https:///a.zarr", "names no server"),
        ("https://example.org:no/a.zarr", "names no server"),
    ],
)
def test_a_server_that_nobody_can_allow(address, message):
    with pytest.raises(DataError, match=message) as caught:
        server_of(address)
    assert "secret" not in str(caught.value)


def test_a_folder_that_is_called_like_an_address_is_a_folder(tmp_path, monkeypatch):
    zarr.create_array(tmp_path / "p" / "run2:" / "a.zarr", data=VOLUME)
    monkeypatch.chdir(tmp_path / "p")
    with Project.create("project", ("background", "structure")) as project:
        project.volumes.add("run2:/a.zarr", "target", spacing=(50, 4, 4))
        assert project.volumes.entries[0].image == "../run2:/a.zarr"
        (volume,) = project.volumes.open_all()
    np.testing.assert_array_equal(volume.image[:], VOLUME)


def test_what_an_address_is(tmp_path):
    assert address_of("HTTPS:/example.org//a") == "https://example.org//a"
    assert address_of("C:/data/a.zarr") == address_of("a.h5:/raw") == address_of("/a/b") == ""
    first = located(tmp_path / "a.tif")
    assert not first.address
    again = located(Path("https:/example.org/a.zarr?level=1"))
    assert again.address == "https://example.org/a.zarr"
    assert again.is_same_as(located(Path("https://example.org/a.zarr?level=1")))
    assert not again.is_same_as(located(Path("https://example.org/a.zarr")))
    assert volume_name(Path("https://example.org/a.ome.zarr")) == "a"
