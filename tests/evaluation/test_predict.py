"""How variants are heard and weighed. If these passed wrongly, a variant could answer with another one's adapter, one could be timed while
the machine was cold and another while it was hot, or two models in one process would be published as the memory of one.
"""

import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from medvl_lib.audit import AuditSpec, write_audit
from medvl_lib.errors import HeavyStepFailed, MedVLError
from medvl_lib.evaluation import footprint
from medvl_lib.evaluation.answering import Speaker, Weights
from medvl_lib.evaluation.footprint import Probe, measure_all
from medvl_lib.evaluation.predict import Panel, in_rounds, longest, parts, write_predictions, write_shard
from medvl_lib.evaluation.prediction_rules import RULES
from medvl_lib.evaluation.predictions import FLOORS, PREDICTIONS, VARIANTS, Prediction, VariantMeasurement
from medvl_lib.evaluation.spec import EvaluationSpec
from medvl_lib.models.loading import load
from medvl_lib.models.merging import write_merged
from medvl_lib.models.weights import MERGED_RULES, held_bytes
from medvl_lib.parts import divide
from medvl_lib.tables import read_table
from medvl_lib.training.recipe import Stage
from medvl_lib.training.route import train
from tests.torch_fixtures import RECIPE, TINY, Trial

ASKED = EvaluationSpec(
    splits=("test",), max_pairs_per_dataset=0, max_answer_tokens=12, controls=("blank_image",), seed=1, datasets=(),
    further_variants=("merged",),
)  # fmt: skip


@pytest.fixture(scope="module")
def adapters(trial: Trial, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two adapters that say different things."""
    root = tmp_path_factory.mktemp("adapters")
    found: list[Path] = []
    for name, rate in (("mild", 5e-3), ("wild", 5e-2)):
        (root / name).mkdir()
        recipe = replace(RECIPE, learning_rate=rate, max_steps=3, validations_per_epoch=0, lora_rank=32, lora_alpha=64)
        train(
            root / name, stage=Stage(name="adapter", objective="generate", recipe=recipe), spec=TINY, weights=trial.nf4, chat=trial.chat,
            images=trial.images, profile=trial.profile, previous=None, checkpoints=root / f"{name}-checkpoints", report=lambda _: None,
        )  # fmt: skip
        found.append(root / name)
    return found


@pytest.fixture(scope="module")
def merged(trial: Trial, adapters: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("merged")
    assert write_merged(directory, trial.base, adapters[0], TINY, trial.profile)["num_adapted_linears"] == 28
    return directory


@pytest.fixture(scope="module")
def variants(trial: Trial, adapters: list[Path], merged: Path) -> list[Weights]:
    mild, wild = adapters
    return [
        Weights(variant="base", directory=trial.base, adapter=None, data_version="b"),
        Weights(variant="nf4", directory=trial.nf4, adapter=None, data_version="n"),
        Weights(variant="adapter", directory=trial.nf4, adapter=mild, data_version="a"),
        Weights(variant="champion", directory=trial.nf4, adapter=wild, data_version="c"),
        Weights(variant="merged", directory=merged, adapter=None, data_version="m"),
    ]


@pytest.fixture(scope="module")
def said(trial: Trial, variants: list[Weights], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Predictions of all of them, in batches of two."""
    root = tmp_path_factory.mktemp("predictions")
    for name in ("audit", "predictions"):
        (root / name).mkdir()
    write_audit(
        root / "audit", trial.chat, trial.base, trial.images, AuditSpec(max_tokens=4096, min_glyph_height_pixels=0.0),
        max_pixels=TINY.max_pixels,
    )  # fmt: skip
    write_predictions(
        root / "predictions", weights=variants, controlled=("nf4", "adapter"), spec=TINY, evaluation=ASKED, chat=trial.chat,
        audit=root / "audit", images=trial.images,
        profile=replace(trial.profile, prediction_batch=2), report=lambda _: None,
    )  # fmt: skip
    return root / "predictions"


def _alone(trial: Trial, item: Weights) -> dict[str, str]:
    """What a variant says when nothing else was ever loaded beside it."""
    profile = replace(trial.profile, prediction_batch=2)
    speaker = Speaker(
        variant=item.variant, condition="as_is", loaded=load(item.directory, TINY, profile, adapter=item.adapter), evaluation=ASKED,
        images=trial.images, profile=profile, adapter=None if item.adapter is None else "default",
    )  # fmt: skip
    return {row.pair_id: row.answer for row in speaker.answers(parts(trial.chat, ASKED))}


def _answers(said: Path, variant: str, condition: str = "as_is") -> dict[str, str]:
    rows = read_table(said / PREDICTIONS, Prediction)
    return {row.pair_id: row.answer for row in rows if (row.variant, row.condition) == (variant, condition)}


def test_in_parts_everyone_says_what_they_say_at_once_and_a_missing_part_is_seen(
    trial: Trial, variants: list[Weights], said: Path, tmp_path: Path
):
    given = {
        "weights": variants[1:3], "controlled": ("nf4", "adapter"), "spec": TINY, "evaluation": ASKED, "chat": trial.chat,
        "images": trial.images, "profile": replace(trial.profile, prediction_batch=1), "report": lambda _: None,
    }  # fmt: skip
    shards = [tmp_path / part.name for part in divide(3, {})]
    for part, shard in zip(divide(3, {}), shards, strict=True):
        shard.mkdir()
        write_shard(shard, part, **given)
    for name, some in (("all", shards), ("two", shards[1:])):
        (tmp_path / name).mkdir()
        facts = write_predictions(tmp_path / name, audit=said.parent / "audit", shards=some, **given)
        assert facts["num_shards"] == len(some)
    for variant in ("nf4", "adapter"):
        for condition in ("as_is", "blank_image"):
            assert _answers(tmp_path / "all", variant, condition) == _answers(said, variant, condition)
    batches = sorted(
        (row.variant, row.condition, row.batch_id) for row in read_table(tmp_path / "all" / PREDICTIONS, Prediction) if row.batch_size
    )
    assert batches == sorted(
        (variant, condition, number) for variant in ("nf4", "adapter") for condition in ("as_is", "blank_image") for number in range(4)
    )
    assert [rule.name for rule in RULES if not rule.holds(tmp_path / "all").passed and rule.is_blocking] == []
    assert [rule.name for rule in RULES if not rule.holds(tmp_path / "two").passed and rule.is_blocking] == [
        "every_variant_answers_every_pair_once"
    ]


def test_variants_that_share_their_weights_say_what_each_says_alone(trial: Trial, variants: list[Weights], said: Path):
    for item in variants:
        assert _answers(said, item.variant) == _alone(trial, item)
    assert len({tuple(sorted(_answers(said, item.variant).items())) for item in variants}) >= 4  # and that is not one and the same


def test_every_rule_holds_of_what_was_really_measured(said: Path):
    blocking = {rule.name: rule.holds(said) for rule in RULES if rule.is_blocking}
    assert [name for name, outcome in blocking.items() if not outcome.passed] == []
    assert "adapter adds" in blocking["an_adapter_takes_its_own_size"].found
    assert "champion adds" in blocking["an_adapter_takes_its_own_size"].found


def test_an_adapter_adds_its_size_and_a_merged_model_weighs_what_the_base_does(said: Path):
    rows = {row.variant: row for row in read_table(said / VARIANTS, VariantMeasurement)}
    added = rows["adapter"].memory_after_load_bytes - rows["nf4"].memory_after_load_bytes
    assert rows["adapter"].adapter_bytes == pytest.approx(added, rel=0.02)
    assert rows["merged"].memory_after_load_bytes == pytest.approx(rows["base"].memory_after_load_bytes, rel=0.01)
    assert rows["nf4"].memory_after_load_bytes < 0.8 * rows["base"].memory_after_load_bytes
    assert all(row.memory_peak_bytes > row.memory_after_load_bytes > 0 for row in rows.values())
    assert all(row.load_seconds > 0 for row in rows.values())
    assert {row.stands_on for row in rows.values()} == {None, "nf4"}


def test_variants_answer_in_turns_and_each_begins_a_batch(said: Path):
    rows = [row for row in read_table(said / PREDICTIONS, Prediction) if row.variant not in FLOORS and row.condition == "as_is"]
    order = list(dict.fromkeys((row.batch_id, row.variant) for row in rows))
    names = ["base", "nf4", "adapter", "champion", "merged"]
    assert order == [(0, name) for name in names] + [(1, name) for name in (*names[1:], names[0])]


def test_the_control_is_asked_of_those_that_may_be_served(said: Path):
    rows = read_table(said / PREDICTIONS, Prediction)
    assert {row.variant for row in rows if row.condition == "blank_image" and row.variant not in FLOORS} == {"nf4", "adapter"}


def test_only_variants_that_fit_into_memory_together_share_a_round(trial: Trial, variants: list[Weights]):
    size = {item.directory: held_bytes(item.directory, "float32") for item in variants}

    def rounds(budget_bytes: float) -> list[list[str]]:
        profile = replace(trial.profile, memory_budget_bytes=int(2 * budget_bytes), memory_margin_share=0.0)
        return [[item.variant for item in group] for group in in_rounds(variants, profile)]

    assert rounds(0) == [["base", "nf4", "adapter", "champion", "merged"]]  # no limit is known
    assert rounds(size[trial.base] + size[trial.nf4] + 1) == [["base", "nf4", "adapter", "champion"], ["merged"]]
    assert rounds(1) == [["base"], ["nf4", "adapter", "champion"], ["merged"]]


def test_memory_is_measured_with_the_longest_questions(trial: Trial, said: Path):
    profile = replace(trial.profile, prediction_batch=2)
    panel = Panel(
        spec=TINY, evaluation=ASKED, images=trial.images, profile=profile, groups=list(parts(trial.chat, ASKED)), controlled=(),
        prefaces={}, subjects={},
    )  # fmt: skip
    lengths = {row.pair_id: row.num_prompt_tokens for row in read_table(said / PREDICTIONS, Prediction) if row.variant == "base"}
    found = [lengths[item.pair_id] for item in longest(panel, said.parent / "audit")]
    assert found == sorted(lengths.values(), reverse=True)[:2]


def _killed(*_: object, **__: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _out_of_memory(*_: object, **__: object) -> None:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")


def test_a_device_without_room_is_told_with_its_cure(trial: Trial, variants: list[Weights], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(footprint, "measure", _out_of_memory)
    probe = Probe(spec=TINY, evaluation=ASKED, profile=trial.profile, images=trial.images, conversations=[])
    with pytest.raises(HeavyStepFailed, match="measured base alone ran out of memory") as refused:
        list(measure_all(variants[:1], probe))
    assert "lower prediction_batch" in refused.value.do


def test_a_measuring_process_that_is_killed_is_named(trial: Trial, variants: list[Weights], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(footprint, "measure", _killed)
    probe = Probe(spec=TINY, evaluation=ASKED, profile=trial.profile, images=trial.images, conversations=[])
    with pytest.raises(HeavyStepFailed, match="measured base alone was killed"):
        list(measure_all(variants[:1], probe))


def test_weights_without_room_are_refused_in_the_measuring_process_and_told_whole(trial: Trial, variants: list[Weights]):
    crowded = replace(trial.profile, memory_budget_bytes=1_000_000)
    probe = Probe(spec=TINY, evaluation=ASKED, profile=crowded, images=trial.images, conversations=[])
    with pytest.raises(MedVLError, match="room for 0.0 GB") as refused:
        list(measure_all(variants[:1], probe))
    assert not isinstance(refused.value, HeavyStepFailed)
    assert refused.value.where == str(variants[0].directory)


def test_a_merged_model_is_the_base_but_for_what_was_adapted(merged: Path, tmp_path: Path):
    assert [rule.name for rule in MERGED_RULES if not rule.holds(merged).passed] == []
    for path in merged.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    weights = load_file(tmp_path / "model.safetensors")
    name = next(name for name in weights if name.startswith("visual."))
    weights[name] = weights[name] + 1e-3
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    failed = {rule.name: rule.holds(tmp_path).offenders for rule in MERGED_RULES if not rule.holds(tmp_path).passed}
    assert failed == {"only_adapted_linears_differ_from_the_base": (name,)}


def test_a_half_merged_model_is_none(trial: Trial, merged: Path, tmp_path: Path):
    for path in merged.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    weights, base = load_file(tmp_path / "model.safetensors"), load_file(trial.base / "model.safetensors")
    name = "model.layers.0.mlp.up_proj.weight"
    weights[name] = base[name].to(weights[name].dtype)
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    failed = {rule.name: rule.holds(tmp_path).offenders for rule in MERGED_RULES if not rule.holds(tmp_path).passed}
    assert failed == {"only_adapted_linears_differ_from_the_base": (name,)}


def test_a_merged_model_that_is_the_base_is_none(trial: Trial, merged: Path, tmp_path: Path):
    for path in merged.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "model.safetensors").write_bytes((trial.base / "model.safetensors").read_bytes())
    assert [rule.name for rule in MERGED_RULES if not rule.holds(tmp_path).passed] == ["only_adapted_linears_differ_from_the_base"]
