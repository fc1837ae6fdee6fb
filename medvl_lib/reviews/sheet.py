"""A rating sheet: answers of one evaluation under opaque ids, in an order that says nothing.

In: the predictions of an evaluation, how many pairs and whose answers, a secret seed, and what may be shown. Out: ``sheet.csv``, which
raters fill in; ``sheet.html``, which shows the pictures and texts that may be shown; and ``items.parquet``, the key, which no rater gets.

Pairs are drawn at random from the test pairs that every chosen variant answered. Pairs, order and ids all come from hashes of the seed, so
whoever has not got it cannot tell from an id whose answer it is. Every answer stands alone: the answers to one pair are items apart. Pairs
that the data card does not allow to show are left out, unless a person says by name that the raters may see that dataset; then their texts
are in the table, and the page names the pairs, to be looked up where the data lie.
"""

import csv
import io
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import get_args

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template

from medvl_lib.chat import conversations_path, read_conversations
from medvl_lib.errors import InputRefused
from medvl_lib.evaluation.predictions import PREDICTIONS, REFERENCES, Variant
from medvl_lib.files import write_bytes
from medvl_lib.images import ImageStore, Thumbnail, thumbnail
from medvl_lib.overrides import unknown_key
from medvl_lib.provenance import Fact, Outcome, Rule, digest
from medvl_lib.reviews.tables import HARM, ITEMS, SCALE, Item
from medvl_lib.rules import columns_are_as_declared, outcome, rule, stream
from medvl_lib.tables import write_table

REVISION = 1  # first version
STEP = "review_sheets"
SHEET, PAGE = "sheet.csv", "sheet.html"
TEMPLATE = "sheet.html.jinja"
ITEM, QUESTION, ANSWER, RATER, CORRECTNESS, HARMFUL, COMMENT = "item", "question", "answer", "rater", "correctness", "harmful", "comment"
COLUMNS = (ITEM, QUESTION, ANSWER, RATER, CORRECTNESS, HARMFUL, COMMENT)
NO_ANSWER = "(the answer is empty)"
ENCODING = "utf-8-sig"  # with the mark by which spreadsheets know UTF-8: without it they show µ as two other letters
FORMULA = ("=", "+", "-", "@", "\t", "\r")  # how a cell begins that a spreadsheet would run (OWASP, CSV injection)
ID_MARK = "r"  # a spreadsheet makes a number of 12345678, and of 12e45678
ID_CHARACTERS = 10  # 40 bits: 1,000 items of one data root meet with a chance below 1e-6
MAX_SIDE_PIXELS = 1600  # small print stays legible


@dataclass(frozen=True, slots=True, kw_only=True)
class SheetRequest:
    """What a person asks for. Every field bears identity."""

    num_pairs: int
    variants: tuple[Variant, ...]
    seed: str
    """Secret: who knows it and the pairs knows the key."""
    seen_by_raters: tuple[str, ...]
    """Datasets whose texts the raters may see although the data card does not allow to show them: a person's word."""

    def __post_init__(self) -> None:
        """Refuse a sheet on which nothing is rated, or something twice."""
        if self.num_pairs < 1:
            raise ValueError(f"num_pairs = {self.num_pairs!r} must be 1 or more")
        if not self.variants or len(set(self.variants)) != len(self.variants):
            raise ValueError(f"variants = {list(self.variants)!r} must name one or more, each once")


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """Where the answers of an evaluation lie."""

    predictions: Path
    chat: Path
    images: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """An item as its raters read it."""

    item_id: str
    pair_id: str
    question: str
    answer: str
    is_shown: bool
    pictures: tuple[Thumbnail, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Candidate:
    """A test pair that every chosen variant answered."""

    pair_id: str
    group_id: str
    dataset: str
    licence: str


def named_variants(names: str) -> tuple[Variant, ...]:
    """``base,adapter`` -> ("base", "adapter"), in the order in which variants always stand; raises SettingsError for an unknown one."""
    named, known = names.split(","), get_args(Variant)
    if unknown := [name for name in named if name not in known]:
        raise unknown_key(unknown[0], known, f"variants {names}")
    return tuple(variant for variant in known if variant in named)


def write_sheet(
    directory: Path, sheet_id: str, request: SheetRequest, answers: Answers, shown: Mapping[str, Sequence[str]]
) -> dict[str, Fact]:
    """Write sheet, page and key; returns how much is on the sheet, and how many pairs could not be.

    ``shown`` names the datasets that may be shown and the licences under which they may be. Raises InputRefused where no pair is left.
    """
    candidates = list(_candidates(answers, request.variants))
    _require_known(request, candidates, answers)
    seen = [found for found in candidates if found.licence in shown.get(found.dataset, ()) or found.dataset in request.seen_by_raters]
    if not seen:
        raise _nothing_to_rate(candidates, request, answers)
    chosen = sorted(seen, key=lambda found: digest([request.seed, sheet_id, "pair", found.pair_id]))[: request.num_pairs]
    items = _items(chosen, sheet_id, request, shown)
    write_table(directory / ITEMS, Item, items)
    page = list(_shown(items, answers))
    write_bytes(directory / SHEET, render_sheet(page).encode(ENCODING))
    write_bytes(directory / PAGE, _template().render(items=page, scale=SCALE, harm=HARM).encode())
    return {
        "num_items": len(items), "num_pairs": len(chosen), "num_pairs_to_choose_from": len(seen),
        "num_pairs_withheld": len(candidates) - len(seen),
        "num_pairs_without_picture": sum(found.licence not in shown.get(found.dataset, ()) for found in chosen),
    }  # fmt: skip


def _require_known(request: SheetRequest, candidates: Sequence[_Candidate], answers: Answers) -> None:
    """Refuse a person's word for a dataset that is not there: it may be misspelt."""
    known = sorted({found.dataset for found in candidates})
    if candidates and (unknown := [name for name in request.seen_by_raters if name not in known]):
        raise InputRefused(
            found=f"no test pair of the dataset {unknown[0]!r}", where=str(answers.predictions), do=f"name one of {', '.join(known)}"
        )


def _nothing_to_rate(candidates: Sequence[_Candidate], request: SheetRequest, answers: Answers) -> InputRefused:
    if not candidates:
        found = f"no test pair that all of {', '.join(request.variants)} answered"
        return InputRefused(found=found, where=str(answers.predictions), do="name variants of this evaluation with --variants")
    datasets = ", ".join(sorted({f"{one.dataset} ({one.licence})" for one in candidates}))
    return InputRefused(
        found=f"{len(candidates)} test pairs, none of which may be shown: {datasets}", where=str(answers.predictions),
        do="if your raters may see such a dataset, name it with --raters-may-see; its texts are then in the table, its pictures nowhere",
    )  # fmt: skip


def _candidates(answers: Answers, variants: Sequence[Variant]) -> Iterator[_Candidate]:
    rows = stream(
        """
        select r.pair_id, any_value(r.group_id), any_value(r.dataset), any_value(r.licence)
        from read_parquet($predictions) p join read_parquet($references) r using (pair_id)
        where r.split = 'test' and p.condition = 'as_is' and list_contains($variants::varchar[], p.variant)
        group by r.pair_id having count(distinct p.variant) = len($variants::varchar[]) order by r.pair_id
        """,
        predictions=answers.predictions / PREDICTIONS, references=answers.predictions / REFERENCES, variants=list(variants),
    )  # fmt: skip
    return (_Candidate(pair_id=pair, group_id=group, dataset=dataset, licence=licence) for pair, group, dataset, licence in rows)


def _items(chosen: Sequence[_Candidate], sheet_id: str, request: SheetRequest, shown: Mapping[str, Sequence[str]]) -> list[Item]:
    """Every chosen pair's answers in the order of the sheet. Its id is in every item's: an item is never on two sheets."""
    items = [
        Item(
            item_id=ID_MARK + digest([request.seed, sheet_id, "item", found.pair_id, variant])[:ID_CHARACTERS], pair_id=found.pair_id,
            group_id=found.group_id, dataset=found.dataset, licence=found.licence, variant=variant,
            is_shown=found.licence in shown.get(found.dataset, ()),
        ) for found in chosen for variant in request.variants
    ]  # fmt: skip
    return sorted(items, key=lambda item: digest([request.seed, sheet_id, "order", item.pair_id, item.variant]))


def _shown(items: Sequence[Item], answers: Answers) -> Iterator[Shown]:
    pictures = _pictures(answers, {item.pair_id for item in items if item.is_shown})
    texts = _texts(answers, sorted({item.pair_id for item in items}))
    for item in items:
        question, said = texts[item.pair_id, item.variant]
        yield Shown(
            item_id=item.item_id, pair_id=item.pair_id, question=question, answer=said if said.strip() else NO_ANSWER,
            is_shown=item.is_shown, pictures=pictures[item.pair_id] if item.is_shown else (),
        )  # fmt: skip


def _texts(answers: Answers, pair_ids: list[str]) -> dict[tuple[str, str], tuple[str, str]]:
    """(pair, variant) -> its question and answer."""
    rows = stream(
        """
        select pair_id, variant, request, answer from read_parquet($predictions) p join read_parquet($references) r using (pair_id)
        where condition = 'as_is' and list_contains($chosen, pair_id)
        """,
        predictions=answers.predictions / PREDICTIONS, references=answers.predictions / REFERENCES, chosen=pair_ids,
    )  # fmt: skip
    return {(pair_id, variant): (request, answer) for pair_id, variant, request, answer in rows}


def _pictures(answers: Answers, pair_ids: Collection[str]) -> dict[str, tuple[Thumbnail, ...]]:
    store = ImageStore(answers.images)
    conversations = read_conversations(conversations_path(answers.chat, "test"))
    return {
        conversation.pair_id: tuple(thumbnail(store.read(image_id), MAX_SIDE_PIXELS) for image_id in conversation.image_ids)
        for conversation in conversations if conversation.pair_id in pair_ids
    }  # fmt: skip


def render_sheet(items: Sequence[Shown]) -> str:
    """The table that raters fill in: what they rate on the left, empty cells on the right."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow(COLUMNS)
    for item in items:
        writer.writerow([item.item_id, _inert(item.question), _inert(item.answer), "", "", "", ""])
    return text.getvalue()


def _inert(text: str) -> str:
    """A text that no spreadsheet takes for a formula."""
    return f"'{text}" if text.startswith(FORMULA) else text


@cache
def _template() -> Template:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.get_template(TEMPLATE)


def _listed(directory: Path) -> tuple[list[str], list[list[str]]]:
    """The written sheet: its columns, and its rows."""
    header, *rows = csv.reader(io.StringIO((directory / SHEET).read_text(encoding=ENCODING), newline=""))
    return header, rows


def the_key_fits_the_sheet(directory: Path) -> Outcome:
    """Sheet and key hold the same items, each once, and no pair has two items of one variant."""
    _, rows = _listed(directory)
    key = list(stream("select item_id, pair_id, variant from read_parquet($key)", key=directory / ITEMS))
    listed, known = Counter(row[0] for row in rows), Counter(str(row[0]) for row in key)
    wrong = sorted(item_id for item_id in listed | known if (listed[item_id], known[item_id]) != (1, 1))
    twice = len(key) - len({row[1:] for row in key})
    found = outcome(wrong, f"of {len(key)} items are not once in the sheet and once in the key; {twice} answers are there twice")
    return found if key and not twice else Outcome(passed=False, found=found.found, offenders=found.offenders)


def the_sheet_does_not_say_whose_answer_it_is(directory: Path) -> Outcome:
    """The sheet has the columns that raters need and no other, with nothing filled in."""
    header, rows = _listed(directory)
    filled = [row[0] for row in rows if any(row[header.index(RATER) :])] if tuple(header) == COLUMNS else []
    other = sorted(set(header) ^ set(COLUMNS))
    return outcome([*other, *filled], "columns or items of the sheet say more than they should")


def only_what_may_be_shown_is_in_the_page(directory: Path) -> Outcome:
    """As many items of the page have texts as the key says may be shown, and the others are named by their pair alone."""
    items = list(stream("select item_id, is_shown from read_parquet($key)", key=directory / ITEMS))
    page = (directory / PAGE).read_text(encoding="utf-8")
    wrong = [str(item_id) for item_id, is_shown in items if (f'id="{item_id}"' in page) != is_shown]
    return outcome(wrong, f"of {len(items)} items are in the page and must not be, or the other way round")


RULES: tuple[Rule, ...] = (
    columns_are_as_declared({ITEMS: Item}),
    rule(the_key_fits_the_sheet, "Every item of the sheet is in the key, and every one of the key on the sheet."),
    rule(the_sheet_does_not_say_whose_answer_it_is, "The sheet holds nothing by which a rater could tell whose answer it is."),
    rule(only_what_may_be_shown_is_in_the_page, "The page shows texts and pictures only where the data card allows it."),
)
