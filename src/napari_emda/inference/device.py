"""Device, number format, threads and priority of a job; copies to and from the device."""

from __future__ import annotations

import contextlib
import ctypes
import math
import os
import re
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

# Parameters of glibc's mallopt (malloc.h), which Python does not name.
_M_TRIM_THRESHOLD = -1
_M_MMAP_MAX = -4

# Threads that read, and as many that write. With one of each, a GPU has to wait for them.
_MAX_IO_THREADS = 4

# Seconds that a thread may hold Python's lock while others wait. Each launch of a kernel releases
# it: with Python's default of 5 ms, the launching thread would wait that long for threads that read
# or draw batches.
_SWITCH_INTERVAL = 5e-4


@dataclass(frozen=True)
class Compute:
    """A device, and whether to compute in bfloat16 there."""

    device: torch.device
    bf16: bool

    @classmethod
    def choose(cls, device: str = "auto", precision: str = "auto") -> Compute:
        """The device and number format of settings; SettingsError if the device is missing."""
        available = {
            "cpu": True,
            "cuda": torch.cuda.is_available(),
            "mps": torch.backends.mps.is_available(),
        }
        if device == "auto":
            device = next(name for name in ("cuda", "mps", "cpu") if available[name])
        if not available[device]:
            choices = ", ".join(name for name, is_available in available.items() if is_available)
            raise SettingsError(
                f"There is no device '{device}' on this machine: choose auto or {choices}."
            )
        return cls(
            torch.device(device), precision == "bf16" or (precision == "auto" and _has_bf16(device))
        )

    def autocast(self) -> AbstractContextManager[object]:
        """A context in which networks compute in this number format."""
        if not self.bf16:
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, torch.bfloat16)

    @property
    def count(self) -> int:
        """How many such devices this computer has: GPUs, or cores of the processor."""
        if self.device.type == "cuda":
            return torch.cuda.device_count()
        return available_cores() if self.device.type == "cpu" else 1

    def __str__(self) -> str:
        if self.device.type == "cuda":
            return f"cuda ({torch.cuda.get_device_name(self.device)})"
        return (
            f"{self.device.type} ({torch.get_num_threads()} threads)"
            if self.device.type == "cpu"
            else "mps"
        )


def _has_bf16(device: str, processor: Path = Path("/proc/cpuinfo")) -> bool:
    """Whether bfloat16 is faster than float32 here; where it is emulated, it is slower."""
    if device == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device == "cpu" and processor.exists():
        words = processor.read_text()
        # Matrix units, or AMD's AVX-512, which computes twice as many products of bfloat16 a cycle
        # as of float32. Intel's does not: our networks took 1.3 to 1.5 times as long there.
        return "amx_bf16" in words or ("avx512_bf16" in words and "AuthenticAMD" in words)
    return False


def available_cores() -> int:
    """Number of cores that this process may use, rounded up."""
    # On a cluster, a job may use fewer cores than the machine has; in a container, less time.
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    limit = _cgroup_cores()
    return max(1, cores or 1) if limit is None else max(1, min(cores or 1, math.ceil(limit)))


def _cgroup_cores(root: Path = Path("/sys/fs/cgroup"), groups: str | None = None) -> float | None:
    """Cores' worth of time that Linux grants this process in its control group; None: no limit.

    Containers are limited in this way and still see all cores of the machine.

    Args:
        root: where the control groups are mounted.
        groups: content of ``/proc/self/cgroup``.
    """
    if groups is None:
        try:
            groups = Path("/proc/self/cgroup").read_text()
        except OSError:
            return None
    limits = []
    for line in groups.splitlines():
        number, _, rest = line.partition(":")
        controllers, _, group = rest.partition(":")
        # Version 2 has the number 0 and no controllers; in version 1, each has a tree of its own.
        if number == "0" and not controllers:
            tree = root
        elif "cpu" in controllers.split(","):
            tree = next((t for t in (root / controllers, root / "cpu") if t.is_dir()), root)
        else:
            continue
        # A limit holds for all groups below it. In a container, the path is that of the machine and
        # only the root of the tree is to be seen.
        below = Path(group.strip("/"))
        limits += [_granted(tree / folder) for folder in (below, *below.parents)]
    return min((limit for limit in limits if limit is not None), default=None)


def _granted(group: Path) -> float | None:
    """The limit of one control group, of either version."""
    try:
        if (group / "cpu.max").exists():
            quota, period = (group / "cpu.max").read_text().split()
        else:
            quota, period = (
                (group / f"cpu.cfs_{name}_us").read_text().strip() for name in ("quota", "period")
            )
        # No limit is "max" in version 2 and -1 in version 1.
        return float(quota) / float(period) if float(quota) > 0 else None
    except (OSError, ValueError, ZeroDivisionError):
        return None


def io_threads(device: torch.device) -> int:
    """Number of threads that read, and of those that write.

    One on the CPU, where they would take cores from the network; up to four beside a GPU.
    """
    # Half of the cores each: readers and writers work at the same time.
    return 1 if device.type == "cpu" else max(1, min(_MAX_IO_THREADS, available_cores() // 2))


def _requested_threads() -> int | None:
    """The number in OMP_NUM_THREADS; None if it is no number that can be used."""
    # OpenMP also takes a list, for nested parallel regions: torch has the first level alone.
    match = re.fullmatch(r"\s*0*([1-9]\d{0,5})\s*(,.*)?", os.environ.get("OMP_NUM_THREADS", ""))
    # More threads than the machine has cores only wait for each other.
    return min(int(match[1]), os.cpu_count() or 1) if match else None


def threads_of(processes: int = 1) -> int:
    """Number of threads of torch in each of the processes of a job.

    OMP_NUM_THREADS if that is set; else one process leaves one core to the viewer, and several
    share all of them.
    """
    cores = available_cores()
    usual = cores - 1 if processes == 1 else cores // processes
    return _requested_threads() or max(1, usual)


def configure_process(threads: int | None = None, *, polite: bool = True) -> None:
    """Set up this process for a long job; call it once, before the first tensor.

    Leaves one core to the viewer, lowers the priority, and lets glibc keep freed memory.

    Args:
        threads: of torch; by default those of `threads_of` one process.
        polite: whether to lower the priority.
    """
    torch.set_num_threads(threads or threads_of())
    torch.backends.cudnn.benchmark = True
    sys.setswitchinterval(_SWITCH_INTERVAL)
    if polite:
        with contextlib.suppress(psutil.Error, OSError):
            # 10 of 19: other programs come first, but the job still gets all idle time.
            psutil.Process().nice(
                psutil.BELOW_NORMAL_PRIORITY_CLASS if sys.platform == "win32" else 10
            )
    # glibc returns large blocks to the kernel at once. The next step would fault all pages of its
    # feature maps in again, which made it 1.5 times slower.
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            libc = ctypes.CDLL("libc.so.6")
            libc.mallopt(_M_MMAP_MAX, 0)
            libc.mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """Copy a tensor to a device. A copy to CUDA runs while the caller continues."""
    # CUDA copies asynchronously only from pinned memory.
    if device.type == "cuda" and tensor.device.type == "cpu":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


class ToHost:
    """An asynchronous copy of a tensor to the host, for which only `wait` waits.

    Args:
        tensor: on any device.
    """

    def __init__(self, tensor: Tensor) -> None:
        self._event: torch.cuda.Event | None = None
        self._tensor = tensor
        if tensor.device.type == "cuda":
            self._tensor = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
            self._tensor.copy_(tensor, non_blocking=True)
            # Blocking: a waiting thread sleeps instead of occupying a core.
            self._event = torch.cuda.Event(blocking=True)
            self._event.record()

    def wait(self) -> NDArray[Any]:
        """The values, once they have arrived. Any thread may call this."""
        if self._event is not None:
            self._event.synchronize()
        return self._tensor.cpu().numpy()
