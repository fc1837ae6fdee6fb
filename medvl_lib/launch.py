"""Run a heavy step as its own process, and be that process.

In: a request file (which line, which step, on which profile, in which workspace). Out: the step's directory, or an error in three parts.
``python -m medvl_lib.launch <request.json>`` starts a heavy step by hand, from Dagster Pipes, or on a cluster: the same entry point.
Dagster itself is not imported; ``dagster_pipes`` is, in the child alone, to report progress to whoever opened the session.

The child dies with its parent (it holds the reading end of a pipe whose writing end only the parent has), is its own process group, and
holds the device by a file lock that the kernel drops when it dies.
"""

import math
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from medvl_lib.data_root import require_fit
from medvl_lib.errors import HeavyStepFailed, Killed, MedVLError
from medvl_lib.hardware import Profile, process_environment
from medvl_lib.progress import Report, silent
from medvl_lib.provenance import Artifact, judge
from medvl_lib.ranks import Ranks, die_with_starter, ranks_here
from medvl_lib.request import REQUEST, Request
from medvl_lib.route.line import line_steps
from medvl_lib.step import Call, Hands, Step, one_after_the_other, run_step, walk_along
from medvl_lib.training.checkpoints import is_complete, step_of
from medvl_lib.training.steps import STEPS_WHILE_RUNNING
from medvl_lib.workspace import Workspace

PARENT_PIPE = "MEDVL_PARENT_PIPE"  # file descriptor that reads end-of-file when the parent is gone
FAILED = 1  # exit status where one of several processes ended badly
REFUSED = 2  # exit status of a step that said what is wrong and how to mend it
GRACE_SECONDS = 20.0  # from SIGTERM to SIGKILL, where no profile says otherwise


def run_process(
    request: Path, environment: Mapping[str, str], *, poll: Callable[[], None], poll_seconds: float = 1.0,
    grace_seconds: float = GRACE_SECONDS,
) -> None:  # fmt: skip
    """Start the heavy process of a request and wait for it, calling ``poll`` meanwhile.

    Whatever interrupts the wait (a cancelled run, Ctrl-C) stops the whole process group: SIGTERM, then SIGKILL after the grace time.
    Raises Killed with the signal, or HeavyStepFailed with the exit status.
    """
    reading, writing = os.pipe()
    try:
        process = subprocess.Popen(  # noqa: S603 (our own interpreter and module)
            [sys.executable, "-m", "medvl_lib.launch", str(request)],
            env={**os.environ, **environment, PARENT_PIPE: str(reading)}, pass_fds=(reading,), start_new_session=True,
        )  # fmt: skip
        os.close(reading)
        try:
            while True:
                with suppress(subprocess.TimeoutExpired):
                    process.wait(poll_seconds)
                    break
                poll()
            poll()
        except BaseException:
            stop_group(process, grace_seconds)
            raise
    finally:
        os.close(writing)
    kill_group(process.pid)  # what it may have started, and left behind
    if process.returncode:
        kind = Killed if process.returncode < 0 else HeavyStepFailed
        raise kind(
            found=_ending(process.returncode), where=f"python -m medvl_lib.launch {request}",
            do="read the compute logs above; a killed training run resumes from its newest checkpoint when materialized again",
        )  # fmt: skip


def stop_group(process: subprocess.Popen[bytes], grace_seconds: float = GRACE_SECONDS) -> None:
    """Ask the process group to end, and make it after the grace time; whoever outlives its leader is made to end at once."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    with suppress(subprocess.TimeoutExpired):
        process.wait(grace_seconds)
    kill_group(process.pid)
    process.wait()


def kill_group(leader: int) -> None:
    """End whatever is left of a process group."""
    with suppress(ProcessLookupError, PermissionError):  # nobody is left; macOS says so of a group of zombies with the second
        os.killpg(leader, signal.SIGKILL)


def left_off(workspace: Workspace, steps: Sequence[str], line: str) -> str | None:
    """How far a training of these steps came, and what of it is kept, in words; None where none is under way."""
    journals = [path for step in steps for path in workspace.checkpoints(step, line, "x").parent.glob(f"*/{STEPS_WHILE_RUNNING}")]
    if not journals:
        return None
    journal = max(journals, key=lambda path: path.stat().st_mtime_ns)
    done = journal.read_text(encoding="utf-8").count("\n")
    kept = max((step_of(path) for path in journal.parent.glob("checkpoint-*") if is_complete(path)), default=0)
    lost = max(0, done - kept)
    said = (
        f"the training was stopped after step {done}; its newest checkpoint is of step {kept}"
        if kept
        else f"the training was stopped after step {done}, before its first checkpoint"
    )
    return f"{said}: {lost} steps are lost" + (", and are done again when it goes on" if lost else "; it goes on from there")


def _ending(status: int) -> str:
    if status == -signal.SIGKILL:
        return "the process was killed by signal 9, probably because memory ran out"
    if status < 0:
        return f"the process was ended by signal {-status} ({signal.Signals(-status).name})"
    return f"the process ended with status {status}"


def die_with_parent() -> None:
    """Kill this process when whoever started it is gone; nothing to do when it was started by hand."""
    descriptor = os.environ.pop(PARENT_PIPE, None)
    if descriptor is None:
        return

    def watch() -> None:
        os.read(int(descriptor), 1)  # nobody writes: this returns when the last writing end is closed
        if os.getpgrp() == os.getpid():
            os.killpg(os.getpid(), signal.SIGKILL)  # and whatever this process has started
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, daemon=True, name="die-with-parent").start()


@contextmanager
def holding_device(workspace: Workspace, profile: Profile, report: Report) -> Generator[None, None, None]:
    """Hold the device, saying so when another process has it; of several ranks the first one holds it for all."""
    if not ranks_here().leads or profile.launcher.kind != "local":  # a cluster gives devices out itself
        yield
        return
    path = workspace.device_lock(profile.device)
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path, mode=0o666)  # another user's process must be able to wait for it too
    try:
        lock.acquire(timeout=0)
    except Timeout:
        report({"waiting_for": str(path)})
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def perform(request: Request, report: Report) -> tuple[Artifact, ...]:
    """Do what is asked, in this process: every step in order, each judged before the next reads it."""
    workspace = Workspace(root=Path(request.root), run_id=request.run_id)
    if ranks_here().leads:
        require_fit(workspace.root)
    steps, ranks = {step.name: step for step in line_steps(request.line, request.profile)}, ranks_here()
    if not ranks.leads:
        for name in request.steps:
            if ranks.hear(name) == "together":
                with tempfile.TemporaryDirectory() as nowhere:
                    walk_along(workspace, steps[name], Path(nowhere))
        return ()
    done: list[Artifact] = []
    with holding_device(workspace, request.profile, report):
        for name in request.steps:
            artifact = run_step(workspace, _announced(steps[name], ranks), report, hands_of(request))
            ranks.tell(name, "alone")  # where it stood there already: nobody waits for it
            judge(workspace, artifact, steps[name].rules)
            shutil.rmtree(workspace.checkpoints(name, artifact.name, artifact.fingerprint), ignore_errors=True)  # no longer needed
            done.append(artifact)
    return tuple(done)


def hands_of(request: Request) -> Hands:
    """Who does the parts of a step that has any: the workers of a Ray cluster, or this process, one after the other."""
    if request.profile.launcher.kind != "ray":
        return one_after_the_other
    from medvl_lib.on_ray import workers

    return workers(request)


def _announced(step: Step, ranks: Ranks) -> Step:
    """The step, which tells the others how it is done when its inputs are there and it is really written."""

    def write(call: Call) -> Mapping[str, Any]:
        ranks.tell(step.name, "together" if step.is_walked_together else "alone")
        return step.write(call)

    return replace(step, write=write)


def main() -> int:
    """The entry point of every heavy process: of one that works alone, of the agent of several, and of each of these."""
    die_with_parent()
    request = REQUEST.validate_json(Path(sys.argv[1]).read_bytes())
    for name, value in process_environment(request.profile).items():
        os.environ.setdefault(name, value)
    if is_agent(request):
        return start_together(sys.argv[1], request.profile)
    if not ranks_here().is_alone:
        die_with_starter()
    return _piped(request)


def is_agent(request: Request) -> bool:
    """Whether this process is to start several that do the request together; each of these finds its rank in the environment."""
    if request.profile.launcher.num_processes == 1 or "RANK" in os.environ:
        return False
    return any(step.is_walked_together for step in line_steps(request.line, request.profile) if step.name in request.steps)


def start_together(request: str, profile: Profile) -> int:
    """Start the processes of a request by torchrun's engine, and wait for them: one that ends badly ends the others."""
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.run import parse_args, run  # pyright: ignore[reportUnknownVariableType]

    number = profile.launcher.num_processes
    os.environ["OMP_NUM_THREADS"] = str(max(1, (profile.num_threads or os.cpu_count() or 1) // number))
    arguments = parse_args([
        "--standalone", "--local-addr", "127.0.0.1", "--nproc-per-node", str(number), "--max-restarts", "0",
        "--virtual-local-rank",  # each process sees its own GPU alone, and calls it the first
        "--shutdown-timeout", str(math.ceil(profile.grace_seconds)), "-m", "medvl_lib.launch", request,
    ])  # fmt: skip
    try:
        run(arguments)
    except ChildFailedError as error:
        sys.stderr.write(f"{error}\n")
        return FAILED
    return 0


def _piped(request: Request) -> int:
    """Do the request, and report to whoever opened a Pipes session; the leader alone speaks."""
    from dagster_pipes import PipesContext, open_dagster_pipes  # pyright: ignore[reportUnknownVariableType]

    if not ranks_here().leads:
        status = _perform(request, silent)
        if status:
            time.sleep(request.profile.grace_seconds)  # the leader fails too, and says why: whoever ends first ends the others
        return status
    if "DAGSTER_PIPES_CONTEXT" not in os.environ:
        return _perform(request, _print)
    with open_dagster_pipes():
        pipes = PipesContext.get()
        return _perform(request, pipes.report_custom_message)


def _print(facts: Mapping[str, Any]) -> None:
    sys.stdout.write(f"{dict(facts)}\n")


def _perform(request: Request, report: Callable[[Mapping[str, Any]], None]) -> int:
    try:
        done = perform(request, report)
    except MedVLError as error:
        report({"refused": {"found": error.found, "where": error.where, "do": error.do}, "is_passing": error.is_passing})
        sys.stderr.write(f"{error}\n")
        return REFUSED
    report({"done": {artifact.key: artifact.fingerprint for artifact in done}})
    return 0


if __name__ == "__main__":
    sys.exit(main())
