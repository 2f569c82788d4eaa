"""What a model package states about its model."""

from __future__ import annotations

from dataclasses import dataclass

from napari_emda.data.voxel_grid import VoxelGrid

# Whom to cite for any model of this package, as (text, DOI).
CITATIONS = (
    (
        "Roels et al. (2019): Domain adaptive segmentation in volume electron microscopy imaging",
        "10.48550/arXiv.1810.09734",
    ),
)


@dataclass(frozen=True)
class ModelCard:
    """What a model package states about the model.

    Attributes:
        name: a title, 5 to 128 characters: letters, digits, spaces and ``_-()``.
        description: one sentence on what it segments, in which images.
        classes: names of all classes, background first.
        grid: on which the network works. The axes state y and x only where a section is predicted
            at a time.
        seen: names of the sections that the network sees at once, its input channels.
        distance: from one of them to the next, in the unit of ``grid``.
        sections: that a 3-D network predicts at once, along an axis z; 0 for any other network.
        input_note: what else a user should know of the input, in sentences.
        tags: under which others find the model, besides those of every model of this package.
        authors: names.
        citations: pairs of text and DOI, or None for no DOI.
        licence: SPDX identifier.
        documentation: Markdown; None for a short text made from the other attributes.
    """

    name: str
    description: str
    classes: tuple[str, ...]
    grid: VoxelGrid
    seen: tuple[str, ...] = ("grey",)
    distance: float = 0.0
    sections: int = 0
    input_note: str = ""
    tags: tuple[str, ...] = ()
    authors: tuple[str, ...] = ()
    citations: tuple[tuple[str, str | None], ...] = CITATIONS
    licence: str = "BSD-3-Clause"
    documentation: str | None = None

    @property
    def image(self) -> str:
        """What the input holds, in a sentence."""
        if self.sections:
            return f"Grey values of {self.sections} consecutive sections, as stored."
        if len(self.seen) == 1:
            return "Grey values of a section, as stored."
        return f"Grey values of {len(self.seen)} sections, as stored; the middle one is predicted."

    def _channels(self) -> str:
        """Where the input's sections come from; nothing for a single section."""
        if self.sections:
            return (
                f"Each input has {self.sections} sections, {self.distance:g} {self.grid.unit} from "
                "one to the next.\n\n"
            )
        if len(self.seen) == 1:
            return ""
        middle = len(self.seen) // 2
        rows = [
            f"- channel {i}: the section {(i - middle) * self.distance:+g} {self.grid.unit} away"
            for i in range(len(self.seen))
        ]
        rows[middle] = f"- channel {middle}: the section to predict"
        return (
            "The channels are sections of the same place, along z:\n\n"
            + "\n".join(rows)
            + "\n\nTake the nearest section of the volume; at its ends, the one on the other "
            "side.\n\n"
        )

    @property
    def readme(self) -> str:
        """`documentation`, or a short text made from the other attributes."""
        if self.documentation is not None:
            return self.documentation
        _, y, x = self.grid.spacing
        unit = self.grid.unit
        note = f"{self.input_note}\n\n" if self.input_note else ""
        classes = "\n".join(f"- channel {k}: {name}" for k, name in enumerate(self.classes))
        return (
            f"# {self.name}\n\n{self.description}\n\n"
            "## Input\n\nSections of an electron-microscopy volume with pixels of "
            f"{y:g} × {x:g} {unit} (y × x).\n\n"
            f"{self._channels()}{note}"
            f"## Output\n\nClass probabilities:\n\n{classes}\n\n"
            # bioimageio.spec warns about packages whose README has no section of this name.
            "## Validation\n\nCompare the prediction with labels of a few sections of your own "
            "volume before using it.\n\nTrained with napari-emda.\n"
        )
