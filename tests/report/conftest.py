"""The evaluation that the tests of this folder report on. If it were not made by the real steps, a report would be tested on wishes."""

import pytest

from medvl_lib.report.content import Report
from medvl_lib.report.gather import find, gather
from tests.benchmark.evaluated import Evaluated
from tests.report.reported import NOW, SHOWN, reported


@pytest.fixture(scope="session")
def evaluated(tmp_path_factory: pytest.TempPathFactory) -> Evaluated:
    """Sixty pages and four questions, evaluated and published once."""
    return reported(tmp_path_factory.mktemp("reported"))


@pytest.fixture(scope="session")
def report(evaluated: Evaluated) -> Report:
    """What is said of it."""
    return gather(evaluated.workspace, find(evaluated.workspace, "documents"), SHOWN, NOW)
