"""What all tests share: one thread, the phantom as arrays and files, and small trainings."""

from __future__ import annotations

import gc
import hashlib
import math
import os
import sys
from functools import partial
from importlib import import_module

# Children inherit both: many threads on a busy machine are slower, also those of the software that
# renders without a graphics card.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("LP_NUM_THREADS", "1")

import hypothesis
import numpy as np
import pytest

from napari_emda.data.appearance import Appearance
from napari_emda.data.volume import Volume
from napari_emda.data.voxel_grid import VoxelGrid
from napari_emda.io.tiff import write_tiff
from napari_emda.project.project import Project
from napari_emda.project.run_folder import RunFolder
from napari_emda.synthetic.phantom import phantom

hypothesis.settings.register_profile("busy machine", deadline=None, max_examples=50)
hypothesis.settings.load_profile("busy machine")

SPACING = (50.0, 8.0, 8.0)
SHAPE = (4, 96, 96)
CLASSES = ("background", "mitochondria")

SMALL_TRAINING = {
    "steps": 6,
    "patch": 32,
    "batch": 2,
    "save_every": 100,
    "report_every": 1,
    "validations": 0,
    "device": "cpu",
    "precision": "32",
}


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory):
    """No test reads what an earlier one, or the user, has kept."""
    os.environ["NAPARI_EMDA_CACHE"] = str(tmp_path_factory.mktemp("cache"))
    os.environ["NAPARI_EMDA_MODELS"] = str(tmp_path_factory.mktemp("models"))


EXIT_STATUS = pytest.StashKey[int]()

LONGEST_FIRST = (
    "contracts/test_method_contract.py",
    "docs/test_examples.py",
    "viewer/test_round.py",
    "gui/test_dock.py",
    "cli/test_cli.py",
    "jobs/test_worker.py",
    "training/test_stacks.py",
    "training/test_ranks.py",
    "viewer/test_processes.py",
    "viewer/test_proofreading.py",
    "gui/annotate/test_patches.py",
    "training/test_model_selection.py",
    "inference/test_predict.py",
    "viewer/test_click_tools.py",
    "viewer/test_closing.py",
    "faults/test_campaign.py",
    "inference/test_predict_part.py",
    "training/test_loop.py",
    "viewer/test_removed_layers.py",
    "viewer/test_check_points.py",
    "viewer/test_keyboard.py",
)
"""The files that take longest: started last, one of them would run alone at the end."""


def pytest_collection_modifyitems(config, items):
    def rank(item):
        file = item.path.relative_to(config.rootpath / "tests").as_posix()
        return LONGEST_FIRST.index(file) if file in LONGEST_FIRST else len(LONGEST_FIRST)

    items.sort(key=rank)


def pytest_collection_finish():
    # What is imported by now stays: looking through all of torch or napari for garbage would take
    # half a second each time.
    gc.collect()
    gc.freeze()


def pytest_sessionfinish(session, exitstatus):
    session.config.stash[EXIT_STATUS] = int(exitstatus)


@pytest.hookimpl(trylast=True)
def pytest_unconfigure(config):
    """Where Qt was used, end without taking the interpreter apart.

    Dozens of viewers and docks have lived in this one process, as they never do in life, and Python
    frees what is left of them in any order: now and then PyQt then follows a freed pointer, after
    the last test has passed. That a viewer with a dock ends cleanly is a test of its own
    (tests/viewer/test_processes.py).
    """
    if "PyQt6.QtWidgets" in sys.modules and EXIT_STATUS in config.stash:
        if "pytest_xvfb" in sys.modules:
            sys.modules["pytest_xvfb"].shutdown_xvfb()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(config.stash[EXIT_STATUS])


FEW_MEASURED = {
    "trainer.STATISTICS_BATCHES": 6,
    "phases.STATISTICS_BATCHES": 6,
    "trainer._TILES": 16,
    "trainer._FEWER_TILES": 6,
    "trainer._AGREEMENT_TILES": 4,
}
"""What is measured on the target between the steps: with all of it, a training of some small steps
would spend most of its time there."""


MOST_REMEMBERED = 2**20


class MeasuredOnce:
    """In place of `Appearance`: hundreds of trainings on the same volumes measure them once.

    It takes most of the time in which a small training is set up.
    """

    def __init__(self):
        self.measured = {}

    def of(self, view):
        volume = view.volume
        if math.prod(volume.shape) > MOST_REMEMBERED:
            return Appearance.of(view)
        image = np.ascontiguousarray(volume.image[:])
        content = hashlib.sha256(image).digest()
        key = (content, image.shape, image.dtype, volume.grid, view.pixel_size)
        if key not in self.measured:
            self.measured[key] = Appearance.of(view)
        return self.measured[key]


@pytest.fixture(scope="session", autouse=True)
def trainings_here(request):
    """In this process, trainings report and save by steps alone, and measure little.

    The first holds however slow the machine is. Children keep their clock, and measure all. Nor do
    commands in this process lower its priority.

    Returns the numbers that all of it would be measured with, by name.
    """
    tests = request.config.rootpath / "tests"
    viewers = (tests / "gui", tests / "viewer")
    if all(any(map(item.path.is_relative_to, viewers)) for item in request.session.items):
        yield {}  # they never load torch
        return
    from napari_emda.inference import device

    measured = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("napari_emda.sampling.sampler.Appearance", MeasuredOnce())
        for name in ("loop._REPORT_SECONDS", "loop._SAVE_SECONDS", "stopping._MEASURING"):
            patch.setattr(f"napari_emda.training.{name}", math.inf)
        for name, count in FEW_MEASURED.items():
            module, _, attribute = name.rpartition(".")
            measured[name] = getattr(import_module(f"napari_emda.training.{module}"), attribute)
            patch.setattr(f"napari_emda.training.{name}", count)
        # A command lowers the priority of its process. The tests behind it would wait for all that
        # runs beside them.
        patch.setattr(device, "configure_process", partial(device.configure_process, polite=False))
        yield measured


@pytest.fixture
def measures_all(trainings_here, monkeypatch):
    """In this process too, trainings measure all of the target."""
    for name, count in trainings_here.items():
        monkeypatch.setattr(f"napari_emda.training.{name}", count)


@pytest.fixture(scope="session")
def phantoms():
    """Image and labels of each domain, 4 x 96 x 96 uint8, read-only."""
    arrays_by_name = {
        domain: phantom(SHAPE, domain, seed=1, spacing=SPACING) for domain in ("source", "target")
    }
    for arrays in arrays_by_name.values():
        for array in arrays:
            array.setflags(write=False)
    return arrays_by_name


@pytest.fixture
def source(phantoms):
    """The phantom's labelled volume."""
    image, labels = phantoms["source"]
    return Volume("source", image, "source", VoxelGrid(SPACING), labels=labels)


@pytest.fixture
def target(phantoms):
    """The phantom's unlabelled volume."""
    return Volume("target", phantoms["target"][0], "target", VoxelGrid(SPACING))


@pytest.fixture(scope="session")
def phantom_files(phantoms, tmp_path_factory):
    """The phantom as TIFF: paths by (domain, "image" or "labels")."""
    folder, paths = tmp_path_factory.mktemp("phantom"), {}
    for domain, arrays in phantoms.items():
        for kind, array in zip(("image", "labels"), arrays, strict=True):
            paths[domain, kind] = folder / f"{domain}_{kind}.tif"
            write_tiff(
                paths[domain, kind], iter(array), array.shape, array.dtype, VoxelGrid(SPACING)
            )
    return paths


@pytest.fixture(scope="session")
def make_project(phantom_files):
    """A function that makes a project with the phantom's two volumes in a folder."""

    def make(folder, *, target_labels=None):
        project = Project.create(folder, CLASSES)
        project.volumes.add(
            phantom_files["source", "image"],
            "source",
            labels=phantom_files["source", "labels"],
            name="source",
        )
        project.volumes.add(
            phantom_files["target", "image"], "target", labels=target_labels, name="target"
        )
        return project

    return make


@pytest.fixture
def project(make_project, tmp_path):
    """An open project with the phantom's source and target."""
    with make_project(tmp_path / "project") as project:
        yield project


@pytest.fixture
def make_training():
    """A function that prepares a training on volumes as a job does.

    It takes the smallest network and 32-pixel patches, on the CPU.

    Nobody looks at the target meanwhile unless ``validations`` are asked for.
    """
    from napari_emda.jobs.prepare_training import training_on
    from napari_emda.methods.base import methods
    from napari_emda.project.job_files import TrainJob

    def make(
        volumes,
        folder,
        method="source_only",
        method_settings=None,
        *,
        classes=CLASSES,
        network_settings=None,
        start=None,
        **values,
    ):
        settings = {**SMALL_TRAINING, **values}
        job = TrainJob(
            project=str(folder),
            method=method,
            method_settings=method_settings or {},
            settings=settings,
            network_settings={"base_channels": 8, **(network_settings or {})},
        )
        folder.mkdir(parents=True, exist_ok=True)
        if start is None and methods[method].requirements.model != "none":
            # A model of the same architecture that has learnt nothing yet.
            before = folder.with_name(f"{folder.name}-before")
            kept = {key: values[key] for key in ("context", "network") if key in values}
            training = make(
                volumes, before, classes=classes, network_settings=network_settings, **kept
            )
            training.write(0)
            start = training.path
        training, _ = training_on(
            lambda domain: [volume for volume in volumes if volume.domain == domain],
            classes,
            job,
            RunFolder(folder),
            start,
        )
        return training

    return make


@pytest.fixture
def same_weights():
    """A function that tells whether two modules hold bitwise the same weights and statistics."""
    import torch

    def same(a, b):
        a, b = a.state_dict(), b.state_dict()
        return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)

    return same


@pytest.fixture
def noise():
    """Seeded random numbers."""
    return np.random.default_rng(0)
