"""Heavy steps behind Dagster Pipes: one process, watched, its progress in the run while it runs.

In: the steps of one heavy process. Out: their artifacts, read from disk: a process that ended well and wrote nothing has failed. How the
process is started, stopped and tied to its parent stands in ``medvl_lib.launch``. See https://docs.dagster.io/guides/build/external-pipelines.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import dagster as dg

from medvl_assets.keys import HERE, Keys
from medvl_assets.under_way import Progress, tried_again
from medvl_lib.errors import HeavyStepFailed, MedVLError, Unreachable
from medvl_lib.hardware import Profile
from medvl_lib.launch import left_off, run_process
from medvl_lib.launcher import Launcher
from medvl_lib.lines import Line
from medvl_lib.on_kubernetes import run_pod
from medvl_lib.on_ray import run_job
from medvl_lib.provenance import Artifact, judge
from medvl_lib.request import Request, write_request
from medvl_lib.step import Step, reuse_step
from medvl_lib.workspace import Workspace


def run_heavy(
    context: dg.AssetExecutionContext, workspace: Workspace, steps: Sequence[Step], line: Line, profile: Profile, keys: Keys = HERE
) -> Iterator[tuple[Step, Artifact]]:
    """Every step's artifact: reused where all of them stand there whole, else written by one heavy process.

    What may pass by itself (a killed process, a hub that broke off) is tried again, and goes on where it was; nothing else is.
    """
    found = reused(workspace, steps)
    if found is None:
        with tried_again(context):
            launch(context, workspace, steps, line, profile, keys)
        found = reused(workspace, steps)
    if found is None:
        missing = ", ".join(step.key for step in steps)
        raise HeavyStepFailed(
            found="the process ended without an error and without its directories", where=missing, do="read the run's compute logs"
        )
    yield from zip(steps, found, strict=True)


def reused(workspace: Workspace, steps: Sequence[Step]) -> list[Artifact] | None:
    """The steps' directories where every one of them is complete, judged again so that the next may read it; None otherwise."""
    found: list[Artifact] = []
    for step in steps:
        artifact = reuse_step(workspace, step)
        if artifact is None:
            return None
        judge(workspace, artifact, step.rules)
        found.append(artifact)
    return found


def launch(
    context: dg.AssetExecutionContext, workspace: Workspace, steps: Sequence[Step], line: Line, profile: Profile, keys: Keys
) -> None:
    """Start the heavy process and pass on what it reports; raises its own error when it refused."""
    path = workspace.request(steps[0].name, line.name, context.run_id)
    write_request(path, Request(
        steps=tuple(step.name for step in steps), line=line, profile=profile, root=str(workspace.root), run_id=workspace.run_id,
    ))  # fmt: skip
    said, failed = Said(Progress(context, dg.AssetKey(keys.of(line.name, steps[-1].name)))), None
    injector, reader = channels(path, profile.launcher)
    with dg.open_pipes_session(context=context, context_injector=injector, message_reader=reader) as session:
        try:
            starter(profile.launcher)(
                path, session.get_bootstrap_env_vars(), poll=lambda: said.hear(session.get_custom_messages()),
                grace_seconds=profile.grace_seconds,
            )  # fmt: skip
        except HeavyStepFailed as error:
            failed = error
        except BaseException:  # the run was cancelled, and the process has ended: say what is left of its work
            if (left := left_off(workspace, [step.name for step in steps], line.name)) is not None:
                context.log.warning(left)
            raise
    said.hear(session.get_custom_messages())  # the session is closed: now everything that was said has been read
    if said.refusal is not None:
        raise (Unreachable if said.is_passing else MedVLError)(**said.refusal) from None  # the process's end says no more
    if failed is not None:
        raise failed
    if not said.is_done:
        raise HeavyStepFailed(
            found="the heavy process reported nothing", where=str(path), do="read the run's compute logs, and start the request by hand"
        )


class Starter(Protocol):
    """Starts the process of a request and waits for it: ``launch.run_process``, or what does the same on a cluster."""

    def __call__(self, request: Path, environment: Mapping[str, str], *, poll: Callable[[], None], grace_seconds: float) -> None:
        """Raises HeavyStepFailed where it ended badly."""
        ...


def starter(launcher: Launcher) -> Starter:
    """Who starts heavy processes, by the profile."""
    if launcher.kind == "ray":
        return partial(run_job, launcher=launcher)
    if launcher.kind == "kubernetes":
        return partial(run_pod, launcher=launcher)
    return run_process


def channels(request: Path, launcher: Launcher) -> tuple[dg.PipesContextInjector, dg.PipesMessageReader]:
    """How a process is told its context and tells its progress: by files of this machine, or of the data root where it runs on another."""
    if launcher.kind == "local":
        return dg.PipesTempFileContextInjector(), dg.PipesTempFileMessageReader()
    context, messages = (request.with_suffix(f".{what}") for what in ("context", "messages"))
    messages.unlink(missing_ok=True)
    return dg.PipesFileContextInjector(str(context)), dg.PipesFileMessageReader(str(messages))


class Said:
    """What a heavy process has said so far."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._num_heard = 0
        self.refusal: dict[str, str] | None = None
        self.is_passing = False
        self.is_done = False

    def hear(self, messages: Sequence[Any]) -> None:
        """Pass on the messages that came since the last call."""
        for message in messages[self._num_heard :]:
            if "refused" in message:
                self.refusal, self.is_passing = message["refused"], message["is_passing"]
            elif "done" in message:
                self.is_done = True
            else:
                self._progress.tell(message)
        self._num_heard = len(messages)
