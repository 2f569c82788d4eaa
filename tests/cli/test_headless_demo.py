"""The demo's workflow, with hardly any training."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from napari_emda.cli import headless_demo as demo
from napari_emda.cli.demo_picture import FOUND, MISSED, WRONG, draw_picture
from napari_emda.cli.progress import watch
from napari_emda.settings.training import PROFILES
from napari_emda.synthetic.microscope import APPEARANCES, BLOCK_FACE
from napari_emda.synthetic.sample_pair import Recording

SMALL = {
    "source": Recording((4, 112, 96), (50.0, 8.0, 8.0), APPEARANCES["source"]),
    "target": Recording((4, 224, 96), (30.0, 10.0, 10.0), BLOCK_FACE),
}


@pytest.fixture
def short(monkeypatch):
    for domain, recording in SMALL.items():
        monkeypatch.setitem(demo.RECORDINGS, domain, recording)
    monkeypatch.setitem(PROFILES, "test", {**PROFILES["test"], "patch": 32, "batch": 2})
    monkeypatch.setattr(demo, "TRAINED", ":,0:104,:")
    monkeypatch.setattr(demo, "TESTED", ":,120:224,:")
    monkeypatch.setattr(demo, "STEPS", 2)
    monkeypatch.setattr(demo, "ROUND_STEPS", 2)
    monkeypatch.setattr(demo, "PATCHES", 2)


def test_the_demo_ends_with_scores_a_mask_curves_and_a_picture(short, tmp_path, capsys):
    result, rows = demo.run_demo(tmp_path / "demo", 0, watch)
    assert [row[0] for row in rows][:3] == [
        "source only",
        "source only, strong augmentation",
        "adapted (auto)",
    ]
    assert len(rows) == 6 and len(result["rounds"]) == 2
    assert all(
        0 <= result[key] <= 1
        for key in ("source_only", "source_only_strong", "adapted", "supervised")
    )
    assert tifffile.imread(result["mask"]).shape == (4, 224, 96)
    with Path(result["curves"]).open(newline="") as file:
        assert {row["run"] for row in csv.DictReader(file)} >= {
            "001-source_only",
            "003-auto",
            "005-finetune",
        }
    regions = [
        json.loads(line) for line in (tmp_path / "demo" / "regions.jsonl").read_text().splitlines()
    ]
    accepted = [region["box"] for region in regions if region["state"] == "accepted"]
    assert len(accepted) == 4
    assert all(int(box.split(",")[1].split(":")[1]) <= 104 for box in accepted), (
        "annotated where it is scored"
    )
    # Six panels in two rows, each of the section's tested half.
    with Image.open(result["picture"]) as picture:
        assert picture.width > 3 * 96 and picture.height > 2 * 104
    said = capsys.readouterr().err
    for number in range(1, 8):
        assert f"{number} of 7: " in said
    assert said.count(" left in all)") == 7


def test_the_time_left_follows_the_pace_of_this_machine():
    now = [0.0]
    stages = demo.Stages(lambda: now[0])
    seconds = list(demo.STAGES.values())
    texts = [next(stages.next()).text]
    # Ten times slower than the machine on which the times were measured.
    now[0] = 10.0 * seconds[0]
    texts.append(next(stages.next()).text)
    assert demo.duration(sum(seconds)) in texts[0]
    assert demo.duration(10 * sum(seconds[1:])) in texts[1]


def test_the_picture_tells_found_missed_and_wrong_apart(tmp_path):
    section = np.full((40, 60), 100, np.uint8)
    truth = np.zeros(section.shape, bool)
    truth[5:15, 10:30] = True
    found = np.zeros_like(truth)
    found[5:15, 20:40] = True
    path = tmp_path / "picture.png"
    draw_picture(path, section, truth, {"a model": found})
    with Image.open(path) as image:
        colours = {colour: count for count, colour in image.getcolors(1 << 20)}
    # Half of the colour over the section, which has no contrast and is black.
    found, missed, wrong = (
        colours[tuple(value // 2 for value in rgb)] for rgb in (FOUND, MISSED, WRONG)
    )
    # The truth's panel has 200 pixels, and the model's 100 of each kind, all enlarged alike.
    assert found == 3 * missed == 3 * wrong
