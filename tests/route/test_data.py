"""The steps of the data. If these passed wrongly, a step could hold a whole dataset in memory, and a large one would fit no machine."""

import gc
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from medvl_lib import sample_data
from medvl_lib.audit import AuditRow, write_audit
from medvl_lib.chat import Conversation
from medvl_lib.configured import dataset_runs, lines_of
from medvl_lib.evaluation.predictions import Reference
from medvl_lib.image_facts import ImageRow
from medvl_lib.images import ImageStore
from medvl_lib.models import shipped
from medvl_lib.pairs import Pair
from medvl_lib.provenance import judge, newest
from medvl_lib.route.data import data_steps, dataset_steps
from medvl_lib.settings import read_settings
from medvl_lib.split import SplitRow
from medvl_lib.step import run_step
from medvl_lib.workspace import Workspace

SETTINGS = 'data_root = "."\nscale = "tiny"\nprofile = "cpu"\n[datasets.pubmedvision]\nenabled = true\nraw_path = "raw"\n'
BATCH = 8
MOST_ROWS = 6 * BATCH  # two tables are read and one is written, each a batch at a time, with typed rows between them
ROWS = (Pair, ImageRow, SplitRow, Conversation, Reference, AuditRow)


@pytest.fixture
def alive(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """How many rows were in memory each time that a batch was written; batches are small."""
    for name in ("tables.BATCH_ROWS", "near_duplicates.BATCH", "image_facts.BATCH_IMAGES", "audit.BATCH_CONVERSATIONS"):
        monkeypatch.setattr(f"medvl_lib.{name}", BATCH)
    found: list[int] = []
    write = pq.ParquetWriter.write_table

    def counted(writer: pq.ParquetWriter, table: pa.Table) -> None:
        found.append(sum(isinstance(each, ROWS) or (isinstance(each, dict) and "pair_id" in each) for each in gc.get_objects()))
        write(writer, table)

    monkeypatch.setattr(pq.ParquetWriter, "write_table", counted)
    import great_expectations  # noqa: F401 - hundreds of thousands of objects, all before the first row

    gc.collect()
    gc.freeze()  # what stands there already is no row of a step, and need not be looked through
    yield found
    gc.unfreeze()


def test_a_step_holds_a_few_batches_of_rows_however_many_there_are(tmp_path: Path, alive: list[int]):
    sample_data.write("pubmedvision", tmp_path / "raw", counts={"alignment": 120, "instruction": 120})
    (tmp_path / "settings.toml").write_text(SETTINGS)
    settings, workspace = read_settings(tmp_path / "settings.toml"), Workspace(root=tmp_path)
    (run,), line = dataset_runs(settings), lines_of(settings)[0]
    most: dict[str, int] = {}
    for step in (*dataset_steps(run), *data_steps(line)):
        alive.clear()
        judge(workspace, run_step(workspace, step), step.rules)
        most[step.name] = max(alive)
    alive.clear()
    (tmp_path / "audited").mkdir()
    chat, model = newest(workspace, "chat", line.name).directory, shipped.DIRECTORY / line.model.family
    facts = write_audit(tmp_path / "audited", chat, model, ImageStore(workspace.images), line.audit, max_pixels=line.model.max_pixels)
    most["audit"] = max(alive)
    assert int(facts["num_conversations"] or 0) > 4 * MOST_ROWS
    assert {name: count for name, count in most.items() if count > MOST_ROWS} == {}, most
