"""Row rules through Great Expectations: which rows of a table break which rule first.

In: rules in the order in which they count, and batches of the columns under test. Out: per broken row the first rule's reason.
No patient's text comes here: a text is tested by its length, since Great Expectations keeps and prints what it finds unexpected.
What is done with a broken row is ``validation``'s work.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, NamedTuple, get_args, get_origin, get_type_hints

from medvl_lib.tables import columns

SHOWN_CHARACTERS = 16  # a longer label is told by its length: in a shifted column it may be a patient's text

Expectation = Literal[
    "expect_column_values_to_not_be_null",
    "expect_column_values_to_be_in_set",
    "expect_column_values_to_be_between",
    "expect_column_values_to_match_regex",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class RowRule:
    """One expectation and the reason that a row gets for breaking it."""

    reason: str
    """snake_case, as it stands in the rejections table."""
    column: str
    expectation: Expectation
    arguments: Mapping[str, Any]
    """Great Expectations' own keyword arguments, without the column."""


class Broken(NamedTuple):
    """The first rule that a row breaks."""

    reason: str
    detail: str


def between(reason: str, column: str, low: float | None, high: float | None) -> RowRule:
    """A number lies in a closed interval; a null is another rule's business."""
    return RowRule(
        reason=reason, column=column, expectation="expect_column_values_to_be_between", arguments={"min_value": low, "max_value": high}
    )


def in_set(reason: str, column: str, values: Iterable[Any]) -> RowRule:
    """A label is one of the known ones, or null."""
    return RowRule(reason=reason, column=column, expectation="expect_column_values_to_be_in_set", arguments={"value_set": list(values)})


def matches(reason: str, column: str, pattern: str) -> RowRule:
    """A label has a certain form, or is null."""
    return RowRule(reason=reason, column=column, expectation="expect_column_values_to_match_regex", arguments={"regex": pattern})


def _literal_values(hint: Any) -> tuple[Any, ...]:
    """The values of a ``Literal``, also within ``Annotated`` and ``| None``; empty for any other type."""
    if get_origin(hint) is Literal:
        return get_args(hint)
    inner = get_args(hint)[:1] if get_origin(hint) is Annotated else get_args(hint)
    return tuple(value for argument in inner for value in _literal_values(argument))


def structural_rules(model: type, tested_as: Mapping[str, str]) -> tuple[RowRule, ...]:
    """What a row model itself demands: no nulls but where declared, and no label outside its ``Literal``.

    ``tested_as`` names the tested column where it is not the field itself (``request`` is tested as ``request_characters``).
    """
    hints = get_type_hints(model, include_extras=True)
    present = tuple(
        RowRule(
            reason=f"{column.name}_missing", column=tested_as.get(column.name, column.name),
            expectation="expect_column_values_to_not_be_null", arguments={},
        )
        for column in columns(model)
        if not column.is_nullable
    )  # fmt: skip
    known = tuple(in_set(f"{name}_unknown", name, values) for name, hint in hints.items() if (values := _literal_values(hint)))
    return present + known


def first_broken(rules: Sequence[RowRule], names: Sequence[str], batches: Iterable[list[tuple[Any, ...]]]) -> dict[str, Broken]:
    """The rows that break a rule, by their id (the first of the columns ``names``), each with the first rule in the order given.

    Great Expectations takes seconds to import: it is imported with the first batch, so not at all for an empty table.
    """
    found: dict[str, Broken] = {}
    validate: Callable[[list[tuple[Any, ...]]], Any] | None = None
    for batch in batches:
        validate = validate or _validator(rules, names)
        results = {result.expectation_config.meta["reason"]: result for result in validate(batch).results}
        for rule in rules:
            for row in _unexpected(results[rule.reason]):
                found.setdefault(row[names[0]], Broken(rule.reason, _detail(rule.column, row.get(rule.column))))
    return found


def _validator(rules: Sequence[RowRule], names: Sequence[str]) -> Callable[[list[tuple[Any, ...]]], Any]:
    import great_expectations
    import pandas as pd

    gx: Any = great_expectations  # half of its types are unknown
    context = gx.get_context(mode="ephemeral")
    context.enable_analytics(False)
    context.variables.progress_bars = {"globally": False}
    suite = gx.ExpectationSuite(
        name="rows",
        expectations=[
            {"type": rule.expectation, "kwargs": {"column": rule.column, **rule.arguments}, "meta": {"reason": rule.reason}}
            for rule in rules
        ],
    )
    table = context.data_sources.add_pandas("rows").add_dataframe_asset("rows").add_batch_definition_whole_dataframe("rows")
    how = {"result_format": "COMPLETE", "unexpected_index_column_names": [names[0]]}

    def validate(batch: list[tuple[Any, ...]]) -> Any:
        frame = pd.DataFrame(batch, columns=list(names))
        return table.get_batch({"dataframe": frame}).validate(suite, result_format=how)

    return validate


def _unexpected(result: Any) -> list[dict[str, Any]]:
    """The ids and values that broke an expectation; raises where the expectation itself could not be computed."""
    if "unexpected_index_list" not in result.result:
        raise RuntimeError(f"{result.expectation_config.meta['reason']} could not be tested: {result.exception_info}")
    return result.result["unexpected_index_list"]


def _detail(column: str, value: Any) -> str:
    if isinstance(value, str) and len(value) > SHOWN_CHARACTERS:
        return f"{column} has {len(value)} characters"
    if isinstance(value, str):
        return f"{column} is {value!r}"
    return f"{column} is null" if value is None or math.isnan(value) else f"{column} is {float(value):.10g}"
