"""What the UI shows of a written directory. If these passed wrongly, a patient's text would stand in an event log that never shrinks, or
the decoded examples would be seen by nobody.
"""

import base64
import csv
import json
import re
from collections.abc import Callable
from pathlib import Path

import dagster as dg
import pytest

from medvl_assets.dataset_assets import dataset_assets
from medvl_assets.reporting import result
from medvl_assets.resources import workspace_resource
from medvl_assets.step_assets import light_asset, step_checks
from medvl_lib.audit import EXAMPLES, AuditExample
from medvl_lib.configured import dataset_runs, lines_of
from medvl_lib.datasets import DATASETS, raw_folder
from medvl_lib.exhibits import Exhibit, ShownColumn, ShownPicture, ShownTable
from medvl_lib.hardware import PROFILES
from medvl_lib.provenance import Artifact, judge
from medvl_lib.route.line import line_steps
from medvl_lib.sample_data import write
from medvl_lib.settings import Settings, read_settings
from medvl_lib.step import Step, run_step
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
    raw_folder.seal(raw)  # as if they had been invented so


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


def entries(*exhibits: Exhibit) -> dict[str, dg.MetadataValue]:
    """What the UI gets of a step with these exhibits."""
    step = Step(name="s", owner="o", description="", version="v", reads=(), rules=(), write=lambda _: {}, exhibits=exhibits)
    artifact = Artifact(
        directory=Path("/data/s/o/f"), step="s", name="o", fingerprint="f", data_version="d", inputs={}, facts={}
    )  # fmt: skip
    return dict(result(step, artifact).metadata)


def test_a_table_keeps_its_numbers_gaps_and_the_meaning_of_its_columns():
    table = ShownTable(
        columns=tuple(ShownColumn(name=name, description=words) for name, words in (("mean", "0 to 1"), ("low", ""), ("n", ""))),
        rows=((0.1234567890123, None, 3), (1.0, None, 4)),
    )  # fmt: skip
    shown = entries(Exhibit(name="means", show=lambda _: table))["means"]
    assert [record.data for record in shown.records] == [{"mean": 0.1234567890123, "low": None, "n": 3}, {"mean": 1.0, "low": None, "n": 4}]
    assert [(column.name, column.type, column.description) for column in shown.schema.columns] == [
        ("mean", "float", "0 to 1"), ("low", "string", ""), ("n", "int", ""),
    ]  # fmt: skip


def test_a_table_without_rows_still_has_its_columns():
    empty = ShownTable(columns=(ShownColumn(name="mean", description=""),), rows=())
    assert [column.name for column in entries(Exhibit(name="means", show=lambda _: empty))["means"].schema.columns] == ["mean"]


def test_pictures_are_markdown_with_their_words_and_need_nothing_from_elsewhere():
    pictures = (ShownPicture(svg="<svg>µ</svg>", caption="loss [nats]"), ShownPicture(svg="<svg/>", caption="b"))
    text = entries(Exhibit(name="loss", show=lambda _: pictures))["loss"].value
    first, second = re.findall(r"!\[(.+?)\]\(data:image/svg\+xml;base64,(\S+)\)", text)
    assert (first[0], base64.b64decode(first[1]).decode()) == ("loss (nats)", "<svg>µ</svg>")
    assert second[0] == "b"


def test_a_place_is_a_path():
    shown = entries(Exhibit(name="page", show=lambda directory: directory / "report.html"))["page"]
    assert (type(shown), shown.value) == (dg.PathMetadataValue, "/data/s/o/f/report.html")
