"""Which methods the dock offers first, for which project."""

import pytest

from napari_emda._gui.process.catalogue import Choice, offered
from napari_emda.settings.requirements import Available, Requirements

CHOICES = {
    choice.name: choice
    for choice in (
        Choice(
            "adapt",
            requirements=Requirements(domains=("source", "target"), labels="needed"),
            recommended=1,
        ),
        Choice(
            "cluster",
            requirements=Requirements(optional_domains=("source", "target")),
            recommended=3,
        ),
        Choice("exotic", requirements=Requirements(labels="needed")),
        Choice(
            "tune",
            requirements=Requirements(domains=("target",), labels="needed", annotations=True),
            recommended=2,
        ),
    )
}


@pytest.mark.parametrize(
    ("available", "first"),
    [
        (None, ["adapt", "tune", "cluster"]),
        (Available(annotated=False), ["adapt", "cluster"]),
        (Available(), ["tune", "adapt", "cluster"]),
        (Available(domains=("target",)), ["tune", "cluster"]),
        (Available(domains=("target",), labelled=False, annotated=False), ["cluster"]),
    ],
    ids=["no project", "a source", "annotated", "a target with annotations", "no labels"],
)
def test_what_the_project_can_use_comes_first(available, first):
    names, others = offered(CHOICES, available)
    assert names == first
    assert sorted([*names, *others]) == sorted(CHOICES)
