"""An evaluation whose answers the tests of this folder let people rate, made by the real steps."""

from pathlib import Path

import pytest

from medvl_lib.provenance import Artifact
from medvl_lib.reviews.sheet import SheetRequest
from medvl_lib.route.reviewing import hand_out, make_sheet
from tests.benchmark.evaluated import Evaluated
from tests.report.reported import SHOWN, reported

REQUEST = SheetRequest(num_pairs=12, variants=("base", "adapter"), seed="a secret of this test", seen_by_raters=())


@pytest.fixture(scope="session")
def evaluated(tmp_path_factory: pytest.TempPathFactory) -> Evaluated:
    """Sixty pages and four questions, evaluated once: no test changes it but by further directories beside."""
    return reported(tmp_path_factory.mktemp("rated"))


@pytest.fixture(scope="session")
def made(evaluated: Evaluated) -> Artifact:
    """A sheet of twelve pairs."""
    return make_sheet(evaluated.workspace, "documents", REQUEST, SHOWN)


@pytest.fixture
def handed_out(made: Artifact, tmp_path: Path) -> Path:
    """The table of it, as a rater gets it."""
    return hand_out(made, tmp_path / "out")[0]
