"""The protocol of networks: an encoder, a decoder, a head, and properties that describe them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor, nn

from napari_emda.data.volume import Domain
from napari_emda.errors import JobError
from napari_emda.nn.layers import initialise
from napari_emda.nn.normalisation import DOMAINS, norms
from napari_emda.nn.stacks import as_sections, as_volumes
from napari_emda.registry import Registry
from napari_emda.settings import base

# Prefixes of the names of tensors whose shape depends on the classes. They are not copied from a
# network that predicts other classes.
_CLASS_TENSORS = ("head.", "auxiliary_heads.", "offset")
_OBJECT_TENSORS = "object_head."

OBJECT_MAPS = 2
"""Number of maps of objects: contours and distances."""


# Of images or of logits; class ids are bytes.
_MOST_CHANNELS = 256
# Sections of a millimetre and pixels of a nanometre.
_LARGEST_RATIO = 1e6


class NetworkConfig(BaseModel):
    """Everything needed to rebuild a network; part of a checkpoint's header.

    Attributes:
        name: of the network in the registry.
        classes: number of channels of the logits.
        channels: of the input: 1, or one for each section that it sees (`data.context`).
        objects: whether it also predicts maps of objects, see `Network.object_maps`.
        section_ratio: distance of the sections of a stack as a multiple of a pixel; 0 for networks
            that see single sections.
        settings: values of the network's ``Settings``.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = "unet"
    classes: int = Field(ge=1, le=_MOST_CHANNELS)
    channels: int = Field(1, ge=1, le=_MOST_CHANNELS)
    objects: bool = False
    section_ratio: float = Field(0.0, ge=0, le=_LARGEST_RATIO, allow_inf_nan=False)
    settings: dict[str, Any] = {}

    @model_validator(mode="before")
    @classmethod
    def _read_flat(cls, values: Any) -> Any:
        """Read headers up to checkpoint format 2, where settings were not nested.

        Every network was a U-Net then.
        """
        if not isinstance(values, dict):
            return values
        flat = {key: value for key, value in values.items() if key not in cls.model_fields}
        if not flat or "settings" in values:
            return values
        return {key: values[key] for key in values if key not in flat} | {"settings": flat}

    def build(self) -> Network:
        """A network with random weights."""
        cls = networks[self.name]
        settings = cls.Settings.parse(self.settings)
        network = cls(self.classes, settings, self.channels, **self._depth(cls))
        if self.objects:
            network.add_object_head()
        return network

    def _depth(self, cls: type[Network]) -> dict[str, float]:
        # Networks of other packages that see single sections need not take it.
        return {"section_ratio": self.section_ratio} if cls.dimensions == 3 else {}


class Network(nn.Module, ABC):
    """Base of all networks: standardised images B x channels x H x W to logits B x classes x H x W.

    A subclass is one file. The first paragraph of its docstring describes it in lists. Its
    ``__init__`` sets ``encoder``, ``decoder`` and ``head``, and a few properties state its
    receptive field and memory. Methods, prediction, suggestions and export use nothing else of it.

    A 3-D network takes the sections of a stack as consecutive entries of the batch (`nn.stacks`),
    and predicts all of them. Its ``Settings`` have ``sections``, the number of them in training.

    Args:
        classes: number of channels of the logits.
        settings: an instance of the class's ``Settings``; None for the defaults.
        channels: of the input.
        section_ratio: see `NetworkConfig`; given to 3-D networks only.
    """

    name: ClassVar[str]
    dimensions: ClassVar[Literal[2, 3]] = 2
    """Whether it sees single sections or stacks of them."""
    foreign: ClassVar[bool] = False
    """Whether it is another program's model: it sees grey values as they are, which it prepares
    itself, computes on the host or on its own, and cannot be trained."""
    citations: ClassVar[tuple[str, ...]] = ()
    """What it implements: keys of ``reporting/references.bib``, or whole entries of BibTeX."""
    profiles: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    """Settings that differ from the defaults, by profile (`settings.training.Profile`)."""

    class Settings(base.Settings):
        """Settings of the network; none here."""

    encoder: nn.Module
    """Images, and maps that are computed already, to the maps f_0 (full resolution) ... f_L.

    Some methods freeze its parameters or reduce their learning rate."""
    decoder: nn.Module
    """The maps f_0 ... f_L to features at full resolution."""
    head: nn.Conv2d
    """Features to logits, pixel by pixel."""
    auxiliary_heads: nn.ModuleList
    """Heads for the coarser maps of `features` (deep supervision); empty in most networks."""
    object_head: nn.Conv2d | None
    """Features to maps of objects, pixel by pixel; None if the network predicts none."""
    offset: Tensor
    """Added to the logits in evaluation, one number per class; set by `training.prior_matching`."""

    def __init__(
        self,
        classes: int,
        settings: Any = None,
        channels: int = 1,
        section_ratio: float = 0.0,
    ) -> None:
        super().__init__()
        self.classes = classes
        self.channels = channels
        self.section_ratio = section_ratio
        self.settings: Any = self.Settings() if settings is None else settings
        self.auxiliary_heads = nn.ModuleList()
        self.object_head = None
        self.register_buffer("offset", torch.zeros(classes))

    @property
    def config(self) -> NetworkConfig:
        """The configuration from which the network can be rebuilt, without its weights."""
        return NetworkConfig(
            name=self.name,
            classes=self.classes,
            channels=self.channels,
            objects=self.maps_objects,
            section_ratio=self.section_ratio,
            settings=self.settings.model_dump(),
        )

    @classmethod
    def settings_for(cls, profile: str, values: Mapping[str, Any]) -> base.Settings:
        """The settings of a profile, overridden by ``values``.

        Raises:
            SettingsError: a value is unknown or outside its limits.
        """
        return cls.Settings.parse({**cls.profiles.get(profile, {}), **values})

    # -- properties --------------------------------------------------------------------------------

    @property
    @abstractmethod
    def widths(self) -> tuple[int, ...]:
        """Channels of the maps f_0 ... f_L; those of f_L are the embedding of patches."""

    @property
    @abstractmethod
    def stride(self) -> int:
        """Side of a pixel of f_L in pixels of the input, whose sides must be multiples of it."""

    @property
    @abstractmethod
    def halo(self) -> int:
        """Width of the margin of a block that can change its logits, a multiple of `stride`."""

    @property
    def stack(self) -> int:
        """Sections of a stack in training: so many consecutive entries of a batch belong together.

        1 for networks that see single sections.
        """
        return int(self.settings.sections) if self.dimensions == 3 else 1

    @property
    def section_stride(self) -> int:
        """As `stride`, along z: the numbers of sections of stacks are multiples of it."""
        return 1

    @property
    def section_halo(self) -> int:
        """As `halo`, along z: sections before and after one that can change its logits."""
        return 0

    @property
    @abstractmethod
    def bytes_per_pixel(self) -> int:
        """Peak memory of the maps during prediction in float32, in bytes per pixel of the input.

        Without the weights. It determines how large tiles can be.
        """

    @property
    def reusable(self) -> int:
        """Number of first maps that do not depend on dropout.

        Samples of the same network share them: `encode` takes them instead of computing them.
        """
        return 0

    @property
    def dropout_layers(self) -> list[nn.Module]:
        """The dropout layers with a probability above 0."""
        kinds = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d)
        return [layer for layer in self.modules() if isinstance(layer, kinds) and layer.p > 0]

    @property
    def decoding_parameters(self) -> list[nn.Parameter]:
        """All parameters but the encoder's, in the order of `parameters`."""
        encoding = set(self.encoder.parameters())
        return [parameter for parameter in self.parameters() if parameter not in encoding]

    def run_on(self, device: str) -> None:
        """Told the device of the settings, before a model of another program is used."""

    def take_weights(self, tensors: Mapping[str, Tensor]) -> None:
        """Initialise the encoder with weights from elsewhere, by name.

        Raises:
            JobError: the network has no such encoder, or another one.
        """
        raise JobError(f"The network '{self.name}' takes no pretrained encoder: choose vit.")

    # -- computation -------------------------------------------------------------------------------

    def encode(self, x: Tensor, reused: Sequence[Tensor] = ()) -> list[Tensor]:
        """B x channels x H x W to the maps f_0 ... f_L.

        Args:
            x: standardised; sides are multiples of `stride`.
            reused: at most `reusable` of the first maps, if they are computed already.
        """
        maps: list[Tensor] = self.encoder(x, reused)
        return maps

    def features(self, maps: list[Tensor]) -> list[Tensor]:
        """Encoder maps to the inputs of the heads, the finest first.

        One map at full resolution. A network with deep supervision adds coarser ones in training.
        """
        return [self.decoder(maps)]

    def classify(self, features: list[Tensor]) -> list[Tensor]:
        """`features` to logits of the same heights and widths, without `offset`."""
        heads = [self.head, *self.auxiliary_heads]
        # Not strict: in evaluation there is only the finest map, for the first head.
        return [head(x) for head, x in zip(heads, features, strict=False)]

    @property
    def maps_objects(self) -> bool:
        """Whether the network predicts maps of objects."""
        return self.object_head is not None

    def add_object_head(self) -> None:
        """Let the network predict maps of objects, too."""
        self.object_head = nn.Conv2d(self.head.in_channels, OBJECT_MAPS, 1)
        initialise(self.object_head)

    def object_maps(self, features: Tensor) -> Tensor:
        """The finest of `features` to B x 2 x H x W: logits of contours, and distances.

        Distances are those to the border of an object as a fraction of the largest one that counts
        (`objects.borders`), 0 outside of objects; the network's may lie a little beyond 0 and 1.
        """
        assert self.object_head is not None
        maps: Tensor = self.object_head(features)
        return maps

    def decode_with_objects(self, maps: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Encoder maps to the logits of `decode`, and to `object_maps`."""
        features = self.features(maps)[:1]
        (logits,) = self.classify(features)
        logits = logits if self.training else logits + self.offset.view(1, -1, 1, 1)
        return logits, self.object_maps(features[0])

    def decode(self, maps: list[Tensor]) -> Tensor:
        """Encoder maps to logits B x classes x H x W; in evaluation `offset` is added."""
        (logits,) = self.classify(self.features(maps)[:1])
        return logits if self.training else logits + self.offset.view(1, -1, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        """B x channels x H x W, standardised, to logits B x classes x H x W."""
        return self.decode(self.encode(x))

    @abstractmethod
    def make_decoder(self, *, skips: bool = True) -> nn.Module:
        """Another decoder for another task: f_0 ... f_L to as many channels as `head` takes.

        Args:
            skips: whether it uses all maps; if not, it uses only f_L (Y-Net).
        """

    # -- weights of other networks -----------------------------------------------------------------

    @torch.no_grad()
    def absorb_offset(self) -> None:
        """Add `offset` to the bias of the head, so that training continues from the same logits."""
        assert self.head.bias is not None
        self.head.bias += self.offset
        self.offset.zero_()

    def adopt(self, other: Network, *, classes: bool = True) -> None:
        """Copy weights and statistics of another network.

        Args:
            other: of the same class and settings.
            classes: whether it predicts the same classes; if not, the heads keep their weights.

        Raises:
            JobError: the other has another class or other settings.
        """
        # Either of the two may predict maps of objects.
        state = {
            key: value
            for key, value in other.state_dict().items()
            if self.maps_objects or not key.startswith(_OBJECT_TENSORS)
        }
        for key, value in self.state_dict().items():
            is_new = key.startswith(_OBJECT_TENSORS) and key not in state
            if is_new or (not classes and key.startswith(_CLASS_TENSORS)):
                state[key] = value
        try:
            self.load_state_dict(state)
        except RuntimeError:
            old, new = _differences(other.config, self.config)
            raise JobError(
                f"The run to start from has another network ({old}, here {new}): give both the "
                "same settings, or start from another run."
            ) from None
        self.absorb_offset()


def _differences(one: NetworkConfig, other: NetworkConfig) -> tuple[str, str]:
    """The settings in which two networks differ, as ``key=value, …`` of each."""
    flat = [
        {
            "network": config.name,
            "context": config.channels // 2,
            "section_ratio": config.section_ratio,
            **config.settings,
        }
        for config in (one, other)
    ]
    keys = [key for key in flat[0] | flat[1] if flat[0].get(key) != flat[1].get(key)]
    old, new = (
        ", ".join(f"{key}={values[key]}" for key in keys if key in values) for values in flat
    )
    return old, new


class WithSoftmax(nn.Module):
    """A network for other programs: it returns class probabilities.

    Args:
        network: returns logits.
        domain: whose normalisation statistics it uses from now on.
    """

    def __init__(self, network: Network, domain: Domain) -> None:
        super().__init__()
        self.network = network
        self.stack = network.stack
        for layer in norms(network):
            layer.domain = DOMAINS.index(domain)

    def forward(self, x: Tensor) -> Tensor:
        """B x channels x H x W, standardised, to probabilities B x classes x H x W.

        For a 3-D network with an axis z before H, as long as a stack of the training.
        """
        if x.ndim == 4:
            probabilities: Tensor = self.network(x).softmax(1)
            return probabilities
        return as_volumes(self.network(as_sections(x)).softmax(1), self.stack)


networks: Registry[type[Network]] = Registry(
    "network", "napari_emda.nn.networks", "napari_emda.networks", Network
)
