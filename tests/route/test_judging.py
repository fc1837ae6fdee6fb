"""What is served. If these passed wrongly, a champion could be measured on weights that it was not trained on, or an adapter be served
that was never compared with the one it replaces.
"""

from collections.abc import Sequence
from pathlib import Path

import pytest

from medvl_lib.benchmark.promotion import PROMOTION_DECISIONS, Decision
from medvl_lib.lines import DOCUMENTS
from medvl_lib.pointer import Served, move_pointer, read_pointer
from medvl_lib.provenance import Artifact, write_step
from medvl_lib.route.champion import JUDGED_AGAINST, champion_of
from medvl_lib.route.judging import serve
from medvl_lib.tables import write_table
from medvl_lib.workspace import Workspace


def _written(workspace: Workspace, step: str, inputs: Sequence[Artifact], content: str, **facts: str) -> Artifact:
    def write(directory: Path) -> dict[str, str]:
        (directory / "content").write_text(content)
        return facts

    return write_step(workspace, step, "documents", content, inputs, write)


def _trained(workspace: Workspace, name: str) -> Artifact:
    return _written(workspace, "adapter", [_written(workspace, "nf4_model", [], f"weights of {name}")], f"adapter {name}")


def _decision(workspace: Workspace, adapter: Artifact, *, verdict: str = "promote", against: str = "") -> Artifact:
    predictions = _written(workspace, "predictions", [adapter], f"predictions of {adapter.fingerprint}", **{JUDGED_AGAINST: against})
    scores = _written(workspace, "scores", [predictions], f"scores of {adapter.fingerprint}")
    decision = Decision(
        line="documents", evaluation_id="e", gate_id="g", verdict=verdict, reasons=("because",), primary_metric="pair_accuracy",
        challenger="adapter", champion="base", look=1, alpha=0.03, is_worn=False, num_pairs=60, num_clusters=60, difference=0.1,
        ci_low=0.05, ci_high=0.15, p_value=0.01, minimum_detectable_difference=0.05, image_difference=0.1, image_ci_low=0.05,
        image_ci_high=0.15,
    )  # fmt: skip

    def write(directory: Path) -> dict[str, str]:
        write_table(directory / PROMOTION_DECISIONS, Decision, [decision])
        return {}

    return write_step(workspace, "promotion", "documents", f"decision {adapter.fingerprint}", [scores], write)


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(root=tmp_path)


def _serve_as_is(workspace: Workspace, adapter: Artifact) -> None:
    move_pointer(
        workspace,
        Served(line="documents", stage="adapter", fingerprint=adapter.fingerprint, data_version=adapter.data_version, promotion="p"),
    )


def test_a_promoted_adapter_is_served_and_a_second_look_moves_nothing(workspace: Workspace):
    adapter = _trained(workspace, "a")
    decision = _decision(workspace, adapter)
    assert serve(workspace, DOCUMENTS, decision).served is not None
    pointer = read_pointer(workspace, "documents")
    assert pointer is not None
    assert pointer.data_version == adapter.data_version
    assert serve(workspace, DOCUMENTS, decision).served is None


@pytest.mark.parametrize("verdict", ["reject", "inconclusive"])
def test_anything_but_promote_leaves_the_pointer_where_it_was(workspace: Workspace, verdict: str):
    old, new = _trained(workspace, "old"), _trained(workspace, "new")
    _serve_as_is(workspace, old)
    moved = serve(workspace, DOCUMENTS, _decision(workspace, new, verdict=verdict))
    assert moved.served is None
    assert "still serves the adapter" in moved.sentence
    assert read_pointer(workspace, "documents").fingerprint == old.fingerprint


def test_of_two_decisions_against_one_champion_only_the_first_is_served(workspace: Workspace):
    champion, first, second = (_trained(workspace, name) for name in ("champion", "first", "second"))
    _serve_as_is(workspace, champion)
    against = champion_of(workspace, DOCUMENTS, first, "nf4_model").data_version
    decisions = [_decision(workspace, adapter, against=against) for adapter in (first, second)]
    assert serve(workspace, DOCUMENTS, decisions[0]).served is not None
    moved = serve(workspace, DOCUMENTS, decisions[1])
    assert moved.served is None
    assert "decided against another champion" in moved.sentence
    assert read_pointer(workspace, "documents").fingerprint == first.fingerprint


def test_a_champion_stands_on_the_weights_that_it_was_trained_on(workspace: Workspace):
    old = _trained(workspace, "old")
    _serve_as_is(workspace, old)
    new = _trained(workspace, "new")  # trained after the base model was replaced
    champion = champion_of(workspace, DOCUMENTS, new, "nf4_model")
    assert (champion.weights.directory / "content").read_text() == "weights of old"


def test_the_served_adapter_is_no_champion_against_itself(workspace: Workspace):
    adapter = _trained(workspace, "a")
    assert champion_of(workspace, DOCUMENTS, adapter, "nf4_model") is None
    _serve_as_is(workspace, adapter)
    assert champion_of(workspace, DOCUMENTS, adapter, "nf4_model") is None
