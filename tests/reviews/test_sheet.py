"""The blinded sheet. If these passed wrongly, a rater could tell whose answer it is, or be handed rows that may not be shown."""

import re
import shutil
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from medvl_lib.errors import InputRefused, MedVLError
from medvl_lib.reviews.sheet import COLUMNS, FORMULA, NO_ANSWER, PAGE, REVISION, RULES, SHEET, _Candidate, _inert, _items
from medvl_lib.reviews.tables import ITEMS, SCALE, Item
from medvl_lib.route.reviewing import hand_out, make_sheet
from medvl_lib.tables import read_table, write_table
from tests.damages import added_column
from tests.report.reported import HIDDEN, PLANTED, SHOWN
from tests.reviews.conftest import REQUEST
from tests.reviews.sheets import blank


def key(made) -> dict[str, Item]:
    return {item.item_id: item for item in read_table(made.directory / ITEMS, Item)}


def test_every_answer_of_the_chosen_pairs_is_an_item_with_an_id_that_no_spreadsheet_makes_a_number(made):
    items = key(made)
    assert (made.facts["num_pairs"], made.facts["num_items"], len(items)) == (12, 24, 24)
    assert {(item.pair_id, item.variant) for item in items.values()} == {
        (pair, variant) for pair in {item.pair_id for item in items.values()} for variant in ("base", "adapter")
    }
    assert all(re.fullmatch("r[0-9a-f]{10}", item_id) for item_id in items)


def test_the_table_says_nothing_but_id_question_and_answer(made):
    rows = blank(made.directory / SHEET)
    assert tuple(rows[0]) == COLUMNS
    assert all(row[name] == "" for row in rows for name in ("rater", "correctness", "harmful", "comment"))
    assert [row["item"] for row in rows] == list(key(made))


def test_an_answer_stands_beside_its_item_as_it_was_given_and_an_empty_one_is_said_to_be(made):
    items = key(made)
    for row in blank(made.directory / SHEET):
        item = items[row["item"]]
        number = int(item.pair_id[1:])
        if item.variant == "base":
            assert row["answer"] == (NO_ANSWER if number != 7 else f"Sodium: {100 + number} mmol/L\nPotassium: 4.1 mmol/L")
        elif number not in {3, 5, 7}:
            assert row["answer"].startswith(f"Sodium: {100 + number} mmol/L")


def test_neither_table_nor_page_names_a_variant_a_pair_or_the_seed(made):
    for name in (SHEET, PAGE):
        text = (made.directory / name).read_text(encoding="utf-8-sig")
        assert not re.search(r"\b(base|adapter|nf4)\b", text)
        assert not [item.pair_id for item in key(made).values() if re.search(rf"\b{item.pair_id}\b", text)]
        assert REQUEST.seed not in text
        assert "document" not in re.sub(r"<style>.*?</style>", "", text, flags=re.DOTALL)


def test_position_tells_nothing_of_the_variant():
    """Over two hundred seeds each variant comes first about as often; in a fixed order one of them always would."""
    chosen = [_Candidate(pair_id="p1", group_id="g1", dataset="forms", licence="CC0-1.0")]
    first = [_items(chosen, "sheet", replace(REQUEST, seed=str(seed)), SHOWN)[0].variant for seed in range(200)]
    assert 80 < first.count("base") < 120


def test_the_same_seed_is_the_same_sheet_and_another_one_another(evaluated, made):
    again = make_sheet(evaluated.workspace, "documents", REQUEST, SHOWN)
    assert (again.fingerprint, again.reused) == (made.fingerprint, True)
    other = make_sheet(evaluated.workspace, "documents", replace(REQUEST, seed="another"), SHOWN)
    assert not key(other).keys() & key(made).keys()


def test_no_item_is_on_two_sheets(evaluated, made):
    """As when more pairs were asked for with the same seed: a rating would be of one of two sheets, nobody knows which."""
    more = make_sheet(evaluated.workspace, "documents", replace(REQUEST, num_pairs=59), SHOWN)
    assert not key(more).keys() & key(made).keys()


def test_ids_and_order_stay_what_they_are():
    """Others: raise REVISION, and say why. Sheets that were handed out keep their key, but the same seed makes another sheet."""
    chosen = [_Candidate(pair_id=pair, group_id="g1", dataset="forms", licence="CC0-1.0") for pair in ("p1", "p2")]
    items = [(item.item_id, item.pair_id, item.variant) for item in _items(chosen, "sheet", REQUEST, SHOWN)]
    assert (REVISION, items[:2]) == (1, [("r8ff5fc645a", "p1", "adapter"), ("r162738918e", "p2", "adapter")])


class Articles(HTMLParser):
    """How many pictures each item of a page has."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.pictures: dict[str, int] = {}
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag == "article":
            self.pictures[str(given["id"])] = 0
        elif tag == "img":
            assert str(given["src"]).startswith("data:image/jpeg;base64,")
            self.pictures[str(given["alt"]).rpartition(" ")[2]] += 1
        assert tag not in {"script", "link", "iframe"}


def test_the_page_shows_every_item_with_its_picture_and_says_what_each_number_means(made):
    page = (made.directory / PAGE).read_text(encoding="utf-8")
    assert Articles(page).pictures == dict.fromkeys(key(made), 1)
    assert "default-src 'none'" in page
    assert all(meaning in page for meaning in SCALE.values())


def test_what_a_dataset_contains_is_not_run(evaluated):
    """Page 3 is marked up in question and answer."""
    whole = make_sheet(evaluated.workspace, "documents", replace(REQUEST, num_pairs=100), SHOWN)
    page = (whole.directory / PAGE).read_text(encoding="utf-8")
    assert "zebra" in page
    assert PLANTED not in page
    Articles(page)


def test_pairs_that_may_not_be_shown_are_left_out_and_counted(evaluated):
    """Page 5 is under another licence, the questions are of a dataset that may not be shown."""
    whole = make_sheet(evaluated.workspace, "documents", replace(REQUEST, num_pairs=100), SHOWN)
    assert (whole.facts["num_pairs"], whole.facts["num_pairs_withheld"], whole.facts["num_pairs_without_picture"]) == (59, 5, 0)
    for name in (SHEET, PAGE):
        assert HIDDEN not in (whole.directory / name).read_text(encoding="utf-8-sig")


def test_where_a_person_says_so_the_table_has_the_texts_and_the_page_only_the_pair(evaluated):
    request = replace(REQUEST, num_pairs=100, seen_by_raters=("secret",))
    whole = make_sheet(evaluated.workspace, "documents", request, SHOWN)
    assert (whole.facts["num_pairs"], whole.facts["num_pairs_withheld"], whole.facts["num_pairs_without_picture"]) == (63, 1, 4)
    hidden = {item.item_id: item.pair_id for item in key(whole).values() if item.dataset == "secret"}
    page = (whole.directory / PAGE).read_text(encoding="utf-8")
    assert HIDDEN not in page
    assert not hidden.keys() & Articles(page).pictures.keys()
    assert dict(re.findall(r'<tr><th scope="row">(r\w+)</th><td>(\w+)</td></tr>', page)) == hidden
    assert HIDDEN in (whole.directory / SHEET).read_text(encoding="utf-8-sig")


def test_where_nothing_may_be_shown_there_is_no_sheet_and_the_datasets_are_named(evaluated):
    with pytest.raises(InputRefused) as refusal:
        make_sheet(evaluated.workspace, "documents", REQUEST, {})
    assert refusal.value.found == "64 test pairs, none of which may be shown: forms (CC0-1.0), forms (not stated), secret (CC0-1.0)"
    assert "--raters-may-see" in refusal.value.do
    with pytest.raises(InputRefused, match="no test pair of the dataset 'secrets'"):
        make_sheet(evaluated.workspace, "documents", replace(REQUEST, seen_by_raters=("secrets",)), SHOWN)


def test_variants_that_did_not_answer_are_named(evaluated):
    with pytest.raises(InputRefused, match="no test pair that all of base, int8 answered"):
        make_sheet(evaluated.workspace, "documents", replace(REQUEST, variants=("base", "int8")), SHOWN)


@pytest.mark.parametrize(("changes", "found"), [({"num_pairs": 0}, "num_pairs = 0"), ({"variants": ("base", "base")}, "each once")])
def test_a_request_that_cannot_be_meant_is_refused(changes: dict[str, object], found: str):
    with pytest.raises(ValueError, match=found):
        replace(REQUEST, **changes)


@pytest.mark.parametrize("text", ["=1+1", "-5 mg", "+49", "@cmd", "\t=1"])
def test_no_answer_is_a_formula(text: str):
    assert text.startswith(FORMULA)
    assert _inert(text) == f"'{text}"
    assert _inert("Sodium: -5") == "Sodium: -5"


def test_a_sheet_that_may_be_filled_in_is_not_written_over(made, handed_out: Path):
    assert hand_out(made, handed_out.parent)[0] == handed_out  # the same one again is no loss
    handed_out.write_bytes(handed_out.read_bytes().replace(b",,,,", b",Anna,3,no,", 1))
    with pytest.raises(MedVLError, match="name an empty folder"):
        hand_out(made, handed_out.parent)
    assert b"Anna" in handed_out.read_bytes()
    assert sorted(path.name for path in handed_out.parent.iterdir()) == [SHEET, PAGE]  # the key is not among them


def _hidden_now(directory: Path) -> None:
    items = list(read_table(directory / ITEMS, Item))
    write_table(directory / ITEMS, Item, [replace(items[0], is_shown=False), *items[1:]])


def _named(directory: Path) -> None:
    path = directory / SHEET
    text = path.read_text(encoding="utf-8-sig").replace("item,question", "item,variant,question", 1)
    path.write_text(text, encoding="utf-8-sig")


def _one_more(directory: Path) -> None:
    with (directory / SHEET).open("a", encoding="utf-8") as sheet:
        sheet.write("r0000000000,?,x,,,,\r\n")


DAMAGES = {
    "columns_are_as_declared": added_column(ITEMS), "the_key_fits_the_sheet": _one_more,
    "the_sheet_does_not_say_whose_answer_it_is": _named, "only_what_may_be_shown_is_in_the_page": _hidden_now,
}  # fmt: skip


@pytest.mark.parametrize("rule", [found.name for found in RULES])
def test_damage_is_found_by_exactly_its_rule(made, tmp_path: Path, rule: str):
    directory = shutil.copytree(made.directory, tmp_path / "damaged")
    assert all(found.holds(directory).passed for found in RULES)
    DAMAGES[rule](directory)
    assert [found.name for found in RULES if not found.holds(directory).passed] == [rule]
