"""Waiting for a cluster, which is a stand-in here that answers as its client does: neither Ray nor Kubernetes is installed where these run.
If these passed wrongly, a training of days would be stopped by a network that breaks off for a second, and a pod that can never start would
be waited for in silence.
"""

import logging
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace as Told
from typing import Any

import pytest

from medvl_lib import on_kubernetes, on_ray
from medvl_lib.errors import HeavyStepFailed, Killed, MedVLError, Unreachable
from medvl_lib.hardware import PROFILES
from medvl_lib.launcher import Launcher
from medvl_lib.lines import DOCUMENTS, tiny
from medvl_lib.request import Request, write_request

ON_RAY = Launcher(kind="ray", address="http://head:8265", num_gpus=1)
ON_KUBERNETES = Launcher(kind="kubernetes", image="hospital/medvl:0.1.0", claim="medvl-data", num_gpus=1)
RUNNING, SUCCEEDED = (Told(value=value, is_terminal=lambda value=value: value == "SUCCEEDED") for value in ("RUNNING", "SUCCEEDED"))


class ApiException(Exception):
    """As the client of Kubernetes has it."""

    __module__ = "kubernetes.client.exceptions"

    def __init__(self, status: int) -> None:
        super().__init__(f"({status})")
        self.status = status


class Cluster:
    """Gives the answers that it is told to, the last one for ever."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.stopped: list[str] = []
        self.jobs: list[str] = []
        self.refusals: list[Exception] = []
        self.keeps_what_it_refuses = False

    def answer(self, *_: object) -> Any:
        said = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(said, Exception):
            raise said
        return said

    get_job_status = read_namespaced_pod = answer

    def submit_job(self, *, submission_id: str, **_: object) -> str:
        refusal = self.refusals.pop(0) if self.refusals else None
        if refusal is None or self.keeps_what_it_refuses:
            self.jobs.append(submission_id)
        if refusal is not None:
            raise refusal
        return submission_id

    def get_job_info(self, job: str) -> Told:
        if job not in self.jobs:
            raise RuntimeError(f"Request failed with status code 404: Job {job} does not exist.")
        return Told(submission_id=job)

    def create_namespaced_pod(self, *_: object) -> None:
        pass

    def delete_namespaced_pod(self, name: str, *_: object, **__: object) -> None:
        self.stopped.append(name)

    def stop_job(self, job: str) -> None:
        self.stopped.append(job)
        raise ConnectionError("still nobody")


def run_job(monkeypatch: pytest.MonkeyPatch, cluster: Cluster, patience_seconds: float) -> None:
    monkeypatch.setattr(on_ray, "_client", lambda _: cluster)
    on_ray.run_job(Path("r"), {}, ON_RAY, poll=lambda: None, poll_seconds=0.01, patience_seconds=patience_seconds)


def test_a_cluster_that_is_silent_for_a_moment_is_waited_for(monkeypatch: pytest.MonkeyPatch):
    cluster = Cluster(RUNNING, ConnectionError("refused"), RuntimeError("Request failed with status code 503"), RUNNING, SUCCEEDED)
    run_job(monkeypatch, cluster, patience_seconds=60)
    assert cluster.stopped == []


def test_a_cluster_that_stays_silent_is_unreachable_and_the_job_is_taken_back(monkeypatch: pytest.MonkeyPatch):
    cluster = Cluster(RUNNING, ConnectionError("refused"))
    with pytest.raises(Unreachable, match="has not answered for .*: refused"):
        run_job(monkeypatch, cluster, patience_seconds=0.05)
    assert len(cluster.stopped) == 1  # or tried to


NO_AGENT = "Request failed with status code 500: No available agent to submit job, please try again later.."
LOST = "Request failed with status code 504: ."
REFUSED = """Request failed with status code 400: Traceback (most recent call last):
  File "job_agent.py", line 48
ValueError: num_gpus must be a whole number or below 1."""


def test_a_head_whose_helper_is_not_there_yet_is_asked_again(monkeypatch: pytest.MonkeyPatch):
    cluster = Cluster(SUCCEEDED)
    cluster.refusals = [RuntimeError(NO_AGENT), ConnectionError("refused"), RuntimeError(LOST)]
    run_job(monkeypatch, cluster, patience_seconds=60)
    assert (len(cluster.jobs), cluster.refusals, cluster.stopped) == (1, [], [])


def test_a_job_that_was_taken_although_the_answer_was_lost_is_not_handed_in_twice(monkeypatch: pytest.MonkeyPatch):
    cluster = Cluster(SUCCEEDED)
    cluster.refusals, cluster.keeps_what_it_refuses = [RuntimeError(LOST)], True
    run_job(monkeypatch, cluster, patience_seconds=60)
    assert (len(cluster.jobs), cluster.stopped) == (1, [])


def test_a_job_that_is_never_taken_is_unreachable_and_one_that_is_refused_is_not_tried_again(monkeypatch: pytest.MonkeyPatch):
    cluster = Cluster(SUCCEEDED)
    cluster.refusals = [RuntimeError(NO_AGENT)] * 1000
    with pytest.raises(Unreachable, match="did not take the job for .*: .*No available agent"):
        run_job(monkeypatch, cluster, patience_seconds=0.05)
    assert len(cluster.stopped) == 1  # where it was taken after all
    cluster.refusals = [RuntimeError(REFUSED)]
    with pytest.raises(HeavyStepFailed, match="refuses the job: ValueError: num_gpus must be a whole number") as refused:
        run_job(monkeypatch, cluster, patience_seconds=60)
    assert not refused.value.is_passing
    assert cluster.jobs == []


def test_parts_never_wait_for_what_their_own_driver_holds():
    on_ray.require_room({"CPU": 8, "GPU": 2}, ON_RAY, is_driver=True)
    on_ray.require_room({"CPU": 8, "GPU": 1}, ON_RAY, is_driver=False)
    with pytest.raises(MedVLError, match="GPU: a part needs 1, and of 1 in the cluster this job itself holds 1"):
        on_ray.require_room({"CPU": 8, "GPU": 1}, ON_RAY, is_driver=True)
    with pytest.raises(MedVLError, match="GPU: a part needs 1, and of 0"):
        on_ray.require_room({"CPU": 8}, ON_RAY, is_driver=False)


def pod(phase: str, waiting: Any = None, conditions: Sequence[Any] = ()) -> Told:
    containers = [Told(state=Told(waiting=waiting, terminated=None))] if waiting else None
    return Told(status=Told(phase=phase, container_statuses=containers, conditions=conditions, reason=None))


def run_pod(monkeypatch: pytest.MonkeyPatch, cluster: Cluster, tmp_path: Path, patience_seconds: float = 60.0) -> None:
    monkeypatch.setattr(on_kubernetes, "_client", lambda _: cluster)
    write_request(tmp_path / "r.json", Request(steps=(), line=tiny(DOCUMENTS), profile=PROFILES["cpu"], root=str(tmp_path), run_id=None))
    on_kubernetes.run_pod(
        tmp_path / "r.json", {}, ON_KUBERNETES, poll=lambda: None, poll_seconds=0.01, patience_seconds=patience_seconds
    )  # fmt: skip
    assert len(cluster.stopped) == 1


@pytest.mark.parametrize("reason", ["ErrImagePull", "ImagePullBackOff", "InvalidImageName", "CreateContainerConfigError"])
def test_a_pod_that_can_never_start_is_not_waited_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, reason: str):
    cluster = Cluster(pod("Pending", Told(reason="ContainerCreating", message="")), pod("Pending", Told(reason=reason, message="no such")))
    with pytest.raises(HeavyStepFailed, match=f"cannot start, {reason}: no such"):
        run_pod(monkeypatch, cluster, tmp_path)
    assert len(cluster.stopped) == 1


def test_a_pod_without_a_node_is_told_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture):
    no_node = Told(type="PodScheduled", status="False", reason="Unschedulable", message="0/3 nodes have a GPU")
    waiting = [pod("Pending", conditions=[no_node]) for _ in range(4)]
    with caplog.at_level(logging.WARNING):
        run_pod(monkeypatch, Cluster(*waiting, pod("Succeeded")), tmp_path, patience_seconds=0.0)
    assert caplog.text.count("has no node yet: Unschedulable: 0/3 nodes have a GPU") == 1


def test_a_pod_that_is_gone_was_killed_and_a_silent_server_is_unreachable(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    run_pod(monkeypatch, Cluster(pod("Running"), ApiException(500), pod("Succeeded")), tmp_path)
    with pytest.raises(Killed, match="the pod is gone"):
        run_pod(monkeypatch, Cluster(pod("Running"), ApiException(404)), tmp_path)
    with pytest.raises(Unreachable, match=r"does not answer: \(500\)"):
        run_pod(monkeypatch, Cluster(pod("Running"), ApiException(500)), tmp_path, patience_seconds=0.05)
    with pytest.raises(ZeroDivisionError):  # a mistake of ours is not the cluster's
        run_pod(monkeypatch, Cluster(pod("Running"), ZeroDivisionError()), tmp_path)
