"""The publications behind what a project has used, as BibTeX."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache
from importlib.metadata import version
from importlib.resources import files

from napari_emda.active_learning.strategy import strategies
from napari_emda.errors import SettingsError
from napari_emda.methods.base import methods
from napari_emda.nn.network import networks
from napari_emda.project.job_files import TrainJob
from napari_emda.project.region import Region
from napari_emda.registry import Registry
from napari_emda.settings.requirements import FIXED

# The file is ours: entries begin with a line of their own, and end with a brace on one.
_ENTRY = re.compile(r"^@\w+\{([^,\s]+),\n.*?^\}$", re.MULTILINE | re.DOTALL)


@cache
def references() -> dict[str, str]:
    """The entries of ``references.bib`` by key."""
    text = (files(__package__) / "references.bib").read_text("utf-8")
    return {match[1]: match[0] for match in _ENTRY.finditer(text)}


def program() -> str:
    """The entry of this program."""
    return (
        "@software{napari_emda,\n"
        "  title = {napari-emda: interactive, domain-adaptive segmentation of volume electron "
        "microscopy in napari},\n"
        "  author = {{the napari-emda developers}},\n"
        f"  version = {{{version('napari-emda')}}}\n"
        "}"
    )


def cited(jobs: Iterable[TrainJob], regions: Iterable[Region], *, scored: bool) -> list[str]:
    """BibTeX entries of what was used, this program first.

    Args:
        jobs: of the runs: their methods, networks and settings.
        regions: suggested by strategies.
        scored: whether scores with intervals are reported.
    """
    keys: list[str] = []
    for job in jobs:
        if job.method == FIXED:
            continue
        keys += _of(methods, job.method)
        keys += _of(networks, job.settings.network)
        if job.settings.keep == "average":
            keys.append("izmailov2018")
    for name in dict.fromkeys(region.strategy for region in regions):
        keys += _of(strategies, name)
    if scored:
        keys.append("hesterberg2015")
    entries_by_key = references()
    # Other packages may give whole entries in place of keys.
    entries = [entries_by_key.get(key, key) for key in dict.fromkeys(keys)]
    return [program(), *entries]


def _of(registry: Registry, name: str) -> tuple[str, ...]:  # type: ignore[type-arg]
    """Keys of what implements a name; none if it is from a package that is not installed."""
    try:
        return tuple(registry[name].citations)
    # Among the strategies of regions are `audit` and others that are no strategies.
    except SettingsError:
        return ()
