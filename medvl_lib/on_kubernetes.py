"""On Kubernetes: a heavy step as a pod of an existing cluster. Written after its documentation, the manifest validated; never run.

In: a request file below the data root, which a volume brings to the same path in the pod. Out: what ``launch`` gives here: an end, or an
error in three parts. A pod is never started again by the cluster: a step that may pass by itself is tried again by the graph, and goes on
from its checkpoint. The client is an optional extra, and imported inside functions.
"""

import time
import uuid
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from medvl_lib.errors import HeavyStepFailed, Killed, MedVLError
from medvl_lib.launcher import Launcher
from medvl_lib.request import REQUEST

SHARED_MEMORY = "medvl-shared-memory"
ENDED = {"Succeeded", "Failed"}
KILLED = 137  # exit status of a container that was ended by signal 9
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
    grace_seconds: float = 20.0,
) -> None:  # fmt: skip
    """Create the pod of a request and wait for it, calling ``poll`` meanwhile; it is deleted whatever happens.

    Raises Killed where it was lost or killed, HeavyStepFailed with its container's exit status.
    """
    client, name = _client(launcher), f"medvl-{uuid.uuid4().hex[:12]}"
    root = Path(REQUEST.validate_json(request.read_bytes()).root)
    client.create_namespaced_pod(
        launcher.namespace, pod(request, environment, launcher, root=root, name=name, grace_seconds=grace_seconds)
    )  # fmt: skip
    try:
        while (found := client.read_namespaced_pod(name, launcher.namespace)).status.phase not in ENDED:
            poll()
            time.sleep(poll_seconds)
        poll()
    finally:
        with suppress(Exception):  # it is gone, or the cluster does not answer: the error that is on its way says more
            client.delete_namespaced_pod(name, launcher.namespace, grace_period_seconds=round(grace_seconds))
    if found.status.phase == "Failed":
        raise _failed(found, f"pod {launcher.namespace}/{name} of {request}")


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
