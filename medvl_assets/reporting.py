"""What the UI shows of a written directory and of a verdict: counts, columns and places, tables and pictures as ``medvl_lib.exhibits`` has
them; rows only as ``medvl_lib.examples`` allows.
"""

import base64
from collections.abc import Sequence
from pathlib import Path

import dagster as dg

from medvl_assets.keys import HERE, Keys
from medvl_lib.examples import render_examples
from medvl_lib.exhibits import ShownPicture, ShownTable, Value
from medvl_lib.provenance import Artifact, Verdict
from medvl_lib.step import Step
from medvl_lib.tables import columns


def column_schema(step: Step) -> dict[str, dg.TableSchema]:
    """Name, type, unit and meaning of every column that a step's table has; empty for a directory without one."""
    if step.table is None:
        return {}
    shown = [
        dg.TableColumn(
            name=column.name, type=column.type, description=column.description + (f" [{column.unit}]" if column.unit else ""),
            constraints=dg.TableColumnConstraints(nullable=column.is_nullable),
        ) for column in columns(step.table.model)
    ]  # fmt: skip
    return {"dagster/column_schema": dg.TableSchema(columns=shown)}


def result(step: Step, artifact: Artifact, keys: Keys = HERE) -> dg.MaterializeResult:
    """A directory as a materialization: its contents' hash is the data version."""
    counted = artifact.facts.get("num_pairs", artifact.facts.get("num_rows"))
    return dg.MaterializeResult(
        asset_key=keys.of(step.owner, step.name),
        data_version=dg.DataVersion(artifact.data_version),
        metadata={
            **{name: fact for name, fact in artifact.facts.items() if fact is not None},
            **({} if counted is None else {"dagster/row_count": int(counted)}),
            "dagster/uri": dg.MetadataValue.path(str(artifact.directory)),
            "fingerprint": artifact.fingerprint,
            "reused": artifact.reused,
            **{exhibit.name: shown(exhibit.show(artifact.directory)) for exhibit in step.exhibits},
            **({} if step.examples is None else {"examples": dg.MetadataValue.md(render_examples(artifact.directory, step.examples))}),
        },
    )


def shown(exhibit: ShownTable | tuple[ShownPicture, ...] | Path) -> dg.MetadataValue:
    """An exhibit as the UI takes it: pictures as Markdown under their words, in which it shows SVG as well (tried in Chromium)."""
    if isinstance(exhibit, ShownTable):
        return _table(exhibit)
    return dg.MetadataValue.path(str(exhibit)) if isinstance(exhibit, Path) else dg.MetadataValue.md("\n\n".join(map(_picture, exhibit)))


def _table(table: ShownTable) -> dg.MetadataValue:
    names = [column.name for column in table.columns]
    schema = dg.TableSchema(columns=[
        dg.TableColumn(name=column.name, type=_type([row[place] for row in table.rows]), description=column.description)
        for place, column in enumerate(table.columns)
    ])  # fmt: skip
    return dg.MetadataValue.table([dg.TableRecord(dict(zip(names, row, strict=True))) for row in table.rows], schema)


def _type(values: Sequence[Value]) -> str:
    """What the UI calls the type of a column."""
    known = [value for value in values if value is not None]
    return dg.TableMetadataValue.infer_column_type(known[0]) if known else "string"


def _picture(picture: ShownPicture) -> str:
    data = base64.b64encode(picture.svg.encode()).decode("ascii")
    words = picture.caption.replace("[", "(").replace("]", ")")
    return f"{words}\n\n![{words}](data:image/svg+xml;base64,{data})"


def check_result(step: Step, verdict: Verdict, keys: Keys = HERE) -> dg.AssetCheckResult:
    """A verdict as a check: blocking ones fail the run, the others warn."""
    return dg.AssetCheckResult(
        passed=verdict.outcome.passed,
        asset_key=keys.of(step.owner, step.name),
        check_name=verdict.rule,
        severity=dg.AssetCheckSeverity.ERROR if verdict.is_blocking else dg.AssetCheckSeverity.WARN,
        description=verdict.outcome.found,
        metadata={"offenders": dg.MetadataValue.json(list(verdict.outcome.offenders))},
    )
