"""What people say of a model: what it segments, in which tissue, and what may be done with it."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from napari_emda.data.names import check_shown_name


def _empty_or_shown(text: str) -> str:
    return check_shown_name(text) if text else text


OptionalText = Annotated[str, AfterValidator(_empty_or_shown)]
"""A text of one line that can be shown as it is; may be empty."""


class ModelDescription(BaseModel):
    """What its file says of a model for people; all of it may be empty.

    Models that start from it carry tissue and licence on.

    Attributes:
        name: of the model.
        tissue: and preparation, such as "mouse cortex, FIB-SEM".
        licence: under which it may be used, as an SPDX identifier.
        score: IoU on labels that it had not seen, 0 to 1; None if nobody measured it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    name: OptionalText = ""
    tissue: OptionalText = ""
    licence: OptionalText = ""
    score: float | None = Field(None, ge=0, le=1)
