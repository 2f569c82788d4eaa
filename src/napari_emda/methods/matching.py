"""Class proportions and normalisation statistics of the target, matched to what is expected."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field, field_validator

from napari_emda.errors import SettingsError
from napari_emda.methods.base import Averaging, DataSummary, Postprocessing
from napari_emda.nn.network import Network


class Matching(Averaging):
    """Settings of methods whose predictions are matched to what is known of the classes."""

    renamed: ClassVar = {"shares": "prior_strength", "statistics": "target_statistics_weight"}

    # These defaults were chosen on the pairs of docs/benchmarks.md: the proportions on VNC and
    # Lucchi, the statistics on the phantom.
    amounts: Literal["source", "unknown", "measured"] = Field(
        "source",
        title="amount of each class",
        description="How much of each class the target is expected to contain: as much as the "
        "source; unknown, if it may be much more or less; measured, by the check points that "
        "are answered in the project. Once patches are annotated, these decide, unless the "
        "amounts are measured.",
    )
    measured_shares: str = Field(
        "",
        title="measured shares",
        description="Fraction of the target that each class but the background takes up, for "
        "measured amounts: 0.07, or 0.07,0.02 for two classes. Left empty, the check points of "
        "the project say it.",
        examples=["0.07"],
        json_schema_extra={"advanced": True},
    )
    prior_strength: float = Field(
        0.85,
        ge=0,
        le=1,
        title="weight of the amounts",
        description="How far the amount of each class in the target is moved towards the "
        "expected one: 1 if that is certain, 0 if nothing is known. Lower it if the target may "
        "have clearly more or less of the structure.",
        json_schema_extra={"step": 0.05},
    )
    target_statistics_weight: float = Field(
        0.5,
        ge=0,
        le=1,
        title="adjustment to the target",
        description="How far brightness and contrast in the network are adjusted to the "
        "target (weight of its normalisation statistics); the source's have the rest. Once "
        "patches are annotated, only the target's are used. Lower it if the target has hardly "
        "any of the structure.",
        json_schema_extra={"step": 0.1},
    )

    @field_validator("measured_shares")
    @classmethod
    def _is_shares(cls, text: str) -> str:
        _shares_in(text)
        return text


def check_shares(settings: Matching, network: Network) -> None:
    """SettingsError if measured shares are those of more or fewer classes."""
    shares = _shares_in(settings.measured_shares)
    if shares and len(shares) != network.classes:
        raise SettingsError(
            f"measured_shares={settings.measured_shares} gives {len(shares) - 1} fractions "
            f"for the {network.classes - 1} classes beside the background: give one for each."
        )


def matching(settings: Any, summary: DataSummary) -> Postprocessing:
    """How predictions are processed.

    Args:
        settings: `Matching`.
        summary: of the data.
    """
    shares = _shares_in(settings.measured_shares) if settings.amounts == "measured" else ()
    strength = 0.0 if settings.amounts == "unknown" else settings.prior_strength
    statistics = settings.target_statistics_weight
    if summary.annotated:
        # Annotated patches train the network with the target's statistics, so it needs only these;
        # and they show how much of each class there is, which the source cannot.
        strength = strength if shares else 0.0
        statistics = 1.0
    return Postprocessing(settings.flips, settings.z_smoothing, strength, statistics, shares)


def _shares_in(text: str) -> tuple[float, ...]:
    """Share of each class, background first, in a text such as ``0.07,0.02``; empty if it is."""
    if not text.strip():
        return ()
    try:
        shares = [float(part) for part in text.split(",")]
    except ValueError:
        shares = []
    # Written so that NaN is refused, too.
    if not shares or not all(0 <= share < 1 for share in shares) or not sum(shares) < 1:
        raise ValueError(
            "the fraction of each class but the background, from 0 to less than 1 in all, such as "
            "0.07 or 0.07,0.02"
        )
    return (1 - sum(shares), *shares)
