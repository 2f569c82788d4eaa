"""What a network predicts for one block of a volume, and how much several predictions differ."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property

import numpy as np
import torch
from torch import Tensor, nn

from napari_emda.data.volume import Domain
from napari_emda.errors import JobError
from napari_emda.inference.predictor import Predictor, entropy
from napari_emda.inference.section_stacks import EachSection, SectionStacks
from napari_emda.nn.network import Network
from napari_emda.nn.normalisation import evaluating, in_domain

# Axes to flip. Quarter turns are left out: a block need not be square, and the four flips are
# what prediction averages, too.
_FLIPS = ((), (-1,), (-2,), (-1, -2))


class BlockOutputs:
    """The outputs of a network for one block; each is computed when it is asked for.

    Args:
        predictor: the model.
        image: standardised, B x channels x H x W, of any size, on the model's device.
        domain: whose normalisation statistics to use.
        seed: of dropout.
        earlier: the model of the round before, if there is one.
        stacks: how a 3-D network sees the images, which are consecutive sections then.
    """

    def __init__(
        self,
        predictor: Predictor,
        image: Tensor,
        domain: Domain,
        seed: Sequence[int] = (0,),
        earlier: Predictor | None = None,
        stacks: SectionStacks | None = None,
    ) -> None:
        self._predictor = predictor
        self._domain = domain
        self._seed = seed
        self._earlier = earlier
        self._stacks = stacks or SectionStacks()
        self._shape = image.shape[-2:]
        # The encoder halves the sides: blocks at the volume's far edges are made multiples of the
        # stride, and the outputs cut back.
        below, right = (-n % predictor.network.stride for n in self._shape)
        if below or right:
            image = nn.functional.pad(image, (0, right, 0, below), mode="replicate")
        self._image = image

    @contextmanager
    def _evaluating(self) -> Iterator[tuple[Tensor, EachSection]]:
        """Yields what the network sees, and what brings its maps back to the sections."""
        # Entered anew for every forward pass, and never held across a `yield`: the caller of a
        # half-used generator would otherwise find the network in another mode.
        network = self._predictor.network
        with (
            evaluating(network),
            in_domain(network, self._domain),
            self._predictor.compute.autocast(),
            self._stacks.around(network, self._image) as (seen, each_section),
        ):
            # The memory layout of the network's weights, see `Predictor`.
            yield seen.contiguous(memory_format=torch.channels_last), each_section

    def _map(self, function: Callable[[Tensor], Tensor], image: Tensor) -> Tensor:
        return self._predictor.map_images(function, image, self._stacks)

    def _softmax(self, logits: Tensor) -> Tensor:
        height, width = self._shape
        # Before the softmax, because just below 1 bfloat16 has steps of 0.004: all sure pixels
        # would be equally sure.
        return logits.float().softmax(1)[..., :height, :width]

    @cached_property
    def probabilities(self) -> Tensor:
        """Class probabilities, B x C x H x W."""
        with self._evaluating() as (image, each_section):
            return self._softmax(each_section(self._map(self._predictor.network, image)))

    @cached_property
    def bottleneck(self) -> Tensor:
        """The encoder's last map, B x D x (H / stride) x (W / stride), rounded up."""
        with self._evaluating() as (image, each_section):
            maps = self._map(lambda each: self._predictor.network.encode(each)[-1], image)
            return each_section(maps.float())

    def dropout(self, samples: int) -> Iterator[Tensor]:
        """Yield class probabilities, B x C x H x W, of networks drawn by dropout.

        Gal and Ghahramani 2016. Batch normalisation stays in evaluation mode.

        Args:
            samples: number of networks.

        Raises:
            JobError: the network has no dropout.
        """
        network = self._predictor.network
        layers = _dropout_layers(network)
        # The maps before the first dropout are the same in all samples.
        with self._evaluating() as (image, _):
            shared = network.encode(image)[: network.reusable]
        for sample in range(samples):
            with (
                self._evaluating() as (image, each_section),
                _seeded(image.device, *self._seed, sample),
            ):
                for layer in layers:
                    layer.train()
                logits = each_section(network.decode(network.encode(image, shared)))
            yield self._softmax(logits)

    def views(self) -> Iterator[Tensor]:
        """Yield probabilities of the block and its three flips, flipped back."""
        yield self.probabilities
        for axes in _FLIPS[1:]:
            with self._evaluating() as (image, each_section):
                logits = each_section(self._map(self._predictor.network, image.flip(axes)))
                logits = logits.flip(axes)
            yield self._softmax(logits)

    def rounds(self) -> Iterator[Tensor]:
        """Yield probabilities of this model and of that of the round before."""
        assert self._earlier is not None
        yield self.probabilities
        height, width = self._shape
        probabilities = self._earlier.probabilities(self._image, self._domain, self._stacks)
        yield probabilities[..., :height, :width]


@contextmanager
def _seeded(device: torch.device, *seed: int) -> Iterator[None]:
    """Torch draws as after this seed, and afterwards as if nothing had been drawn."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        # SeedSequence makes unrelated seeds of neighbouring positions and sample numbers. One
        # bit less than 64 keeps the seed positive as a signed integer.
        torch.manual_seed(int(np.random.SeedSequence(seed).generate_state(1, np.uint64)[0] >> 1))
        yield


def _dropout_layers(network: Network) -> list[nn.Module]:
    layers = network.dropout_layers
    if not layers:
        raise JobError(
            "The model was trained without dropout, which this strategy needs: choose another, or "
            "train with dropout above 0."
        )
    return layers


def mutual_information(predictions: Iterable[Tensor]) -> Tensor:
    """Compute H[mean p] - mean H[p] of several predictions, as a share of log C.

    For predictions drawn by dropout this is BALD (Houlsby et al. 2011); for any others, their
    Jensen-Shannon divergence.

    Args:
        predictions: class probabilities, B x C x H x W each; at least one. They are taken one by
            one, so that only their sum is kept in memory.

    Returns:
        B x H x W between 0 (all agree) and 1.
    """
    total = torch.zeros(())
    entropies = torch.zeros(())
    count = 0
    for probabilities in predictions:
        total = total.to(probabilities.device) + probabilities
        entropies = entropies.to(probabilities.device) + entropy(probabilities)
        count += 1
    # Never below 0 in exact arithmetic; rounding can take it there where all agree.
    return (entropy(total / count) - entropies / count).clamp_(min=0)
