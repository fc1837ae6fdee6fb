"""The card of an exported folder: what it is, on what data and how it was made, how it scored, what the gate said, and what it is not for.

In: what is exported, its evaluation, its comparison, its licences. Out: a ``README.md`` with front matter as the hub reads it. Counts,
scores and settings alone: no picture, text or id of a pair, whatever its data card allows.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from medvl_lib.benchmark.promotion import winner_of
from medvl_lib.benchmark.tables import BenchmarkRow
from medvl_lib.evaluation.predictions import FLOORS, Variant
from medvl_lib.export import plain, serving_commands
from medvl_lib.export.comparing import Parity, in_words, score_in_words
from medvl_lib.export.licences import Licence, licence_of, licence_of_model, strictest
from medvl_lib.export.plain import Loadable
from medvl_lib.models.spec import ModelSpec
from medvl_lib.provenance import Fact
from medvl_lib.report.content import Report
from medvl_lib.report.figures import whole

TAGS = ("medvl", "medical", "not-for-clinical-use")
RELATIONS: Mapping[str, str] = {"adapter": "adapter", "merged": "merge", "model": "finetune"}
DIGITS = 3
BAR = "\\|"  # in a cell


@dataclass(frozen=True, slots=True, kw_only=True)
class DataUsed:
    """Pairs of one dataset and licence that the weights were trained on."""

    dataset: str
    title: str
    source: str
    licence: str
    """As each pair states it."""
    num_pairs: int
    languages: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Described:
    """Everything that the card of one folder says."""

    line: str
    kind: str
    """``adapter``, ``merged`` or ``model``."""
    variant: Variant
    """What the weights are: ``adapter``, ``merged``, ``base``, ``nf4`` or ``int8``."""
    served: str
    """What the line serves, and because of what."""
    what: str
    """What the folder holds, in a sentence."""
    spec: ModelSpec
    loadable: Loadable
    data: Sequence[DataUsed]
    """Empty where nothing was trained."""
    recipe: Mapping[str, object]
    """Name -> value; empty where nothing was trained."""
    recipe_note: str
    training: Mapping[str, Fact]
    report: Report | None
    """None where the line was never evaluated."""
    parity: Parity | None
    """None where nothing was compared."""
    unchecked: str
    """Why the folder stands without a comparison that holds; empty where one holds."""
    num_context_tokens: int
    made_by: str
    """``MedVL 0.1.0``."""


def licences(spec: ModelSpec, data: Iterable[DataUsed]) -> list[tuple[str, str, Licence]]:
    """(of what, as stated, what it means here) of the base model and of all data."""
    base = licence_of_model(spec)
    found = [(f"base model {spec.hub_id}", base.name, base)]
    return [*found, *((f"data {used.dataset}", used.licence or "not stated", licence_of(used.licence)) for used in data)]


def render(described: Described) -> str:
    """The whole card."""
    sections = (
        _front_matter(described), _head(described), _use(described), _loading(described), _serving(described), _comparison(described),
        _data(described), _recipe(described), _scores(described), _gate(described), _licence(described),
    )  # fmt: skip
    return "\n\n".join("\n".join(section) for section in sections) + "\n"


def _front_matter(described: Described) -> Iterator[str]:
    yield from front_matter(
        described.spec, described.data, library="peft" if described.kind == "adapter" else "transformers", task="image-text-to-text",
        name=f"{described.line} ({described.kind})", relation=RELATIONS[described.kind],
    )  # fmt: skip


def front_matter(spec: ModelSpec, data: Sequence[DataUsed], *, library: str, task: str, name: str, relation: str) -> Iterator[str]:
    """YAML as the hub reads it; a model that is not on the hub is not named as a base there."""
    from huggingface_hub import ModelCardData

    licence = strictest(one for _, _, one in licences(spec, data))
    said: dict[str, Any] = {
        "license": licence.hub, "library_name": library, "pipeline_tag": task, "tags": list(TAGS), "model_name": name,
        "language": sorted({language for used in data for language in used.languages}) or ["en"],
    }  # fmt: skip
    if licence.hub == "other":
        said |= {"license_name": "-".join(licence.name.lower().split()), "license_link": "README.md"}
    if spec.source == "hub":
        said |= {"base_model": spec.hub_id, "base_model_relation": relation}
    yield "---"
    yield str(cast("Any", ModelCardData(**said)).to_yaml())
    yield "---"


def render_base(spec: ModelSpec) -> str:
    """The card of the base model that an exported adapter stands on."""
    head = front_matter(spec, (), library="transformers", task="image-text-to-text", name=f"{spec.hub_id} (base)", relation="finetune")
    told = (
        "",
        f"# {spec.hub_id}: base",
        "",
        f"The base model that the adapter in the folder beside this one belongs on: {_base(spec)}.",
        "",
    )
    return "\n".join([*head, *told, *OUT_OF_SCOPE, "", *licence_lines(spec, ())]) + "\n"


def _head(described: Described) -> Iterator[str]:
    yield f"# {described.line}: {described.kind}"
    yield ""
    yield described.what
    yield ""
    yield f"* Exported by {described.made_by}, because {described.served}."
    beside = "; in the folder `base` beside this one" if described.loadable.weights == "base" else ""
    yield f"* Base model: {_base(described.spec)}{beside}."
    if described.unchecked:
        yield f"* **Unchecked**: {described.unchecked}. Nobody has shown that this folder answers as it was judged."


def _base(spec: ModelSpec) -> str:
    if spec.source == "hub":
        return f"`{spec.hub_id}` at commit `{spec.revision}`"
    return (
        f"`{spec.hub_id}`, {'the small model that comes with MedVL, a test object' if spec.source == 'tiny' else 'a checkpoint of its own'}"
    )


OUT_OF_SCOPE = (
    "## What it is for, and what not",
    "",
    "* Meant for research on documents and pictures like those of the data below, by people who can check each answer.",
    "* **Out of scope: clinical decisions.** It is no medical device; nothing that it gives may decide about a patient, alone or unread.",
    "* Out of scope as well: other kinds of documents, other languages than were trained on, and pictures beyond the pixel budget.",
)


def _use(described: Described) -> Iterator[str]:
    yield from OUT_OF_SCOPE
    if described.report is not None:
        yield "* Answers state things that are not in the picture; how often stands among the scores, where it was measured."


def _loading(described: Described) -> Iterator[str]:
    what = described.loadable
    needs = "transformers and PEFT" if what.is_adapter else "transformers"
    yield f"## Ask it with plain {needs}"
    yield ""
    yield f"From the folder that holds `{what.folder}`, with a picture in RGB as `page.png`:"
    yield ""
    yield "```python"
    yield plain.lines(what).rstrip()
    yield "```"
    yield ""
    yield (
        "These lines are the ones that were compared (below). They ask greedily, with the checkpoint's own penalties off, on pictures as "
        f"MedVL prepares them: rotated as EXIF says, DICOM windowed, at most {described.spec.max_pixels} pixels. "
        "Another backend of the picture processor makes slightly other pixels."
    )
    if what.is_packed:
        yield "The adapter was trained and judged on a base in four bits (NF4): on another base it is another model."


def _serving(described: Described) -> Iterator[str]:
    yield "## Serve it"
    yield ""
    yield from serving_commands.lines(described.loadable, described.variant, described.num_context_tokens)


def _comparison(described: Described) -> Iterator[str]:
    yield "## Does it answer as it was judged?"
    yield ""
    parity = described.parity
    if parity is None:
        yield f"Not compared: {described.unchecked}."
        return
    yield f"Asked on {parity.num_pairs} test pairs of {parity.num_clusters} patients or documents; every figure stands in `parity.json`."
    yield ""
    yield from (f"* {in_words(row)}." for row in parity.comparisons)
    if not parity.is_judged:
        yield (
            "* **This is another form than was judged**: the adapter was trained and judged on the base that its own card names, and is "
            "added into 16-bit weights here. Scores of its answers minus those of what is served: "
            + ("; ".join(map(score_in_words, parity.scores)) or "no metric applies")
            + "."
        )
    yield from (f"* Does not hold: {reason}." for reason in parity.refusals)


def _data(described: Described) -> Iterator[str]:
    yield from data_table(described.data)


def data_table(data: Sequence[DataUsed]) -> Iterator[str]:
    """What was trained on, by dataset and licence: counts and the publishers' words, nothing of the pairs."""
    yield "## Data"
    yield ""
    if not data:
        yield "Nothing was trained: these are the weights of the base model."
        return
    yield "Pairs to train on, or to measure the held-out loss on; no patient and no document of them is in the test set."
    yield ""
    yield from _table(
        ("dataset", "pairs", "languages", "licence as stated", "source"),
        ((f"{used.dataset}: {used.title}", used.num_pairs, ", ".join(used.languages), used.licence, used.source) for used in data),
    )


def _recipe(described: Described) -> Iterator[str]:
    yield "## Recipe"
    yield ""
    if not described.recipe:
        yield "None."
        return
    if described.recipe_note:
        yield described.recipe_note
        yield ""
    yield from _table(("", ""), ((f"`{name}`", _cell(value)) for name, value in described.recipe.items()))
    yield ""
    yield "What training measured: " + ", ".join(f"{name} {_cell(value)}" for name, value in described.training.items()) + "."


def _scores(described: Described) -> Iterator[str]:
    yield "## Scores"
    yield ""
    if described.report is None:
        yield "It was never evaluated."
        return
    yield f"Evaluation `{described.report.evaluation_id}`, test split; 95 % intervals over patients or documents, none below six."
    yield ""
    rows = [
        row for row in whole(described.report.benchmark_rows) if row.split == "test" and row.mean is not None and row.variant not in FLOORS
    ]
    yield from _table(
        ("metric", "dataset", "variant", "condition", "n", "clusters", "mean", "95 % interval"),
        ((row.metric, row.dataset, row.variant, row.condition, row.num_pairs, row.num_clusters, _number(row.mean), _interval(row))
         for row in sorted(rows, key=lambda row: (row.metric, row.dataset, row.condition, row.variant))),
    )  # fmt: skip


def _gate(described: Described) -> Iterator[str]:
    yield "## The gate's verdict"
    yield ""
    if described.report is None:
        yield "None: it was never evaluated."
        return
    winner = winner_of(described.report.decisions)
    for decision in described.report.decisions:
        yield f"* `{decision.challenger}`: **{decision.verdict}** against `{decision.champion}`: {'; '.join(decision.reasons)}."
    yield f"* Chosen to be served: {f'`{winner.challenger}`' if winner else 'nothing new'}."
    yield from (f"* A person decided for `{decision.challenger}`." for decision in described.report.overrides)  # who, and why: the store


def _licence(described: Described) -> Iterator[str]:
    yield from licence_lines(described.spec, described.data)


def licence_lines(spec: ModelSpec, data: Sequence[DataUsed]) -> Iterator[str]:
    """The strictest licence, and every one that holds."""
    found = licences(spec, data)
    hardest = strictest(one for _, _, one in found)
    yield "## Licence"
    yield ""
    yield f"**{hardest.name}**, the strictest of base model and data: {hardest.condition}. All of these hold together:"
    yield ""
    yield from _table(("of", "as stated", "read as", "condition"), ((of, stated, one.name, one.condition) for of, stated, one in found))


def _interval(row: BenchmarkRow) -> str:
    return row.interval_note or "none" if row.ci_low is None or row.ci_high is None else f"{_number(row.ci_low)} to {_number(row.ci_high)}"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.{DIGITS}g}"


def _cell(value: object) -> str:
    return _number(value) if isinstance(value, float) else f"`{value}`" if isinstance(value, str) else str(value)


def _table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> Iterator[str]:
    yield f"| {' | '.join(columns)} |"
    yield f"|{'---|' * len(columns)}"
    for row in rows:
        yield f"| {' | '.join(str(value).replace('|', BAR) for value in row)} |"
