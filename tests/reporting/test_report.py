"""The report says what the project holds, and nothing in a project gets out of its text."""

from __future__ import annotations

import base64
import io
import itertools
import json
import re
import shutil
import subprocess
import tomllib
import zipfile
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import zarr
from PIL import Image

from napari_emda.active_learning.strategy import strategies
from napari_emda.errors import DataError
from napari_emda.inference.checkpoint import read_header
from napari_emda.methods.base import methods
from napari_emda.nn.network import networks
from napari_emda.project.job_files import TrainJob
from napari_emda.project.project import Project
from napari_emda.reporting.citations import cited, references
from napari_emda.reporting.contents import contents_of
from napari_emda.reporting.page import page, write_report
from napari_emda.reporting.plots import Curve, Point, line_plot, ticks
from tests.cli.calling import answer, call
from tests.docs.pages import DOCS, ROOT
from tests.project.test_old_versions import STORED
from tests.this_process import commands_here

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
ALLOWED = {
    *(
        "html",
        "head",
        "meta",
        "title",
        "style",
        "body",
        "h1",
        "h2",
        "h3",
        "p",
        "div",
        "table",
        "tr",
    ),
    *("th", "td", "figure", "figcaption", "img", "svg", "line", "text", "polyline", "circle"),
    *("rect", "details", "summary", "pre", "ul", "li", "span"),
}
EVIL = "<script>document.title = 'run'</script>"
IMAGE = "<img src=x onerror=document.body.remove()>"


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """A project, in ``p``, beside its images."""
    folder = tmp_path_factory.mktemp("stored")
    with zipfile.ZipFile(STORED) as archive:
        archive.extractall(folder)
    return folder


@pytest.fixture
def folder(stored, tmp_path):
    """A copy of the project, to be changed."""
    return Path(shutil.copytree(stored, tmp_path / "s")) / "p"


class Parsed(HTMLParser):
    """Elements and text of a page."""

    def __init__(self, text):
        super().__init__()
        self.elements = []
        self.words = []
        self.feed(text)
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))

    def handle_data(self, data):
        self.words.append(data)

    def tags(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]


def change(path, make):
    values = json.loads(path.read_text())
    make(values)
    path.write_text(json.dumps(values))


def report(folder):
    with Project.open(folder) as project:
        return Parsed(page(contents_of(project)))


def assert_harmless(parsed):
    """Nothing is loaded or run, and no element is there that the template has not."""
    assert {tag for tag, _ in parsed.elements} <= ALLOWED
    for tag, attributes in parsed.elements:
        assert not any(name.startswith("on") for name in attributes), tag
        assert attributes.get("src", "data:image/png;base64,").startswith("data:image/png;base64,")
        assert not {"href", "srcset", "action", "data"} & attributes.keys()
    (policy,) = [m["content"] for m in parsed.tags("meta") if "http-equiv" in m]
    assert policy.startswith("default-src 'none';")


# -- what it says ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def parsed(stored):
    return report(stored / "p")


def test_the_page_loads_and_runs_nothing(parsed):
    assert_harmless(parsed)


def test_it_says_which_data_and_models_there_are(parsed):
    for words in (
        "source source source.tif source-labels.tif 3 × 64 × 64 uint8 50 × 8 × 8 nm",
        "target target target.tif – 3 × 64 × 64 uint8 50 × 8 × 8 nm",
        "background, mitochondria",
        "001-auto auto, 6 steps, profile test; steps done: 6",
        "003-auto auto, 6 steps, profile test, interrupted at step 3 of 6",
        "To segment mitochondria in 'target' (50 × 8 × 8 nm)",
        "for 3 steps on batches of 2 patches of 32 × 32 pixels",
        "In 1 round, 2 patches of 2048 voxels in all were annotated: 2 suggested by entropy;",
    ):
        assert words in parsed.text
    words = [word for word in parsed.words if word.strip()]
    settings = dict(itertools.pairwise(words))
    assert settings["network: base_channels"] == "8"


def test_its_agreement_is_that_of_the_annotated_patches(stored, parsed):
    regions = {}
    for line in (stored / "p" / "regions.jsonl").read_text().splitlines():
        region = json.loads(line)
        regions[region["id"]] = region
    counts = sum(np.array(r["confusion"]) for r in regions.values() if r["state"] == "accepted")
    (_, invented), (missed, hits) = counts
    iou = hits / (hits + missed + invented)
    dice = 2 * hits / (2 * hits + missed + invented)
    assert f"{iou:.2f} (0.00–1.00) (too few patches) {dice:.2f} (0.00–1.00)" in parsed.text


def test_its_pictures_are_the_image_under_the_stored_mask(stored, parsed):
    captions = ["as recorded", "first model, run 001-auto", "last model, run 002-iic", "annotated"]
    assert [image["alt"] for image in parsed.tags("img")] == [f"target, {c}" for c in captions]
    recorded, first, *_ = (decoded(image["src"]) for image in parsed.tags("img"))
    assert recorded.shape == (64, 64)
    section = int(re.search(r"target, section (\d)", parsed.text)[1])
    probabilities = stored / "p/runs/001-auto/probabilities.zarr/target"
    mask = zarr.open_array(probabilities, mode="r")[0, section] >= 128
    grey = np.repeat(recorded[..., None], 3, axis=2)
    assert 0 < mask.sum() < mask.size
    np.testing.assert_array_equal(first[~mask], grey[~mask])
    # The sky blue of the first class, with the texture below it.
    expected = 0.55 * grey[mask] + 0.45 * np.array([0x56, 0xB4, 0xE9])
    assert np.abs(first[mask] - expected).max() <= 1


def decoded(address):
    content = base64.b64decode(address.removeprefix("data:image/png;base64,"))
    return np.asarray(Image.open(io.BytesIO(content)))


def test_adaptation_is_compared_where_there_is_a_run_without_it(folder):
    plain = folder / "runs" / "004-source_only"
    shutil.copytree(folder / "runs" / "001-auto", plain)
    change(plain / "job.json", lambda job: job.update(method="source_only", method_settings={}))
    text = report(folder).text
    assert "Estimated error in the target, without its labels" in text
    assert "without adaptation, run 004-source_only" in text


def test_the_methods_section_says_how_each_patch_was_chosen(folder):
    path = folder / "regions.jsonl"
    region = next(
        json.loads(line) for line in path.read_text().splitlines() if '"accepted"' in line
    )
    changed = []
    for strategy in ("audit", "random", "own", "imported", "check points"):
        changed.append(json.dumps(region | {"id": f"x-{len(changed)}", "strategy": strategy}))
    path.write_text(path.read_text() + "\n".join(changed) + "\n")
    text = report(folder).text
    assert (
        "5 patches of 5120 voxels in all were annotated: 2 suggested by entropy, 2 drawn at random "
        "and 1 chosen by hand; scores" in text
    )
    assert "Annotations also came from answers to check points and imported labels." in text


def test_an_average_of_models_is_said_to_be_one(folder):
    model = folder / "runs/001-auto/checkpoint.safetensors"
    header = read_header(model)
    assert f"model kept: that of step {header.step}" in report(folder).text
    averaged = header.model_copy(update={"selected": (2, 4, 6)})
    assert averaged.selected != header.selected
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("napari_emda.inference.checkpoint.read_header", lambda _: averaged)
        assert "model kept: the average of those of steps 2, 4 and 6" in report(folder).text


def test_check_points_are_those_that_were_answered(folder):
    labels = folder.parent / "target-labels.tif"
    with commands_here():
        answer("check-points", folder, "--run", "001-auto", "--draw", 40)
        found = answer("check-points", folder, "--run", "001-auto", "--truth", labels)
    share, low, high = (
        100 * number for number in found["report"]["classes"]["mitochondria"]["share"]
    )
    text = report(folder).text
    assert "Check points of target Run 001-auto: 40 of 40 points were answered." in text
    assert f"mitochondria: {share:.1f} % ({low:.1f}–{high:.1f}) of the volume" in text


def test_a_model_from_elsewhere_is_said_to_be_one(folder):
    for name in ("002-iic", "003-auto"):
        shutil.rmtree(folder / "runs" / name)
    origin = {"file": "theirs.safetensors", "sha256": "abc", "description": {}}
    (folder / "runs/001-auto/origin.json").write_text(json.dumps(origin))
    text = report(folder).text
    assert "had trained on other volumes (file theirs.safetensors, SHA-256 abc; run 001-a" in text


def test_without_its_images_it_says_what_is_missing_and_no_folder(folder):
    for path in folder.parent.glob("*.tif"):
        path.unlink()
    with Project.open(folder) as project:
        contents = contents_of(project)
    text = page(contents)
    assert "no size of &#39;target&#39;, which cannot be read" in text
    assert str(folder.parent) not in text
    assert any(str(folder.parent) in reason for reason in contents.reasons)
    assert "001-auto" in text


def test_an_empty_project_has_a_report(tmp_path):
    with Project.create(tmp_path / "new") as project:
        text = Parsed(page(contents_of(project))).text
    assert "No model was trained." in text
    assert "No annotated patch was compared" in text


# -- names from files ------------------------------------------------------------------------------


@pytest.fixture
def hostile(folder):
    """The project with markup wherever a file may hold any text."""

    def rename(values):
        values["classes"] = ["background", f'"{EVIL}{IMAGE}']
        values["volumes"][0] |= {"name": IMAGE, "unit": EVIL, "image": f"../{IMAGE}.tif"}
        values["volumes"][0]["labels"] = f"{EVIL}.tif"

    change(folder / "project.json", rename)
    run = folder / "runs" / "001-auto"
    change(run / "job.json", lambda job: job.update(start_from=EVIL))
    change(run / "job.json", lambda job: job["method_settings"].update({EVIL: IMAGE}))
    entries = [
        {"event": "stepped", "step": 1, "losses": {EVIL: 1.0, f"'{IMAGE}": 2.0}},
        {"event": "stepped", "step": 2, "losses": {EVIL: 0.5}},
        {"event": "finished", "result": {"device": EVIL, "step": 2, "seconds": 1}},
    ]
    (run / "log.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    run.rename(folder / "runs" / f"001-{IMAGE}")
    return folder.rename(folder.parent / "p<b>")


def test_markup_in_a_project_stays_text(hostile):
    parsed = report(hostile)
    assert_harmless(parsed)
    assert f'Classes, background first: background, "{EVIL}{IMAGE}.' in parsed.text
    assert f"001-{IMAGE}" in parsed.text
    assert f"device: {EVIL}" in parsed.text
    assert "p<b>" in parsed.text


@pytest.mark.parametrize("character", ["\ud800", "\u202e", "\x1b", "\0"])
def test_characters_that_are_not_shown_are_written_as_escapes(folder, character):
    entry = {"event": "finished", "result": {"device": f"a{character}b", "step": 2}}
    (folder / "runs" / "001-auto" / "log.jsonl").write_text(json.dumps(entry) + "\n")
    escape = character.encode("unicode_escape", "surrogatepass").decode()
    assert f"device: a{escape}b" in report(folder).text


NONSENSE = [None, True, "1", [], {}, 1e308, -1, "nan", 10**400, [[1]]]


@pytest.mark.parametrize("value", NONSENSE, ids=lambda value: repr(value)[:8])
def test_a_log_of_nonsense_is_passed_over(folder, value):
    kinds = [
        {"event": "stepped", "step": value, "losses": {"a": 1.0}},
        {"event": "stepped", "step": 1, "losses": value},
        {"event": "stepped", "step": 1, "losses": {"a": value}},
        {"event": "validated", "step": 1, "scores": value},
        {"event": "validated", "step": value, "scores": {"score": value}},
        {"event": "finished", "result": value},
        {"event": "finished", "result": {"seconds": value, "device": value, "step": value}},
        {"event": value},
    ]
    lines = "".join(json.dumps(kind) + "\n" for kind in kinds)
    (folder / "runs" / "001-auto" / "log.jsonl").write_text(lines)
    assert_harmless(report(folder))


def test_damaged_numbers_of_patches_are_said_to_be_missing(folder):
    path = folder / "regions.jsonl"
    lines = []
    for line in path.read_text().splitlines():
        values = json.loads(line)
        values["confusion"] = [[1, 2, 3], [4]]
        lines.append(json.dumps(values))
    path.write_text("\n".join(lines) + "\n")
    assert "This report has no agreement by round, which cannot be read." in report(folder).text


# -- the file --------------------------------------------------------------------------------------


def test_the_command_writes_the_page_once(stored, tmp_path):
    path = tmp_path / "report.html"
    with commands_here():
        assert answer("report", stored / "p", "--to", path)["missing"] == []
        status, _, error = call("report", stored / "p", "--to", path)
        assert (status, "exists already" in error) == (2, True)
        status, _, error = call("report", stored / "p", "--to", tmp_path / "report.pdf")
        assert (status, "must end in .html" in error) == (2, True)
    assert_harmless(Parsed(path.read_text("utf-8")))


def test_no_report_is_written_into_the_project(stored):
    with Project.open(stored / "p") as project, pytest.raises(DataError, match="part of"):
        write_report(project, stored / "p" / "report.html")


@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")
def test_a_browser_shows_it_on_a_phone_and_runs_nothing(hostile, tmp_path):
    path = tmp_path / "report.html"
    with Project.open(hostile) as project:
        write_report(project, path)
    picture = tmp_path / "phone.png"
    options = ["--headless=new", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path}/b"]
    options += ["--hide-scrollbars", "--window-size=500,1400", f"--screenshot={picture}"]
    subprocess.run(
        [CHROMIUM, *options, path.as_uri()], check=True, capture_output=True, timeout=240
    )
    shown = np.asarray(Image.open(picture).convert("L"))
    assert shown.shape == (1400, 500)
    # Nothing is cut off at the right: there is the margin of the page.
    assert (shown[:, -8:] == shown[0, 0]).all()
    assert (shown != shown[0, 0]).mean() > 0.05


# -- plots -----------------------------------------------------------------------------------------


def test_a_curve_is_drawn_to_scale(noise):
    x = np.sort(noise.uniform(-50, 2000, 40))
    y = noise.normal(3, 2, 40)
    curve = Curve("loss", tuple(map(Point, x.tolist(), y.tolist())))
    svg = ElementTree.fromstring(line_plot([curve], "step", "loss"))
    (line,) = svg.iter("{http://www.w3.org/2000/svg}polyline")
    drawn = np.array([pair.split(",") for pair in line.get("points").split()], float)
    for values, pixels, sign in ((x, drawn[:, 0], 1), (y, drawn[:, 1], -1)):
        slope, offset = np.polyfit(values, pixels, 1)
        assert np.sign(slope) == sign
        assert np.abs(slope * values + offset - pixels).max() < 0.1
        assert pixels.min() >= 0
    texts = [text.text for text in svg.iter("{http://www.w3.org/2000/svg}text")]
    assert {"loss", "step"} <= set(texts)


@pytest.mark.parametrize("scale", [1e-9, 0.3, 1, 7, 1e6, 3e90])
def test_ticks_are_round_and_within_their_ends(noise, scale):
    for low, length in zip(noise.normal(0, 3, 20), noise.uniform(0.1, 10, 20), strict=True):
        found = np.array(ticks(low * scale, (low + length) * scale))
        assert 2 <= len(found) <= 8
        steps = np.diff(found)
        assert steps == pytest.approx(np.full(len(steps), steps[0]), rel=1e-6)
        assert f"{steps[0]:.3e}"[:5] in ("1.000", "2.000", "5.000")
        assert low * scale - steps[0] * 1e-6 <= found[0]
        assert found[-1] <= (low + length) * scale + steps[0] * 1e-6


def test_what_cannot_be_drawn_is_left_out():
    numbers = (float("nan"), float("inf"), 1e200)
    points = tuple(Point(1.0, number) for number in numbers)
    assert line_plot([Curve("a", points), Curve("b", ())], "x", "y") == ""
    assert "circle" in line_plot([Curve("a", (*points, Point(1, 1)))], "x", "y")


# -- citations -------------------------------------------------------------------------------------


def test_every_entry_is_whole():
    for key, entry in references().items():
        for name in ("title", "author", "year"):
            assert re.search(rf"^  {name} = \{{.+\}},?$", entry, re.MULTILINE), key
        assert entry.count("{") == entry.count("}"), key
    text = (ROOT / "src/napari_emda/reporting/references.bib").read_text("utf-8")
    assert len(references()) == text.count("\n@") + 1


def test_all_papers_of_the_documentation_can_be_cited():
    listed = set(re.findall(r"arxiv\.org/abs/(\S+)\)", (DOCS / "methods.md").read_text("utf-8")))
    eprints = {
        found for e in references().values() for found in re.findall(r"eprint = \{(.+)\}", e)
    }
    assert len(listed) > 15
    assert listed <= eprints


@pytest.mark.parametrize("registry", [methods, strategies, networks], ids=lambda r: r._kind)
def test_what_names_a_reference_in_its_note_cites_one(registry):
    for name in registry.names():
        note = DOCS / "notes" / f"{name}.md"
        if note.exists() and "**Reference" in note.read_text("utf-8"):
            assert registry[name].citations, name
            assert set(registry[name].citations) <= references().keys()


def test_what_was_used_is_cited_once(stored):
    with Project.open(stored / "p") as project:
        regions = project.regions.all()
    jobs = [TrainJob(project="p", method=name) for name in ("auto", "histogram", "not_installed")]
    entries = cited(jobs, regions, scored=True)
    keys = [re.match(r"@\w+\{([^,]+),", entry)[1] for entry in entries]
    assert keys[0] == "napari_emda"
    assert len(set(keys)) == len(keys)
    assert {"francobarranco2022", "ronneberger2015", "roels2019cost", "hesterberg2015"} <= set(keys)
    assert "ji2019" not in keys
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"].get("version")
    assert version is None or version in entries[0]
