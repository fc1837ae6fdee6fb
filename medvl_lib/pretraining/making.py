"""``medvl pretrain-tiny``: a small model made anew, judged, described and fingerprinted.

In: a family and a folder. Out: below the folder ``model/`` (what ships), ``training_steps.parquet``, and ``README.md`` with figures: the
model card. Started again with the same folder it goes on where it stopped, and does nothing twice. Torch is imported only when this runs.
"""

import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

from medvl_lib.errors import MedVLError
from medvl_lib.evaluation.galleries import RetrievalRow
from medvl_lib.files import read_json, remove_abandoned, sync_tree, temporary_name, write_json
from medvl_lib.hardware import Profile, profile_for
from medvl_lib.lines import DOCUMENTS, tiny_model
from medvl_lib.models import shipped
from medvl_lib.models.spec import Family
from medvl_lib.models.weights import num_values
from medvl_lib.pretraining import recipe as lessons
from medvl_lib.provenance import Fact, digest
from medvl_lib.sample_data import captioned_pictures, chest_studies, described_pictures, reading_pages
from medvl_lib.settings import Settings
from medvl_lib.tables import read_table, write_table
from medvl_lib.training.checkpoints import newest_complete, step_of
from medvl_lib.training.matching_steps import MATCHING_STEPS, MatchingStep
from medvl_lib.training.steps import TRAINING_STEPS, TrainingStep

MODEL, CHECKPOINTS, FINDINGS, CARD, IDENTITY = "model", "checkpoints", "findings.parquet", "README.md", "recipe.json"
STEPS_PER_SENTENCE = 20


def make(family: Family, output: Path, settings: Settings, say: Callable[[str], None]) -> None:
    """Train and examine, as far as ``output`` does not hold that already; raises HeavyStepFailed when training was stopped on the way."""
    profile = profile_for(settings).profile
    os.environ.update(profile.environment)  # before torch starts its threads
    _claim(output, family)
    model = output / MODEL
    if model.is_dir():
        say(f"{model} is there already and is not trained again")
    else:
        done = newest_complete(output / CHECKPOINTS, lessons.course(family).num_steps)
        begun = "" if done is None else f", going on behind step {step_of(done)}"
        planned = f"{lessons.course(family).num_steps} steps{begun}"
        say(f"training {family} on {profile.name}: {planned}; checkpoints in {output / CHECKPOINTS}")
        _train(family, output, profile, say)
        say(f"trained: {model}")
    if (output / CARD).is_file() and shipped.contents(model) in (output / CARD).read_text(encoding="utf-8"):
        say(f"{output / CARD} tells of this model already: delete it to have the model examined again")
    else:
        say("examining it: some minutes")
        _describe(family, output, profile)
        say(f"model card: {output / CARD}")
    target = shipped.DIRECTORY / family
    say(f"contents {shipped.contents(model)}: to ship it, copy {model} to {target} and pin this in {shipped.__name__}")


def _claim(output: Path, family: Family) -> None:
    """Refuse a folder that another recipe was begun in: its checkpoints would go on with other examples, or other weights."""
    mine = digest([lessons.REVISION, _drawn_by(family), family, lessons.course(family), tiny_model(family)])
    path = output / IDENTITY
    if output.exists() and not path.is_file() and (not output.is_dir() or any(output.iterdir())):
        found = "a folder that holds something else" if output.is_dir() else "a file"
        raise MedVLError(found=found, where=str(output), do="name a folder that is empty or not there yet")
    if path.is_file() and (found := read_json(path)["recipe"]) != mine:
        raise MedVLError(
            found=f"a model of the recipe {found}; this one is {mine}", where=str(output), do="name an empty folder, or delete this one"
        )
    output.mkdir(parents=True, exist_ok=True)
    write_json(path, {"recipe": mine})


def _drawn_by(family: Family) -> tuple[int, ...]:
    """The revisions of the rooms that draw what a family learns from."""
    if family == "llava_med":
        return (chest_studies.REVISION,)
    if family in lessons.PRETRAINING:
        return reading_pages.REVISION, described_pictures.REVISION
    return (captioned_pictures.REVISION,)


def _train(family: Family, output: Path, profile: Profile, say: Callable[[str], None]) -> None:
    from medvl_lib.pretraining import encoding, route

    def report(facts: Mapping[str, Fact]) -> None:
        if int(facts["step"] or 0) % STEPS_PER_SENTENCE == 0:
            say(f"step {facts['step']} of {facts['num_steps']}: loss {facts['loss']:.3f}, {facts['seconds_left']:.0f} s left")

    model = output / MODEL
    remove_abandoned(model)
    temporary = temporary_name(model)
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    learned, spec, checkpoints = lessons.course(family), tiny_model(family), output / CHECKPOINTS
    if isinstance(learned, lessons.CaptionLessons):
        encoding.pretrain(temporary, lessons=learned, spec=spec, profile=profile, checkpoints=checkpoints, report=report)
    else:
        route.pretrain(temporary, recipe=learned, spec=spec, profile=profile, checkpoints=checkpoints, report=report)
    for path in sorted(temporary.glob("*.parquet")):  # what was noted of the steps lies beside the model, not in it
        path.rename(output / path.name)
    sync_tree(temporary)
    temporary.rename(model)


def _describe(family: Family, output: Path, profile: Profile) -> None:
    """Examine the model, keep the findings, and write the card from them."""
    learned, made_on = lessons.course(family), f"{profile.num_threads} core{'s' * (profile.num_threads != 1)} ({profile.name})"
    if isinstance(learned, lessons.CaptionLessons):
        _describe_encoder(family, learned, output, profile, made_on)
        return
    from medvl_lib.pretraining import card, described, described_card, reading, studies, studies_card
    from medvl_lib.pretraining.examination import Finding

    by_subject = {
        "qwen2_5_vl": (reading.examine, card.write_card), "mllama": (described.examine, described_card.write_card),
        "llava_med": (studies.examine, studies_card.write_card),
    }  # fmt: skip
    examine, write_card = by_subject[family]
    model, spec, steps = output / MODEL, tiny_model(family), list(read_table(output / TRAINING_STEPS, TrainingStep))
    with TemporaryDirectory(prefix="medvl-") as scratch:
        findings = list(examine(model, spec, profile, Path(scratch)))
    write_table(output / FINDINGS, Finding, findings)
    write_card(
        output, findings=findings, steps=steps, recipe=learned, spec=spec,
        contents=shipped.contents(model), num_parameters=num_values(model), floor_pixels=DOCUMENTS.audit.min_glyph_height_pixels,
        made_on=made_on,
    )  # fmt: skip


def _describe_encoder(family: Family, learned: lessons.CaptionLessons, output: Path, profile: Profile, made_on: str) -> None:
    """The same of an encoder."""
    from medvl_lib.pretraining import viewing, viewing_card

    model, spec = output / MODEL, tiny_model(family)
    with TemporaryDirectory(prefix="medvl-") as scratch:
        findings = list(viewing.examine(model, spec, profile, Path(scratch)))
    write_table(output / FINDINGS, RetrievalRow, findings)
    viewing_card.write_card(
        output, findings=findings, steps=list(read_table(output / TRAINING_STEPS, TrainingStep)),
        matching=list(read_table(output / MATCHING_STEPS, MatchingStep)), lessons=learned, spec=spec, contents=shipped.contents(model),
        num_parameters=num_values(model), made_on=made_on,
    )  # fmt: skip
