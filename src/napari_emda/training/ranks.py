"""The devices that train together: one process each, which agree on every step.

Each process, a rank, draws patches of its own and computes their gradients; all of them then make
the same step with the mean. torch's wrapper `DistributedDataParallel` sends gradients while they
are computed, from one forward pass of one module. Here a step is what a method makes of it: several
passes, parameters that take no part in a stage, micro-batches, steps that are replayed from a
recording. So the finished gradients are added in one message. For our networks, of some megabytes,
that takes as long.
"""

from __future__ import annotations

import contextlib
import datetime
import os
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import torch
import torch.distributed as dist
from torch import Tensor, nn

from napari_emda.errors import JobError, is_out_of_memory
from napari_emda.training.micro_batches import BufferChanges, floating_buffers

# Time for all ranks to find each other, once they have prepared themselves.
_MEETING = datetime.timedelta(minutes=1)
# Time for an answer. A rank waits while the first one validates, or is paused by its user, for as
# long as that takes; that another one has died, its closed connection tells. Gloo counts
# milliseconds in 32 bits, which is 24 days.
_WAITING = datetime.timedelta(days=20)

Losses = dict[str, Tensor]


class RankLost(JobError):
    """Another of the ranks has ended."""


class OutOfMemoryTogether(torch.OutOfMemoryError):
    """One of the ranks has run out of memory, and all know it: they may repeat the step."""


class Ranks:
    """The ranks that train together, as one of them sees them.

    Args:
        device: of this one.

    Attributes:
        rank: of this one. The first, 0, alone validates, saves and talks to the user.
        count: how many there are.
    """

    def __init__(self, device: torch.device) -> None:
        self.rank = dist.get_rank()
        self.count = dist.get_world_size()
        self._device = device
        # Gloo adds numbers in the memory of the host, NCCL in that of the GPUs.
        self._on_gpu = device.type == "cuda" and dist.is_nccl_available()
        self._began = False

    @property
    def keeps_steps_apart(self) -> bool:
        """Whether the weights are those of a whole step when a rank is lost."""
        # The host of a GPU is ahead of it: the step before may be one that was cut short.
        return not self._on_gpu

    def mean_gradients(
        self, module: nn.Module, compute: Callable[[], Losses], share: float
    ) -> Losses:
        """Set the gradients to the mean over all ranks; returns the means of the losses.

        Changes of buffers, such as running statistics, are averaged, too.

        Args:
            module: what is trained. All ranks begin with what it holds in the first one.
            compute: computes losses and gradients of this rank's patches.
            share: of this rank in the batch.

        Raises:
            RankLost: another rank has ended. The module is as before.
            JobError: the losses or the gradients of the ranks are not the same ones.
            OutOfMemoryTogether: one of the ranks has run out of memory.
        """
        self._start_together(module)
        changes = BufferChanges(module)
        losses: Losses = {}
        failure = ""
        try:
            losses = compute()
            gradients = [p.grad for p in module.parameters() if p.grad is not None]
            values = [*gradients, *losses.values()]
            changes.take(share)
            flat = _packed([*(value * share for value in values), *changes.changes])
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            failure = str(error) or "out of memory"
            changes.put_back()
        self._agree(failure, _signature(module, losses))
        self._add(flat)
        means = _unpacked(flat, [*values, *changes.changes])
        for gradient, mean in zip(gradients, means[: len(gradients)], strict=True):
            gradient.copy_(mean)
        for change, mean in zip(changes.changes, means[len(values) :], strict=True):
            change.copy_(mean)
        changes.apply()
        return dict(zip(losses, means[len(gradients) : len(values)], strict=True))

    def _start_together(self, module: nn.Module) -> None:
        """Wait for the first rank, and take over what it has measured or loaded."""
        # On the host: there, waiting has no end. The first may be validating.
        with _lost():
            dist.broadcast(torch.zeros(1), 0)
        values = floating_buffers(module)
        if not self._began:
            self._began = True
            values += [parameter.detach() for parameter in module.parameters()]
        if values:
            flat = _packed(values)
            self._send(flat)
            for value, sent in zip(values, _unpacked(flat, values), strict=True):
                value.copy_(sent)

    def _agree(self, failure: str, signature: int) -> None:
        """Raise what has gone wrong in any of the ranks, in all of them."""
        own = torch.tensor([bool(failure), signature])
        all_ranks = [torch.zeros_like(own) for _ in range(self.count)]
        with _lost():
            dist.all_gather(all_ranks, own)
        if any(bool(failed) for failed, _ in all_ranks):
            raise OutOfMemoryTogether(failure or "Another device is out of memory.")
        if len({int(other) for _, other in all_ranks}) > 1:
            raise JobError(
                "The method has other losses, or teaches other weights, on each device: train it "
                "on one device."
            )

    def _add(self, flat: Tensor) -> None:
        """Replace a tensor by its sum over all ranks."""
        self._exchange(flat, dist.all_reduce)

    def _send(self, flat: Tensor) -> None:
        """Replace a tensor by that of the first rank."""
        self._exchange(flat, lambda tensor: dist.broadcast(tensor, 0))

    def _exchange(self, flat: Tensor, exchange: Callable[[Tensor], object]) -> None:
        with _lost():
            if self._on_gpu or flat.device.type == "cpu":
                exchange(flat)
            else:
                on_host = flat.cpu()
                exchange(on_host)
                flat.copy_(on_host)


def _signature(module: nn.Module, losses: Losses) -> int:
    """A number that tells which losses there are, and which parameters have gradients."""
    taught = [str(int(parameter.grad is not None)) for parameter in module.parameters()]
    return zlib.crc32(f"{sorted(losses)} {''.join(taught)}".encode())


def _packed(values: list[Tensor]) -> Tensor:
    """All numbers of some tensors, one behind the other, as float32."""
    return torch.cat([value.reshape(-1).float() for value in values])


def _unpacked(flat: Tensor, like: list[Tensor]) -> list[Tensor]:
    """The parts of a flat tensor in the shapes of others, of which it was made."""
    parts = flat.split([tensor.numel() for tensor in like])
    return [part.view(tensor.shape) for part, tensor in zip(parts, like, strict=True)]


@contextlib.contextmanager
def _lost() -> Iterator[None]:
    """RankLost in place of what torch says when a connection is closed."""
    try:
        yield
    except RuntimeError as error:
        raise RankLost(f"Another process of the training has ended ({error}).") from None


@contextlib.contextmanager
def joined(meeting: Path, rank: int, count: int, device: torch.device) -> Iterator[Ranks]:
    """A block in which this process is one of several ranks of this computer.

    Args:
        meeting: a file that does not exist yet, through which the ranks find each other: nobody
            else can join them, as through a port.
        rank: of this process.
        count: of ranks.
        device: of this process.

    Raises:
        RankLost: the others do not come.
    """
    # Nor does anybody else reach their connections.
    for library in ("GLOO", "NCCL"):
        os.environ.setdefault(f"{library}_SOCKET_IFNAME", _own_interface())
    on_gpu = device.type == "cuda" and dist.is_nccl_available()
    with _lost():
        # It is documented, and missing in the list of names alone.
        store = dist.FileStore(str(meeting), count)  # type: ignore[attr-defined]
        store.set_timeout(_MEETING)
        dist.init_process_group(
            "cpu:gloo,cuda:nccl" if on_gpu else "gloo",
            store=store,
            rank=rank,
            world_size=count,
            timeout=_WAITING,
        )
    try:
        yield Ranks(device)
    finally:
        # The first rank ends alone, and NCCL would wait for the others to take their leave, or for
        # what a lost one was to answer.
        end = dist.distributed_c10d._abort_process_group if on_gpu else dist.destroy_process_group
        with contextlib.suppress(RuntimeError):
            end()


def _own_interface() -> str:
    """The name of the interface of this computer that leads to itself: ``lo`` on Linux."""
    for name, addresses in psutil.net_if_addrs().items():
        if any(address.address == "127.0.0.1" for address in addresses):
            return str(name)
    return "lo"
