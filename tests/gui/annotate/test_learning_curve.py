"""What the dock says about the quality of a model."""

import pytest

from napari_emda._gui.annotate.learning_curve import in_words
from napari_emda.project.learning_curve import Estimate, Round

SAME = "Expect the same in the rest of the volume."
MORE = "An audit of more patches says it more exactly."


@pytest.mark.parametrize(
    ("low", "high", "said", "unsaid"),
    [(0.66, 0.8, SAME, MORE), (0.0, 0.89, MORE, SAME), (0.0, 1.0, "too early to say", SAME)],
)
def test_an_audit_promises_no_more_than_its_interval_allows(low, high, said, unsaid):
    iou = Estimate(0.71, low, high)
    text = in_words(Round(2, True, "002-finetune", 6, iou, iou, 0.1))
    assert said in text
    assert unsaid not in text
