"""A paragraph for the methods section of a paper: what was done, with the numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from importlib.metadata import version

from napari_emda.errors import JobError, listed
from napari_emda.io.safe_files import read_file
from napari_emda.json_text import parse_json
from napari_emda.project.job_files import TrainJob
from napari_emda.project.project import Project
from napari_emda.project.region import CHECKED, IMPORTED, OBJECT, OWN, RANDOMLY_DRAWN, Region
from napari_emda.project.run_folder import RunFolder
from napari_emda.settings.requirements import FIXED

# More runs in a chain than anyone trains; a chain that leads back to itself ends there.
_LONGEST_CHAIN = 1000
# What annotates voxels beside patches.
_OTHERS = {
    IMPORTED: "imported labels",
    OBJECT: "decisions on objects",
    CHECKED: "answers to check points",
}


def methods_paragraph(
    project: Project, jobs: Mapping[str, TrainJob], regions: Sequence[Region]
) -> str:
    """Describe how the latest model came about; empty without a model.

    Args:
        project: of the runs.
        jobs: of the runs, by name.
        regions: that were suggested, drawn or annotated.
    """
    latest = project.runs.latest()
    if latest is None or latest not in jobs:
        return ""
    chain = _chain(latest, jobs)
    sentences = [
        _volumes(project),
        _first(project, chain[0], jobs[chain[0]]),
        *(_further(run, jobs[run]) for run in chain[1:]),
        _annotation(regions),
    ]
    return " ".join(sentence for sentence in sentences if sentence)


def _chain(run: str, jobs: Mapping[str, TrainJob]) -> list[str]:
    """The runs that a run goes back to, the first one first."""
    chain = [run]
    while (start := jobs[chain[0]].start_from) in jobs and len(chain) < _LONGEST_CHAIN:
        assert start is not None
        if start in chain:
            break
        chain.insert(0, start)
    return chain


def _volumes(project: Project) -> str:
    names = project.classes[1:]
    classes = listed(names) if len(names) < 6 else f"{len(names)} classes"
    by_domain = {
        domain: [
            f"'{entry.name}' ({' × '.join(f'{side:g}' for side in entry.spacing)} {entry.unit})"
            for entry in project.volumes.entries
            if entry.domain == domain
        ]
        for domain in ("source", "target")
    }
    targets = listed(by_domain["target"]) or "no volume yet"
    sources = listed(by_domain["source"])
    transfer = f", with {sources} as labelled source" if sources else ""
    return (
        f"To segment {classes} in {targets}{transfer}, models were trained with napari-emda "
        f"{version('napari-emda')}; voxel sizes are given along z, y and x."
    )


def _first(project: Project, run: str, job: TrainJob) -> str:
    settings = job.settings
    network = ", ".join(f"{key} {value}" for key, value in job.network_settings.items())
    if (origin := _origin(RunFolder.of(project.folder, run))) and job.method == FIXED:
        return f"They began with a model of another program ({origin}; run {run})."
    if origin:
        return (
            f"They began with a network '{settings.network}'{f' ({network})' if network else ''} "
            f"that the method '{job.method}' had trained on other volumes ({origin}; run {run})."
        )
    taught = ""
    if teacher := str(job.method_settings.get("teacher", "")):
        origin = _origin(RunFolder.of(project.folder, teacher))
        taught = f" It learnt what run {teacher} predicts{f' ({origin})' if origin else ''}."
    return (
        f"The method '{job.method}' trained the network '{settings.network}'"
        f"{f' ({network})' if network else ''} for {settings.steps} steps on batches of "
        f"{settings.batch} patches of {settings.patch} × {settings.patch} pixels, with learning "
        f"rate {settings.learning_rate:g} and seed {settings.seed} (run {run}).{taught}"
    )


def _origin(run: RunFolder) -> str:
    """The file of a model from elsewhere, and its hash; empty for a run of the project itself."""
    try:
        values = parse_json(read_file(run.origin_file))
        return f"file {values['file']}, SHA-256 {values['sha256']}"
    except (OSError, JobError, ValueError, TypeError, LookupError):
        return ""


def _further(run: str, job: TrainJob) -> str:
    return (
        f"From its weights, '{job.method}' trained {job.settings.steps} further steps (run {run})."
    )


def _annotation(regions: Sequence[Region]) -> str:
    annotated = [region for region in regions if region.annotated]
    patches = [region for region in annotated if region.is_patch]
    others = {_OTHERS[region.strategy] for region in annotated if not region.is_patch}
    further = f"Annotations also came from {listed(sorted(others))}." if others else ""
    if not patches:
        return further
    rounds = {region.round for region in patches}
    voxels = sum(region.voxels.size for region in patches)
    in_rounds = "1 round" if len(rounds) == 1 else f"{len(rounds)} rounds"
    count = "1 patch" if len(patches) == 1 else f"{len(patches)} patches"
    minutes = sum(region.seconds for region in regions) / 60
    spent = f" in {minutes:.0f} minutes of work" if minutes >= 1 else ""
    sentence = (
        f"In {in_rounds}, {count} of {voxels} voxels in all were annotated{spent}: "
        f"{_origins(patches)}; scores are those of models that had not been trained on the patches."
    )
    return f"{sentence} {further}".strip()


def _origins(patches: Sequence[Region]) -> str:
    """How many patches were chosen in which way, such as '3 suggested by entropy'."""
    ways = Counter(_way(region.strategy) for region in patches)
    return listed([f"{count} {way}" for way, count in ways.items()])


def _way(strategy: str) -> str:
    if strategy in RANDOMLY_DRAWN:
        return "drawn at random"
    if strategy in (OWN, ""):
        return "chosen by hand"
    return f"suggested by {strategy}"
