"""What an evaluation leaves behind: the typed rows of a predictions directory. No model and no torch here.

In: nothing. Out: the row models ``Reference``, ``Prediction`` and ``VariantMeasurement``. Producing them is ``predict``'s work,
scoring them is ``scores``'s.
"""

from dataclasses import dataclass
from typing import Annotated, Literal

from medvl_lib.pairs import Split, Triple
from medvl_lib.tables import Column

REFERENCES = "references.parquet"
PREDICTIONS = "predictions.parquet"
VARIANTS = "variants.parquet"
ANSWER_TYPE = "answer_type"  # the slice that tells closed questions from open ones, and both from reports

Variant = Literal[
    "base", "nf4", "affine4", "int8", "adapter", "merged", "champion", "floor_empty", "floor_constant", "floor_random", "floor_majority"
]  # fmt: skip
"""``nf4`` and ``affine4``: the base in four bits, bitsandbytes' or MLX's; ``merged``: the adapter added into the 16-bit base weights;
``champion``: what was served before."""
FLOORS: tuple[Variant, ...] = ("floor_empty", "floor_constant", "floor_random", "floor_majority")
Condition = Literal["as_is", "blank_image", "noise_image", "shuffled_image", "retrieved_cases"]
"""What was done to the question: nothing; gray or noise of the pictures' sizes; those of another pair; similar training cases before it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """What is wanted of a held-out or training pair: everything that a scorer may know of it."""

    pair_id: Annotated[str, Column("the pair")]
    dataset: Annotated[str, Column("name of the dataset")]
    split: Annotated[Split, Column("the split it fell into")]
    group_id: Annotated[str, Column("patient or document: the unit of splitting and of error bars")]
    language: Annotated[str, Column("ISO 639-1 code")]
    licence: Annotated[str, Column("SPDX identifier, or the publisher's words, for this very picture and text")]
    request: Annotated[str, Column("the question")]
    response: Annotated[str, Column("the answer that is wanted")]
    expected: Annotated[tuple[Triple, ...], Column("facts that the answer must state")]
    slices: Annotated[dict[str, str], Column("labels to report separately, such as document_type=lab_results")]
    glyph_height_pixels: Annotated[float | None, Column("height of a lower-case x in the stored picture; null if unknown", unit="pixels")]
    labels: Annotated[
        tuple[str, ...], Column("what a closed question may be answered with, such as left, or both=bilateral; empty: yes and no")
    ] = ()

    @property
    def is_report(self) -> bool:
        """Whether a report, or a page as it stands, is wanted: its dataset says so, or declares no type of answer and no facts."""
        kind = self.slices.get(ANSWER_TYPE)
        return kind == "report" or (kind is None and not self.expected)


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """What one variant said to one pair under one condition."""

    pair_id: Annotated[str, Column("the pair")]
    variant: Annotated[Variant, Column("who answered")]
    condition: Annotated[Condition, Column("as_is, or what was done to the question")]
    answer: Annotated[str, Column("the text that came out, special tokens removed")]
    num_prompt_tokens: Annotated[int, Column("tokens in, image tokens included; 0 for a floor", unit="tokens")]
    num_answer_tokens: Annotated[int, Column("tokens out, end token included; 0 for a floor", unit="tokens")]
    is_cut: Annotated[bool, Column("whether the answer reached the token limit without an end token")]
    batch_id: Annotated[int | None, Column("the batch it was answered in, counted per variant and condition; null for a floor")]
    batch_size: Annotated[int, Column("pairs answered together with it, itself included; 0 for a floor")]
    latency_seconds: Annotated[float | None, Column("wall time of its batch by batch_size; null for a floor", unit="seconds")]


LoadSeconds = Annotated[float, Column("time to load the weights, alone in a fresh process", unit="seconds")]
MemoryAfterLoad = Annotated[
    int, Column("every tensor that the process holds after loading: as allocated on a GPU, counted on a CPU", unit="bytes")
]
MemoryPeak = Annotated[
    int,
    Column(
        "highest allocated (GPU) or resident (CPU, with libraries) memory from loading to a full batch of the longest questions",
        unit="bytes",
    ),
]
AdapterBytes = Annotated[int | None, Column("size of the adapter's weights; null without one", unit="bytes")]


@dataclass(frozen=True, slots=True, kw_only=True)
class VariantMeasurement:
    """What a variant is, and what it needs: measured by a process that holds nothing else."""

    variant: Annotated[Variant, Column("who answered")]
    model: Annotated[str, Column("hub id or name, and the commit or the hash of the contents")]
    weights_data_version: Annotated[str, Column("hash of the weights: base, and adapter where there is one")]
    precision: Annotated[str, Column("what the weights really were: float32, bfloat16, nf4+float32, mlx-affine4+bfloat16, ...")]
    num_parameters: Annotated[int, Column("parameters, 4-bit ones counted unpacked")]
    num_quantized_parameters: Annotated[int, Column("of these, parameters held in 4 bit")]
    load_seconds: LoadSeconds
    memory_after_load_bytes: MemoryAfterLoad
    memory_peak_bytes: MemoryPeak
    adapter_bytes: AdapterBytes
    stands_on: Annotated[Variant | None, Column("the variant that is this one without its adapter; null where none was asked")]
    round: Annotated[int, Column("variants of one round answered in turns, batch by batch; other rounds came before or after")]
