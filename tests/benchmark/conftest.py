"""Evaluations that the tests of this folder share. If they were not made by the real steps, the store would be tested on wishes."""

import shutil
from functools import partial
from pathlib import Path

import pytest

from medvl_lib.benchmark.publish import publish
from medvl_lib.workspace import Workspace
from tests.benchmark.evaluated import Evaluate, Evaluated, run


@pytest.fixture
def evaluate(tmp_path: Path) -> Evaluate:
    """An evaluation of its own in a data root of its own; call it again for a second one in the same root."""
    return partial(run, tmp_path / "data")


@pytest.fixture(scope="session")
def sixty(tmp_path_factory: pytest.TempPathFactory) -> Evaluated:
    """Sixty pages, evaluated and published once for all tests that only read."""
    evaluated = run(tmp_path_factory.mktemp("sixty"), 60)
    publish(evaluated.workspace)
    return evaluated


@pytest.fixture
def benchmark_copy(sixty: Evaluated, tmp_path: Path) -> Path:
    """A copy of that benchmark directory, to be damaged."""
    return shutil.copytree(sixty.benchmark.directory, tmp_path / "benchmark")


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A store without rows."""
    workspace = Workspace(root=tmp_path_factory.mktemp("empty"))
    publish(workspace)
    return workspace
