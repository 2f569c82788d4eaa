"""What a network says of a block of a volume, and how much its answers differ."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property

import numpy as np
import torch
from torch import Tensor, nn

from napari_emda.data.volume import Domain
from napari_emda.errors import JobError
from napari_emda.inference.predictor import Predictor, entropy
from napari_emda.nn.network import Network
from napari_emda.nn.normalisation import evaluating, in_domain

_VIEWS = ((), (-1,), (-2,), (-1, -2))


class BlockOutputs:
    """What a network says of one block; each part is computed when it is asked for.

    Args:
        predictor: the model.
        image: standardised, B x 1 x H x W, on the model's device.
        domain: whose normalisation statistics to use.
        seed: of dropout.
        earlier: the model of the round before, where there is one.
    """

    def __init__(
        self,
        predictor: Predictor,
        image: Tensor,
        domain: Domain,
        seed: Sequence[int] = (0,),
        earlier: Predictor | None = None,
    ) -> None:
        self._predictor, self._domain, self._seed, self._earlier = predictor, domain, seed, earlier
        self._shape = image.shape[-2:]
        stride = predictor.network.stride
        below, right = (-n % stride for n in self._shape)
        image = (
            torch.nn.functional.pad(image, (0, right, 0, below), mode="replicate")
            if below or right
            else image
        )
        self._image = image.contiguous(memory_format=torch.channels_last)

    @contextmanager
    def _evaluating(self) -> Iterator[None]:
        network = self._predictor.network
        with (
            evaluating(network),
            in_domain(network, self._domain),
            self._predictor.compute.autocast(),
        ):
            yield

    def _answer(self, maps: list[Tensor]) -> Tensor:
        height, width = self._shape
        return self._predictor.network.decode(maps).float().softmax(1)[..., :height, :width]

    @cached_property
    def probabilities(self) -> Tensor:
        """Class probabilities, B x C x H x W."""
        with self._evaluating():
            return self._answer(self._predictor.network.encode(self._image))

    @cached_property
    def bottleneck(self) -> Tensor:
        """The encoder's last map, B x D x (H / stride) x (W / stride), rounded up."""
        with self._evaluating():
            return self._predictor.network.encode(self._image)[-1].float()

    def dropout(self, samples: int) -> Iterator[Tensor]:
        """Probabilities of so many networks drawn by dropout, one after the other (Gal and Ghahramani 2016).

        Batch normalisation stays in evaluation. What comes before the first dropout is computed once.

        Raises:
            JobError: the network has no dropout.
        """
        network = self._predictor.network
        layers = dropout_of(network)
        with self._evaluating():
            maps = network.encode(self._image)[: network.reusable]
        for sample in range(samples):
            with self._evaluating(), _seeded(self._image.device, *self._seed, sample):
                for layer in layers:
                    layer.train()
                answer = self._answer(network.encode(self._image, maps))
            yield answer

    def views(self) -> Iterator[Tensor]:
        """Probabilities of the block and its three flips, flipped back."""
        yield self.probabilities
        height, width = self._shape
        for axes in _VIEWS[1:]:
            with self._evaluating():
                logits = self._predictor.network(self._image.flip(axes)).flip(axes)
            yield logits.float().softmax(1)[..., :height, :width]

    def rounds(self) -> Iterator[Tensor]:
        """Probabilities of this model and of that of the round before."""
        assert self._earlier is not None
        yield self.probabilities
        height, width = self._shape
        yield self._earlier.probabilities(self._image, self._domain)[..., :height, :width]


@contextmanager
def _seeded(device: torch.device, *seed: int) -> Iterator[None]:
    """Torch draws as after this seed, and goes on as if nothing had been drawn."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(int(np.random.SeedSequence(seed).generate_state(1, np.uint64)[0] >> 1))
        yield


def dropout_of(network: Network) -> list[nn.Module]:
    """The layers that drop something; JobError when there are none."""
    layers = network.dropout_layers
    if not layers:
        raise JobError(
            "The model was trained without dropout, which this strategy needs: choose another, or train with dropout "
            "above 0."
        )
    return layers


def mutual_information(answers: Iterable[Tensor]) -> Tensor:
    """Entropy of the mean of several answers, less the mean of their entropies, as a share of log C.

    With answers drawn by dropout this is BALD (Houlsby et al. 2011); with any others, their Jensen-Shannon divergence.

    Args:
        answers: class probabilities, B x C x H x W each; at least one.

    Returns:
        B x H x W between 0 (all agree) and 1.
    """
    total = uncertainty = torch.zeros(())
    count = 0
    for answer in answers:
        total, uncertainty, count = (
            total.to(answer.device) + answer,
            uncertainty.to(answer.device) + entropy(answer),
            count + 1,
        )
    return (entropy(total / count) - uncertainty / count).clamp_(min=0)
