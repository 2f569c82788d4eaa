"""What a network is: an encoder, a decoder and a head, and what it says of itself."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from pydantic import BaseModel, ConfigDict, model_validator
from torch import Tensor, nn

from napari_emda.data.volume import Domain
from napari_emda.errors import JobError
from napari_emda.nn.normalisation import DOMAINS, norms
from napari_emda.registry import Registry
from napari_emda.settings import base

_OF_CLASSES = ("head.", "auxiliary_heads.", "offset")
"""How the names of those tensors begin that belong to the classes a network tells apart."""


class NetworkConfig(BaseModel):
    """All that is needed to build a network again; a checkpoint's header holds it.

    Attributes:
        name: in the registry.
        classes: channels of the logits.
        channels: of the input: 1, or several sections.
        settings: of the network's own ``Settings``.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = "unet"
    classes: int
    channels: int = 1
    settings: dict[str, Any] = {}

    @model_validator(mode="before")
    @classmethod
    def _read_flat(cls, values: Any) -> Any:
        """Up to checkpoint format 2 every network was a U-Net, its settings beside the classes."""
        if not isinstance(values, dict):
            return values
        flat = {key: value for key, value in values.items() if key not in cls.model_fields}
        if not flat or "settings" in values:
            return values
        return {key: values[key] for key in values if key not in flat} | {"settings": flat}

    def build(self) -> Network:
        """The network, freshly drawn."""
        cls = networks[self.name]
        return cls(self.classes, cls.Settings.parse(self.settings), self.channels)


class Network(nn.Module, ABC):
    """Base of all networks: standardised images B x channels x H x W to logits B x classes x H x W.

    A subclass is one file: its docstring's first paragraph is its sentence in the lists, its
    ``__init__`` sets ``encoder``, ``decoder`` and ``head``, and a few properties say how far it sees
    and what it costs. Methods, prediction, suggestions and export know nothing else of it.

    Args:
        classes: channels of the logits.
        settings: of the class's own ``Settings``; None for the defaults.
        channels: of the input.
    """

    name: ClassVar[str]
    profiles: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    """By profile (`settings.training.Profile`), the settings that differ from the defaults."""

    class Settings(base.Settings):
        """Settings of the network; none here."""

    encoder: nn.Module
    """Images (and maps that are known already) to the maps f_0 (full resolution) ... f_L; methods
    that freeze or slow it down take its parameters."""
    decoder: nn.Module
    """The maps f_0 ... f_L to features at full resolution."""
    head: nn.Conv2d
    """Features to logits, pixel by pixel."""
    auxiliary_heads: nn.ModuleList
    """Heads of the coarser maps among `features`; none in most networks."""
    offset: Tensor
    """Added to the logits in evaluation, one number a class: `training.prior_matching` sets it."""

    def __init__(self, classes: int, settings: Any = None, channels: int = 1) -> None:
        super().__init__()
        self.classes = classes
        self.channels = channels
        self.settings: Any = self.Settings() if settings is None else settings
        self.auxiliary_heads = nn.ModuleList()
        self.register_buffer("offset", torch.zeros(classes))

    @property
    def config(self) -> NetworkConfig:
        """With which the same network is built again, without its weights."""
        return NetworkConfig(
            name=self.name,
            classes=self.classes,
            channels=self.channels,
            settings=self.settings.model_dump(),
        )

    @classmethod
    def settings_for(cls, profile: str, values: Mapping[str, Any]) -> base.Settings:
        """The profile's settings with ``values`` on top; SettingsError for a wrong one."""
        return cls.Settings.parse({**cls.profiles.get(profile, {}), **values})

    # -- what it says of itself --------------------------------------------------------------------

    @property
    @abstractmethod
    def widths(self) -> tuple[int, ...]:
        """Channels of the maps f_0 ... f_L; the last one's describe a place for comparing patches."""

    @property
    @abstractmethod
    def stride(self) -> int:
        """Pixels of the input along a side of a pixel of f_L; the input's sides are multiples of it."""

    @property
    @abstractmethod
    def halo(self) -> int:
        """Pixels around a block beyond which nothing changes its logits, a multiple of `stride`."""

    @property
    @abstractmethod
    def bytes_per_pixel(self) -> int:
        """The most memory that maps take at once while predicting, in bytes a pixel of the input.

        float32, without weights. Tiles are made as large as the memory allows by it.
        """

    @property
    def reusable(self) -> int:
        """How many of the first maps no dropout touches.

        Networks drawn by dropout share them: `encode` then takes them instead of computing them.
        """
        return 0

    @property
    def dropout_layers(self) -> list[nn.Module]:
        """The layers that drop something in training."""
        kinds = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d)
        return [layer for layer in self.modules() if isinstance(layer, kinds) and layer.p > 0]

    @property
    def decoding_parameters(self) -> list[nn.Parameter]:
        """All parameters but the encoder's, in the order of `parameters`."""
        encoding = set(self.encoder.parameters())
        return [parameter for parameter in self.parameters() if parameter not in encoding]

    # -- what it does ------------------------------------------------------------------------------

    def encode(self, x: Tensor, reused: Sequence[Tensor] = ()) -> list[Tensor]:
        """B x channels x H x W to the maps f_0 ... f_L.

        Args:
            x: standardised; sides are multiples of `stride`.
            reused: at most `reusable` of the first maps, where they are computed already.
        """
        maps: list[Tensor] = self.encoder(x, reused)
        return maps

    def features(self, maps: list[Tensor]) -> list[Tensor]:
        """Encoder maps to what the heads look at: at full resolution and, in training, perhaps coarser.

        A network with deep supervision returns a map a resolution, the finest first; all others one.
        """
        return [self.decoder(maps)]

    def classify(self, features: list[Tensor]) -> list[Tensor]:
        """`features` to logits, each B x classes x its height x its width, without `offset`."""
        heads = [self.head, *self.auxiliary_heads]
        return [head(x) for head, x in zip(heads, features, strict=False)]

    def decode(self, maps: list[Tensor]) -> Tensor:
        """Encoder maps to logits B x classes x H x W; in evaluation with `offset`."""
        (logits,) = self.classify(self.features(maps)[:1])
        return logits if self.training else logits + self.offset.view(1, -1, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        """B x channels x H x W, standardised, to logits B x classes x H x W."""
        return self.decode(self.encode(x))

    @abstractmethod
    def make_decoder(self, *, skips: bool = True) -> nn.Module:
        """A further decoder of these maps, for another task: f_0 ... f_L to what `head` takes.

        Args:
            skips: whether it may use all maps; if not, f_L alone carries information (Y-Net).
        """

    # -- what it learnt before ---------------------------------------------------------------------

    @torch.no_grad()
    def absorb_offset(self) -> None:
        """Make `offset` part of what is learnt: logits in evaluation stay, training goes on from them."""
        assert self.head.bias is not None
        self.head.bias += self.offset
        self.offset.zero_()

    def adopt(self, other: Network, *, classes: bool = True) -> None:
        """Begin with what another network has learnt, weights and statistics.

        Args:
            other: of the same make.
            classes: whether it tells the same classes apart; if not, what belongs to them stays.

        Raises:
            JobError: the other is of another make.
        """
        learnt = other.state_dict()
        if not classes:
            mine = self.state_dict().items()
            learnt |= {key: value for key, value in mine if key.startswith(_OF_CLASSES)}
        try:
            self.load_state_dict(learnt)
        except RuntimeError:
            old, new = _differences(other.config, self.config)
            raise JobError(
                f"The run to start from has another network ({old}, here {new}): give both the same "
                "settings, or start from another run."
            ) from None
        self.absorb_offset()


def _differences(one: NetworkConfig, other: NetworkConfig) -> tuple[str, str]:
    """What sets two networks apart, as ``key=value, …`` of each."""
    flat = [
        {"network": config.name, "channels": config.channels, **config.settings}
        for config in (one, other)
    ]
    keys = [key for key in flat[0] | flat[1] if flat[0].get(key) != flat[1].get(key)]
    old, new = (
        ", ".join(f"{key}={values[key]}" for key in keys if key in values) for values in flat
    )
    return old, new


class WithSoftmax(nn.Module):
    """A network as other programs take it: class probabilities, one domain's statistics.

    Args:
        network: gives logits.
        domain: whose normalisation statistics to use, for good.
    """

    def __init__(self, network: Network, domain: Domain) -> None:
        super().__init__()
        self.network = network
        for layer in norms(network):
            layer.domain = DOMAINS.index(domain)

    def forward(self, x: Tensor) -> Tensor:
        """B x channels x H x W, standardised, to probabilities B x classes x H x W."""
        return self.network(x).softmax(1)


networks: Registry[type[Network]] = Registry(
    "network", "napari_emda.nn.networks", "napari_emda.networks", Network
)
