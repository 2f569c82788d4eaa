"""The demo's workflow, with hardly any training."""

import csv
import json
from pathlib import Path

import pytest
import tifffile

from napari_emda.cli import headless_demo as demo
from napari_emda.cli.progress import watch


@pytest.fixture
def short(monkeypatch):
    monkeypatch.setattr(demo, "SHAPE", (4, 224, 96))
    monkeypatch.setattr(demo, "TRAINED", ":,0:104,:")
    monkeypatch.setattr(demo, "TESTED", ":,120:224,:")
    monkeypatch.setattr(demo, "STEPS", 2)
    monkeypatch.setattr(demo, "ROUND_STEPS", 2)
    monkeypatch.setattr(demo, "PATCHES", 2)


def test_the_demo_ends_with_scores_a_mask_and_curves(short, tmp_path):
    result, rows = demo.run_demo(tmp_path / "demo", 0, watch)
    assert [row[0] for row in rows][:3] == [
        "source only",
        "source only, strong augmentation",
        "adapted (histogram)",
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
            "003-histogram",
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
