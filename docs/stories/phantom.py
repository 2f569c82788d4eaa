"""The whole loop on the synthetic pair."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from docs.stories.painting import paint_truth
from docs.stories.story import Story, wait
from napari_emda._gui.demo import show_demo
from napari_emda._gui.dock import Dock
from napari_emda.synthetic.sample_pair import sample_volume

# Patches of the audit: with fewer, it is too early to say how good the model is.
AUDITED = 6


class Phantom(Story):
    """The whole loop on the synthetic pair, with an audit at the end."""

    name = "phantom"

    def open(self) -> Dock:
        """Open the viewer as ``napari-emda demo`` does."""
        return show_demo(self.viewer)

    def chapters(self) -> Sequence[Callable[[], None]]:
        """From the layers to an audited model."""
        self.truth = sample_volume("target")[1]
        return (
            self.choose_the_layers,
            self.train_a_model,
            self.correct_patches,
            self.retrain,
            self.predict,
            self.export,
            self.draw_a_patch,
            self.audit,
        )

    def choose_the_layers(self) -> None:
        """All is chosen already."""
        wait(lambda: bool(self.dock.data.domain_gap.text()), "the domain gap is measured")
        self.shot("data")
        self.next("Use these layers")
        wait(lambda: self.session.opened is not None, "the project is made")

    def train_a_model(self) -> None:
        """Adapt with the proposed method."""
        self.shot("train")
        self.set_up_training()
        self.train()
        self.shot("trained")

    def correct_patches(self) -> None:
        """Get patches suggested, and correct them."""
        panel = self.dock.annotate
        self.open_panel("Annotate")
        self.fill(panel.suggest.main["count"].native, "5")
        self.fill(panel.suggest.main["patch"].native, "64")
        self.next("Suggest patches")
        self.idle("the patches are suggested")
        self.shot("suggested")
        self.next("Next patch")
        self.shot("patch")
        self.decide_all("corrected")
        self.shot("round")

    def draw_a_patch(self) -> None:
        """Draw a patch in the middle of the section on view, and give it up again."""
        volume = self.session.opened.target
        self.open_panel("Annotate")
        y, x = (n // 2 for n in self.truth.shape[1:])
        z = self.session.opened.section_on_view(volume).start[0]
        self.press("W")
        self.hands.stroke(volume, [(z, y - 30, x - 40), (z, y, x), (z, y + 30, x + 30)])
        wait(lambda: self.dock.annotate.patches.current is not None, "the patch is drawn")
        self.shot("own-patch")
        paint_truth(self, self.dock.annotate.patches.current)
        self.press("K")

    def audit(self) -> None:
        """Measure the model on random patches that are painted from nothing."""
        panel = self.dock.annotate
        if not panel.curve_drawer.isExpanded():
            self.click(panel.curve_drawer.toggleButton())
        self.fill(panel.curve.count, str(AUDITED))
        self.click(panel.curve.start)
        self.idle("the audit is drawn")
        self.next("Next patch")
        self.shot("audit")
        self.decide_all(correct=AUDITED)
        if not panel.curve_drawer.isExpanded():
            self.click(panel.curve_drawer.toggleButton())
        self.scroll_to(panel.curve)
        self.shot("audited")
