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
from medvl_lib.files import read_json, remove_abandoned, sync_tree, temporary_name, write_json
from medvl_lib.hardware import Profile, profile_for
from medvl_lib.lines import DOCUMENTS, tiny_model
from medvl_lib.models import shipped
from medvl_lib.models.spec import Family
from medvl_lib.models.weights import num_values
from medvl_lib.pretraining import recipe as lessons
from medvl_lib.provenance import Fact, digest
from medvl_lib.sample_data import described_pictures, reading_pages
from medvl_lib.settings import Settings
from medvl_lib.tables import read_table, write_table
from medvl_lib.training.checkpoints import newest_complete, step_of
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
        done = newest_complete(output / CHECKPOINTS, lessons.PRETRAINING[family].num_steps)
        begun = "" if done is None else f", going on behind step {step_of(done)}"
        planned = f"{lessons.PRETRAINING[family].num_steps} steps{begun}"
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
    drawn = [reading_pages.REVISION, described_pictures.REVISION]
    mine = digest([lessons.REVISION, drawn, family, lessons.PRETRAINING[family], tiny_model(family)])
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


def _train(family: Family, output: Path, profile: Profile, say: Callable[[str], None]) -> None:
    from medvl_lib.pretraining.route import pretrain

    def report(facts: Mapping[str, Fact]) -> None:
        if int(facts["step"] or 0) % STEPS_PER_SENTENCE == 0:
            say(f"step {facts['step']} of {facts['num_steps']}: loss {facts['loss']:.3f}, {facts['seconds_left']:.0f} s left")

    model = output / MODEL
    remove_abandoned(model)
    temporary = temporary_name(model)
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    pretrain(
        temporary,
        recipe=lessons.PRETRAINING[family],
        spec=tiny_model(family),
        profile=profile,
        checkpoints=output / CHECKPOINTS,
        report=report,
    )
    (temporary / TRAINING_STEPS).rename(output / TRAINING_STEPS)
    sync_tree(temporary)
    temporary.rename(model)


def _describe(family: Family, output: Path, profile: Profile) -> None:
    """Examine the model, keep the findings, and write the card from them."""
    from medvl_lib.pretraining import card, described, described_card, examination
    from medvl_lib.pretraining.examination import Finding

    by_subject = {"qwen2_5_vl": (examination.examine, card.write_card), "mllama": (described.examine, described_card.write_card)}
    examine, write_card = by_subject[family]
    model, spec, steps = output / MODEL, tiny_model(family), list(read_table(output / TRAINING_STEPS, TrainingStep))
    with TemporaryDirectory(prefix="medvl-") as scratch:
        findings = list(examine(model, spec, profile, Path(scratch)))
    write_table(output / FINDINGS, Finding, findings)
    write_card(
        output, findings=findings, steps=steps, recipe=lessons.PRETRAINING[family], spec=spec,
        contents=shipped.contents(model), num_parameters=num_values(model), floor_pixels=DOCUMENTS.audit.min_glyph_height_pixels,
        made_on=f"{profile.num_threads} core{'s' if profile.num_threads > 1 else ''} ({profile.name})",
    )  # fmt: skip
