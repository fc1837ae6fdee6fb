"""What assets are called: datasets by their own names, a line's assets with the machine before them where there are several.

In: ``[machine]`` of the settings. Out: ``Keys``. On the disk nothing has a machine's name: what one of them wrote is the other one's too.
See https://docs.dagster.io/deployment/code-locations.
"""

from dataclasses import dataclass

from medvl_lib.datasets import DATASETS


@dataclass(frozen=True, slots=True)
class Keys:
    """The names of one code location's assets."""

    machine: str = ""
    """Empty: the only one there is."""

    def of(self, owner: str, step: str) -> list[str]:
        """The key of a step's asset: ``gb10/documents/adapter``, and ``mtsamples/pairs`` wherever it is made."""
        return [owner, step] if owner in DATASETS or not self.machine else [self.machine, owner, step]

    @property
    def store(self) -> list[str]:
        """The key of the published benchmark."""
        return [*([self.machine] if self.machine else []), "benchmark_store"]

    @staticmethod
    def owner(path: list[str]) -> str:
        """The dataset or line of a key."""
        return path[-2] if len(path) > 1 else path[0]


HERE = Keys()
