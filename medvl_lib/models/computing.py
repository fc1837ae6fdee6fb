"""Who computes a model: torch itself, or an engine behind the library's model, which then has the shapes and no weights.

In: a model, perhaps with adapters. Out: the engine that speaks for it; None where torch does. No engine is imported here.
"""

from collections.abc import Iterable
from typing import Any, Protocol

import torch
from peft import PeftModel

COMPUTED_BY, IS_PACKED = "computed_by", "is_packed"  # attributes of a model, and of its parameters


class Computing(Protocol):
    """An engine that holds a model's weights and computes for it."""

    def tensors(self) -> Iterable[tuple[str, Any]]:
        """Its weights by name, as arrays of bytes: none of them is trained."""
        ...

    def held_bytes(self) -> int:
        """Memory that the engine holds in this process."""
        ...

    def peak_bytes(self) -> int:
        """The most that it has held."""
        ...

    def fill(self, name: str, parameter: torch.nn.Parameter) -> None:
        """Give a parameter, by its name in the model, the values that the engine has for it."""
        ...

    def take_over(self) -> None:
        """Compute the model's loss and answers, whatever was put in their place."""
        ...


def computing(model: Any) -> Computing | None:
    """The engine behind a model."""
    base = model.get_base_model() if isinstance(model, PeftModel) else model
    return vars(base).get(COMPUTED_BY)
