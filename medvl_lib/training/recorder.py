"""What happens beside the optimizer: every step written down and reported, every checkpoint sealed, a wish to stop heard.

In: what the trainer says of its steps. Out: ``steps.jsonl`` while it runs, checkpoints that count. What is trained does not belong here.
"""

import json
import os
import signal
import threading
import time
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Protocol

from transformers import TrainerCallback

from medvl_lib.errors import HeavyStepFailed
from medvl_lib.files import write_bytes
from medvl_lib.progress import Report
from medvl_lib.training.checkpoints import is_complete, path_of, prune, seal
from medvl_lib.training.steps import STEPS_WHILE_RUNNING, TrainingStep
from medvl_lib.training.together import leads, wait_for_all


@contextmanager
def stopping_at_the_next_step(recorder: "Recorder") -> Generator[None, None, None]:
    """Let SIGTERM and Ctrl-C end training after the step that is going on, with a checkpoint; one longer than the grace time is lost."""

    def stop(*_: object) -> None:
        recorder.is_stopping = True

    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread can listen
        return
    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class Journal:
    """Rows of one kind, a line each: appended while training runs, cut back when it resumes."""

    def __init__(self, path: Path, model: type) -> None:
        self._path = path
        self._model = model

    def rows(self) -> Iterator[Any]:
        """The rows so far; a last line that a kill cut short is not one."""
        if self._path.is_file():
            for line in self._path.read_text(encoding="utf-8").splitlines(keepends=True):
                if line.endswith("\n"):
                    yield self._model(**json.loads(line))

    def append(self, row: Any) -> None:
        """One row more."""
        with self._path.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(asdict(row)) + "\n")

    def forget_after(self, step: int) -> None:
        """Keep the rows up to a step."""
        self._rewrite([row for row in self.rows() if row.step <= step])

    def amend_last(self, changes: Mapping[str, object]) -> None:
        """The last row, if there is one, with other values."""
        rows = list(self.rows())
        if rows:
            rows[-1] = replace(rows[-1], **changes)
            self._rewrite(rows)

    def _rewrite(self, rows: list[Any]) -> None:
        write_bytes(self._path, "".join(json.dumps(asdict(row)) + "\n" for row in rows).encode())

    def sync(self) -> None:
        """The rows are on disk."""
        with self._path.open("rb") as stream:
            os.fsync(stream.fileno())


class Beside(Protocol):
    """What an objective notes of each step beside its loss."""

    file: str
    """Its lines, while training runs."""
    row: type
    """Has a ``step``."""

    def num_tokens(self) -> int:
        """Tokens that this process has trained on so far."""
        ...

    def of_step(self, step: int) -> Any:
        """The row of a step that was just done."""
        ...

    def of_validation(self, logs: Mapping[str, float]) -> Mapping[str, object]:
        """What a validation changes in the row of its step."""
        ...


class Recorder(TrainerCallback):
    """Writes down every step, reports it, and seals every checkpoint."""

    def __init__(self, checkpoints: Path, report: Report, beside: Beside | None = None) -> None:
        self._checkpoints = checkpoints
        self._steps = Journal(checkpoints / STEPS_WHILE_RUNNING, TrainingStep)
        self._beside = beside
        self._noted = None if beside is None else Journal(checkpoints / beside.file, beside.row)
        self._report = report
        self._tokens_before = 0.0
        self._first_step = 1
        self.is_stopping = False
        """Whether training is to end, with a checkpoint, after the step that is going on."""
        self._started = self._step_started = time.perf_counter()

    def resume(self, step: int) -> None:
        """Forget steps after ``step``: they are done again."""
        self._checkpoints.mkdir(parents=True, exist_ok=True)
        for journal in self._journals() if leads() else ():
            journal.forget_after(step)
        self._first_step = step + 1
        self._started = time.perf_counter()

    def _journals(self) -> list[Journal]:
        return [self._steps] if self._noted is None else [self._steps, self._noted]

    def rows(self) -> Iterator[TrainingStep]:
        """The steps so far."""
        return self._steps.rows()

    def noted(self) -> Iterator[Any]:
        """What the objective noted of the steps so far; nothing where it notes nothing."""
        return iter(()) if self._noted is None else self._noted.rows()

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Name the best checkpoint where it lies now: a resumed state has the path of when it was written, and would forget another.

        Raises HeavyStepFailed where it is damaged or gone: at the start, not after a day.
        """
        if state.best_global_step:
            best = path_of(self._checkpoints, state.best_global_step)
            if not is_complete(best):
                raise HeavyStepFailed(
                    found=f"the checkpoint of step {state.best_global_step}, whose held-out loss is the lowest so far, is damaged or gone",
                    where=str(best), do=f"remove {self._checkpoints}, and materialize again: training begins anew",
                )  # fmt: skip
            state.best_model_checkpoint = str(best)

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        """Start the clock of a step."""
        self._step_started = time.perf_counter()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Save wherever the held-out loss is measured, since its best adapter is kept; stop here when that was asked for."""
        control.should_save |= control.should_evaluate
        if self.is_stopping:
            control.should_save = control.should_training_stop = True

    def on_log(self, args: Any, state: Any, control: Any, logs: Mapping[str, float], **_: Any) -> None:
        """Append a step when its loss is logged; put a held-out loss on the step it was measured after."""
        if "eval_loss" in logs:
            self._note_validation(logs)
        if "loss" not in logs or not leads():
            return
        now = time.perf_counter()
        tokens = logs["num_tokens"] if self._beside is None else self._beside.num_tokens()
        num_tokens = int(tokens - self._tokens_before)
        self._tokens_before = tokens
        step = TrainingStep(
            step=state.global_step, epoch=float(state.epoch), loss=logs["loss"], learning_rate=logs["learning_rate"],
            gradient_norm=logs.get("grad_norm"), num_tokens=num_tokens,
            tokens_per_second=num_tokens / max(now - self._step_started, 1e-9), elapsed_seconds=now - self._started,
            validation_loss=None,
        )  # fmt: skip
        self._steps.append(step)
        if self._beside is not None and self._noted is not None:
            self._noted.append(self._beside.of_step(step.step))
        left = (state.max_steps - step.step) * step.elapsed_seconds / (step.step - self._first_step + 1)
        self._report({
            "step": step.step, "num_steps": state.max_steps, "loss": step.loss, "tokens_per_second": step.tokens_per_second,
            "seconds_left": left,
        })  # fmt: skip

    def _note_validation(self, logs: Mapping[str, float]) -> None:
        if not leads():
            return
        self._steps.amend_last({"validation_loss": logs["eval_loss"]})
        if self._beside is not None and self._noted is not None:
            self._noted.amend_last(self._beside.of_validation(logs))

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """A checkpoint counts from now on, the steps before it are on disk, and older ones can go."""
        wait_for_all()  # each process has written its part
        if not leads():
            return
        for journal in self._journals():
            journal.sync()
        seal(path_of(self._checkpoints, state.global_step))
        prune(self._checkpoints)
