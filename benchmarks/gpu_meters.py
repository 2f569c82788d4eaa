"""What `gpu.py` measures with: rates, memory, how busy the card is, and where the time goes."""

from __future__ import annotations

import contextlib
import ctypes
import resource
import statistics
import threading
import time
import traceback
import warnings
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch.autograd import DeviceType  # type: ignore[attr-defined]  # torch's own, unlisted
from torch.profiler import ProfilerActivity, profile

GIB = 2**30
_SAMPLES_A_SECOND = 10
_LAG = 1.0
"""Seconds by which NVML's utilisation looks back: it is a mean over up to a second."""


def wait(device: torch.device) -> None:
    """Until the device has done all that it was told to do."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def per_second(run: Callable[[], object], device: torch.device, seconds: float) -> float:
    """How often a second ``run`` can be done: the median over blocks of runs.

    It waits for the device only after each block, so that launches run ahead of computing as they
    do in a training.
    """
    for _ in range(3):  # chooses the convolutions, fills the memory pool
        run()
    wait(device)
    began = time.perf_counter()
    run()
    wait(device)
    once = time.perf_counter() - began
    block = max(1, min(20, round(seconds / 10 / once)))
    rates: list[float] = []
    end = time.perf_counter() + seconds
    while len(rates) < 3 or time.perf_counter() < end:
        began = time.perf_counter()
        for _ in range(block):
            run()
        wait(device)
        rates.append(block / (time.perf_counter() - began))
    return statistics.median(rates)


# -- memory and the card -------------------------------------------------------------------------


def host_memory() -> float:
    """Peak resident memory of this process in GiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / GIB


def device_memory(device: torch.device) -> float | None:
    """Peak of the tensors on the device in GiB since `forget_device_memory`; None without a GPU."""
    return torch.cuda.max_memory_allocated(device) / GIB if device.type == "cuda" else None


def forget_device_memory(device: torch.device) -> None:
    """Count the peak anew."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)


class _Utilisation(ctypes.Structure):
    """NVML's nvmlUtilization_t."""

    _fields_ = (("gpu", ctypes.c_uint), ("memory", ctypes.c_uint))


class Busy:
    """The share of the time within a ``with`` block in which the card ran a kernel, as NVML says.

    NVML is the library behind nvidia-smi. A profiler would be more exact but slows the launches;
    see `kernels`. A kernel may use a small part of the card: busy does not mean well used.
    """

    def __init__(self, device: torch.device) -> None:
        self._samples: list[tuple[float, int]] = []
        self._over = threading.Event()
        self._thread: threading.Thread | None = None
        self._began = 0.0
        if device.type == "cuda":
            with contextlib.suppress(OSError, RuntimeError, AttributeError):
                self._library = ctypes.CDLL("libnvidia-ml.so.1")
                self._handle = ctypes.c_void_p()
                # By its name: NVML numbers the cards of the machine, torch those that it may use.
                uuid = str(torch.cuda.get_device_properties(device).uuid).removeprefix("GPU-")
                self._call("nvmlInit_v2")
                self._call(
                    "nvmlDeviceGetHandleByUUID", f"GPU-{uuid}".encode(), ctypes.byref(self._handle)
                )
                self._thread = threading.Thread(target=self._sample, daemon=True)

    def _call(self, name: str, *arguments: object) -> None:
        status = getattr(self._library, name)(*arguments)
        if status:
            raise RuntimeError(f"{name} returned {status}")

    def _sample(self) -> None:
        found = _Utilisation()
        while not self._over.wait(1 / _SAMPLES_A_SECOND):
            try:
                self._call("nvmlDeviceGetUtilizationRates", self._handle, ctypes.byref(found))
            except RuntimeError:
                return
            self._samples.append((time.perf_counter(), found.gpu))

    def __enter__(self) -> Busy:
        self._began = time.perf_counter()
        if self._thread is not None:
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        if self._thread is not None:
            self._thread.join()

    @property
    def share(self) -> float | None:
        """0 to 1; None where there is no such card, or it was watched for too short a time."""
        late = [percent for when, percent in self._samples if when - self._began > _LAG]
        return statistics.mean(late) / 100 if late else None


# -- where the time goes -------------------------------------------------------------------------


class Clock:
    """Seconds and calls by name, of functions and iterators that are wrapped from outside."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self.calls: Counter[str] = Counter()

    def reset(self) -> None:
        """Count anew."""
        self.seconds.clear()
        self.calls.clear()

    def add(self, name: str, began: float) -> None:
        """Count what lies between a moment and now."""
        self.seconds[name] += time.perf_counter() - began
        self.calls[name] += 1

    def timed(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, with its time counted; on a GPU that is the time of its launches alone."""

        def counted(*arguments: Any, **options: Any) -> Any:
            began = time.perf_counter()
            try:
                return function(*arguments, **options)
            finally:
                self.add(name, began)

        return counted

    def waited_for(self, name: str, make: Callable[..., Any]) -> Callable[..., Any]:
        """A function that returns a generator, counting how long its user waits for values."""

        def counted(*arguments: Any, **options: Any) -> Iterator[Any]:
            values = make(*arguments, **options)
            try:
                while True:
                    began = time.perf_counter()
                    try:
                        value = next(values)
                    except StopIteration:
                        return
                    self.add(name, began)
                    yield value
            finally:
                values.close()

        return counted

    def mean(self, name: str) -> float | None:
        """Seconds of a call; None where there was none."""
        return self.seconds[name] / self.calls[name] if self.calls[name] else None


def kernels(run: Callable[[], object], device: torch.device) -> dict[str, float]:
    """What the profiler says of the kernels and copies of a run.

    Returns:
        Their ``count``, the ``seconds`` with at least one of them at work, and those of the run,
        ``wall``. Empty without a GPU, or where the profiler cannot be used.
    """
    if device.type != "cuda":
        return {}
    try:
        # All events of the one cycle are wanted; without `acc_events` torch warns that it has but
        # one
        with profile(activities=[ProfilerActivity.CUDA], acc_events=True) as record:
            wait(device)
            began = time.perf_counter()
            run()
            wait(device)
            wall = time.perf_counter() - began
        spans = sorted(
            (event.time_range.start, event.time_range.end)
            for event in record.events()
            if event.device_type == DeviceType.CUDA
        )
    except Exception:  # noqa: BLE001 - the profiler is an extra: without it the rates still count
        traceback.print_exc()
        return {}
    if not spans:
        return {}
    return {"count": len(spans), "seconds": _union(spans) * 1e-6, "wall": wall}


def _union(spans: list[tuple[float, float]]) -> float:
    """Length of what sorted intervals cover together; kernels of several streams overlap."""
    total = 0.0
    last = -float("inf")
    for start, end in spans:
        total += max(0.0, end - max(start, last))
        last = max(last, end)
    return total


def synchronisations(run: Callable[[], object], device: torch.device) -> Counter[str]:
    """How often each ``file:line`` makes the processor wait for the GPU; empty without a GPU."""
    if device.type != "cuda":
        return Counter()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            run()
        finally:
            torch.cuda.set_sync_debug_mode("default")
    return Counter(
        f"{'/'.join(Path(warning.filename).parts[-2:])}:{warning.lineno}"
        for warning in caught
        if "called a synchronizing" in str(warning.message)
    )
