"""Matching through the route. If these passed wrongly, an encoder would be trained in another batch than its recipe says, be resumed with
other weights, lose its temperature, or change where it should be frozen.
"""

import math
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from medvl_lib.captions import captioned_images
from medvl_lib.errors import HeavyStepFailed, MedVLError
from medvl_lib.files import read_json, sha256_of_file, write_json
from medvl_lib.models.loading import load_encoder
from medvl_lib.provenance import Fact
from medvl_lib.tables import read_table
from medvl_lib.training.matching import CaptionCollator, adapted, matching, optimizer
from medvl_lib.training.matching_steps import MATCHING_STEPS, RULES, MatchingStep
from medvl_lib.training.recipe import MatchRecipe, Stage
from medvl_lib.training.route import keep_the_best, train
from medvl_lib.training.rules import SUMMARY
from medvl_lib.training.sigmoid_loss import Matcher, relation
from medvl_lib.training.steps import TRAINING_STEPS, TrainingStep
from medvl_lib.training.work import Material
from tests.matching_fixtures import MATCH, SPEC, STAGE, Gallery
from tests.torch_fixtures import RECIPE
from tests.training.killed import Killed, kill_after

WEIGHTS = "model.safetensors"
GETS_WORSE = replace(MATCH, learning_rate=0.3, warmup_share=0.0, max_steps=9, validations_per_epoch=3)
LORA = replace(MATCH, lora_rank=4, max_steps=3)


def _run(
    gallery: Gallery, directory: Path, checkpoints: Path, *, recipe: MatchRecipe = MATCH, report: Callable[[dict], None] = lambda _: None
) -> dict[str, Fact]:
    directory.mkdir()
    return train(
        directory, stage=replace(STAGE, recipe=recipe), spec=SPEC, weights=gallery.weights, chat=gallery.chat, images=gallery.images,
        profile=gallery.profile, previous=None, checkpoints=checkpoints, report=report,
    )  # fmt: skip


def _failing(directory: Path) -> list[str]:
    return [rule.name for rule in RULES if not rule.holds(directory).passed]


@pytest.fixture(scope="module")
def trained(gallery: Gallery, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Fact]]:
    root = tmp_path_factory.mktemp("trained")
    return root / "encoder", _run(gallery, root / "encoder", root / "checkpoints")


def test_a_trained_encoder_loads_and_passes_its_rules(trained, gallery: Gallery):
    directory, facts = trained
    assert _failing(directory) == []
    model = load_encoder(directory, SPEC, gallery.profile).model
    assert math.exp(model.logit_scale.item()) == pytest.approx(facts["temperature"])
    assert model.logit_bias.item() == pytest.approx(facts["bias"])
    before = load_file(gallery.weights / WEIGHTS)
    assert not any(torch.equal(before[name], tensor) for name, tensor in load_file(directory / WEIGHTS).items())  # every weight is trained


def test_each_step_has_its_temperature_and_each_validation_its_ranks(trained):
    directory, _ = trained
    rows = list(read_table(directory / MATCHING_STEPS, MatchingStep))
    assert [row.step for row in rows] == [1, 2, 3, 4, 5, 6]
    ranked = [row for row in rows if row.gallery_size is not None]
    assert [row.step for row in ranked] == [3, 6]  # 24 pictures in batches of 8: an epoch is three steps
    held_out = [step.step for step in read_table(directory / TRAINING_STEPS, TrainingStep) if step.validation_loss is not None]
    assert held_out == [3, 6]
    last = ranked[-1]
    assert (last.gallery_size, last.chance_at_1, last.chance_at_5, last.chance_at_10) == (
        8,
        pytest.approx(1 / 8),
        pytest.approx(5 / 8),
        1.0,
    )
    assert last.image_to_text_recall_at_10 == last.text_to_image_recall_at_10 == 1.0
    assert last.matched_similarity > last.mismatched_similarity
    assert 1 <= last.image_to_text_median_rank <= 8


def test_a_step_counts_patches_and_text_positions(trained):
    directory, _ = trained
    assert {step.num_tokens for step in read_table(directory / TRAINING_STEPS, TrainingStep)} == {8 * (36 + 64)}


def test_the_first_loss_is_that_of_a_model_to_which_nothing_is_similar(trained):
    _, facts = trained
    assert facts["loss_if_orthogonal"] == pytest.approx(10.0, abs=0.01)
    # a bias of -10 and a temperature of 10: a mean cosine of c between pictures and texts moves the loss of the positives by about -10 c
    assert facts["first_loss"] == pytest.approx(facts["loss_if_orthogonal"], abs=1.0)


def test_a_run_that_was_cut_ends_at_bit_identical_weights(trained, gallery: Gallery, tmp_path: Path):
    undisturbed, _ = trained
    with pytest.raises(Killed):
        _run(gallery, tmp_path / "cut", tmp_path / "b", report=kill_after(4))
    _run(gallery, tmp_path / "resumed", tmp_path / "b")
    assert sha256_of_file(tmp_path / "resumed" / WEIGHTS) == sha256_of_file(undisturbed / WEIGHTS)
    rows = [list(read_table(directory / MATCHING_STEPS, MatchingStep)) for directory in (tmp_path / "resumed", undisturbed)]
    assert rows[0] == rows[1]


def test_the_encoder_of_the_lowest_held_out_loss_is_kept_and_not_the_last(gallery: Gallery, tmp_path: Path):
    _run(gallery, tmp_path / "encoder", tmp_path / "checkpoints", recipe=GETS_WORSE)
    losses = {row.step: row.validation_loss for row in read_table(tmp_path / "encoder" / TRAINING_STEPS, TrainingStep)}
    best = min(losses, key=lambda step: losses[step])
    assert read_json(tmp_path / "encoder" / SUMMARY)["kept_step"] == best < 9
    saved, of_best = load_file(tmp_path / "encoder" / WEIGHTS), load_file(tmp_path / f"checkpoints/checkpoint-{best}" / WEIGHTS)
    assert all(torch.equal(saved[name.removeprefix("encoder.")], tensor) for name, tensor in of_best.items())


def test_texts_that_are_cut_are_told_by_exactly_their_rule(trained, tmp_path: Path):
    directory, facts = trained
    assert (facts["num_cut_texts"], facts["num_texts"] > 1) == (0, True)
    cut = shutil.copytree(directory, tmp_path / "cut")
    write_json(cut / SUMMARY, {**read_json(cut / SUMMARY), "num_cut_texts": 3})
    assert _failing(cut) == ["texts_are_read_whole"]


def test_a_low_rank_update_is_added_in_and_what_it_does_not_name_stays_byte_for_byte(gallery: Gallery, tmp_path: Path):
    facts = _run(gallery, tmp_path / "encoder", tmp_path / "checkpoints", recipe=LORA)
    assert _failing(tmp_path / "encoder") == []
    before, after = load_file(gallery.weights / WEIGHTS), load_file(tmp_path / "encoder" / WEIGHTS)
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    linears = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.out_proj", "mlp.fc1", "mlp.fc2")
    towers = [f"vision_model.encoder.layers.{i}" for i in range(4)] + [f"text_model.encoder.layers.{i}" for i in range(2)]
    assert changed == {"logit_scale", "logit_bias"} | {f"{tower}.{linear}.weight" for tower in towers for linear in linears}
    assert facts["num_trainable_parameters"] == 2 + 6 * 4 * (4 * (128 + 128) + 2 * (128 + 512))
    assert facts["num_trainable_parameters_temperature"] == 2


def test_decay_spares_temperature_biases_and_norms(gallery: Gallery):
    matcher = Matcher(adapted(load_encoder(gallery.weights, SPEC, gallery.profile).model, MATCH), chunk=0)
    made = optimizer(matcher, MATCH)
    spared = {id(item) for item in made.param_groups[1]["params"]}
    names = {name for name, item in matcher.named_parameters() if id(item) in spared}
    assert {"encoder.logit_scale", "encoder.logit_bias", "encoder.text_model.final_layer_norm.weight"} <= names
    assert all(name.endswith((".bias", "logit_scale", "logit_bias", "_bias")) or "norm" in name for name in names)
    assert [group["weight_decay"] for group in made.param_groups] == [0.01, 0.0]
    assert made.defaults["betas"] == (0.9, 0.95)


def _work(gallery: Gallery, checkpoints: Path, recipe: MatchRecipe = MATCH):
    return matching(Material(
        stage=replace(STAGE, recipe=recipe), spec=SPEC, weights=gallery.weights, chat=gallery.chat, images=gallery.images,
        profile=gallery.profile, previous=None, checkpoints=checkpoints, report=lambda _: None,
    ))  # fmt: skip


def test_the_whole_batch_is_told_apart_however_few_pairs_are_embedded_at_a_time(gallery: Gallery, tmp_path: Path):
    trainer = _work(gallery, tmp_path).trainer
    assert (trainer.args.per_device_train_batch_size, trainer.args.gradient_accumulation_steps, trainer.model.chunk) == (8, 1, 4)


def test_a_best_checkpoint_of_another_model_is_named(gallery: Gallery, tmp_path: Path):
    work = _work(gallery, tmp_path)
    work.trainer.state.best_global_step, work.trainer.state.global_step = 2, 6
    with pytest.raises(HeavyStepFailed, match="checkpoint of step 2, .* damaged or not of this model"):
        keep_the_best(work.trainer, tmp_path, work.put_back)


def test_two_pictures_of_a_patient_are_left_out_and_equal_captions_belong_together(gallery: Gallery):
    captions = list(captioned_images(gallery.chat, "train"))[:3]
    said = replace(captions[2], text=captions[0].text.upper().replace(".", "!"))  # the same to the model
    processor = load_encoder(gallery.weights, SPEC, gallery.profile).processor
    batch = CaptionCollator(processor=processor, images=gallery.images, captions=[captions[0], captions[1], said])(
        [{"index": 0}, {"index": 1}, {"index": 2}]
    )
    related = relation(batch["texts"], batch["groups"], batch["pictures"])
    assert related.is_positive.tolist() == [[True, False, True], [False, True, False], [True, False, True]]
    assert related.is_counted.tolist() == [[True, False, True], [False, True, True], [True, True, True]]


def test_a_dataset_without_a_captioned_picture_is_named(gallery: Gallery, tmp_path: Path):
    with pytest.raises(MedVLError, match="0 captioned pictures of roco"):
        _work(gallery, tmp_path, replace(MATCH, pairs_per_dataset={"roco": 0}))


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"effective_batch": 1}, "effective_batch = 1 must be at least 2"), ({"adam_beta2": 1.0}, "adam_beta2 = 1.0"),
        ({"learning_rate": 0.0}, "learning_rate = 0.0"), ({"lora_rank": -1}, "lora_rank = -1"), ({"lora_targets": "("}, "no regular"),
    ],
)  # fmt: skip
def test_numbers_that_cannot_be_meant_are_refused(changes: dict, found: str):
    with pytest.raises(ValueError, match=found.replace("(", r"\(")):
        replace(MATCH, **changes)


def test_an_objective_with_the_recipe_of_another_is_refused():
    with pytest.raises(ValueError, match="objective 'generate' and a MatchRecipe"):
        Stage(name="encoder", objective="generate", recipe=MATCH, model=SPEC)
    with pytest.raises(ValueError, match="has no model: name the encoder"):
        Stage(name="encoder", objective="match", recipe=MATCH)
    with pytest.raises(ValueError, match="has the model 'medvl/tiny-siglip'"):
        Stage(name="adapter", objective="generate", recipe=RECIPE, model=SPEC)
