"""Validated pairs. If these passed wrongly, rows would vanish without a reason, or unreadable pictures, empty answers and repeated pairs
would be trained on and counted in scores.
"""

import io
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from medvl_lib.image_facts import IMAGE_FACTS, ImageRow
from medvl_lib.images import ImageStore
from medvl_lib.pairs import PAIRS, REJECTIONS, Dataset, Pair, Rejection
from medvl_lib.tables import read_table, write_table
from medvl_lib.validation import Limits, rules, write_validated

DATASET = Dataset(
    name="knee_xray", title="Knees", licence="CC-BY-4.0", source="https://example.org", may_be_shown=False, read=lambda _: (), revision=1,
    rejected_share_budget=0.5,
)  # fmt: skip
LIMITS = Limits(
    min_request_characters=2, max_request_characters=30, min_response_characters=3, max_response_characters=20, max_images=2,
    min_image_side_pixels=8, max_image_side_pixels=100, max_aspect_ratio=4.0, max_frames=1,
)  # fmt: skip
EARLIER = Rejection(pair_id="knee_xray/000", dataset="knee_xray", source="row 0", stage="read", reason="bad_grade", detail="grade 9")


def picture(store: ImageStore, width: int = 32, height: int = 24, color: int = 0, num_frames: int = 1) -> str:
    frames = [Image.new("L", (width, height), color + number) for number in range(num_frames)]
    stream = io.BytesIO()
    frames[0].save(stream, "TIFF", save_all=True, append_images=frames[1:])
    return store.put(stream.getvalue())


def pair(number: int, store: ImageStore, **changes: object) -> Pair:
    values = {
        "pair_id": f"knee_xray/{number:03d}", "dataset": "knee_xray", "image_ids": (picture(store, color=number),),
        "request": "Which grade?", "response": "Grade 2.", "expected": (), "subject_id": f"p{number}", "document_id": f"case-{number}",
        "publisher_split": None, "language": "en", "source": f"row {number}", "licence": "CC-BY-4.0", "metadata": {},
    }  # fmt: skip
    return Pair(**{**values, **changes})


@pytest.fixture
def store(tmp_path: Path) -> ImageStore:
    return ImageStore(tmp_path / "images")


def validate(root: Path, store: ImageStore, *pairs: Pair, earlier: tuple[Rejection, ...] = ()) -> tuple[Path, dict]:
    for folder in ("pairs", "validated"):
        (root / folder).mkdir()
    write_table(root / "pairs" / PAIRS, Pair, pairs)
    write_table(root / "pairs" / REJECTIONS, Rejection, earlier)
    return root / "validated", write_validated(root / "validated", root / "pairs", store, DATASET, LIMITS)


def reasons(directory: Path) -> dict[str, str]:
    return {row.pair_id.removeprefix("knee_xray/"): row.reason for row in read_table(directory / REJECTIONS, Rejection)}


def failing(directory: Path) -> list[str]:
    return [rule.name for rule in rules(DATASET) if not rule.holds(directory).passed]


def test_a_pair_left_out_stands_among_the_rejections_with_its_reason(tmp_path, store):
    good, twin = pair(1, store), pair(2, store, image_ids=(picture(store, color=1),))
    directory, facts = validate(tmp_path, store, good, pair(3, store, response="No"), twin, earlier=(EARLIER,))
    assert list(read_table(directory / PAIRS, Pair)) == [good]
    assert list(read_table(directory / REJECTIONS, Rejection)) == [
        EARLIER,
        replace(
            EARLIER,
            pair_id="knee_xray/003",
            source="row 3",
            stage="validate",
            reason="response_too_short",
            detail="response_characters is 2",
        ),
        replace(
            EARLIER, pair_id="knee_xray/002", source="row 2", stage="validate", reason="duplicate_pair", detail="the same as knee_xray/001"
        ),
    ]
    assert facts == {
        "num_read": 4, "num_pairs": 1, "num_rejected": 3, "num_images": 2, "rejected_bad_grade": 1, "rejected_duplicate_pair": 1,
        "rejected_response_too_short": 1,
    }  # fmt: skip


def test_a_row_that_breaks_a_rule_is_rejected_with_its_first_reason(tmp_path, store):
    broken: dict[str, dict] = {
        "publisher_split_unknown": {"publisher_split": "dev"},
        "dataset_unexpected": {"dataset": "slake"},
        "language_unknown": {"language": "english"},
        "licence_empty": {"licence": " "},
        "image_absent": {"image_ids": ()},
        "images_too_many": {"image_ids": (picture(store),) * 3},
        "request_too_short": {"request": " ? \n"},
        "request_too_long": {"request": "x" * 31},
        "response_empty": {"response": "\u200b\n "},
        "response_too_short": {"response": "  No \u00a0"},
        "response_too_long": {"response": "x" * 21},
    }
    pairs = [pair(number, store, **changes, pair_id=reason) for number, (reason, changes) in enumerate(broken.items())]
    both = pair(98, store, language="english", response="")
    directory, _ = validate(tmp_path, store, *pairs, both, pair(99, store))
    assert reasons(directory) == {**{reason: reason for reason in broken}, "098": "language_unknown"}


def test_bounds_are_inclusive(tmp_path, store):
    atlas = (picture(store, 8, 32), picture(store, 100, 25))
    edges = pair(1, store, image_ids=atlas, request="x?", response="yes"), pair(2, store, request="x" * 30, response="x" * 20)
    directory, _ = validate(tmp_path, store, *edges)
    assert reasons(directory) == {}


def test_a_pair_is_left_out_for_one_bad_picture(tmp_path, store):
    bad = {
        "image_unreadable": store.put(b"no picture"),
        "image_too_small": picture(store, width=7, height=8),
        "image_too_large": picture(store, width=101, height=90),
        "image_too_elongated": picture(store, width=10, height=41),
        "image_has_many_frames": picture(store, num_frames=2),
    }
    pairs = [
        pair(number, store, pair_id=reason, image_ids=(picture(store), image_id)) for number, (reason, image_id) in enumerate(bad.items())
    ]
    directory, _ = validate(tmp_path, store, pair(99, store), *pairs)
    assert reasons(directory) == {reason: reason for reason in bad}
    details = {row.reason: row.detail for row in read_table(directory / REJECTIONS, Rejection)}
    assert details["image_unreadable"] == f"picture {bad['image_unreadable']}: not a picture that Pillow knows (10 bytes)"
    assert details["image_too_elongated"] == f"picture {bad['image_too_elongated']}: aspect_ratio is 4.1"


def test_a_null_where_none_may_be_is_rejected_not_crashed_on(tmp_path, store):
    for folder in ("pairs", "validated"):
        (tmp_path / folder).mkdir()
    write_table(tmp_path / "pairs" / REJECTIONS, Rejection, [])
    write_table(tmp_path / "pairs" / PAIRS, Pair, [pair(number, store) for number in range(4)])
    table = pq.read_table(tmp_path / "pairs" / PAIRS)
    loose = pa.schema([field.with_nullable(True) for field in table.schema])
    changes = ({}, {"response": None}, {"pair_id": None}, {"image_ids": None})
    rows = [{**row, **change} for row, change in zip(table.to_pylist(), changes, strict=True)]
    pq.write_table(pa.Table.from_pylist(rows, schema=loose), tmp_path / "pairs" / PAIRS)
    write_validated(tmp_path / "validated", tmp_path / "pairs", store, DATASET, LIMITS)
    assert reasons(tmp_path / "validated") == {"001": "response_missing", "row 2": "pair_id_missing", "003": "image_ids_missing"}


def test_the_same_picture_with_another_question_or_answer_is_no_duplicate(tmp_path, store):
    one = picture(store)
    directory, _ = validate(
        tmp_path, store, pair(1, store, image_ids=(one,)), pair(2, store, image_ids=(one,), request="Which side?"),
        pair(3, store, image_ids=(one,), response="Grade 3."), pair(4, store, image_ids=(one, one)),
    )  # fmt: skip
    assert reasons(directory) == {}


def test_the_twin_of_a_pair_that_was_left_out_for_its_own_label_is_kept(tmp_path, store):
    one = picture(store)
    directory, _ = validate(tmp_path, store, pair(1, store, image_ids=(one,), language="xxx"), pair(2, store, image_ids=(one,)))
    assert reasons(directory) == {"001": "language_unknown"}


def test_nothing_to_validate_is_nothing_rejected(tmp_path, store):
    directory, facts = validate(tmp_path, store)
    assert facts == {"num_read": 0, "num_pairs": 0, "num_rejected": 0, "num_images": 0}
    assert failing(directory) == []


def test_rows_beyond_one_batch_are_judged_too(tmp_path, store, monkeypatch):
    monkeypatch.setattr("medvl_lib.rules.BATCH_ROWS", 2)
    one = picture(store)
    numbered = [pair(number, store, image_ids=(one,), request=f"Number {number}?", response="x" * number) for number in range(1, 8)]
    directory, facts = validate(tmp_path, store, *numbered)
    assert (reasons(directory), facts["num_pairs"]) == ({"001": "response_too_short", "002": "response_too_short"}, 5)


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"min_response_characters": 0}, "min_response_characters = 0"),
        ({"max_images": 0}, "max_images = 0"),
        ({"min_image_side_pixels": 200}, "min_image_side_pixels = 200 is above max_image_side_pixels = 100"),
    ],
)
def test_limits_that_nothing_can_keep_are_refused(changes, found):
    with pytest.raises(ValueError, match=found):
        replace(LIMITS, **changes)


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("sound")
    store = ImageStore(root / "images")
    return validate(root, store, pair(1, store), pair(2, store), earlier=(EARLIER,))[0]


def rewrite(file: str, model: type, change: Callable[[list], list]) -> Callable[[Path], None]:
    return lambda directory: write_table(directory / file, model, change(list(read_table(directory / file, model))))


def extra_column(directory: Path) -> None:
    table = pq.read_table(directory / IMAGE_FACTS)
    pq.write_table(table.append_column("note", table["image_id"]), directory / IMAGE_FACTS)


@pytest.mark.parametrize(
    ("damage", "rule"),
    [
        (extra_column, "columns_are_as_declared"),
        (rewrite(PAIRS, Pair, lambda rows: rows[:-1]), "nothing_is_lost"),
        (rewrite(REJECTIONS, Rejection, lambda _: []), "nothing_is_lost"),
        (rewrite(IMAGE_FACTS, ImageRow, lambda rows: [replace(row, is_readable=False) for row in rows]), "every_image_opens"),
        (rewrite(IMAGE_FACTS, ImageRow, lambda rows: rows[1:]), "every_image_opens"),
        (rewrite(PAIRS, Pair, lambda rows: [replace(rows[0], response="\u200b \n"), *rows[1:]]), "response_is_never_empty"),
        (rewrite(PAIRS, Pair, lambda rows: [rows[0], replace(rows[0], pair_id="knee_xray/002")]), "no_pair_stands_twice"),
        (rewrite(REJECTIONS, Rejection, lambda rows: [replace(row, reason="") for row in rows]), "every_rejection_says_why"),
    ],
)
def test_damage_breaks_exactly_its_rule(tmp_path, sound, damage, rule):
    directory = shutil.copytree(sound, tmp_path / "validated")
    assert failing(directory) == []
    damage(directory)
    assert failing(directory) == [rule]


def test_more_rejections_than_the_budget_break_exactly_their_rule(tmp_path, store):
    directory, _ = validate(tmp_path, store, pair(1, store), earlier=(EARLIER, replace(EARLIER, pair_id="knee_xray/00")))
    assert failing(directory) == ["rejected_share_is_within_budget"]
