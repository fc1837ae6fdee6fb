"""Launchers: where a heavy step's process is started, and how many work on it. A value; nothing here starts anything.

In: the profile's ``launcher``. Out: nothing but its fields. ``launch`` starts processes here and several that train together (torchrun's
engine), ``on_ray`` and ``on_kubernetes`` hand a request to an existing cluster. None of it is identity: where something ran changes no
name.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Kind = Literal["local", "ray", "kubernetes"]
Weights = Literal["copied", "divided"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Launcher:
    """Where heavy steps run, and on how many processes. The same whatever the line, the step and the model."""

    kind: Kind = "local"
    """``local``: a process of this machine. ``ray``, ``kubernetes``: a job of an existing cluster, whose machines mount the data root."""
    num_processes: int = 1
    """Processes that train one model together, each on a GPU of its own: torchrun's engine. The effective batch stays the recipe's."""
    weights: Weights = "copied"
    """What each of several training processes holds of a model that answers: ``copied``: all of its weights; ``divided``: its part of them,
    of their gradients and of the optimizer's state (FSDP2), for a model that is too large to be trained on one GPU. Encoders, which are
    small, are always copied."""
    num_shards: int = 1
    """Parts that the answers of a predictions step are made in: by the processes of one machine in turn, by the workers of a cluster at the
    same time. A part that is there whole is never made again."""
    address: str = ""
    """Ray: its dashboard, ``http://head:8265``. Kubernetes: the context of the kubeconfig; empty: the current one."""
    num_gpus: float = 0.0
    """GPUs that a job or a worker asks its cluster for."""
    num_cpus: float = 1.0
    """Cores that a job or a worker asks its cluster for."""
    resources: Mapping[str, float] = field(default_factory=dict[str, float])
    """Ray: what a node was started with besides, such as ``{ gb10 = 1 }``."""
    image: str = ""
    """Kubernetes: the container image, with this version of MedVL installed."""
    namespace: str = "default"
    """Kubernetes: where the pods stand."""
    claim: str = ""
    """Kubernetes: the volume claim (ReadWriteMany) that is mounted where the data root is here."""

    @property
    def num_parts(self) -> int:
        """Into how many parts weights are divided while they are trained; 1: each process has all of them."""
        return self.num_processes if self.weights == "divided" else 1

    def __post_init__(self) -> None:
        """Refuse what cannot be started."""
        for name in ("num_processes", "num_shards"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} = {getattr(self, name)!r} must be at least 1")
        if self.weights == "divided" and self.num_processes == 1:
            raise ValueError("weights = 'divided' and num_processes = 1: weights are divided between 2 processes or more")
        if self.kind == "ray" and not self.address:
            raise ValueError("kind = 'ray' needs address, such as http://head:8265: where its dashboard answers")
        if self.kind == "kubernetes" and not (self.image and self.claim):
            raise ValueError("kind = 'kubernetes' needs image and claim: what runs, and the volume with the data root")
