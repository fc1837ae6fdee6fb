"""Galleries: how well an encoder finds the text of a held-out picture among all of them, and the picture of a text. No torch here.

In: the captioned pictures of a split, and unit vectors of both by each variant of an encoder. Out: ``ranks.parquet`` with a row per query,
``retrieval.parquet`` with recall, its interval over patients, and beside it what chance and the class alone would reach, and
``encoder_speeds.parquet`` with seconds and throughput. Ranks themselves are ``retrieval``'s, vectors ``models.embedding``'s.
"""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from medvl_lib import retrieval as ranking
from medvl_lib.captions import CaptionedImage
from medvl_lib.evaluation import statistics
from medvl_lib.evaluation.statistics import cluster_sums, estimate
from medvl_lib.files import read_json, write_json
from medvl_lib.provenance import Fact, Outcome
from medvl_lib.retrieval import CUTOFFS, Direction, class_only_at, mean_similarities, recall_at, retrieval
from medvl_lib.rules import columns_are_as_declared, no_rows, rule
from medvl_lib.tables import Column, num_rows, read_table, write_table

REVISION = 5  # equal candidates are one, and a picture asks once
REVISIONS = (REVISION, ranking.REVISION, statistics.REVISION)
RANKS, RETRIEVAL, COUNTS, SPEEDS = "ranks.parquet", "retrieval.parquet", "counts.json", "encoder_speeds.parquet"
CONFIDENCE = 0.95
MOST_TIMED = 50  # pictures, and texts, that are embedded one at a time to be timed
EncoderVariant = Literal["base", "trained", "champion"]
EncoderInput = Literal["picture", "text"]


Encoder = Annotated[
    EncoderVariant, Column("base: the encoder as it came; trained: after this line's stage; champion: what is served, where it is another")
]


class Vectors(NamedTuple):
    """Unit vectors (N, D) of the pictures and of the texts of a gallery."""

    pictures: NDArray[np.float32]
    texts: NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rank:
    """Where the best right candidate of one query came."""

    variant: Encoder
    direction: Annotated[Direction, Column("image_to_text: a picture looks for its text; text_to_image: the other way round")]
    pair_id: Annotated[str, Column("the query's pair")]
    image_id: Annotated[str, Column("the query's picture, or the picture whose text is the query")]
    group_id: Annotated[str, Column("dataset and patient, or document where no patient is known")]
    rank: Annotated[int, Column("rank of the best right candidate, from 1; ties count against the model")]


@dataclass(frozen=True, slots=True, kw_only=True)
class RetrievalRow:
    """Recall of one variant in one direction at one cutoff."""

    variant: Encoder
    direction: Annotated[Direction, Column("image_to_text: a picture looks for its text; text_to_image: the other way round")]
    cutoff: Annotated[int, Column("k: recall is the share of queries with a right candidate among the first k")]
    recall: Annotated[float, Column("share of queries (0-1)")]
    ci_low: Annotated[float | None, Column("lower end of its 95 % interval over groups; null below six groups")]
    ci_high: Annotated[float | None, Column("upper end of its 95 % interval over groups; null below six groups")]
    interval_note: Annotated[
        str | None,
        Column("what has to be known of the interval: too few groups for one, or no spread between them; null where nothing has"),
    ]
    chance: Annotated[float, Column("expected recall of a random order")]
    class_only: Annotated[
        float | None, Column("expected recall of who knows the class and nothing else; null where a picture has no class")
    ]
    num_queries: Annotated[int, Column("queries: every different picture once, or the text of every captioned picture")]
    gallery_size: Annotated[int, Column("different candidates of each query: texts, or pictures")]
    num_groups: Annotated[int, Column("patients or documents among them")]
    num_texts: Annotated[int, Column("different texts among them")]
    median_rank: Annotated[float, Column("median over queries, from 1")]
    matched_similarity: Annotated[float, Column("mean cosine of pictures and right texts")]
    mismatched_similarity: Annotated[float | None, Column("mean cosine of pictures and wrong texts; null where there are none")]


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderSpeed:
    """How fast one variant embeds one kind of input. Wall time, from stored bytes or text to the vector."""

    variant: Encoder
    input: Annotated[EncoderInput, Column("picture or text")]
    num_timed: Annotated[int, Column("inputs that were embedded one at a time: the n of the latencies")]
    p50_seconds: Annotated[float, Column("median of one input alone", unit="seconds")]
    p95_seconds: Annotated[float, Column("95th percentile of one input alone", unit="seconds")]
    batch_size: Annotated[int, Column("inputs that are embedded together for the throughput; the last batch may hold fewer")]
    inputs_per_second: Annotated[float, Column("distinct inputs of the gallery by the wall time of embedding all of them in batches")]


def timed(
    variant: EncoderVariant, kind: EncoderInput, inputs: Sequence[str], embed: Callable[[Sequence[str]], NDArray[np.float32]],
    batch_size: int,
) -> tuple[EncoderSpeed, NDArray[np.float32]]:  # fmt: skip
    """How fast inputs are embedded, and their vectors (N, D): some one at a time, then each once in batches, which is what is kept.

    A first one that is not timed fills caches.
    """
    distinct = list(dict.fromkeys(inputs))
    embed(distinct[:1])
    alone = [_seconds(embed, [item])[0] for item in distinct[:MOST_TIMED]]
    seconds, vectors = _seconds(embed, distinct)
    speed = EncoderSpeed(
        variant=variant, input=kind, num_timed=len(alone), p50_seconds=float(np.quantile(alone, 0.5)),
        p95_seconds=float(np.quantile(alone, 0.95)), batch_size=min(batch_size, len(distinct)), inputs_per_second=len(distinct) / seconds,
    )  # fmt: skip
    places = {item: place for place, item in enumerate(distinct)}
    return speed, vectors[[places[item] for item in inputs]]


def _seconds(embed: Callable[[Sequence[str]], NDArray[np.float32]], inputs: Sequence[str]) -> tuple[float, NDArray[np.float32]]:
    started = time.perf_counter()
    vectors = embed(inputs)
    return time.perf_counter() - started, vectors


def write_retrieval(
    directory: Path, captions: Sequence[CaptionedImage], texts: Sequence[str], vectors: Mapping[EncoderVariant, Vectors],
    speeds: Sequence[EncoderSpeed] = (),
) -> dict[str, Fact]:  # fmt: skip
    """Rank everything and write the tables; ``texts`` are the captions as the model reads them: equal ones are one text."""
    num_queries = len({item.image_id for item in captions}) + len(captions)  # of both directions
    write_json(directory / COUNTS, {"num_queries": num_queries, "variants": list(vectors)})
    ranks: list[Rank] = []
    rows: list[RetrievalRow] = []
    for variant, both in vectors.items():
        similarity = both.pictures @ both.texts.T
        pictures = [item.image_id for item in captions]
        similarities = mean_similarities(similarity, texts, pictures)
        for way in retrieval(similarity, texts, pictures):
            ranks += _ranks(variant, captions, way)
            rows += _rows(variant, captions, texts, way, similarities)
    write_table(directory / RANKS, Rank, ranks)
    write_table(directory / RETRIEVAL, RetrievalRow, rows)
    write_table(directory / SPEEDS, EncoderSpeed, speeds)
    return {
        "num_captioned_pictures": len(captions), "num_texts": len(set(texts)),
        **{f"{row.variant}_{row.direction}_recall_at_{row.cutoff}": row.recall for row in rows},
        **{f"{row.variant}_{row.input}_p50_seconds": row.p50_seconds for row in speeds},
    }  # fmt: skip


def _ranks(variant: EncoderVariant, captions: Sequence[CaptionedImage], way: ranking.Retrieval) -> Iterator[Rank]:
    for item, rank in _asked(captions, way):
        yield Rank(
            variant=variant, direction=way.direction, pair_id=item.pair_id, image_id=item.image_id, group_id=item.group_id, rank=rank
        )  # fmt: skip


def _asked(captions: Sequence[CaptionedImage], way: ranking.Retrieval) -> Iterator[tuple[CaptionedImage, int]]:
    """Each query with its rank."""
    places: list[int] = way.queries.tolist()
    ranks: list[int] = way.ranks.tolist()
    return zip((captions[place] for place in places), ranks, strict=True)


def _rows(
    variant: EncoderVariant, captions: Sequence[CaptionedImage], texts: Sequence[str], way: ranking.Retrieval,
    similarities: tuple[float, float],
) -> Iterator[RetrievalRow]:  # fmt: skip
    classes, pictures = [f"{item.dataset}/{item.category}" for item in captions], [item.image_id for item in captions]
    has_classes = all(item.category is not None for item in captions)
    matched, mismatched = similarities
    for cutoff, chance in zip(CUTOFFS, way.chances, strict=True):
        clusters = cluster_sums((item.group_id, float(rank <= cutoff)) for item, rank in _asked(captions, way))
        found, is_too_few = estimate(clusters), statistics.is_too_few(clusters.num_clusters, CONFIDENCE)
        yield RetrievalRow(
            variant=variant, direction=way.direction, cutoff=cutoff, recall=recall_at(way.ranks, cutoff),
            ci_low=None if is_too_few else found.ci_low, ci_high=None if is_too_few else found.ci_high,
            interval_note=statistics.interval_note(clusters, confidence=CONFIDENCE), chance=chance,
            class_only=class_only_at(texts, classes, cutoff, pictures, way.direction) if has_classes else None,
            num_queries=len(way.ranks), gallery_size=way.gallery_size, num_groups=found.num_clusters,
            num_texts=len(set(texts)), median_rank=way.median_rank, matched_similarity=matched,
            mismatched_similarity=None if math.isnan(mismatched) else mismatched,
        )  # fmt: skip


def every_picture_and_text_was_ranked(directory: Path) -> Outcome:
    """Each variant ranked every picture's texts, and the pictures of every text."""
    counts = read_json(directory / COUNTS)
    expected, found = int(counts["num_queries"]) * len(counts["variants"]), num_rows(directory / RANKS)
    return Outcome(passed=found == expected and expected > 0, found=f"{found} ranks of {expected}")


def every_recall_is_that_of_its_ranks(directory: Path) -> Outcome:
    """The recalls are what counting the written ranks gives."""
    question = """
        select r.variant || ' ' || r.direction || ' at ' || r.cutoff
        from read_parquet($retrieval) r join read_parquet($ranks) q using (variant, direction)
        group by r.variant, r.direction, r.cutoff, r.recall having abs(r.recall - avg((q.rank <= r.cutoff)::int)) > 1e-9 order by 1
    """
    return no_rows("recalls are not those of their ranks", question, retrieval=directory / RETRIEVAL, ranks=directory / RANKS)


def read_ranks(directory: Path) -> list[Rank]:
    """The written ranks."""
    return list(read_table(directory / RANKS, Rank))


def read_rows(directory: Path) -> list[RetrievalRow]:
    """The written recalls."""
    return list(read_table(directory / RETRIEVAL, RetrievalRow))


RULES = (
    columns_are_as_declared({RANKS: Rank, RETRIEVAL: RetrievalRow, SPEEDS: EncoderSpeed}),
    rule(every_picture_and_text_was_ranked, "Every picture and every text of the gallery was ranked by every variant."),
    rule(every_recall_is_that_of_its_ranks, "Every recall is the share of the ranks up to its cutoff."),
)
