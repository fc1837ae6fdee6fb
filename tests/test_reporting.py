"""What the UI shows of a written directory. If these passed wrongly, a patient's text would stand in an event log that never shrinks, or
the decoded examples would be seen by nobody.
"""

import csv
import json
from collections.abc import Callable
from pathlib import Path

import dagster as dg
import pytest

from medvl_assets.dataset_assets import dataset_assets
from medvl_assets.resources import workspace_resource
from medvl_assets.step_assets import light_asset, step_checks
from medvl_lib.audit import EXAMPLES, AuditExample
from medvl_lib.datasets import DATASETS
from medvl_lib.hardware import PROFILES
from medvl_lib.lines import dataset_runs, lines_of
from medvl_lib.provenance import judge
from medvl_lib.route.line import line_steps
from medvl_lib.sample_data import write
from medvl_lib.settings import Settings, read_settings
from medvl_lib.step import run_step
from medvl_lib.tables import read_table
from medvl_lib.workspace import Workspace

MARKER = "Xylophonia"


def marked_transcriptions(raw: Path) -> None:
    [path] = raw.rglob("*.csv")
    for parquet in raw.rglob("*.parquet"):
        parquet.unlink()  # the other layout of the same set
    with path.open(encoding="utf-8", newline="") as file:
        header, *rows = list(csv.reader(file))
    column = header.index("transcription")
    with path.open("w", encoding="utf-8", newline="") as file:
        marked = (
            [*row[:column], f"{MARKER} {number}, {row[column]}", *row[column + 1 :]] for number, row in enumerate(rows) if row[column:]
        )
        csv.writer(file).writerows([header, *marked])


def marked_forms(raw: Path) -> None:
    for path in raw.glob("*/records.jsonl"):
        lines = path.read_text(encoding="utf-8").splitlines()
        records = [json.loads(line) for line in lines if line.endswith("}")]
        for record in records:
            for fact in record["facts"][:1]:
                fact["term"] = MARKER
        path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")


def project(root: Path, dataset: str, mark: Callable[[Path], None]) -> Settings:
    path = root / "dagster_project.toml"
    path.write_text(f'data_root = "data"\nscale = "tiny"\nprofile = "cpu"\n[datasets.{dataset}]\nrejected_share_budget = 1.0\n')
    mark(write(dataset, root / "data" / "raw" / dataset).root)
    return read_settings(path)


def materialize_up_to_the_audit(settings: Settings, instance: dg.DagsterInstance) -> dg.ExecuteInProcessResult:
    [line], [run] = lines_of(settings), dataset_runs(settings)
    steps = {step.name: step for step in line_steps(line, PROFILES["cpu"])}
    workspace = Workspace(root=settings.data_root)
    judge(workspace, run_step(workspace, steps["base_model"]), steps["base_model"].rules)  # in the graph it is a process of its own
    made = [made for name in ("split", "chat", "audit") for made in (light_asset(steps[name]), step_checks(steps[name]))]
    return dg.materialize(
        [*dataset_assets(run), *made], resources={"workspace": workspace_resource(settings)}, instance=instance, raise_on_error=False
    )


@pytest.mark.parametrize(("dataset", "mark"), [("mtsamples", marked_transcriptions), ("clinical_documents", marked_forms)])
def test_a_word_is_shown_only_where_the_data_card_allows_it(tmp_path: Path, dataset: str, mark: Callable[[Path], None]):
    settings = project(tmp_path, dataset, mark)
    with dg.DagsterInstance.ephemeral() as instance:
        result = materialize_up_to_the_audit(settings, instance)
        everything = "\n".join(dg.serialize_value(entry) for entry in instance.all_logs(result.run_id))
    assert result.success
    [event] = result.asset_materializations_for_node("documents__audit")
    [folder] = (path for path in Workspace(root=settings.data_root).step("audit", "documents").iterdir() if path.is_dir())
    assert sum(MARKER in example.target for example in read_table(folder / EXAMPLES, AuditExample)) == 3
    assert event.metadata["examples"].value.startswith("| pair_id |") == DATASETS[dataset].may_be_shown
    assert (MARKER in event.metadata["examples"].value) == (MARKER in everything) == DATASETS[dataset].may_be_shown
    assert (f"{folder / EXAMPLES}" in event.metadata["examples"].value) != DATASETS[dataset].may_be_shown
