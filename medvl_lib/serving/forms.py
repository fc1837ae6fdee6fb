"""The forms in which one model is asked, each by a process of its own. No torch here: only they load it.

In: what is served, and some conversations. Out: what each form said. ``FORMS`` is the list: an exported model becomes one more entry. What
was said is held against each other in ``evaluation.parity``.
"""

import socket
import time
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing.process import BaseProcess
from typing import Any

import httpx2

from medvl_lib.chat import Conversation
from medvl_lib.errors import HeavyStepFailed, MedVLError
from medvl_lib.evaluation.fresh import Told, context, die_with_parent, each_alone
from medvl_lib.evaluation.parity import Answers, Form, Heard
from medvl_lib.evaluation.predictions import Prediction
from medvl_lib.hardware import Profile
from medvl_lib.images import ImageStore
from medvl_lib.lines import Line
from medvl_lib.prompts import split_answer
from medvl_lib.provenance import Artifact
from medvl_lib.serving.served import ServedModel
from medvl_lib.workspace import Workspace

POLL_SECONDS = 0.1
ANSWER_SECONDS = 1800.0  # of one request: a long answer of a large model on a slow machine
STOP_SECONDS = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What is asked, and of what."""

    model: ServedModel
    base: Artifact
    """The 16-bit weights that an adapter is merged into."""
    line: Line
    profile: Profile
    workspace: Workspace
    groups: Sequence[Sequence[Conversation]]
    """A list for each dataset, in the order in which the evaluation asks them."""


def answers(asked: Question) -> dict[Form, Answers]:
    """What every form says that the model has: without an adapter there is nothing to merge."""
    forms: Iterable[Form] = FORMS
    return {form: FORMS[form](asked) for form in forms if form != "merged" or asked.model.adapter is not None}


def _alone(form: Form, work: Callable[[Question], Answers]) -> Callable[[Question], Answers]:
    """The work, done by a fresh process."""

    def asking(asked: Question) -> Answers:
        told = Told(f"the process that asked {asked.model.variant} as {form}", str(asked.model.weights.directory))
        [said] = each_alone(asked.profile, work, [(told, asked)])
        return said

    return asking


def _reloaded(asked: Question) -> Answers:
    """One pair at a time."""
    return _batched(replace(asked, profile=replace(asked.profile, prediction_batch=1)))


def _batched(asked: Question) -> Answers:
    """As many pairs at a time as in the evaluation."""
    from medvl_lib.serving.resident import load_resident

    resident = load_resident(asked.model, asked.line, asked.profile, ImageStore(asked.workspace.images))
    return _heard(resident.speaker.answers(asked.groups))


def _merged(asked: Question) -> Answers:
    """The adapter added into the 16-bit weights, as many pairs at a time as in the evaluation."""
    from medvl_lib.evaluation.answering import Speaker
    from medvl_lib.models.merging import load_merged

    if asked.model.adapter is None:
        raise TypeError(f"{asked.model.variant} of {asked.line.name} has no adapter that could be merged")
    loaded = load_merged(asked.base.directory, asked.model.adapter.directory, asked.line.model, asked.profile)
    speaker = Speaker(
        variant="merged", condition="as_is", loaded=loaded, evaluation=asked.line.evaluation, profile=asked.profile,
        images=ImageStore(asked.workspace.images),
    )  # fmt: skip
    return _heard(speaker.answers(asked.groups))


def _heard(predictions: Iterable[Prediction]) -> Answers:
    return {row.pair_id: Heard(row.answer, row.batch_size) for row in predictions}


# -- over the wire -----------------------------------------------------------------------------------------------------
def _http(asked: Question) -> Answers:
    """By a server on the loopback interface, which gets every picture as an upload."""
    pictures = ImageStore(asked.workspace.images)
    with _server(asked) as client:
        return {item.pair_id: _posted(client, item, pictures, asked.model) for group in asked.groups for item in group}


@contextmanager
def _server(asked: Question) -> Generator[httpx2.Client, None, None]:
    """A server process that is ready to answer, and a client of it."""
    listening = socket.create_server(("127.0.0.1", 0))
    address = f"http://127.0.0.1:{listening.getsockname()[1]}"
    process = context(asked.profile).Process(target=_serve, args=(asked, listening), name="server")
    process.start()
    listening.close()  # the server has its own
    try:
        with httpx2.Client(base_url=address, timeout=ANSWER_SECONDS, trust_env=False) as client:
            _await_ready(client, process, asked)
            yield client
    finally:
        process.terminate()
        process.join(STOP_SECONDS)
        if process.is_alive():
            process.kill()
            process.join()


def _serve(asked: Question, listening: socket.socket) -> None:
    die_with_parent()
    from medvl_lib.serving.running import Serving, run

    told = Serving(
        model=asked.model, compared="it is being compared with what was judged", line=asked.line, profile=asked.profile,
        workspace=asked.workspace, keys=None,
    )  # fmt: skip
    run(told, listening)


def _await_ready(client: httpx2.Client, process: BaseProcess, asked: Question) -> None:
    while process.is_alive():
        try:
            health: dict[str, Any] = client.get("/health").json()
        except httpx2.TransportError:  # it has the socket, and does not answer on it yet
            health = {"status": "loading"}
        if health["status"] == "ready":
            return
        if health["status"] == "failed":
            break
        time.sleep(POLL_SECONDS)
    else:
        health = {"reason": f"it ended with status {process.exitcode}"}
    raise HeavyStepFailed(
        found=f"the server that was to answer for {asked.model.variant} is not ready: {health['reason']}",
        where=str(asked.model.weights.directory), do="read the compute logs; `medvl serve` starts the same server by hand",
    )  # fmt: skip


def _posted(client: httpx2.Client, conversation: Conversation, pictures: ImageStore, model: ServedModel) -> Heard:
    response = client.post(
        "/analyze", data={"prompt": _prompt(conversation)},
        files=[("image", ("picture", pictures.read(image_id), "application/octet-stream")) for image_id in conversation.image_ids],
    )  # fmt: skip
    said: dict[str, Any] = response.json()
    if response.status_code != 200:
        raise MedVLError(
            found=f"the server answered {response.status_code}: {said['detail']}", where=f"pair {conversation.pair_id}",
            do="what can be evaluated must be servable: mend the limits of medvl_lib/serving/uploads.py, or leave such pairs out",
        )  # fmt: skip
    if said["data_version"] != model.data_version:
        raise MedVLError(
            found=f"an answer of data version {said['data_version']}", where=f"pair {conversation.pair_id}",
            do=f"let the server that listens there serve {model.data_version}",
        )  # fmt: skip
    return Heard(said["text"], said["batch_size"])


def _prompt(conversation: Conversation) -> str:
    """The question of a conversation of one turn."""
    before, _ = split_answer(conversation.messages)
    if len(before) != 1:
        raise MedVLError(
            found=f"{len(before)} messages before the answer", where=f"pair {conversation.pair_id}", do="the server is asked one at a time"
        )
    return "".join(part.get("text", "") for part in before[0]["content"])


FORMS: Mapping[Form, Callable[[Question], Answers]] = {
    "reloaded": _alone("reloaded", _reloaded), "batched": _alone("batched", _batched), "merged": _alone("merged", _merged), "http": _http,
}  # fmt: skip
"""Every form but ``evaluated``, which is read and not asked."""
