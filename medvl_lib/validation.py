"""Validation: which pairs are good enough to train on, and why the others are not.

In: the pairs and rejections of one dataset, and the image store. Out: ``pairs.parquet`` (kept, unchanged and in order),
``rejections.parquet`` (those of reading, then ours, each with one reason), ``image_facts.parquet`` and ``counts.json``;
read = validated + rejected, always. A rejected pair gets the first reason in this order:

1. ``<column>_missing``, ``<column>_unknown`` from the row model; ``dataset_unexpected``, ``language_unknown``, ``licence_empty``;
   ``image_absent``, ``images_too_many``; ``request_too_short``/``_too_long``, ``response_empty``, ``response_too_short``/``_too_long``;
2. per picture ``image_unreadable``, ``image_too_small``, ``image_too_large``, ``image_too_elongated``, ``image_has_many_frames``;
3. ``duplicate_pair``: same pictures, request and response as an earlier pair that no row rule has left out.

Splitting, leaks between splits and what a model makes of a pair do not belong here.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from pathlib import Path

from medvl_lib.expectations import Broken, RowRule, between, first_broken, in_set, matches, structural_rules
from medvl_lib.files import read_json, write_json
from medvl_lib.image_facts import IMAGE_FACTS, ImageRow, write_image_facts
from medvl_lib.images import ImageStore
from medvl_lib.pairs import PAIRS, REJECTIONS, Dataset, Pair, Rejection
from medvl_lib.progress import Report, silent, told
from medvl_lib.provenance import Fact, Outcome, Rule
from medvl_lib.rules import batches, columns_are_as_declared, no_rows, rule, stream
from medvl_lib.tables import TableWriter, num_rows, read_table

REVISION = 1  # first version; raised too when expectations or image_facts compute something else
COUNTS = "counts.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a pair may measure. Every bound is inclusive and bears identity."""

    min_request_characters: int
    """Characters from the first to the last visible one; 0 where a dataset has no question."""
    max_request_characters: int
    min_response_characters: int
    """At least 1: an empty answer teaches nothing."""
    max_response_characters: int
    max_images: int
    """Pictures per pair."""
    min_image_side_pixels: int
    """The shorter side."""
    max_image_side_pixels: int
    """The longer side."""
    max_aspect_ratio: float
    """Longer by shorter side; Qwen2.5-VL's processor refuses more than 200."""
    max_frames: int
    """Frames of a picture; only the first one is ever seen, so 1 unless that is meant."""

    def __post_init__(self) -> None:
        """Refuse bounds that no pair can satisfy."""
        for field in fields(self):
            least = 0 if field.name == "min_request_characters" else 1
            if (value := getattr(self, field.name)) < least:
                raise ValueError(f"{field.name} = {value!r} must be {least} or more")
        for low, high in (("request_characters",) * 2, ("response_characters",) * 2, ("image_side_pixels",) * 2):
            if getattr(self, f"min_{low}") > getattr(self, f"max_{high}"):
                raise ValueError(f"min_{low} = {getattr(self, f'min_{low}')} is above max_{high} = {getattr(self, f'max_{high}')}")


# A text is measured from its first to its last visible character: neither separators (Z) nor control and format characters (C).
_TESTED_AS = {
    "image_ids": "num_images", "request": "request_characters", "response": "response_characters",
    "expected": "num_expected", "metadata": "num_labels",
}  # fmt: skip
_PAIRS_UNDER_TEST = r"""
    select coalesce(pair_id, source) as row_id, pair_id, dataset, len(image_ids) as num_images,
           length(regexp_replace(request, '^[\pZ\pC]+|[\pZ\pC]+$', '', 'g')) as request_characters,
           length(regexp_replace(response, '^[\pZ\pC]+|[\pZ\pC]+$', '', 'g')) as response_characters,
           len(expected) as num_expected, document_id, publisher_split, language, source, licence, cardinality(metadata) as num_labels
    from read_parquet($table)"""
_IMAGES_UNDER_TEST = """
    select image_id, is_readable, least(width_pixels, height_pixels) as short_side_pixels,
           greatest(width_pixels, height_pixels) as long_side_pixels, long_side_pixels / short_side_pixels as aspect_ratio, num_frames
    from read_parquet($table)"""
_PROBLEMS = "select image_id, problem from read_parquet($table) where not is_readable"
_NUM_IMAGES = "select count(distinct image_id) from (select unnest(image_ids) as image_id from read_parquet($table))"
_IMAGE_IDS = "select distinct unnest(image_ids) as image_id from read_parquet($table) order by image_id"
_DUPLICATES = """
    select row_id, first_value(row_id) over same
    from (select coalesce(pair_id, source) as row_id, file_row_number,
                 md5_number(md5(request) || md5(response) || array_to_string(image_ids, '')) as content
          from read_parquet($table, file_row_number = true) where row_id not in (select unnest($broken::varchar[])))
    window same as (partition by content order by file_row_number)
    qualify row_number() over same > 1"""


def row_rules(dataset: str, limits: Limits) -> tuple[RowRule, ...]:
    """What each row must be, in the order in which reasons count."""
    return (
        *structural_rules(Pair, _TESTED_AS),
        in_set("dataset_unexpected", "dataset", [dataset]),
        matches("language_unknown", "language", r"^[a-z]{2}$"),
        matches("licence_empty", "licence", r"\S"),
        between("image_absent", "num_images", 1, None),
        between("images_too_many", "num_images", None, limits.max_images),
        between("request_too_short", "request_characters", limits.min_request_characters, None),
        between("request_too_long", "request_characters", None, limits.max_request_characters),
        between("response_empty", "response_characters", 1, None),
        between("response_too_short", "response_characters", limits.min_response_characters, None),
        between("response_too_long", "response_characters", None, limits.max_response_characters),
    )


def image_rules(limits: Limits) -> tuple[RowRule, ...]:
    """What each picture must be, in the order in which reasons count."""
    return (
        in_set("image_unreadable", "is_readable", [True]),
        between("image_too_small", "short_side_pixels", limits.min_image_side_pixels, None),
        between("image_too_large", "long_side_pixels", None, limits.max_image_side_pixels),
        between("image_too_elongated", "aspect_ratio", None, limits.max_aspect_ratio),
        between("image_has_many_frames", "num_frames", None, limits.max_frames),
    )


def write_validated(
    directory: Path, pairs_directory: Path, images: ImageStore, dataset: Dataset, limits: Limits, report: Report = silent
) -> dict[str, Fact]:
    """Write the pairs that keep every rule, and each other row with its reason; returns the counts."""
    pairs, rejections = pairs_directory / PAIRS, pairs_directory / REJECTIONS
    write_json(directory / COUNTS, {"num_pairs_read": num_rows(pairs), "num_rejections_read": num_rows(rejections)})
    [(in_all,)] = stream(_NUM_IMAGES, table=pairs)
    image_ids = (str(row[0]) for row in stream(_IMAGE_IDS, table=pairs))
    num_images = write_image_facts(directory / IMAGE_FACTS, told(image_ids, report, "images", in_all), images)
    why_not = _judge_pairs(pairs, directory / IMAGE_FACTS, dataset.name, limits)
    reasons: Counter[str] = Counter()
    with TableWriter(directory / PAIRS, Pair) as kept, TableWriter(directory / REJECTIONS, Rejection) as left_out:
        for rejection in read_table(rejections, Rejection):
            left_out.write(rejection)
            reasons[rejection.reason] += 1
        for pair in told(read_table(pairs, Pair), report, "pairs", num_rows(pairs)):
            if (why := why_not(pair)) is None:
                kept.write(pair)
            else:
                left_out.write(_rejection(pair, dataset.name, why))
                reasons[why.reason] += 1
    counts: dict[str, Fact] = {"num_read": kept.num_rows + left_out.num_rows, "num_pairs": kept.num_rows}
    counts |= {"num_rejected": left_out.num_rows, "num_images": num_images}
    return counts | {f"rejected_{reason}": count for reason, count in sorted(reasons.items())}


def _rejection(pair: Pair, dataset: str, why: Broken) -> Rejection:
    return Rejection(
        pair_id=_row_id(pair), dataset=dataset, source=pair.source or "", stage="validate",
        reason=why.reason, detail=why.detail,
    )  # fmt: skip


def _judge_pairs(pairs: Path, image_facts: Path, dataset: str, limits: Limits) -> Callable[[Pair], Broken | None]:
    """Apply all rules to the table; the answer knows the first reason of each broken pair (only those are kept in memory)."""
    broken = _judge(pairs, _PAIRS_UNDER_TEST, row_rules(dataset, limits))
    bad_images = _judge(image_facts, _IMAGES_UNDER_TEST, image_rules(limits))
    problems = dict(stream(_PROBLEMS, table=image_facts))
    firsts = dict(stream(_DUPLICATES, table=pairs, broken=list(broken)))

    def why_not(pair: Pair) -> Broken | None:
        if reason := broken.get(_row_id(pair)):
            return reason
        for image_id in pair.image_ids:
            if bad := bad_images.get(image_id):
                return Broken(bad.reason, f"picture {image_id}: {problems.get(image_id, bad.detail)}")
        first = firsts.get(_row_id(pair))
        return None if first is None else Broken("duplicate_pair", f"the same as {first}")

    return why_not


def _row_id(pair: Pair) -> str:
    return pair.pair_id or pair.source  # a row without an id is known by its place in the raw files


def _judge(table: Path, question: str, by: tuple[RowRule, ...]) -> dict[str, Broken]:
    names = [str(column[0]) for column in stream(f"describe {question}", table=table)]
    return first_broken(by, names, batches(question, table=table))


def nothing_is_lost(directory: Path) -> Outcome:
    """Every row that came in came out, kept or rejected."""
    counts = read_json(directory / COUNTS)
    came = counts["num_pairs_read"] + counts["num_rejections_read"]
    kept, rejected = num_rows(directory / PAIRS), num_rows(directory / REJECTIONS)
    return Outcome(passed=came == kept + rejected, found=f"{came} rows came in; {kept} were kept and {rejected} rejected")


def every_image_opens(directory: Path) -> Outcome:
    """Every picture of a kept pair was decoded to its last byte."""
    question = """select distinct image_id from (select unnest(image_ids) as image_id from read_parquet($pairs))
        anti join (select image_id from read_parquet($facts) where is_readable) using (image_id) order by image_id"""
    return no_rows("pictures of kept pairs do not open", question, pairs=directory / PAIRS, facts=directory / IMAGE_FACTS)


def response_is_never_empty(directory: Path) -> Outcome:
    """Every kept pair has something to say."""
    question = r"select pair_id from read_parquet($pairs) where regexp_matches(response, '[^\pZ\pC]') is not true"
    return no_rows("kept pairs have no response", question, pairs=directory / PAIRS)


def no_pair_stands_twice(directory: Path) -> Outcome:
    """No two kept pairs have the same pictures, request and response."""
    question = """select min(pair_id) from read_parquet($pairs)
        group by md5_number(md5(request) || md5(response) || array_to_string(image_ids, '')) having count(*) > 1 order by 1"""
    return no_rows("kept pairs stand more than once", question, pairs=directory / PAIRS)


def every_rejection_says_why(directory: Path) -> Outcome:
    """Every row left out has a reason and what was found."""
    question = "select pair_id from read_parquet($rejections) where not regexp_full_match(reason, '[a-z][a-z0-9_]*') or detail = ''"
    return no_rows("rejections give no reason", question, rejections=directory / REJECTIONS)


def rejected_share(directory: Path) -> float:
    """Rejected by all rows (0-1); 0 where there are none."""
    kept, rejected = num_rows(directory / PAIRS), num_rows(directory / REJECTIONS)
    return rejected / max(1, kept + rejected)


def rules(dataset: Dataset) -> tuple[Rule, ...]:
    """The rules of a dataset's validated pairs; its budget for rejections is its own."""

    def rejected_share_is_within_budget(directory: Path) -> Outcome:
        share, budget = rejected_share(directory), dataset.rejected_share_budget
        found = f"{share:.4f} of all rows were rejected, at most {budget:g} may be"
        if share <= budget:
            return Outcome(passed=True, found=found)
        reasons = Counter(row.reason for row in read_table(directory / REJECTIONS, Rejection))
        why = ", ".join(f"{count} {reason}" for reason, count in reasons.most_common())
        cure = f"mend the files, or raise [datasets.{dataset.name}] rejected_share_budget"
        return Outcome(passed=False, found=f"{found}: {why}; each row stands in {REJECTIONS}; {cure}", offenders=tuple(reasons))

    return (
        columns_are_as_declared({PAIRS: Pair, REJECTIONS: Rejection, IMAGE_FACTS: ImageRow}),
        rule(nothing_is_lost, "Every row that was read is either kept or rejected."),
        rule(every_image_opens, "Every picture of a kept pair decodes to its last byte."),
        rule(response_is_never_empty, "Every kept pair has a visible response."),
        rule(no_pair_stands_twice, "No two kept pairs have the same pictures, request and response."),
        rule(every_rejection_says_why, "Every rejected row has a reason and what was found."),
        replace(
            rule(rejected_share_is_within_budget, "Not more rows were rejected than the dataset's budget allows."),
            literals=(dataset.rejected_share_budget,),
        ),
    )
