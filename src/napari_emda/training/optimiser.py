"""AdamW that does not load torch's compiler."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

# torch's optimisers import its compiler (`torch._dynamo`) when they are made or saved, to tell it
# that it should leave them alone. Nothing here is compiled, and the import takes 1.5 s and 68 MiB
# in each process that trains. What the wrappers around these methods hold does the work.
_ADD_PARAM_GROUP: Callable[..., None] = inspect.unwrap(torch.optim.Optimizer.add_param_group)
_LOAD: Callable[..., None] = inspect.unwrap(torch.optim.Optimizer.load_state_dict)
_STATE_DICT: Callable[..., dict[str, Any]] = inspect.unwrap(torch.optim.Optimizer.state_dict)
_ZERO_GRAD: Callable[..., None] = inspect.unwrap(torch.optim.Optimizer.zero_grad)
_STEP: Callable[..., Any] = inspect.unwrap(torch.optim.AdamW.step)


class AdamW(torch.optim.AdamW):
    """`torch.optim.AdamW`, the same to the last bit."""

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add parameters with options of their own, as torch's does."""
        _ADD_PARAM_GROUP(self, param_group)

    def state_dict(self) -> dict[str, Any]:
        """Moments and options, as torch's does."""
        return _STATE_DICT(self)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take moments and options over, as torch's does."""
        _LOAD(self, state_dict)

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients, as torch's does."""
        _ZERO_GRAD(self, set_to_none)

    @torch.no_grad()
    def step(self, closure: Callable[[], float | Tensor] | None = None) -> Any:
        """Change the parameters by their gradients, as torch's does."""
        return _STEP(self, closure)
