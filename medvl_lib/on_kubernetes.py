"""On Kubernetes: a heavy step as a pod of an existing cluster. Written after its documentation, the manifest validated; never run.

In: a request file below the data root, which a volume brings to the same path in the pod. Out: what ``launch`` gives here: an end, or an
error in three parts. A pod is never started again by the cluster: a step that may pass by itself is tried again by the graph, and goes on
from its checkpoint. The client is an optional extra, and imported inside functions.
"""

import logging
import time
import uuid
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from medvl_lib.errors import HeavyStepFailed, Killed, MedVLError, Unreachable
from medvl_lib.launcher import Launcher
from medvl_lib.request import REQUEST

SHARED_MEMORY = "medvl-shared-memory"
ENDED = {"Succeeded", "Failed"}
NOT_FOUND = 404
KILLED = 137  # exit status of a container that was ended by signal 9
NEVER = {"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "CreateContainerConfigError"}  # waiting for what does not come
PATIENCE_SECONDS = 300.0  # for an API server that does not answer, and until a pod that has no node is told
LOST = {"Evicted", "NodeLost", "NodeShutdown", "Preempting", "Shutdown", "Terminated"}


def pod(
    request: Path, environment: Mapping[str, str], launcher: Launcher, *, root: Path, name: str, grace_seconds: float
) -> dict[str, Any]:
    """The manifest: one container, the data root at its own path, and as much shared memory as batches of worker processes need."""
    asked = {"cpu": f"{launcher.num_cpus:g}", **({"nvidia.com/gpu": f"{launcher.num_gpus:g}"} if launcher.num_gpus else {})}
    return {
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "labels": {"app.kubernetes.io/name": "medvl", "app.kubernetes.io/component": "heavy-step"}},
        "spec": {
            "restartPolicy": "Never", "terminationGracePeriodSeconds": round(grace_seconds),
            "containers": [{
                "name": "heavy-step", "image": launcher.image, "command": ["python", "-m", "medvl_lib.launch", str(request)],
                "env": [{"name": key, "value": value} for key, value in environment.items()],
                "resources": {"requests": {"cpu": asked["cpu"]}, "limits": {key: value for key, value in asked.items() if key != "cpu"}},
                "volumeMounts": [{"name": "data", "mountPath": str(root)}, {"name": SHARED_MEMORY, "mountPath": "/dev/shm"}],  # noqa: S108
            }],
            "volumes": [
                {"name": "data", "persistentVolumeClaim": {"claimName": launcher.claim}},
                {"name": SHARED_MEMORY, "emptyDir": {"medium": "Memory"}},
            ],
        },
    }  # fmt: skip


def run_pod(
    request: Path, environment: Mapping[str, str], launcher: Launcher, *, poll: Callable[[], None], poll_seconds: float = 5.0,
    grace_seconds: float = 20.0, patience_seconds: float = PATIENCE_SECONDS,
) -> None:  # fmt: skip
    """Create the pod of a request and wait for it, calling ``poll`` meanwhile; it is deleted whatever happens.

    Raises Killed where it was lost or killed, Unreachable where the cluster does not answer, HeavyStepFailed with its container's exit
    status, or with why it can never start.
    """
    client, name = _client(launcher), f"medvl-{uuid.uuid4().hex[:12]}"
    root = Path(REQUEST.validate_json(request.read_bytes()).root)
    where = f"pod {launcher.namespace}/{name} of {request}"
    try:
        client.create_namespaced_pod(
            launcher.namespace, pod(request, environment, launcher, root=root, name=name, grace_seconds=grace_seconds)
        )  # fmt: skip
    except Exception as error:
        if getattr(error, "status", None) == NOT_FOUND:
            raise MedVLError(
                found=f"no namespace {launcher.namespace}", where=where, do="create it, or mend launcher.namespace in the settings"
            ) from error
        raise _of_the_cluster(error, where) from error
    try:
        found = _at_its_end(lambda: client.read_namespaced_pod(name, launcher.namespace), where, poll, poll_seconds, patience_seconds)
        poll()
    finally:
        with suppress(Exception):  # it is gone, or the cluster does not answer: the error that is on its way says more
            client.delete_namespaced_pod(name, launcher.namespace, grace_period_seconds=round(grace_seconds))
    if found.status.phase == "Failed":
        raise _failed(found, where)


def _at_its_end(read: Callable[[], Any], where: str, poll: Callable[[], None], poll_seconds: float, patience_seconds: float) -> Any:
    """The pod when it has ended; raises what can be said of one that never will."""
    started = answered_at = time.monotonic()
    is_told = False
    while True:
        try:
            found = read()
        except Exception as error:
            said = _of_the_cluster(error, where)
            if not isinstance(said, Unreachable) or time.monotonic() - answered_at > patience_seconds:
                raise said from error
        else:
            answered_at = time.monotonic()
            if found.status.phase in ENDED:
                return found
            _require_startable(found, where)
            if not is_told and answered_at - started > patience_seconds and (reason := _without_a_node(found)):
                is_told = True
                logging.getLogger(__name__).warning("%s has no node yet: %s", where, reason)
        poll()
        time.sleep(poll_seconds)


def _of_the_cluster(error: Exception, where: str) -> Exception:
    """What an error of the client means: a pod that is gone was killed, and an answer that does not come may come later."""
    if getattr(error, "status", None) == NOT_FOUND:
        return Killed(found="the pod is gone", where=where, do="see who deleted it; a training goes on from its newest checkpoint")
    if isinstance(error, OSError) or type(error).__module__.split(".")[0] in {"kubernetes", "urllib3"}:
        return Unreachable(
            found=f"the cluster does not answer: {(str(error).splitlines() or [type(error).__name__])[0]}", where=where,
            do="see that its API server can be reached, and what this account may do there (`kubectl auth can-i create pods`)",
        )  # fmt: skip
    return error


def _require_startable(found: Any, where: str) -> None:
    """Refuse to wait for a container that waits for an image, or for a configuration, that is not there."""
    for status in found.status.container_statuses or ():
        if (waiting := status.state.waiting) is not None and waiting.reason in NEVER:
            raise HeavyStepFailed(
                found=f"the pod cannot start, {waiting.reason}: {waiting.message or 'no reason given'}", where=where,
                do="mend launcher.image (or claim) in the settings, or what the cluster needs to pull it",
            )  # fmt: skip


def _without_a_node(found: Any) -> str:
    """Why no node was found for a pod; empty where one was."""
    ends = [one for one in found.status.conditions or () if one.type == "PodScheduled" and one.status == "False"]
    return f"{ends[0].reason}: {ends[0].message}" if ends else ""


def _client(launcher: Launcher) -> Any:
    try:
        from kubernetes import client, config
    except ImportError as error:
        raise MedVLError(
            found="launcher.kind = 'kubernetes', and its client is not installed", where="the profile's launcher",
            do="pip install 'medvl[kubernetes]'",
        ) from error  # fmt: skip
    config.load_kube_config(context=launcher.address or None)
    return client.CoreV1Api()


def _failed(found: Any, where: str) -> HeavyStepFailed:
    ends = [status.state.terminated for status in found.status.container_statuses or () if status.state.terminated]
    code = ends[0].exit_code if ends else None
    kind = Killed if code is None or code == KILLED or found.status.reason in LOST else HeavyStepFailed
    return kind(
        found=f"the pod failed, exit status {code}: {found.status.reason or (ends[0].reason if ends else 'no reason given')}",
        where=where,
        do="read the pod's events and log, if the cluster keeps them; a training resumes from its newest checkpoint",
    )
