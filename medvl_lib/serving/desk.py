"""The desk: one thread that loads the model and then answers, one request after the other.

In: a function that loads, then questions. Out: answers, or the reason why there are none yet. One thread is the lock: a second request
waits, and the one behind ``MAX_WAITING`` is sent away. An exchange of the model waits in the same line: what was asked before it is
answered by the model of before, which is let go before the next one is loaded; whoever comes meanwhile is told to come again. Batching has
its place here; it is not there yet.
"""

import asyncio
import gc
import logging
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Literal

from medvl_lib.errors import MedVLError
from medvl_lib.evaluation.predictions import Prediction
from medvl_lib.images import UnreadableImage
from medvl_lib.serving.question import Question
from medvl_lib.serving.resident import Resident
from medvl_lib.serving.uploads import Problem, require_picture, require_prompt

LOG = logging.getLogger(__name__)
MAX_WAITING = 32  # requests that are asked or wait; each holds its pictures in memory
Status = Literal["loading", "ready", "failed"]


class Desk:
    """Where requests are answered."""

    def __init__(self, load: Callable[[], Resident]) -> None:
        self._load = load
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="model")
        self._loaded: Future[Resident] | None = None
        self._refusal: MedVLError | None = None
        self._num_waiting = 0  # of the event loop's thread alone

    def open(self) -> None:
        """Begin to load."""
        self._loaded = self._thread.submit(self._load)
        self._loaded.add_done_callback(_say)

    def exchange(self, load: Callable[[], Resident]) -> None:
        """Load another model, when what was asked so far is answered; the one of before is let go first."""

        def load_next() -> Resident:
            gc.collect()  # its modules refer to each other, and two models may not fit
            return load()

        self._load = load  # or the one of before would hold what it has bound
        self._loaded = self._thread.submit(load_next)
        self._loaded.add_done_callback(_say)

    def refuse(self, error: MedVLError | None) -> None:
        """Answer nothing for this reason, until there is none any more."""
        if error is not None and self._refusal is None:
            LOG.error("not ready: %s (%s): %s", error.found, error.where, error.do)
        self._refusal = error

    def close(self) -> None:
        """Take no more; what is being answered is finished."""
        self._thread.shutdown(wait=True, cancel_futures=True)

    @property
    def status(self) -> Status:
        """Whether it can be asked."""
        if self._refusal is not None:
            return "failed"
        if self._loaded is None or not self._loaded.done():
            return "loading"
        return "ready" if self._loaded.exception() is None else "failed"

    @property
    def reason(self) -> str | None:
        """Why it cannot be asked; the log says where, whoever may ask need not know this machine's folders."""
        if self.status == "loading":
            return "the weights are being loaded"
        if self._refusal is not None:
            return f"{self._refusal.found}: {self._refusal.do}"
        return _reason(self._loaded, says_where=False)

    @property
    def resident(self) -> Resident:
        """The model; a Problem where it is not there."""
        if self._loaded is None or self.status != "ready":
            raise Problem(503, found=f"not ready, {self.reason}", do="ask /health, and again when it says ready")
        return self._loaded.result()

    async def ask(self, question: Question) -> tuple[Resident, Prediction]:
        """Who answers, and an answer, when it is this request's turn; a Problem where question or pictures cannot be read."""
        async with self.stream(question) as pieces:
            async for _ in pieces:
                pass
        return pieces.resident, pieces.prediction

    def stream(self, question: Question) -> "Pieces":
        """The answer in pieces; a Problem at once where the question cannot be asked, or too many wait."""
        resident = self.resident
        for text in question.texts:
            require_prompt(text, resident.speaker.loaded.prompts.added_tokens)
        for data in question.pictures:
            require_picture(data)
        if self._num_waiting >= MAX_WAITING:
            raise Problem(503, found=f"{self._num_waiting} requests that wait already", do="ask again later")
        self._num_waiting += 1
        said = asyncio.get_running_loop().run_in_executor(self._thread, resident.say, question)
        return Pieces(resident, said, self._leave)

    def _leave(self) -> None:
        self._num_waiting -= 1


class Pieces(AsyncIterator[str]):
    """An answer as it is written; what it was in the end is known when it has ended."""

    def __init__(self, resident: Resident, said: "asyncio.Future[Prediction]", leave: Callable[[], None]) -> None:
        self.resident = resident
        self._said, self._leave, self._is_told = said, leave, False

    async def __aenter__(self) -> "Pieces":
        return self

    async def __aexit__(self, *_: object) -> None:
        self._leave()

    @property
    def prediction(self) -> Prediction:
        """The whole answer; raises asyncio.InvalidStateError before it has ended."""
        return self._said.result()

    async def __anext__(self) -> str:
        if self._is_told:
            raise StopAsyncIteration
        try:
            said = await self._said
        except UnreadableImage as error:
            raise Problem(415, found="a picture that cannot be decoded to its end", do="send it whole") from error
        self._is_told = True
        return said.answer


def _reason(loaded: Future[Resident] | None, *, says_where: bool) -> str | None:
    error = None if loaded is None else loaded.exception()
    if error is None:
        return None
    if not isinstance(error, MedVLError):
        return type(error).__name__
    return f"{error.found} ({error.where}): {error.do}" if says_where else f"{error.found}: {error.do}"


def _say(loaded: Future[Resident]) -> None:
    reason = _reason(loaded, says_where=True)
    LOG.log(logging.INFO if reason is None else logging.ERROR, "ready" if reason is None else f"not ready: {reason}")
