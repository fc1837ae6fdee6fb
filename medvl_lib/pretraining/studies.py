"""What the small LLaVA-Med can tell of chest studies, and what it cannot: every number of its model card, with its interval.

In: a directory of weights as published, and a profile. Out: ``Finding`` rows. Studies come from parts that were never trained on; a cluster
is a study. An answer is right where it states the wanted labels, names the place of the opacity, says the wanted findings word for word, or
lists the wanted diagnoses and no others. How findings are told belongs to ``studies_card``.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from medvl_lib.batches import Reader, training_batch
from medvl_lib.datasets.mimic_cxr_texts import read_findings, read_impression
from medvl_lib.ehr.template import parse_diagnoses
from medvl_lib.evaluation.predict import shuffled
from medvl_lib.evaluation.predictions import Reference
from medvl_lib.hardware import Profile
from medvl_lib.models.loading import Loaded, load
from medvl_lib.models.preparing import in_library_layout
from medvl_lib.models.spec import ModelSpec
from medvl_lib.models.weights import Quantization
from medvl_lib.pretraining.examination import Examinee, Finding, Measures, findings, of_floors, of_losses, quantize, with_controls
from medvl_lib.pretraining.route import shelf, to_conversation
from medvl_lib.sample_data.chest_studies import LEARNED, ChestStudy, StudyDistribution
from medvl_lib.sample_data.chests import SIDES, ZONES

NUM_STUDIES = 60  # of each set: an interval of about +-0.12
NUM_FLOOR_STUDIES = 200  # what the floors may learn the commonest answers from
QUANTIZATIONS: tuple[Quantization, ...] = ("nf4",)
SETS: Mapping[str, StudyDistribution] = {
    "impressions": replace(LEARNED, reasoning_share=0.0), "findings with records": replace(LEARNED, reasoning_share=1.0),
}  # fmt: skip
STAGES = {"impressions": "impression", "findings with records": "reasoning"}


def labels(answer: str, study: ChestStudy) -> float:
    """Whether the answer states as present or uncertain what is wanted so, and nothing else."""
    said, wanted = (
        {name: state for name, state in read_impression(text).labels.items() if state != "absent"} for text in (answer, study.response)
    )
    return float(said == wanted)


def place(answer: str, study: ChestStudy) -> float:
    """Whether the answer names side and zone of the opacity, and neither where there is none."""
    words = answer.lower().replace(",", " ").replace(".", " ").split()
    said = {word for word in words if word in SIDES or word in ZONES}
    return float(said == ({study.chest.side, study.chest.zone} - {""}))


def found(answer: str, study: ChestStudy) -> float:
    """Whether the findings are the wanted ones, word for word."""
    return float(read_findings(answer) == read_findings(study.response))


def diagnoses(answer: str, study: ChestStudy) -> float:
    """Whether the diagnoses are the wanted ones: their codes, in any order."""
    said, wanted = ({(item.icd_version, item.icd_code) for item in parse_diagnoses(text)} for text in (answer, study.response))
    return float(said == wanted)


MEASURES: Mapping[str, Measures] = {
    "impressions": {"labels": labels, "place": place}, "findings with records": {"findings": found, "place": place, "diagnoses": diagnoses},
}  # fmt: skip


def draw(name: str, part: str, number: int) -> list[ChestStudy]:
    """Studies of a part that are asked for one stage."""
    drawn: list[ChestStudy] = []
    at = 0
    while len(drawn) < number:  # a report without the stage's section is asked for the other one
        study = SETS[name].draw(part, at)
        drawn += [study] if study.stage == STAGES[name] else []
        at += 1
    return drawn


def examine(weights: Path, spec: ModelSpec, profile: Profile, scratch: Path) -> Iterator[Finding]:
    """Every finding of one directory of weights; its other forms are written below ``scratch``."""
    converted = scratch / "converted"
    converted.mkdir(parents=True)
    in_library_layout(weights, converted, spec.family)
    shown = {name: draw(name, "held_out", NUM_STUDIES) for name in SETS}
    narrow = replace(profile, weights_dtype="bfloat16")  # as it is shipped: its memory is what four bits are held against
    base = Examinee(variant="base", loaded=load(converted, spec, profile), spec=spec, profile=profile)
    as_is = {name: base.answers(studies) for name, studies in shown.items()}
    for name, studies in shown.items():
        yield from with_controls(name, base, studies, as_is[name], MEASURES[name])
        yield from of_floors(name, studies, draw(name, "floors", NUM_FLOOR_STUDIES), _reference, MEASURES[name])
    every = [study for studies in shown.values() for study in studies]
    yield from of_losses(lambda is_shuffled: losses(base.loaded, every, is_shuffled=is_shuffled))
    for quantization in QUANTIZATIONS:
        packed = quantize(converted, quantization, spec, narrow, scratch / quantization)
        for name, studies in shown.items():
            yield from findings(name, packed, studies, packed.answers(studies), MEASURES[name], against=as_is[name])


def _reference(study: ChestStudy) -> Reference:
    return Reference(
        pair_id=study.example_id, dataset="chest_studies", split="test", group_id=study.example_id, language="en", licence="CC0-1.0",
        request=study.request, response=study.response, expected=(), slices={}, glyph_height_pixels=None,
    )  # fmt: skip


def losses(loaded: Loaded, studies: Sequence[ChestStudy], *, is_shuffled: bool) -> Mapping[str, float]:
    """Each study's own loss by its id, in nats per token of its answer; ``is_shuffled`` shows the pictures of another with as many."""
    import torch

    [asked] = groups = [[to_conversation(study) for study in studies]]
    if is_shuffled:
        [asked] = shuffled(groups)
    reader = Reader(processor=loaded.processor, prompts=loaded.prompts, images=shelf(studies))
    values: dict[str, float] = {}
    for item in asked:
        batch = training_batch(reader, [item])
        with torch.inference_mode():
            values[item.pair_id] = float(loaded.model(**{name: each.to(loaded.model.device) for name, each in batch.items()}).loss)
    return values
