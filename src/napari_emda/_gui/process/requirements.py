"""Whether a project has what a method needs. No Qt."""

from __future__ import annotations

from napari_emda._gui.process.catalogue import Catalogue, Choice
from napari_emda.project.project import Project
from napari_emda.project.runs import annotated, labelled

UNLABELLED = "iic"
"""The method to begin with where nothing is labelled."""


def learns_classes(project: Project, run: str, catalogue: Catalogue) -> bool:
    """Whether a run was trained with labels, so that it tells the project's classes apart and no clusters."""
    job = project.run(run).training()
    method = catalogue.methods.get(job.method) if job is not None else None
    return method is None or method.needs_labels


def unmet(project: Project, method: Choice) -> str:
    """What a project lacks that a method needs, in one sentence; empty when it has all."""
    there = {entry.domain for entry in project.entries}
    for domain in method.domains:
        if domain not in there:
            return (
                f"{method.name} needs a {domain} volume: add one in Data, or choose another method."
            )
    if method.needs_labels and not method.learns_features and not labelled(project):
        remedy = f"annotate some patches, take labels that you have already (both in Annotate), or choose {UNLABELLED}"
        return f"{method.name} learns from labels and there are none: {remedy}."
    if method.needs_annotations and not annotated(project):
        return f"{method.name} learns from annotated patches: annotate some first, or choose another method."
    return ""
