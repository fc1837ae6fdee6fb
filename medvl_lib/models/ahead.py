"""Reading ahead: the next questions are made ready beside the answers that are being written.

In: functions that read a question's prompt, with whoever hears its answer. Out: prompts that are ready, in the order of the questions. A
picture is decoded, resized and, on a CPU, looked at by the vision tower, without a token of the others having to wait for it: half of what
an answer about a page costs a small model. On a GPU the tower waits in one queue with the tokens, whoever puts it there: it is left to
``decoding``. Who may come, and when, whoever asks has to say.
"""

import inspect
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any, NamedTuple

from transformers import PreTrainedModel

from medvl_lib.models.writing import Hearer

Prompts = Mapping[str, Any]
"""Tensors of a batch, as ``batches.prompt_batch`` makes them."""
PIXELS = "pixel_values"
LOOKED = "mm_encoder_outputs"  # what ``generate`` takes in their place, of a family whose pictures stand among its words


class Coming(NamedTuple):
    """A question that is to be read, and who hears its answer."""

    read: Callable[[], Prompts | None]
    """Another thread calls it; None where nobody waits for the answer any more."""
    hearer: Hearer


class Ahead:
    """Questions that are being read, by one thread: those that come later wait for those that came before."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="ahead")
        self._coming = deque[tuple[Future[Prompts | None], Hearer]]()

    def __enter__(self) -> "Ahead":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        """Read no more."""
        self._thread.shutdown(cancel_futures=True)

    def __len__(self) -> int:
        """Those that were not taken yet."""
        return len(self._coming)

    def read(self, coming: Coming) -> None:
        """Let a question be read."""
        self._coming.append((self._thread.submit(coming.read), coming.hearer))

    def ready(self, *, waits: bool) -> Coming | None:
        """The next question, once it is read or could not be: its ``read`` gives the prompts, or raises why there are none.

        None where none is ready; with ``waits`` the next one that is coming, whose ``read`` waits.
        """
        if not self._coming or not (waits or self._coming[0][0].done()):
            return None
        future, hearer = self._coming.popleft()
        return Coming(future.result, hearer)


def looked_at(model: PreTrainedModel, prompts: Prompts) -> Prompts:
    """The same prompts with what the vision tower makes of their pictures in the place of these, where that is worth another thread."""
    can_take = LOOKED in inspect.signature(model.forward).parameters
    if model.device.type != "cpu" or PIXELS not in prompts or not can_take:
        return prompts
    look = model.base_model.get_image_features
    taken = {name: prompts[name] for name in inspect.signature(look).parameters if name in prompts}
    seen = look(**taken, return_dict=True)
    return {**{name: tensor for name, tensor in prompts.items() if name != PIXELS}, LOOKED: {"image": seen}}
