"""How long *Done* takes in a large volume: from the key press until the next patch can be painted.

    xvfb-run -a -s "-screen 0 1600x1000x24" python -m benchmarks.decide

The volume has 50 sections of 2048 x 2048 pixels, a prediction (random squares), and three earlier
rounds of 20 patches. In each patch of the fourth round something is painted with the mouse, then
*Done* is called, which also writes everything to disk. Prints median and maximum time in the
viewer's thread, and the time until the canvas is drawn. Fails if the median is above the limit.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

import napari
import numpy as np
import zarr
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication

from benchmarks import parser_of
from napari_emda._gui.dock import make_dock
from napari_emda.project.project import Project
from tests.viewer.hands import Hands

SHAPE = (50, 2048, 2048)
RUN = "001-random"
PATCHES, SIDE = 20, 128
SPACING = (50.0, 5.0, 5.0)


def make(folder: Path, rng: np.random.Generator) -> None:
    """A project with a prediction and three rounds of annotated patches."""
    with Project.create(folder, ("background", "mitochondria")) as project:
        image = rng.integers(0, 256, SHAPE).astype(np.uint8)
        project.volumes.add(
            project.volumes.store("target", image), "target", name="target", spacing=SPACING
        )
        run = project.folder / "runs" / RUN
        run.mkdir(parents=True)
        (run / "checkpoint.safetensors").touch()
        squares = np.kron(rng.choice([10, 230], (64, 64)), np.ones((32, 32))).astype(np.uint8)
        path = run / "probabilities.zarr" / "target"
        stored = zarr.create_array(path, shape=(1, *SHAPE), dtype="uint8", chunks=(1, 1, 256, 256))
        stored[:] = np.broadcast_to(squares, stored.shape)
        for _ in range(3):
            for region in project.regions.suggest(suggestions(rng), "entropy", RUN):
                project.annotations.accept(region)


def suggestions(rng: np.random.Generator) -> list[dict[str, object]]:
    corners = rng.integers(0, np.array(SHAPE) - (0, SIDE, SIDE), (PATCHES, 3)).tolist()
    boxes = [f"{z}:{z + 1},{y}:{y + SIDE},{x}:{x + SIDE}" for z, y, x in corners]
    return [
        {"volume": "target", "box": box, "score": 1 - k / PATCHES} for k, box in enumerate(boxes)
    ]


def measure(folder: Path, rng: np.random.Generator) -> np.ndarray:
    """Seconds of each *Done*, without and with the drawing that follows."""
    viewer = napari.Viewer()
    viewer.window.resize(1500, 900)
    dock = make_dock(viewer)
    viewer.window.add_dock_widget(dock, name="napari-emda")
    dock.data.open_project(folder)
    dock.show_only("Annotate")
    patches = dock.annotate.patches
    hands = Hands(viewer, dock.session)
    seconds = []
    for _ in patches.taking(suggestions(rng), "entropy", RUN):
        QApplication.processEvents()
    hands.press("N")
    while patches.current is not None:
        z, y, x = patches.current.voxels.start
        hands.press("2")
        hands.stroke("target", [(z, y + 20, x + 20 + 4 * k) for k in range(5)])
        QTest.qWait(300)
        began = time.perf_counter()
        dock.annotate.commands["done"]()
        decided = time.perf_counter() - began
        QApplication.processEvents()
        seconds.append((decided, time.perf_counter() - began))
    dock.shut_down()
    viewer.close()
    return np.array(seconds[1:])


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--limit", type=float, default=0.1, help="seconds that the median may take")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rng = np.random.default_rng(options.seed)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "project"
        make(folder, rng)
        decided, drawn = measure(folder, rng).T
    print(
        f"Done: median {np.median(decided):.3f} s, largest {decided.max():.3f} s; "
        f"drawn after {np.median(drawn):.3f} s"
    )
    sys.exit(bool(np.median(decided) > options.limit))


if __name__ == "__main__":
    main()
