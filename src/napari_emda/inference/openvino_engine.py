"""What a network computes, converted for OpenVINO, which computes faster on many processors."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import queue
import sys
import warnings
from collections import OrderedDict
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from napari_emda.errors import JobError
from napari_emda.inference.section_stacks import SectionStacks
from napari_emda.nn.network import Network

if TYPE_CHECKING:
    import openvino

RawOutputs = Callable[[Tensor], tuple[Tensor, ...]]
"""B x channels x H x W to logits B x C x H x W, and to maps of objects if there are any."""

# Converted networks that are kept, one for each size of block. Tiles at the same place follow each
# other, and a copy of the weights is in each.
_KEPT = 4


def raw_outputs(network: Network, image: Tensor) -> tuple[Tensor, ...]:
    """What a network computes of images, before any softmax: see `RawOutputs`."""
    if not network.maps_objects:
        return (network(image),)
    return network.decode_with_objects(network.encode(image))


def installed() -> str:
    """The version of OpenVINO; empty if it is not installed."""
    if importlib.util.find_spec("openvino") is None:
        return ""
    return importlib.metadata.version("openvino")


class CannotConvertError(JobError):
    """OpenVINO cannot compute a network.

    Args:
        reason: in its words.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(
            f"OpenVINO cannot compute the network ({reason}): choose engine=torch, which begins "
            "anew."
        )
        self.reason = reason


class OpenVino:
    """Networks converted for OpenVINO, each when it is first used.

    A conversion holds for one shape of images, and takes about a second. As in `ImageThreads`, one
    thread computes one image: results depend neither on the number of threads nor on the images
    beside one.

    Args:
        bf16: whether to compute in bfloat16.
    """

    def __init__(self, *, bf16: bool) -> None:
        self._precision = "bf16" if bf16 else "f32"
        # The network is kept, so that no other one gets its id.
        self._converted: OrderedDict[tuple[Any, ...], tuple[Network, RawOutputs]] = OrderedDict()

    def outputs_of(self, network: Network, seen: Tensor, stacks: SectionStacks) -> RawOutputs:
        """A function that computes the outputs of images; several threads may be in it.

        Args:
            network: in evaluation mode, with the domain and the stacks in which it computes. Its
                weights do not change any more.
            seen: of the same shape as the images, B x channels x H x W. They are given one by one,
                and together to a network that sees stacks, as by `Predictor.map_images`.
            stacks: how a 3-D network sees the images.

        Raises:
            CannotConvertError: OpenVINO cannot compute the network.
        """
        threads = torch.get_num_threads()
        together = stacks.deep or network.stack > 1
        example = seen if together else seen[:1]
        key = (id(network), tuple(example.shape), stacks, threads)
        if key not in self._converted:
            while len(self._converted) >= _KEPT:
                self._converted.popitem(last=False)
            try:
                compiled = self._compiled(network, example, 1 if together else threads)
            except RuntimeError as error:
                reason = (str(error).strip() or type(error).__name__).splitlines()
                raise CannotConvertError(reason[-1]) from error
            self._converted[key] = network, compiled
        self._converted.move_to_end(key)
        return self._converted[key][1]

    def _compiled(self, network: Network, example: Tensor, streams: int) -> RawOutputs:
        _import_quietly()
        import openvino

        core = openvino.Core()
        if self._precision == "bf16" and not _has_bf16(core):
            # It would compute in float32 without a word.
            raise RuntimeError("it has no bfloat16 on this processor")
        model = core.compile_model(
            _converted(network, example),
            "CPU",
            {
                "INFERENCE_PRECISION_HINT": self._precision,
                "INFERENCE_NUM_THREADS": torch.get_num_threads(),
                "NUM_STREAMS": streams,
                # Several processes would bind their threads to the same cores.
                "ENABLE_CPU_PINNING": False,
            },
        )
        requests: queue.SimpleQueue[Any] = queue.SimpleQueue()
        for _ in range(streams):
            requests.put(model.create_infer_request())

        def compute(image: Tensor) -> tuple[Tensor, ...]:
            request = requests.get()
            try:
                # The outputs are copies.
                outputs = request.infer([image.contiguous().numpy()])
                return tuple(torch.from_numpy(values) for values in outputs.values())
            finally:
                requests.put(request)

        return compute


def _import_quietly() -> None:
    """Import OpenVINO without its telemetry, which would report each import to a server.

    OpenVINO does without the package if it is not installed.
    """
    name = "openvino_telemetry"
    if "openvino" in sys.modules or name in sys.modules:
        importlib.import_module("openvino")
        return
    modules: dict[str, Any] = sys.modules
    # For Python, what is None here cannot be imported.
    modules[name] = None
    try:
        importlib.import_module("openvino")
    finally:
        del modules[name]


def _has_bf16(core: openvino.Core) -> bool:
    return "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")


class _RawOutputs(nn.Module):
    """`raw_outputs` as a module, for tracing."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        return raw_outputs(self.network, image)


def _converted(network: Network, example: Tensor) -> openvino.Model:
    """The network for images of the example's shape; RuntimeError if that cannot be done."""
    from openvino.frontend import FrontEndManager
    from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

    with (
        torch.no_grad(),
        # Otherwise the conversions to bfloat16 would be traced as well.
        torch.autocast("cpu", enabled=False),
        warnings.catch_warnings(),
    ):
        # torch calls TorchScript deprecated, and sizes that are constants here are no mistake.
        warnings.simplefilter("ignore")
        module = _RawOutputs(network).eval()
        traced = torch.jit.trace(module, example.contiguous(), check_trace=False)
        # Not `openvino.convert_model`: it reports each conversion to a server.
        frontend = FrontEndManager().load_by_framework("pytorch")
        # OpenVINO refers to it until the conversion is done, and does not keep it.
        decoder = TorchScriptPythonDecoder(traced)
        model = frontend.convert(frontend.load(decoder))
    model.reshape(list(example.shape))
    return model
