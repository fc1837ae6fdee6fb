"""The same numbers everywhere: page, UI and SQL. If these passed wrongly, a reviewer would sign for other means than the ones that were
stored, or see others in the graph.
"""

import dagster as dg
import pytest

from medvl_assets.instance import instance_home
from medvl_assets.step_assets import light_asset
from medvl_lib.benchmark import rows
from medvl_lib.benchmark.publish import ask
from medvl_lib.lines import DOCUMENTS
from medvl_lib.report.gather import find, gather
from medvl_lib.report.grounds import EVERY_ROW
from medvl_lib.report.html import read_table_of, render_html
from medvl_lib.route.exhibiting import LEADERBOARD, exhibits_of
from medvl_lib.step import Step
from tests.benchmark.evaluated import COUNTS, Evaluated
from tests.report.reported import NOW, SHOWN, reported
from tests.ui import shown

KEY = ("dataset", "metric", "condition", "variant")
NUMBERS = {"mean": "mean", "ci_low": "from", "ci_high": "to", "num_pairs": "pairs", "num_clusters": "clusters", "num_empty": "empty"}
"""Columns of the store -> those of the page."""


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory: pytest.TempPathFactory) -> Evaluated:
    return reported(tmp_path_factory.mktemp("read-back"))


def in_ui(evaluated: Evaluated) -> list[dict]:
    """The leaderboard of the benchmark asset, materialized by the asset's own code into an instance and asked back by GraphQL."""
    step = Step(
        name="benchmark", owner="documents", description="", version="v2", reads=(), rules=rows.RULES,
        exhibits=exhibits_of(DOCUMENTS)["benchmark"],
        write=lambda call: rows.write_benchmark(
            call.directory, line="documents", scores_directory=evaluated.scores.directory,
            predictions_directory=evaluated.predictions.directory, adapter_directory=evaluated.adapter.directory, dataset_counts=COUNTS,
        ),
    )  # fmt: skip
    with dg.DagsterInstance.from_config(instance_home(evaluated.workspace)) as instance:
        assert dg.materialize([light_asset(step)], resources={"workspace": evaluated.workspace}, instance=instance).success
        return shown(instance, "documents", "benchmark")["leaderboard"]


def test_page_ui_and_sql_give_the_same_values_to_the_last_digit(evaluated: Evaluated):
    page = render_html(gather(evaluated.workspace, find(evaluated.workspace, "documents"), SHOWN, NOW))
    on_page = {
        tuple(row[name] for name in KEY): {name: row[column] for name, column in NUMBERS.items()}
        for row in read_table_of(page, EVERY_ROW) if row["split"] == "test" and row["slice"] == "all"
    }  # fmt: skip
    in_graph = {tuple(row[name] for name in KEY): {name: row[name] for name in NUMBERS} for row in in_ui(evaluated)}
    columns = ", ".join((*KEY, *NUMBERS))
    question = f"select {columns} from benchmark_rows where split = 'test' and slice = 'all'"  # noqa: S608 (our own names)
    stored = {row[: len(KEY)]: dict(zip(NUMBERS, row[len(KEY) :], strict=True)) for row in ask(evaluated.workspace, question).rows}
    assert on_page.keys() == in_graph.keys() == stored.keys()
    compared = [
        (on_page[key][name], in_graph[key][name], value) for key, values in stored.items() for name, value in values.items() if value
    ]
    assert len(compared) >= 50
    assert len({value for *_, value in compared}) > 10
    for shown_on_page, shown_in_graph, value in compared:
        assert shown_on_page == shown_in_graph == value
        assert repr(float(shown_on_page)) == repr(float(value))
    assert in_graph == stored  # the zeros and the gaps too


def test_the_ui_has_every_column_of_the_leaderboard(evaluated: Evaluated):
    assert all(sorted(row) == sorted(LEADERBOARD) for row in in_ui(evaluated))
