"""What a method or a strategy needs before it can begin, and the sentence that says what is missing.

One model makes the check of a job, the sentence in the dock and the column in the documentation.
Methods and strategies declare it in modules that load torch; the dock gets it as JSON.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel, ConfigDict

from napari_emda.errors import JobError

# As in `napari_emda.data.volume`: settings know no data.
Domain = Literal["source", "target"]
UNLABELLED = "iic"
"""The method to begin with where nothing is labelled."""

_LABELS = {
    "needed": "a volume with some labels",
    "optional": "a volume with or without labels",
    "unused": "any volume, no labels",
}
_MODELS = {"none": "no model", "features": "a model", "classes": "a model that predicts classes"}


@dataclass(frozen=True)
class Available:
    """What there is. What cannot be known yet counts as there.

    Attributes:
        domains: of the volumes.
        labelled: whether anything is, in a source or by annotations of a target.
        annotated: whether any of a target is.
        run: whose model is used; empty where there is none.
        predicts: whether that model predicts classes or clusters, and has not learnt features alone.
        dropout: whether it was trained with dropout.
        earlier_run: whether it was trained on from another run.
    """

    domains: Collection[Domain] = ("source", "target")
    labelled: bool = True
    annotated: bool = True
    run: str = ""
    predicts: bool = True
    dropout: bool = True
    earlier_run: bool = True


class Requirements(BaseModel):
    """What must be there.

    Attributes:
        domains: volumes that must be there.
        optional_domains: volumes that are learnt from where they are there.
        labels: ``needed`` anywhere, be it in a source or by annotations of a target; ``optional``
            for a method that can do without, and then learns features that other trainings start
            from and predicts nothing yet; ``unused`` for one that never looks at them.
        annotations: whether some of the target must be annotated.
        model: whether a trained model is asked: ``none``, for its ``features``, or for what it says
            of ``classes``.
        dropout: whether that model must have been trained with dropout.
        earlier_run: whether it must have been trained on from another run.
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
        """The volumes that are learnt from where they are there."""
        return (*self.domains, *self.optional_domains)

    def missing(self, name: str, available: Available) -> str:
        """What is missing, in one sentence with the remedy; empty when all is there.

        Args:
            name: of the method or strategy.
            available: what there is.
        """
        return self._missing_data(name, available) or self._missing_model(name, available)

    def _missing_data(self, name: str, available: Available) -> str:
        for domain in self.domains:
            if domain not in available.domains:
                return f"{name} needs a {domain} volume: add one, or choose another method."
        if self.labels == "needed" and not available.labelled:
            return (
                f"{name} learns from labels and there are none: annotate some patches, take labels "
                f"that you have already, or choose {UNLABELLED}, which needs none."
            )
        if self.annotations and not available.annotated:
            return (
                f"{name} learns from annotated patches of the target and there are none: annotate "
                "some first, or choose a method that needs none, such as auto."
            )
        return ""

    def _missing_model(self, name: str, available: Available) -> str:
        if self.model != "none" and not available.run:
            return f"{name} asks a model and there is none: train one first, or choose random."
        if self.model == "classes" and not available.predicts:
            return (
                f"The run '{available.run}' was trained without labels and has no uncertainty to "
                "rank by: choose core_set or k_means, which compare what patches look like."
            )
        if self.dropout and not available.dropout:
            return (
                f"The run '{available.run}' was trained without dropout, which {name} needs: choose "
                "another strategy, or train with dropout above 0."
            )
        if self.earlier_run and not available.earlier_run:
            return (
                f"The run '{available.run}' was not trained on from another, with which it could be "
                "compared: retrain first, or compare views."
            )
        return ""

    def check(self, name: str, available: Available) -> None:
        """JobError with what is missing, if anything is."""
        sentence = self.missing(name, available)
        if sentence:
            raise JobError(sentence)

    def in_words(self) -> str:
        """What is needed, for the documentation: ``source and target``."""
        needed: list[str] = list(self.domains)
        if self.annotations:
            needed.append("annotated patches")
        elif self.optional_domains and not needed:
            needed.append(_LABELS[self.labels])
        if not needed or self.model != "none":
            dropout = ", trained with dropout" if self.dropout else ""
            needed.append(_MODELS[self.model] + dropout)
        return " and ".join(needed)
