"""What a report says: one frozen value, from which page, Markdown and JSON are all written.

In: nothing. Out: the row types of a report, and its JSON there and back. Rows of the benchmark store are kept as they stand in it,
unrounded. Finding them is ``gather``'s work, showing them ``layout``'s.
"""

from dataclasses import dataclass

from pydantic import TypeAdapter

from medvl_lib.benchmark.promotion import Decision
from medvl_lib.benchmark.tables import (
    BenchmarkRow,
    DatasetCountRow,
    EncoderSpeedRow,
    EnvironmentRow,
    EvaluationRow,
    GoalRow,
    LatencyRow,
    MemoryRow,
    RetrievalTableRow,
    TrainingStepRow,
)
from medvl_lib.benchmark.terms import Terms
from medvl_lib.provenance import Fact, Verdict
from medvl_lib.reviews.tables import RatingSummary

REVISION = (
    9  # how the encoder was trained, and which of its intervals are none; raised when a report of an evaluation would say something else
)


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditedPart:
    """What the model sees of one dataset in one split."""

    dataset: str
    split: str
    num_conversations: int
    mean_tokens: float
    longest_tokens: int
    mean_image_tokens: float
    mean_target_tokens: float
    """Answer and end token: what is trained on."""
    smallest_glyph_pixels: float | None
    """Least height of a lower-case x as the model sees it; None where no height is known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Audit:
    """What the audit counted, and the limits that it held the conversations to."""

    limits: dict[str, int | float]
    parts: tuple[AuditedPart, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Confusions:
    """Answers by one variant to closed questions of one dataset's test split with the same labels; or descriptions of its classes."""

    dataset: str
    variant: str
    labels: tuple[str, ...]
    """What may be answered, or the classes that there are; empty for the sets that too few pairs have, counted together."""
    counts: dict[str, dict[str, int]]
    """Wanted (a label, or other) -> said (a label, or unparsable) -> pairs; of rare sets, any -> right, wrong or unparsable -> pairs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """A picture of an example, scaled down."""

    image_id: str
    width_pixels: int
    height_pixels: int
    data_uri: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """A test pair as it was asked, wanted and answered. Only one that may be shown; long texts are cut."""

    pair_id: str
    dataset: str
    licence: str
    pictures: tuple[Picture, ...]
    request: str
    wanted: str
    said: dict[str, str]
    """Variant -> its answer."""
    scores: dict[str, float]
    """Variant -> its score on the gate's primary metric."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Withheld:
    """Test pairs that are no examples because the data card does not say that they may be shown under this licence."""

    dataset: str
    licence: str
    num_pairs: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Examples:
    """The test pairs that say most about an adapter's failures."""

    lowest: tuple[Example, ...]
    """Where the adapter scored lowest."""
    lost: tuple[Example, ...]
    """Where it lost most against the base model; empty where it lost nothing."""
    withheld: tuple[Withheld, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RatedSheet:
    """A rating sheet of this evaluation that came back."""

    sheet_id: str
    num_items: int
    """Answers on it."""
    num_items_rated: int
    num_raters: int
    num_comments: int
    """Ratings with words beside them: these stand in the store alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricNote:
    """What a metric of this evaluation measures."""

    name: str
    version: str
    is_higher_better: bool
    highest: float
    """Upper end of its range, which begins at 0."""
    definition: str
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One directory that the evaluation was made of, and what its checks said."""

    step: str
    name: str
    fingerprint: str
    data_version: str
    code_version: str
    finished_at: str
    inputs: dict[str, str]
    """``step/name`` of every direct input -> its fingerprint."""
    facts: dict[str, Fact]
    verdicts: tuple[Verdict, ...]
    """Empty where the directory was never judged."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """Everything that is said of one evaluation of a line."""

    revision: int
    line: str
    evaluation_id: str
    decisions: tuple[Decision, ...]
    """The gate's, on each candidate, in its order."""
    overrides: tuple[Decision, ...]
    """Those of persons, on the same evaluation, the newest last."""
    in_force: Decision | None
    """The one of these that what is served rested on when this was written; None where it rested on none of them."""
    served: str
    """What the line served when this was written, and because of what."""
    served_data_version: str | None
    """Content hash of the weights and adapter that are served; None where it is not known of a base model that nobody named."""
    has_moved: bool
    """Whether something else was served since the check that what is served is what was evaluated."""
    decided_at: str
    terms: Terms | None
    """The gate, and what was asked, as they were when it was decided; None where they were not kept."""
    decided_otherwise: str
    """A sentence where the settings had become others when this was written; empty where they had not."""
    evaluations: tuple[EvaluationRow, ...]
    environments: tuple[EnvironmentRow, ...]
    dataset_counts: tuple[DatasetCountRow, ...]
    audit: Audit
    training_steps: tuple[TrainingStepRow, ...]
    metrics: tuple[MetricNote, ...]
    benchmark_rows: tuple[BenchmarkRow, ...]
    latencies: tuple[LatencyRow, ...]
    memory: tuple[MemoryRow, ...]
    retrievals: tuple[RetrievalTableRow, ...]
    """Of the line's encoder; empty where it has none."""
    encoder_speeds: tuple[EncoderSpeedRow, ...]
    confusions: tuple[Confusions, ...]
    rated_sheets: tuple[RatedSheet, ...]
    """Empty where no expert has rated."""
    rating_summaries: tuple[RatingSummary, ...]
    examples: Examples
    records: tuple[Record, ...]
    """From the raw files to the decision, then what follows it or stands beside it: parity, what is served, near duplicates."""
    goals: tuple[GoalRow, ...]
    """What somebody hoped for; empty where nobody did."""
    awaited: tuple[str, ...]
    """Steps after this decision that had not been made when this was written: their checks are not among the records."""

    @property
    def decision(self) -> Decision:
        """The gate's on the first candidate: what the line trains."""
        return self.decisions[0]

    @property
    def headline(self) -> str:
        """The gate's verdict; where a person's decision is in force, that one with the gate's beside it."""
        if self.in_force is None:
            return self.decision.verdict
        return f"{self.in_force.challenger} by decision of {self.in_force.decided_by}; the gate: {self.decision.verdict}"


def as_json(report: Report) -> str:
    """The report for machines: the same content, every number unrounded."""
    return TypeAdapter(Report).dump_json(report, indent=1).decode() + "\n"


def from_json(text: str) -> Report:
    """The report that ``as_json`` wrote; raises pydantic's ValidationError for anything else."""
    return TypeAdapter(Report).validate_json(text)
