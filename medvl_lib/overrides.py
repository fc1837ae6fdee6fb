"""A table of the settings file laid over a typed value: a recipe written there and one written in ``lines.py`` are the same recipe.

In: a dataclass, the fields that are to be otherwise, and how an error calls the table. Out: another value of the same type; or a
SettingsError with the offending value, the place, and the nearest word that can be meant. Which tables there are is known to ``settings``.
"""

import dataclasses
import difflib
import json
import re
from collections.abc import Collection, Mapping
from typing import Any, TypeVar, cast, get_args, get_type_hints

from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from medvl_lib.errors import SettingsError

QUOTED = re.compile(r"'([^']*)'")

Value = TypeVar("Value")

FOUND_OTHERWISE = {  # where pydantic's words are not those of a TOML file
    "model_type": "write it as a table of its own, under a heading in square brackets",
    "dict_type": "write it as a table of its own, under a heading in square brackets",
    "dataclass_type": "write it as a table, in braces",
    "path_type": "write a path, in quotation marks",
    "invalid-json-value": "write a number, text, true or false, or an array of them",
    "int_type": "write a whole number",
    "int_from_float": "write a whole number",
    "float_type": "write a number",
    "string_type": "write text, in quotation marks",
    "bool_type": "write true or false",
    "tuple_type": "write an array, in square brackets",
    "list_type": "write an array, in square brackets",
    "greater_than_equal": "write a number of {ge:g} or more",
    "less_than_equal": "write a number of at most {le:g}",
}


def override(value: Value, changes: Mapping[str, object], where: str) -> Value:
    """The dataclass ``value`` with some fields replaced, each checked against its declared type.

    An integer may stand for a float and an array of tables for dataclasses, nothing else for anything else. Raises SettingsError with
    ``where`` for an unknown field, a wrong type, and whatever the dataclass itself refuses.
    """
    hints = get_type_hints(type(value), include_extras=True)
    valid = tuple(field.name for field in dataclasses.fields(value) if field.init)  # pyright: ignore[reportArgumentType]
    for key in changes:
        if key not in valid:
            raise unknown_key(key, valid, where)
    checked = {
        key: override(getattr(value, key), cast("Mapping[str, object]", change), f"{where.removesuffix(']')}.{key}]")
        if dataclasses.is_dataclass(hints[key]) and isinstance(change, Mapping)  # a table below this one
        else _checked(hints[key], key, change, where)
        for key, change in changes.items()
    }  # fmt: skip
    try:
        return dataclasses.replace(value, **checked)  # pyright: ignore[reportArgumentType, reportUnknownVariableType, reportReturnType]
    except ValueError as error:
        raise SettingsError(
            found=", ".join(f"{key} = {change!r}" for key, change in changes.items()), where=where, do=str(error)
        ) from error


def _checked(hint: Any, key: str, change: object, where: str) -> object:
    """``change`` as the type that the field declares. By way of JSON: an array is a tuple there, and a table a dataclass."""
    try:
        return TypeAdapter(hint, config=ConfigDict(extra="forbid")).validate_json(json.dumps(change, allow_nan=False), strict=True)
    except ValidationError as error:
        raise _misfit(hint, key, change, where, error) from error
    except ValueError as error:
        raise SettingsError(found=f"{key} = {change!r}", where=where, do="write a finite number") from error


def _misfit(hint: Any, key: str, change: object, where: str, error: ValidationError) -> SettingsError:
    """What is wrong first with a field's new value; in a table of an array, a misspelt key before the one that is missing because of it."""
    first = min(error.errors(), key=lambda found: found["type"] != "unexpected_keyword_argument")
    name = str(first["loc"][-1]) if first["loc"] else ""
    if first["type"] == "unexpected_keyword_argument":
        return unknown_key(name, [field.name for field in dataclasses.fields(get_args(hint)[0])], f"{where}, {key}")
    if first["type"] == "missing":
        return SettingsError(found=f"no key {name!r}", where=f"{where}, {key}", do=f"write {name} = ... there")
    if isinstance(first["loc"][-1] if first["loc"] else 0, str):  # a key of a table in an array: it alone is wrong
        return SettingsError(found=f"{name} = {first['input']!r}", where=f"{where}, {key}", do=cure(first))
    return SettingsError(found=f"{key} = {change!r}", where=where, do=cure(first))


# -- what to write instead --------------------------------------------------------------------------------------------
def cure(error: ErrorDetails) -> str:
    """What to write instead: of fixed words the nearest one, and all of them."""
    context = error["ctx"] if "ctx" in error else {}
    if error["type"] == "literal_error":
        return nearest_of(str(error["input"]), QUOTED.findall(str(context["expected"])))
    if error["type"] in FOUND_OTHERWISE:
        return FOUND_OTHERWISE[error["type"]].format(**context)
    return error["msg"].removeprefix("Value error, ")


def nearest_of(word: str, valid: Collection[str]) -> str:
    """The cure of a misspelt word: the nearest valid one, and all of them in their order."""
    nearest = difflib.get_close_matches(word, valid, n=1)
    return (f"did you mean {nearest[0]!r}? " if nearest else "") + f"there {'is' if len(valid) == 1 else 'are'} {', '.join(valid)}"


def unknown_key(key: str, valid: Collection[str], where: str) -> SettingsError:
    """The refusal of a key that nobody reads: with the nearest valid one, and all of them."""
    nearest = difflib.get_close_matches(key, valid, n=1)
    hint = f"did you mean {nearest[0]!r}? " if nearest else ""
    return SettingsError(found=f"unknown key {key!r}", where=where, do=f"{hint}valid keys: {', '.join(sorted(valid))}")
