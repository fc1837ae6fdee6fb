"""On Ray: a heavy step as a job of an existing cluster, and the parts of a step as its tasks.

In: a request file that every node can read: all of them mount the data root and have this version of MedVL. Out: what ``launch`` gives
here: an end, or an error in three parts. A node that dies takes its tasks along, and Ray starts these again elsewhere; a part that was
finished is a directory by then. Ray is an optional extra, and imported inside functions. Its own job client is used and not dagster-ray's,
which reads messages from the end of a log and waits without being asked: progress, and a cancelled run, would have to wait too.
"""

import os
import re
import shlex
import time
import uuid
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from medvl_lib.errors import HeavyStepFailed, Killed, MedVLError, Unreachable
from medvl_lib.hardware import process_environment
from medvl_lib.launcher import Launcher
from medvl_lib.parts import Part
from medvl_lib.progress import Report
from medvl_lib.request import REQUEST, Request
from medvl_lib.route.line import line_steps
from medvl_lib.step import Hands, Parts, do_part
from medvl_lib.workspace import Workspace

MOST_LOST = 8  # nodes that a part may lose before it is given up
LOG_CHARACTERS = 2000
PATIENCE_SECONDS = 300.0  # a head that is started again, or a network that breaks off, is back by then; a training lasts for days
NOT_YET = re.compile(r"status code 5\d\d")  # a head is there before the helper that takes jobs, and waits ten seconds for it by itself
DRIVER = "MEDVL_RAY_DRIVER"  # in a process that holds what its launcher asks for: it was submitted as a job


def run_job(
    request: Path, environment: Mapping[str, str], launcher: Launcher, *, poll: Callable[[], None], poll_seconds: float = 1.0,
    grace_seconds: float = 20.0, patience_seconds: float = PATIENCE_SECONDS,
) -> None:  # fmt: skip
    """Submit the heavy process of a request to the cluster and wait for it, calling ``poll`` meanwhile.

    Whatever interrupts the wait stops the job: Ray asks it to end, and kills it a little later. Raises Killed where it was lost with its
    node, Unreachable where the cluster does not answer, HeavyStepFailed with the exit status or where the cluster refuses the job.
    """
    client, job = _client(launcher), f"medvl-{uuid.uuid4().hex[:12]}"
    try:
        _submit(
            client, job, launcher, poll, poll_seconds, patience_seconds,
            entrypoint=shlex.join(["python", "-m", "medvl_lib.launch", str(request)]), entrypoint_num_cpus=launcher.num_cpus,
            entrypoint_num_gpus=launcher.num_gpus, entrypoint_resources=dict(launcher.resources) or None,
            runtime_env={"env_vars": {**environment, DRIVER: "1", "RAY_JOB_STOP_WAIT_TIME_S": str(round(grace_seconds))}},
        )  # fmt: skip
        status = _at_its_end(client, job, launcher, poll, poll_seconds, patience_seconds)
        poll()
    except BaseException:
        with suppress(RuntimeError, OSError):  # it has ended meanwhile, or nobody answers: the error that is on its way says more
            client.stop_job(job)
        raise
    if status.value != "SUCCEEDED":
        raise _ended(client, job, request)


def _at_its_end(client: Any, job: str, launcher: Launcher, poll: Callable[[], None], poll_seconds: float, patience_seconds: float) -> Any:
    """The status that a job ended with; raises Unreachable where nobody has answered for longer than patience lasts."""
    answered_at = time.monotonic()
    while True:
        try:
            status = client.get_job_status(job)
        except (RuntimeError, OSError) as error:
            if (silent := time.monotonic() - answered_at) > patience_seconds:
                raise Unreachable(
                    found=f"the cluster has not answered for {silent:.0f} s: {_said(error)}",
                    where=f"Ray job {job} at {launcher.address}",
                    do="see whether its head is up; a training goes on from its newest checkpoint, and waits where the old job still runs",
                ) from error  # fmt: skip
        else:
            answered_at = time.monotonic()
            if status.is_terminal():
                return status
        poll()
        time.sleep(poll_seconds)


def _submit(
    client: Any, job: str, launcher: Launcher, poll: Callable[[], None], poll_seconds: float, patience_seconds: float, **asked: Any
) -> None:
    """Have a job taken, once, asking again while the cluster says that it cannot yet; a job that it has is never handed in twice."""
    began = time.monotonic()
    while True:
        try:
            client.submit_job(submission_id=job, **asked)
        except (RuntimeError, OSError) as error:
            if _has(client, job):  # only the answer was lost
                return
            if isinstance(error, RuntimeError) and not NOT_YET.search(str(error)):
                raise HeavyStepFailed(
                    found=f"the cluster refuses the job: {_said(error)}", where=launcher.address, do="mend the profile's launcher"
                ) from error
            if (waited := time.monotonic() - began) > patience_seconds:
                raise Unreachable(
                    found=f"the cluster did not take the job for {waited:.0f} s: {_said(error)}", where=launcher.address,
                    do="read the logs of its head (dashboard_agent.log); Ray turns 127.0.0.1 into the machine's own address: a head that "
                    "listens on the loopback interface alone takes no job",
                ) from error  # fmt: skip
        else:
            return
        poll()
        time.sleep(poll_seconds)


def _has(client: Any, job: str) -> bool:
    with suppress(RuntimeError, OSError):
        client.get_job_info(job)
        return True
    return False


def _said(error: Exception) -> str:
    """The line of an answer that says what is wrong: the last one, of a traceback."""
    return (str(error).strip().splitlines() or [type(error).__name__])[-1]


def _client(launcher: Launcher) -> Any:
    try:
        from ray.job_submission import JobSubmissionClient
    except ImportError as error:
        raise MedVLError(
            found="launcher.kind = 'ray', and Ray is not installed", where="the profile's launcher", do="pip install 'medvl[ray]'"
        ) from error
    try:
        return JobSubmissionClient(launcher.address)
    except ConnectionError as error:
        raise Unreachable(
            found=f"no Ray cluster answers: {str(error).splitlines()[0]}", where=launcher.address,
            do="start it (`ray start --head`), or mend launcher.address in the settings",
        ) from error  # fmt: skip


def _ended(client: Any, job: str, request: Path) -> HeavyStepFailed:
    info = client.get_job_info(job)
    code = info.driver_exit_code
    kind = HeavyStepFailed if code is not None and code > 0 else Killed
    said = (info.message or "").strip().splitlines()
    return kind(
        found=f"the job ended as {info.status.value.lower()}, exit status {code}: {said[0] if said else 'Ray says nothing'}",
        where=f"Ray job {job} of {request}",
        do=f"read its log (`ray job logs {job}`), which ends: ...{client.get_job_logs(job)[-LOG_CHARACTERS:]}",
    )


def workers(request: Request) -> Hands:
    """The cluster's workers, who do the parts of a step of this request; this process is one of its drivers."""
    launcher, text = request.profile.launcher, REQUEST.dump_json(request).decode()

    def done(parts: Parts, report: Report) -> None:
        import ray

        if not ray.is_initialized():
            ray.init(address="auto", log_to_driver=False)
        require_room(ray.cluster_resources(), launcher, is_driver=DRIVER in os.environ)
        one: Any = ray.remote(
            num_cpus=launcher.num_cpus, num_gpus=launcher.num_gpus, resources=dict(launcher.resources) or None, max_retries=MOST_LOST,
            max_calls=1,  # the device's memory goes with the process
        )(_one)  # fmt: skip
        waiting = [one.remote(text, parts.step, parts.fingerprint, part) for part in parts.left]
        while waiting:
            ready, waiting = ray.wait(waiting, num_returns=1)
            _got(ray.get, ready[0])
            report({"num_parts_done": len(parts.left) - len(waiting), "num_parts": len(parts.left)})

    return done


def require_room(resources: Mapping[str, float], launcher: Launcher, *, is_driver: bool) -> None:
    """Refuse parts that would wait for ever for what their own driver holds; ``resources`` are the whole cluster's."""
    for name, asked in {"CPU": launcher.num_cpus, "GPU": launcher.num_gpus, **launcher.resources}.items():
        held, there = asked if is_driver else 0.0, resources.get(name, 0.0)
        if asked > there - held:
            raise MedVLError(
                found=f"{name}: a part needs {asked:g}, and of {there:g} in the cluster this job itself holds {held:g}",
                where=launcher.address, do="num_shards = 1 in the profile's launcher, or add a node to the cluster",
            )  # fmt: skip


def _got(get: Callable[[Any], object], task: Any) -> None:
    """What a task ended with; raises its own error in three parts where it had one."""
    import ray

    try:
        get(task)
    except ray.exceptions.RayTaskError as error:
        cause = error.cause
        raise (cause if isinstance(cause, MedVLError) else error) from None
    except ray.exceptions.RayError as error:
        raise Killed(
            found=f"a part was lost {MOST_LOST + 1} times: {str(error).splitlines()[0]}", where="the Ray cluster",
            do="see whether its nodes have the memory; the parts that were finished are kept",
        ) from error  # fmt: skip


def _one(request: str, step: str, fingerprint: str, part: Part) -> str:
    """Do one part, in a worker of the cluster."""
    asked = REQUEST.validate_json(request)
    for name, value in process_environment(asked.profile).items():
        os.environ.setdefault(name, value)
    steps = {found.name: found for found in line_steps(asked.line, asked.profile)}
    do_part(Workspace(root=Path(asked.root), run_id=asked.run_id), steps[step], part, fingerprint)
    return part.name
