"""What a method or strategy needs before it can start, and the sentence about what is missing.

One model makes the check of a job, the sentence in the dock and the column in the documentation.
Methods and strategies declare it in modules that load torch; the dock gets it as JSON.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel, ConfigDict

from napari_emda.errors import JobError

# Also in `napari_emda.data.volume`; declared twice because settings do not import data.
Domain = Literal["source", "target"]
UNLABELLED = "iic"
"""The method to start with if nothing is labelled."""
SOURCE_FREE = "source_free"
"""The method that adapts a model without its source."""
TAUGHT = "taught"
"""The method that learns what another model predicts."""
FIXED = "fixed"
"""The method and the network of runs that are models of other programs, which are not trained."""

_LABELS = {
    "needed": "a volume with some labels",
    "optional": "a volume with or without labels",
    "unused": "any volume, no labels",
}
_MODELS = {"none": "no model", "features": "a model", "classes": "a model that predicts classes"}


@dataclass(frozen=True)
class Available:
    """What a project offers. Whatever cannot be known yet counts as available.

    Attributes:
        domains: of the volumes.
        labelled: whether there are labels, in a source or as annotations of a target.
        annotated: whether a target has annotations.
        run: the run whose model is used; empty if there is none.
        predicts: whether that model predicts classes or clusters, and not only features.
        dropout: whether it was trained with dropout.
        earlier_run: whether its training started from another run.
    """

    domains: Collection[Domain] = ("source", "target")
    labelled: bool = True
    annotated: bool = True
    run: str = ""
    predicts: bool = True
    dropout: bool = True
    earlier_run: bool = True


class Requirements(BaseModel):
    """What a method or strategy needs.

    Attributes:
        domains: volumes that are needed.
        optional_domains: volumes that are used if there are any.
        labels: ``needed``, in a source or as annotations of a target; ``optional`` for a method
            that can do without, and then only learns features from which other trainings start;
            ``unused`` for one that never reads them.
        annotations: whether the target must have annotations.
        model: what is used of a trained model: ``none``, its ``features``, or the ``classes`` that
            it predicts.
        dropout: whether that model must have been trained with dropout.
        earlier_run: whether its training must have started from another run.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    domains: tuple[Domain, ...] = ()
    optional_domains: tuple[Domain, ...] = ()
    labels: Literal["needed", "optional", "unused"] = "unused"
    annotations: bool = False
    model: Literal["none", "features", "classes"] = "none"
    dropout: bool = False
    earlier_run: bool = False

    @property
    def all_domains(self) -> tuple[Domain, ...]:
        """Needed and optional volumes."""
        return (*self.domains, *self.optional_domains)

    @property
    def predicts_classes(self) -> bool:
        """Whether a method predicts classes: it learns them, or adapts a model that does."""
        return self.labels != "unused" or self.model == "classes"

    def missing(self, name: str, available: Available) -> str:
        """Say what is missing, in one sentence with the remedy.

        Args:
            name: of the method or strategy.
            available: what the project offers.

        Returns:
            The sentence; empty if nothing is missing.
        """
        # One sentence only, data before model: whoever has no labels need not read of dropout.
        return self._missing_data(name, available) or self._missing_model(name, available)

    def _missing_data(self, name: str, available: Available) -> str:
        for domain in self.domains:
            if domain == "source" and domain not in available.domains:
                return (
                    f"{name} needs a source volume, and the project has none: choose "
                    f"{SOURCE_FREE}, which adapts a model, or {UNLABELLED}, which needs neither."
                )
            if domain not in available.domains:
                return f"{name} needs a {domain} volume: add one, or choose another method."
        if self.labels == "needed" and not available.labelled:
            return (
                f"{name} learns from labels and there are none: annotate some patches, import "
                f"existing labels, or choose {UNLABELLED}, which needs none."
            )
        if self.annotations and not available.annotated:
            return (
                f"{name} learns from annotated patches of the target and there are none: annotate "
                "some first, or choose a method that needs none, such as auto."
            )
        return ""

    def _missing_model(self, name: str, available: Available) -> str:
        if self.model != "none" and not available.run and self.domains:
            return (
                f"{name} adapts a model, and there is none to start from: train one first, or make "
                "the project from a model."
            )
        if self.model != "none" and not available.run:
            return f"{name} needs a model and there is none: train one first, or choose random."
        if self.model == "classes" and not available.predicts:
            return (
                f"The run '{available.run}' was trained without labels and has no uncertainty to "
                "rank by: choose core_set or k_means, which compare the appearance of patches."
            )
        if self.dropout and not available.dropout:
            return (
                f"The run '{available.run}' was trained without dropout, which {name} needs: "
                "choose another strategy, or train with dropout above 0."
            )
        if self.earlier_run and not available.earlier_run:
            return (
                f"The run '{available.run}' did not start from another run, with which it could be "
                "compared: retrain first, or compare views."
            )
        return ""

    def check(self, name: str, available: Available) -> None:
        """Check that nothing is missing.

        Raises:
            JobError: the sentence of `missing`.
        """
        sentence = self.missing(name, available)
        if sentence:
            raise JobError(sentence)

    def in_words(self) -> str:
        """What is needed, for the documentation, such as ``source and target``."""
        needed: list[str] = list(self.domains)
        if self.annotations:
            needed.append("annotated patches")
        elif self.optional_domains and not needed:
            needed.append(_LABELS[self.labels])
        if not needed or self.model != "none":
            dropout = ", trained with dropout" if self.dropout else ""
            needed.append(_MODELS[self.model] + dropout)
        return " and ".join(needed)
