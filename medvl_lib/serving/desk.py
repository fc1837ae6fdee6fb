"""The desk: one thread that loads a model, and then answers what waits, some questions at a time.

In: functions that load, then questions. Out: answers, whole or in pieces, or the reason why there are none.

* Whatever waits when the model becomes free is asked together, at most ``MAX_BATCH`` and at most what the profile asks at a time; who comes
  while they are answered joins them at the next token, as soon as one of them has its answer. Nobody is made to wait for others to come, or
  for the longest answer of those before. A question that a batch fails at is found by halving: it alone is refused.
* ``MAX_WAITING`` questions are asked or wait; the next is sent away with the seconds after which what waits now is answered, as measured.
* Who goes away leaves the line, or is no longer written to; so does who waited for longer than allowed.
* Another adapter on the same weights takes the place of the one before between two batches. Other weights are loaded beside those that
  answer where both fit; where they do not, the line is answered to its end (``draining``) and the old weights are let go first.
"""

import asyncio
import gc
import logging
import math
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal, NamedTuple

from medvl_lib.errors import MedVLError
from medvl_lib.evaluation.predictions import Prediction
from medvl_lib.images import UnreadableImage
from medvl_lib.serving.problems import place, undecodable
from medvl_lib.serving.question import Question
from medvl_lib.serving.resident import Resident
from medvl_lib.serving.uploads import Problem, require_prompt, require_together

LOG = logging.getLogger(__name__)
MAX_BATCH = 12  # more answers a second with more, but each token is waited for longer: docs/log.md, 2026-11-29
MAX_AHEAD = 2  # questions that are read while so many answers are written: the next, and one more while that one is taken
MAX_WAITING = 64  # requests that are asked or wait
MAX_WAITING_BYTES = 256 << 20  # of their pictures, which lie in memory
ANSWER_SECONDS = 300.0  # from the whole request to the whole answer, the wait included
MEASURED_SHARE = 0.02  # of the last answer in what an answer is taken to last
MAX_BROKEN_BATCHES = 3  # in a row, before the model is asked itself whether it still answers
NOT_READY_SECONDS = 5  # after which to ask again where nobody can say how long it takes
Status = Literal["loading", "draining", "ready", "failed"]
Outcome = Literal["answered", "refused", "broken"]
OWN_FAULTS = (UnreadableImage, Problem)  # of a question: it would fail alone as well


@dataclass(frozen=True, slots=True, kw_only=True)
class Coming:
    """A model that is to answer."""

    load: Callable[[], Resident]
    onto: Callable[[Resident], Resident | None] = lambda _: None
    """The model made of the weights of another one, which is used up by it; None where those are others."""
    fits: Callable[[], bool] = lambda: False
    """Whether it can be loaded while another one still answers."""
    taken: Callable[[], None] = lambda: None
    """Called when the one before answers no more."""


class Desk:
    """Where requests are answered. What begins with an underscore and waits for nothing belongs to whoever holds ``_changed``."""

    def __init__(
        self, load: Callable[[], Resident], *, answer_seconds: float = ANSWER_SECONDS, give_back: Callable[[], object] = gc.collect
    ) -> None:
        """``give_back`` returns to the device what models held that are gone."""
        self._answer_seconds, self._give_back = answer_seconds, give_back
        self._loading = threading.Lock()  # one at a time, wanted or not; taken before ``_changed`` and never after it
        self._changed = threading.Condition()
        self._line = deque[Slot]()
        self._pending = set[Slot]()
        self._coming: Coming | None = Coming(load=load)
        self._beside: Resident | None = None  # what is coming, loaded while another one answers
        self._is_beside = False  # whether it is being loaded so
        self._resident: Resident | None = None
        self._phase: Status = "loading"
        self._why: str | None = None  # it failed, in words: an exception would hold the model that it went through
        self._refusal: MedVLError | None = None
        self._is_closed = False
        self._seconds_per_answer, self._num_measured, self._measured_since = 1.0, 0, 0.0
        self._num_broken = 0  # batches in a row that failed as a whole, and not for what was sent
        self._thread = threading.Thread(target=self._work, name="model")

    # -- what is served ------------------------------------------------------------------------------------------------
    def open(self) -> None:
        """Begin to load."""
        self._thread.start()

    def exchange(self, coming: Coming) -> None:
        """Let another model answer as soon as can be; whatever was coming comes no more."""
        with self._changed:
            self._coming, self._beside, self._is_beside = coming, None, False
            self._phase = "ready" if self._phase == "draining" else self._phase  # it may stand on the weights that are still there
            self._changed.notify_all()

    def refuse(self, error: MedVLError | None) -> None:
        """Answer nothing for this reason, until there is none any more."""
        if error is not None and self._refusal is None:
            LOG.error("not ready: %s (%s): %s", error.found, error.where, error.do)
        self._refusal = error

    def close(self) -> None:
        """Take no more; what is being answered is finished."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
        self._thread.join()

    @property
    def status(self) -> Status:
        """Whether it can be asked."""
        return "failed" if self._refusal is not None else self._phase

    @property
    def reason(self) -> str | None:
        """Why it cannot be asked; the log says where, whoever may ask need not know this machine's folders."""
        if self._refusal is not None:
            return f"{self._refusal.found}: {self._refusal.do}"
        reasons = {
            "loading": "the weights are being loaded",
            "draining": f"other weights are to be loaded: first the {len(self._pending)} requests that wait are answered",
        }
        return reasons.get(self._phase) or self._why

    @property
    def num_pending(self) -> int:
        """Questions that wait or are being answered."""
        return len(self._pending)

    @property
    def resident(self) -> Resident:
        """The model; a Problem where it is not there."""
        resident = self._resident
        if resident is None or self.status != "ready":
            raise self._not_ready()
        return resident

    def _not_ready(self) -> Problem:
        do = "ask /health, and again when it says ready"
        return Problem(503, found=f"not ready, {self.reason}", do=do, retry_after_seconds=NOT_READY_SECONDS)

    # -- who asks ------------------------------------------------------------------------------------------------------
    async def ask(self, question: Question) -> tuple[Resident, Prediction]:
        """Who answers, and an answer, when it is this request's turn; a Problem where question or pictures cannot be read."""
        async with self._take(question, is_streamed=False) as pieces:
            async for _ in pieces:
                pass
        return pieces.resident, pieces.prediction

    def stream(self, question: Question) -> "Pieces":
        """The answer in pieces; a Problem at once where the question cannot be asked, or too many wait."""
        return self._take(question, is_streamed=True)

    def require_room(self) -> None:
        """Send away whoever comes while too many wait, or nothing is there that answers: what is asked need not be read for it."""
        _ = self.resident
        if len(self._pending) >= MAX_WAITING or sum(slot.num_bytes for slot in tuple(self._pending)) >= MAX_WAITING_BYTES:
            expected = len(self._pending) * self._seconds_per_answer if self._num_measured else NOT_READY_SECONDS
            seconds = max(1, math.ceil(expected))
            raise Problem(
                429, found=f"{len(self._pending)} requests that wait already", do=f"ask again in {seconds} seconds",
                retry_after_seconds=seconds,
            )  # fmt: skip

    def _take(self, question: Question, *, is_streamed: bool) -> "Pieces":
        self.require_room()
        resident = self.resident
        for text in question.texts:
            require_prompt(text, resident.speaker.loaded.prompts.added_tokens)
        require_together(question.pictures)
        if (num_tokens := resident.num_tokens(question)) > resident.max_tokens:
            raise Problem(422, found=f"a question of {num_tokens} tokens", do=f"ask in at most {resident.max_tokens}, pictures included")
        slot = Slot(question, is_streamed=is_streamed)
        with self._changed:
            if self._phase != "ready":  # since it was looked at
                raise self._not_ready()
            self._pending.add(slot)
            self._line.append(slot)
            self._changed.notify_all()
        return Pieces(slot, self._leave, self._answer_seconds)

    def _leave(self, slot: "Slot") -> None:
        """Its place is free: nobody waits there any more."""
        slot.is_gone = True
        with self._changed:
            self._pending.discard(slot)
            if slot in self._line:
                self._line.remove(slot)
                self._changed.notify_all()  # an empty line may be what an exchange waits for

    # -- the model's thread --------------------------------------------------------------------------------------------
    def _work(self) -> None:
        while (work := self._next()) is not None:
            work()
            del work  # or it would hold the pictures of a batch until the next one comes
        for slot in self._line:
            slot.fail(Problem(503, found="a server that ends", do="ask again later", retry_after_seconds=NOT_READY_SECONDS))

    def _next(self) -> Callable[[], None] | None:
        """What is to be done next, when there is something; None at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._is_closed or self._can_exchange() or (self._line and self._resident))
            if self._is_closed:
                return None
            if self._can_exchange():
                return self._exchange
            return partial(self._answer_batch, self._gathered())

    def _gathered(self) -> list["Slot"]:
        """Who is asked next, and together: the first of the line, and who is like it. Whoever went away without a word is left out.

        With pictures and without are not asked together: not every family takes both in one batch. Nor are two speakers.
        """
        gone = [slot for slot in self._line if slot.is_gone]
        self._pending.difference_update(gone)
        here = [slot for slot in self._line if not slot.is_gone]
        alike = [slot for slot in here if slot.question.company == here[0].question.company]
        taken = alike[: self._most()]
        self._line = deque(slot for slot in here if slot not in taken)
        return taken

    def _joining(self, company: tuple[bool, bool], num_answers: int) -> list["Slot"]:
        """Who comes to so many that are answered or read: the next of the line, if they are like them, unless another model comes."""
        places, taken = self._most() + MAX_AHEAD - num_answers, list[Slot]()
        with self._changed:
            if self._is_closed or self._can_exchange():
                return taken
            while self._line and len(taken) < places and self._line[0].question.company == company:
                taken.append(self._line.popleft())
            gone = [slot for slot in taken if slot.is_gone]
            self._pending.difference_update(gone)
        return [slot for slot in taken if not slot.is_gone]

    def _most(self) -> int:
        """Answers that are written at a time."""
        return min(MAX_BATCH, self._present().max_batch)

    def _present(self) -> Resident:
        if self._resident is None:
            raise RuntimeError("the desk answers, and no model is there")
        return self._resident

    def _can_exchange(self) -> bool:
        if self._coming is None or (self._is_beside and self._beside is None):
            return False
        return self._phase != "draining" or not self._line

    def _exchange(self) -> None:
        """One step towards the model that is coming: at once, or its loading beside the other, or the wait for the end of the line."""
        with self._changed:
            coming, resident = self._coming, self._beside
            is_beside = resident is not None
        if coming is None:
            return
        why: _Why | None = None
        try:
            if resident is None and self._resident is not None and self._phase != "draining":
                resident = coming.onto(self._resident)
                if resident is None:
                    self._make_room(coming)
                    return
            if resident is None:
                with self._changed:
                    self._phase, self._resident = "loading", None
                coming.taken()
                self._give_back()  # as below, and two models may not fit
                with self._loading:  # whoever still loads what nobody wants any more
                    resident = coming.load()
            resident.warm_up()
        except Exception as error:  # the reason stands in /health until something else is to be served
            resident, why = None, _Why.of(error)
        self._settle(coming, resident, why)
        if is_beside or why is not None:
            self._give_back()  # the weights of before, or of what failed: modules refer to each other

    def _make_room(self, coming: Coming) -> None:
        """Load beside the model that answers, or let the line come to its end."""
        fits = coming.fits()
        with self._changed:
            if self._coming is not coming:  # the pointer has moved on meanwhile
                return
            self._is_beside = fits
            self._phase = "ready" if fits else "draining"
        if not fits:
            LOG.info("draining: other weights are to be loaded")
            return
        LOG.info("other weights are loaded beside those that answer")

        threading.Thread(target=self._load_beside, args=(coming,), name="loading", daemon=True).start()

    def _load_beside(self, coming: Coming) -> None:
        """Load while another one answers; where that fails, the line is answered to its end, and it is loaded alone."""
        loaded: Resident | None = None
        with self._loading:
            if self._coming is not coming:  # as above
                return
            try:
                loaded = coming.load()
            except Exception as error:  # perhaps for want of memory: what answers is well
                LOG.warning("other weights could not be loaded beside: %s", _Why.of(error).logged)
            with self._changed:
                is_wanted = self._coming is coming
                if is_wanted and loaded is None:
                    self._coming, self._is_beside = replace(coming, fits=lambda: False), False
                elif is_wanted:
                    self._beside = loaded
                self._changed.notify_all()
            is_dropped, loaded = loaded is None or not is_wanted, None
            if is_dropped:
                self._give_back()

    def _settle(self, coming: Coming, resident: Resident | None, why: "_Why | None") -> None:
        """This one answers from now on, or nobody does."""
        coming.taken()
        with self._changed:
            if self._coming is coming:
                self._coming, self._beside, self._is_beside = None, None, False
            self._resident, self._why = resident, None if why is None else why.told
            self._phase = "ready" if why is None else "failed"
            waiting = [] if why is None else list(self._line)
            for _ in waiting:
                self._line.popleft()
        for slot in waiting:
            self._fail(slot, self._not_ready())
        LOG.log(logging.INFO if why is None else logging.ERROR, "ready" if why is None else f"not ready: {why.logged}")

    def _answer_batch(self, slots: Sequence["Slot"]) -> None:
        self._measured_since = time.perf_counter()
        outcomes = self._answer(self._present(), slots, partial(self._joining, slots[0].question.company) if slots else None)
        with self._changed:
            self._pending -= {slot for slot in self._pending if slot.is_gone or slot.is_over}
        if "answered" in outcomes:
            self._num_broken = 0
        elif "broken" in outcomes and "refused" not in outcomes:
            self._num_broken += 1
        if self._num_broken >= MAX_BROKEN_BATCHES:
            self._num_broken = 0
            self._look_after()

    def _look_after(self) -> None:
        """Let the model answer a question of our own; where that fails, too, it is the device, and nobody is asked any more."""
        try:
            self._present().warm_up()
        except Exception as error:  # a device that failed once fails until its process ends
            why = _Why.of(error)
        else:
            return
        with self._changed:
            if self._coming is None:
                self._resident, self._why, self._phase = None, why.told, "failed"
            waiting = list(self._line) if self._coming is None else []
            for _ in waiting:
                self._line.popleft()
        for slot in waiting:
            self._fail(slot, self._not_ready())
        LOG.error("not ready: %d batches in a row failed, and so does a question of our own: %s", MAX_BROKEN_BATCHES, why.logged)
        self._give_back()

    def _answer(
        self, resident: Resident, slots: Sequence["Slot"], joining: Callable[[int], Sequence["Slot"]] | None = None
    ) -> set["Outcome"]:
        """Ask together, and who joins meanwhile; where that fails, in halves, until the one that it fails at is alone.

        Nobody joins while somebody who could not waits to be asked again. Returns what became of whoever was asked.
        """
        asked = _Asked()

        def next_ones(num_answers: int) -> Sequence["Slot"]:
            return begun(joining(num_answers)) if joining is not None and not asked.is_anybody_put_off else ()

        def begun(some: Sequence["Slot"]) -> Sequence["Slot"]:
            for slot in some:
                slot.begin(resident, self._free)
            asked.add(some)
            return some

        if not slots:
            return set()
        try:
            resident.tell(begun(slots), next_ones, self._most())
        except Exception as error:  # of whatever kind: whoever asked gets it, and the next batch is asked
            left = self._left_by(error, asked.left())
        else:
            left = [slot for slot in asked.left() if slot.is_put_off]
        halves = [self._answer(resident, half) for half in (left[: len(left) // 2], left[len(left) // 2 :])]
        with self._changed:
            self._pending.difference_update(asked.left())
        return asked.outcomes().union(*halves)

    def _left_by(self, error: Exception, left: Sequence["Slot"]) -> list["Slot"]:
        """Who can be asked again after an error; the others are told of it: what was told of an answer cannot be told again."""
        alone = [slot for slot in left if slot.has_heard or len(left) == 1]
        for slot in alone:
            self._fail(slot, error)
        again = [slot for slot in left if slot not in alone]
        if again:
            LOG.warning("a batch failed, and is asked again in halves: %s", place(error))
        return again

    def _fail(self, slot: "Slot", error: Exception) -> None:
        self._free(slot)
        slot.fail(error)

    def _free(self, slot: "Slot") -> None:
        """It has its answer, or will have none."""
        with self._changed:
            self._pending.discard(slot)
        now = time.perf_counter()
        self._num_measured += 1
        share = max(MEASURED_SHARE, 1 / self._num_measured)
        self._seconds_per_answer += share * (now - self._measured_since - self._seconds_per_answer)
        self._measured_since = now


class _Asked:
    """Whoever was asked in one batch: held until the answer has ended, since others may join for hours."""

    def __init__(self) -> None:
        self._slots, self._outcomes = list["Slot"](), set["Outcome"]()

    def add(self, some: Sequence["Slot"]) -> None:
        """These are asked, too."""
        if some:
            self._settle()
            self._slots += some

    @property
    def is_anybody_put_off(self) -> bool:
        """Whether somebody waits to be asked again, alone."""
        return any(slot.is_put_off and not slot.is_gone for slot in self._slots)

    def left(self) -> list["Slot"]:
        """Who waits and has no whole answer."""
        self._settle()
        return list(self._slots)

    def outcomes(self) -> set["Outcome"]:
        """What became of those who are no longer held."""
        self._settle()
        return self._outcomes

    def _settle(self) -> None:
        self._outcomes |= {slot.outcome for slot in self._slots if slot.outcome is not None}
        self._slots = [slot for slot in self._slots if not slot.is_over and not slot.is_gone]


class Slot:
    """One question at the desk: a ``Listener`` of the model's thread, and news for the task that asked."""

    def __init__(self, question: Question, *, is_streamed: bool) -> None:
        self._question: Question | None = question
        self.num_bytes = sum(map(len, question.pictures))
        self.is_gone = self.is_over = self.has_heard = self.is_put_off = False
        self.is_streamed = is_streamed
        self.outcome: Outcome | None = None  # None: nobody waited for one
        self.resident: Resident | None = None
        self.news = asyncio.Queue[str | Prediction | Exception]()
        self._loop = asyncio.get_running_loop()
        self._free: Callable[[Slot], None] = lambda _: None

    @property
    def question(self) -> Question:
        """What was asked; raises ValueError once it is over: pictures are not kept for longer."""
        if self._question is None:
            raise ValueError("it is over: what was asked is no longer there")
        return self._question

    def begin(self, resident: Resident, free: Callable[["Slot"], None]) -> None:
        """This one is about to answer."""
        self.resident, self._free, self.is_put_off = resident, free, False

    def hear(self, piece: str) -> None:
        """A piece of the answer."""
        if self.is_streamed:
            self.has_heard = True
            self._send(piece)

    def end(self, said: Prediction) -> None:
        """The whole answer."""
        self.is_over, self.outcome, self._question = True, "answered", None
        self._free(self)
        self._send(said)

    def fail(self, error: Exception) -> None:
        """There will be no answer."""
        self.is_over, self._question = True, None
        self.outcome = "refused" if isinstance(error, OWN_FAULTS) else "broken"
        self._send(error)

    def put_off(self, error: Exception) -> None:
        """It could not join those who are being answered: its own fault is told at once; else it is asked again, alone."""
        if isinstance(error, OWN_FAULTS):
            self._free(self)
            self.fail(error)
        else:
            LOG.warning("a question could not join the others, and is asked alone: %s", place(error))
            self.is_put_off = True

    def _send(self, item: str | Prediction | Exception) -> None:
        try:
            self._loop.call_soon_threadsafe(self.news.put_nowait, item)
        except RuntimeError:  # the loop has ended, and with it whoever asked
            self.is_gone = True


class Pieces(AsyncIterator[str]):
    """An answer as it is written; what it was in the end is known when it has ended."""

    def __init__(self, slot: Slot, leave: Callable[[Slot], None], answer_seconds: float) -> None:
        self._slot, self._leave, self._answer_seconds = slot, leave, answer_seconds
        self._deadline = asyncio.get_running_loop().time() + answer_seconds
        self._prediction: Prediction | None = None

    async def __aenter__(self) -> "Pieces":
        return self

    async def __aexit__(self, *_: object) -> None:
        self._leave(self._slot)

    def __del__(self) -> None:
        self._slot.is_gone = True  # of whoever forgot ``async with``

    @property
    def resident(self) -> Resident:
        """Who answers; raises ValueError before the first piece."""
        if self._slot.resident is None:
            raise ValueError("nobody answers yet: take the pieces first")
        return self._slot.resident

    @property
    def prediction(self) -> Prediction:
        """The whole answer; raises ValueError before its last piece."""
        if self._prediction is None:
            raise ValueError("the answer has not ended: take all its pieces first")
        return self._prediction

    async def __anext__(self) -> str:
        if self._prediction is not None:
            raise StopAsyncIteration
        try:
            async with asyncio.timeout_at(self._deadline):
                news = await self._slot.news.get()
        except TimeoutError as error:
            self._leave(self._slot)
            do = "ask for a shorter answer, or when fewer ask"
            raise Problem(504, found=f"no whole answer within {self._answer_seconds:g} seconds", do=do) from error
        if isinstance(news, UnreadableImage):
            raise undecodable(news) from news
        if isinstance(news, Exception):
            raise news
        if isinstance(news, Prediction):
            self._prediction = news
            raise StopAsyncIteration
        return news


class _Why(NamedTuple):
    """Why nothing answers, in words alone."""

    told: str
    """Whoever may ask need not know this machine's folders."""
    logged: str

    @classmethod
    def of(cls, error: Exception) -> "_Why":
        """The words of an error; its kind, where it is none of ours."""
        if not isinstance(error, MedVLError):
            return cls(type(error).__name__, type(error).__name__)
        return cls(f"{error.found}: {error.do}", f"{error.found} ({error.where}): {error.do}")
