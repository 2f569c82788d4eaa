"""Where and in which number format to compute, and how to be a good guest on the machine."""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import torch
from numpy.typing import NDArray
from torch import Tensor

from napari_emda.errors import SettingsError

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4
_MOST_IO_THREADS = 4
"""That read, and as many that write: with one of each a GPU has to wait."""
_SWITCH_INTERVAL = 5e-4
"""Seconds that a thread may keep Python's lock from the others: every launch of a kernel gives it
away, and with Python's 5 ms would wait so long to get it back from a thread that reads or draws."""


@dataclass(frozen=True)
class Compute:
    """A device and whether to use bfloat16 there."""

    device: torch.device
    bf16: bool

    @classmethod
    def choose(cls, device: str = "auto", precision: str = "auto") -> Compute:
        """From settings; SettingsError when the device is not there."""
        there = {
            "cpu": True,
            "cuda": torch.cuda.is_available(),
            "mps": torch.backends.mps.is_available(),
        }
        if device == "auto":
            device = next(name for name in ("cuda", "mps", "cpu") if there[name])
        if not there[device]:
            known = ", ".join(name for name, yes in there.items() if yes)
            raise SettingsError(
                f"There is no device '{device}' on this machine: choose auto or {known}."
            )
        return cls(
            torch.device(device), precision == "bf16" or (precision == "auto" and _has_bf16(device))
        )

    def autocast(self) -> AbstractContextManager[object]:
        """bfloat16 where it is wanted."""
        if not self.bf16:
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, torch.bfloat16)

    def __str__(self) -> str:
        if self.device.type == "cuda":
            return f"cuda ({torch.cuda.get_device_name(self.device)})"
        return (
            f"{self.device.type} ({torch.get_num_threads()} threads)"
            if self.device.type == "cpu"
            else "mps"
        )


def _has_bf16(device: str) -> bool:
    """Only where it is fast: emulated bfloat16 is slower than float32."""
    if device == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device == "cpu" and Path("/proc/cpuinfo").exists():
        flags = Path("/proc/cpuinfo").read_text()
        return "avx512_bf16" in flags or "amx_bf16" in flags
    return False


def available_cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def io_threads(device: torch.device) -> int:
    """How many threads read, and how many write: one where the processor computes, up to four beside a GPU."""
    return 1 if device.type == "cpu" else max(1, min(_MOST_IO_THREADS, available_cores() // 2))


def configure_process(threads: int | None = None, *, polite: bool = True) -> None:
    """Set up this process for a long job; call it once, before the first tensor.

    Leaves one core to the viewer, lowers the priority, and lets glibc keep freed memory: else every step faults the
    pages of its large tensors in again (1.5 times slower).

    Args:
        threads: of torch; by default one core fewer than this process may use.
        polite: whether to lower the priority.
    """
    cores = available_cores()
    given = os.environ.get("OMP_NUM_THREADS")
    torch.set_num_threads(
        threads or (int(given) if given and given.isdigit() else max(1, cores - 1))
    )
    torch.backends.cudnn.benchmark = True
    sys.setswitchinterval(_SWITCH_INTERVAL)
    if polite:
        with contextlib.suppress(psutil.Error, OSError):
            psutil.Process().nice(
                psutil.BELOW_NORMAL_PRIORITY_CLASS if sys.platform == "win32" else 10
            )
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            libc = ctypes.CDLL("libc.so.6")
            libc.mallopt(_M_MMAP_MAX, 0)
            libc.mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """A tensor from the host on a device; on its way to CUDA nobody waits for it."""
    if device.type == "cuda" and tensor.device.type == "cpu":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


class ToHost:
    """A tensor on its way from the device to the host; nobody waits before it is needed.

    Args:
        tensor: on any device.
    """

    def __init__(self, tensor: Tensor) -> None:
        self._event: torch.cuda.Event | None = None
        self._tensor = tensor
        if tensor.device.type == "cuda":
            self._tensor = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
            self._tensor.copy_(tensor, non_blocking=True)
            self._event = torch.cuda.Event(blocking=True)  # a thread that waits takes no core
            self._event.record()

    def wait(self) -> NDArray[Any]:
        """The values, once they have arrived; may be called in another thread."""
        if self._event is not None:
            self._event.synchronize()
        return self._tensor.cpu().numpy()
