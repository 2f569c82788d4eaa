"""Translation between the appearances of two volumes, then segmentation (CUT)."""

from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from napari_emda.data.volume import Domain
from napari_emda.methods.base import DataSummary, Method, Translator, cosine, methods
from napari_emda.nn.discriminators import PatchDiscriminator, least_squares
from napari_emda.nn.layers import middle
from napari_emda.nn.network import Network
from napari_emda.nn.normalisation import evaluating, in_domain
from napari_emda.nn.stacks import of_each_section
from napari_emda.nn.style import Generator, PatchContrast, Translated
from napari_emda.sampling.patches import Batch
from napari_emda.settings import base
from napari_emda.settings.requirements import Requirements

# Roles of parameters: the segmentation network; everything that is trained for the translation.
SEGMENTS = "segments"
STYLE = "style"
# Learning rate of the translation as a fraction of that of the segmentation. With the default of
# 1e-3 it is 2e-4, the learning rate of CUT.
_STYLE_RATE = 0.2


@methods.register("style_transfer")
class StyleTransfer(Method):
    """Translates the source to the appearance of the target, with texture: slow, powerful.

    CUT (Park et al. 2020), as used by Franco-Barranco et al. 2022: a generator against a patch
    discriminator (least squares). PatchNCE on five feature maps, and PatchNCE of the identity,
    keep the content. The generator may invent structures, so check the preview. In the
    direction of the paper, the target is translated before prediction.
    """

    citations = ("francobarranco2022", "park2020")
    requirements = Requirements(domains=("source", "target"), labels="needed")

    class Settings(base.Settings):
        """Settings of style transfer."""

        direction: Literal["source_to_target", "target_to_source"] = Field(
            "source_to_target",
            title="what is translated",
            description="Which volume gets the look of the other: the source during training "
            "(default), or the target before every prediction, as published.",
        )
        stage: float = Field(
            0.4,
            ge=0.1,
            le=0.9,
            title="share for the translation",
            description="Fraction of the training spent on learning the translation. Raise it if "
            "translated patches look wrong.",
            json_schema_extra={"step": 0.05},
        )
        # As in CUT.
        contrast: float = Field(
            1.0,
            ge=0,
            le=10,
            title="faithfulness",
            description="How strongly the content of a patch is kept while its look changes "
            "(weight of the contrastive loss). Raise it if structures appear or vanish in "
            "translated patches.",
            json_schema_extra={"step": 0.1},
        )
        translated: float = Field(
            0.5,
            ge=0,
            le=1,
            title="share of translated patches",
            description="Fraction of source patches that are translated while learning to "
            "segment; the others stay as they are.",
            json_schema_extra={"step": 0.1},
        )
        blocks: int = Field(
            6,
            ge=2,
            le=12,
            title="size of the translator",
            description="Residual blocks of the network that translates: 6 for 128-pixel patches, "
            "9 for larger ones.",
            json_schema_extra={"step": 1},
        )

    def __init__(self, settings: Any, network: Network, summary: DataSummary) -> None:
        super().__init__(settings, network, summary)
        self.generator = Generator(blocks=settings.blocks)
        self.critic = PatchDiscriminator(1)
        self.contrast = PatchContrast(self.generator.widths)
        forwards = settings.direction == "source_to_target"
        self.origin: Domain = "source" if forwards else "target"
        self.goal: Domain = "target" if forwards else "source"

    @property
    def predictor(self) -> Any:
        """The network; behind the generator if the target is translated."""
        return self.network if self.origin == "source" else Translated(self.generator, self.network)

    @property
    def translator(self) -> Translator:
        """The generator."""
        return Translator(self.generator, self.origin, self.generator.reach, self.generator.stride)

    @property
    def trained(self) -> Network:
        """The segmentation network alone."""
        return self.network

    def losses(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Losses of the translation in the first stage, then of the segmentation."""
        if progress < self.settings.stage:
            images = (middle(batch[domain].clean) for domain in (self.origin, self.goal))
            return self._style(*images)
        losses = {"segmentation": self._segmentation(batch, "source")}
        if self.summary.annotated:
            losses["target_segmentation"] = self._segmentation(batch, "target")
        return losses

    def _segmentation(self, batch: Batch, domain: Domain) -> Tensor:
        """The supervised loss of one domain, whose patches are perhaps translated."""
        image = batch[domain].image
        with in_domain(self, domain):
            if domain == self.origin:
                with evaluating(self.generator):
                    # All patches of the target, because all will be translated for prediction. Of
                    # the source only some, so that the network learns both appearances.
                    share = self.settings.translated if domain == "source" else 1.0
                    stack = self.network.stack
                    chosen = torch.rand(len(image) // stack, 1, 1, 1, device=image.device) < share
                    chosen = of_each_section(chosen, stack)
                    image = torch.where(chosen, self.generator.sections(image).float(), image)
            return self.supervised(self.network.encode(image), batch[domain])

    def _style(self, image: Tensor, goal: Tensor) -> dict[str, Tensor]:
        """Losses of generator and discriminator (Park et al. 2020, section 3).

        Args:
            image: patches to translate, B x 1 x H x W.
            goal: patches with the appearance to imitate, B x 1 x H x W.
        """
        weight = self.settings.contrast
        # The generator's maps of the image are needed twice: for the translation and the contrast.
        with in_domain(self, self.origin):
            original = self.generator.encode(image)
            fake = image + self.generator.head(self.generator.up(original[-1]))
            contrast = self.contrast(self.generator.encode(fake), original)
        # Images that have the goal's appearance already should not change.
        with in_domain(self, self.goal):
            goal_maps = self.generator.encode(goal)
            reproduced = goal + self.generator.head(self.generator.up(goal_maps[-1]))
            identity = self.contrast(self.generator.encode(reproduced), goal_maps)
        losses = {"contrast": weight * contrast, "identity": weight * identity}
        # The gradient flows through the discriminator to the generator, and does not train it.
        self.critic.requires_grad_(False)
        try:
            losses["adversarial"] = least_squares(self.critic(fake), real=True)
        finally:
            self.critic.requires_grad_(True)
        both = torch.cat([goal, fake.detach().to(goal.dtype)])
        of_goal, of_fake = self.critic(both).chunk(2)
        losses["critic"] = 0.5 * (
            least_squares(of_goal, real=True) + least_squares(of_fake, real=False)
        )
        return losses

    def learning_rate(self, progress: float, role: str = "") -> float:
        """One cosine per stage: the first trains the translation, the second the segmentation."""
        end = self.settings.stage
        if progress < end:
            return _STYLE_RATE * cosine(1.0, 0.1, progress / end) if role == STYLE else 0.0
        return 0.0 if role == STYLE else cosine(1.0, 0.01, (progress - end) / (1 - end))

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """The network; generator, discriminator and embeddings."""
        style = [
            *self.generator.parameters(),
            *self.critic.parameters(),
            *self.contrast.parameters(),
        ]
        return {SEGMENTS: list(self.network.parameters()), STYLE: style}
