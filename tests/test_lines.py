"""The lines are values. If these passed wrongly, a changed learning rate would be answered with the old adapter, a moved folder would
retrain everything, or a line would quietly have a route of its own.
"""

import ast
import dataclasses
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import dagster as dg
import pytest

from medvl_lib import (
    audit,
    captions,
    case_index,
    chat,
    configured,
    images,
    near_duplicates,
    pairs,
    prompts,
    raw_records,
    split,
    tokenization,
    validation,
    vision_tokens,
)
from medvl_lib.audit import AuditSpec
from medvl_lib.benchmark import promotion, rows
from medvl_lib.benchmark.gate import Candidate, CostLimit, Gate, Guardrail, RecallGuardrail
from medvl_lib.configured import DatasetRun, lines_of
from medvl_lib.datasets import DATASETS
from medvl_lib.errors import MedVLError, SettingsError
from medvl_lib.evaluation import floors, galleries, scores
from medvl_lib.evaluation import spec as evaluation_spec
from medvl_lib.evaluation.parity import ParitySpec
from medvl_lib.evaluation.spec import EvaluationSpec
from medvl_lib.hardware import PROFILES, Profile
from medvl_lib.launcher import Launcher
from medvl_lib.lines import (
    DOCUMENTS,
    ENCODER,
    IMAGING,
    LINES,
    MODELS,
    PAGES,
    RADIOLOGY,
    Line,
    tiny,
    tiny_model,
)
from medvl_lib.models import spec as model_spec
from medvl_lib.models.spec import ModelSpec
from medvl_lib.pairs import Context, Dataset
from medvl_lib.request import REQUEST, Request, write_request
from medvl_lib.route import judging
from medvl_lib.route.data import dataset_steps
from medvl_lib.route.line import line_steps
from medvl_lib.settings import read_settings
from medvl_lib.split import SplitSpec
from medvl_lib.training import overfit
from medvl_lib.training import recipe as recipe_room
from medvl_lib.training.recipe import Handover, MatchRecipe, Recipe, Stage
from medvl_lib.validation import Limits

ROOT = Path(__file__).parent.parent
CPU = PROFILES["cpu"]
WEIGHTS = {"base_model", "nf4_model"}
JUDGED = {"predictions", "benchmark"}


def versions(line: Line, profile: Profile = CPU) -> dict[str, str]:
    return {step.name: step.version for step in line_steps(line, profile)}


def moved(before: Mapping[str, str], after: Mapping[str, str]) -> set[str]:
    return {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}


def moved_by_line(**changes: object) -> set[str]:
    return moved(versions(DOCUMENTS), versions(replace(DOCUMENTS, **changes)))


def with_recipe(**changes: object) -> Line:
    [stage] = DOCUMENTS.stages
    return replace(DOCUMENTS, stages=(replace(stage, recipe=replace(stage.recipe, **changes)),))


def names(model: type) -> set[str]:
    return {field.name for field in dataclasses.fields(model)}


# -- what moves what ---------------------------------------------------------------------------------------------------
RECIPE = {
    "learning_rate": 1e-4, "num_epochs": 3, "max_steps": 7, "effective_batch": 32, "warmup_share": 0.1, "weight_decay": 0.1,
    "max_gradient_norm": 2.0, "lora_rank": 8, "lora_alpha": 8, "lora_dropout": 0.0, "lora_targets": "x", "seed": 43,
    "pairs_per_dataset": {"mtsamples": 9}, "mixture_weights": {"mtsamples": 2.0}, "max_training_pairs": 9, "max_validation_pairs": 9,
    "validations_per_epoch": 9, "max_training_images": 9, "max_images_per_group": 9,
}  # fmt: skip
MATCH_RECIPE = {
    "learning_rate": 1e-3, "num_epochs": 3, "max_steps": 7, "effective_batch": 32, "warmup_share": 0.2, "weight_decay": 0.1,
    "adam_beta1": 0.8, "adam_beta2": 0.999, "max_gradient_norm": 2.0, "lora_rank": 8, "lora_alpha": 8, "lora_dropout": 0.1,
    "lora_targets": "x", "seed": 43, "pairs_per_dataset": {"mtsamples": 9}, "max_training_pairs": 9, "max_validation_pairs": 9,
    "validations_per_epoch": 9,
}  # fmt: skip
TRAINED = {"adapter", "overfit"}
REHEARSED_OTHERWISE = {  # numbers of which the rehearsal has its own
    "num_epochs", "max_steps", "effective_batch", "lora_dropout", "max_training_pairs", "max_validation_pairs", "validations_per_epoch",
}  # fmt: skip
SPLIT = {"seed": 43, "validation_share": 0.2, "test_share": 0.2, "kept_publisher_splits": ("test", "benchmark")}
AUDIT = {"max_tokens": 2048, "min_glyph_height_pixels": 7.0}
EVALUATION = {
    "splits": ("test",), "max_pairs_per_dataset": 9, "max_answer_tokens": 9, "controls": (), "seed": 43, "datasets": ("mtsamples",),
    "further_variants": ("int8",), "num_retrieved_cases": 5,
}  # fmt: skip
GATE = {
    "primary_metric": "token_f1", "further_primaries": ("token_f1",), "cost_limits": (CostLimit(measure="latency_p95", max_ratio=2.0),),
    "max_failed_share": 0.3, "candidates": (Candidate(variant="adapter"), Candidate(variant="nf4", margin=0.01)),
    "datasets": ("mtsamples",), "min_pairs": 60, "min_clusters": 8, "confidence": 0.9,
    "worn_after": 9, "floors": ("floor_empty",), "guardrails": (Guardrail(metric="token_f1", margin=0.1),), "max_unscored_share": 0.02,
    "recall_guardrails": (RecallGuardrail(direction="image_to_text", cutoff=5, margin=0.1),),
}  # fmt: skip
PARITY = {"max_pairs": 9, "min_equal_share": 0.9, "confidence": 0.9}
MODEL = {
    "source": ({"source": "tiny", "revision": ""}, WEIGHTS), "hub_id": ({"hub_id": "Qwen/other"}, WEIGHTS),
    "revision": ({"revision": "0" * 40}, WEIGHTS), "seed": ({"seed": 1}, WEIGHTS),
    "max_pixels": ({"max_pixels": 28 * 28}, WEIGHTS | TRAINED | {"audit", "predictions"}),
    "path": None,  # a place: its contents are observed instead
    "family": None,  # another family is another checkpoint: test_another_family_moves_what_is_made_of_the_model
}  # fmt: skip
NUMERICS = {"weights_dtype": "bfloat16", "engine": "mlx", "quantization": "none"}
ELSEWHERE = {
    "name": "gb10", "device": "cuda", "attention": "eager", "gradient_checkpointing": True, "training_batch": 1, "prediction_batch": 1,
    "num_workers": 2, "pin_memory": True, "num_threads": 2, "memory_budget_bytes": 9, "memory_margin_share": 0.2, "environment": {"A": "b"},
    "maps_weights": False, "compute_per_second": 1.0, "bandwidth_bytes_per_second": 1.0, "utilisation": 0.1,
    "grace_seconds": 5.0, "launcher": Launcher(num_shards=2),
}  # fmt: skip


@pytest.mark.parametrize(
    ("model", "known"),
    [
        # test_what_finds_cases_is_read_by_who_is_asked_with_them, test_what_is_trained_whole_moves_what_is_trained_by_it
        (Recipe, {*RECIPE, "with_retrieved_cases", "fully_trained", "fully_trained_rate"}),
        (SplitSpec, SPLIT), (AuditSpec, AUDIT), (EvaluationSpec, EVALUATION), (Gate, GATE), (ModelSpec, MODEL),
        (Profile, NUMERICS | ELSEWHERE), (MatchRecipe, MATCH_RECIPE),
        # test_what_a_stage_takes_moves_it
        (Stage, {"name", "objective", "recipe", "model", "pairs", "share_of_steps", "share_before", "handover"}),
        (ParitySpec, PARITY),
        (Line, {
            "name", "datasets", "rejected_share_budgets", "split", "model", "audit", "stages", "evaluation", "gate", "parity",
            "extraction_request", "stretch_goals",
        }),
    ],
)  # fmt: skip
def test_no_field_was_added_without_saying_here_what_it_moves(model: type, known: Mapping[str, object]):
    assert names(model) == set(known)


@pytest.mark.parametrize("name", RECIPE)
def test_a_number_of_the_recipe_moves_what_is_trained_by_it(name: str):
    moves = {"adapter"} if name in REHEARSED_OTHERWISE else TRAINED
    assert moved(versions(DOCUMENTS), versions(with_recipe(**{name: RECIPE[name]}))) == moves


def test_what_a_stage_takes_moves_it():
    [stage] = DOCUMENTS.stages
    for changes, moves in (({"pairs": {"language": "en"}}, TRAINED), ({"handover": Handover()}, {"adapter"})):
        assert moved(versions(DOCUMENTS), versions(replace(DOCUMENTS, stages=(replace(stage, **changes),)))) == moves


# -- a line with an encoder --------------------------------------------------------------------------------------------
WITH_ENCODER = replace(DOCUMENTS, stages=(ENCODER, *DOCUMENTS.stages))
ENCODED = {"encoder", "index", "retrieval"}


def with_encoder(**changes: object) -> Line:
    return replace(WITH_ENCODER, stages=(replace(ENCODER, **changes), *DOCUMENTS.stages))


def test_an_encoder_adds_its_steps_and_moves_only_the_answers_that_it_looks_at():
    without, beside = versions(DOCUMENTS), versions(WITH_ENCODER)
    assert moved(without, beside) == ENCODED | {"encoder_base_model", "predictions"}
    assert [step for step in beside if step in {*ENCODED, "audit", "adapter"}] == ["audit", "encoder", "index", "retrieval", "adapter"]


@pytest.mark.parametrize("rate", [1e-5, 2e-5])
def test_what_is_trained_whole_moves_what_is_trained_by_it(rate: float):
    whole = {"fully_trained": ("multi_modal_projector",), "fully_trained_rate": rate}
    assert moved(versions(DOCUMENTS), versions(with_recipe(**whole))) == TRAINED
    other = {**whole, "fully_trained_rate": 3e-5}
    assert moved(versions(with_recipe(**whole)), versions(with_recipe(**other))) == TRAINED


@pytest.mark.parametrize("name", MATCH_RECIPE)
def test_a_number_of_the_encoders_recipe_moves_the_encoder_alone(name: str):
    changed = with_encoder(recipe=replace(ENCODER.recipe, **{name: MATCH_RECIPE[name]}))
    assert moved(versions(WITH_ENCODER), versions(changed)) == {"encoder"}  # what reads it moves with its contents


def test_another_encoder_moves_its_weights_and_another_resolution_what_sees_pictures():
    other = with_encoder(model=replace(ENCODER.model, revision="0" * 40))
    assert moved(versions(WITH_ENCODER), versions(other)) == {"encoder_base_model"}
    larger = with_encoder(model=replace(ENCODER.model, max_pixels=384 * 384))
    assert moved(versions(WITH_ENCODER), versions(larger)) == ENCODED | {"encoder_base_model"}


@pytest.mark.parametrize("room", [captions, images])
def test_a_room_that_matching_reads_moves_it(room: ModuleType, monkeypatch: pytest.MonkeyPatch):
    before = versions(WITH_ENCODER)
    monkeypatch.setattr(room, "REVISION", room.REVISION + 1)
    assert moved(before, versions(WITH_ENCODER)) >= ENCODED


@pytest.mark.parametrize(("room", "moves"), [(case_index, {"index"}), (galleries, {"retrieval"})])
def test_a_room_of_the_encoder_moves_its_own_step(room: ModuleType, moves: set[str], monkeypatch: pytest.MonkeyPatch):
    before = versions(WITH_ENCODER)
    monkeypatch.setattr(room, "REVISION", room.REVISION + 1)
    assert moved(before, versions(WITH_ENCODER)) == moves


def test_what_matching_computes_moves_what_is_made_with_it(monkeypatch: pytest.MonkeyPatch):
    before = versions(WITH_ENCODER)
    monkeypatch.setattr(recipe_room, "MATCH_REVISION", recipe_room.MATCH_REVISION + 1)
    assert moved(before, versions(WITH_ENCODER)) == ENCODED


def test_a_line_of_encoders_alone_or_of_one_that_comes_later_is_refused():
    for stages in ((ENCODER,), (*DOCUMENTS.stages, ENCODER), (ENCODER, replace(ENCODER, name="another"), *DOCUMENTS.stages)):
        with pytest.raises(ValueError, match="one that matches may come first, and at least one must answer"):
            replace(DOCUMENTS, stages=stages)


def test_a_heavy_process_is_told_of_an_encoder_and_of_what_answers(tmp_path: Path):
    asked = Request(steps=("encoder",), line=WITH_ENCODER, profile=CPU, root="/data", run_id=None)
    write_request(tmp_path / "request.json", asked)
    assert REQUEST.validate_json((tmp_path / "request.json").read_bytes()) == asked


def test_the_tiny_line_has_the_tiny_encoder():
    encoder = tiny(WITH_ENCODER).encoder
    assert encoder is not None
    assert encoder.model == tiny_model("siglip")
    assert versions(tiny(WITH_ENCODER)).keys() == versions(WITH_ENCODER).keys()


@pytest.mark.parametrize("name", SPLIT)
def test_a_number_of_the_split_moves_the_split_alone(name: str):
    assert moved_by_line(split=replace(DOCUMENTS.split, **{name: SPLIT[name]})) == {"split"}


@pytest.mark.parametrize("name", AUDIT)
def test_a_number_of_the_audit_moves_the_audit_alone(name: str):
    assert moved_by_line(audit=replace(DOCUMENTS.audit, **{name: AUDIT[name]})) == {"audit"}


@pytest.mark.parametrize("name", EVALUATION)
def test_a_number_of_the_evaluation_moves_predictions_and_benchmark(name: str):
    moves = JUDGED | ({"int8_model"} if name == "further_variants" else set())
    assert moved_by_line(evaluation=replace(DOCUMENTS.evaluation, **{name: EVALUATION[name]})) == moves


def test_a_further_quantization_is_a_model_that_the_predictions_read():
    asked = replace(DOCUMENTS, evaluation=replace(DOCUMENTS.evaluation, further_variants=("int8",)))
    steps = {step.name: step for step in line_steps(asked, CPU)}
    assert steps.keys() - versions(DOCUMENTS).keys() == {"int8_model"}
    assert [source.key for source in steps["int8_model"].reads] == ["base_model/documents"]
    assert "int8_model/documents" in [source.key for source in steps["predictions"].reads]
    assert "int8_model/documents" not in [source.key for source in steps["adapter"].reads]
    with pytest.raises(MedVLError, match="int8"):
        line_steps(asked, replace(CPU, quantization="none"))


@pytest.mark.parametrize("name", GATE)
def test_a_number_of_the_gate_moves_the_promotion_alone(name: str):
    assert moved_by_line(gate=replace(DOCUMENTS.gate, **{name: GATE[name]})) == {"promotion"}


@pytest.mark.parametrize("name", PARITY)
def test_a_number_of_the_parity_moves_the_parity_alone(name: str):
    assert moved_by_line(parity=replace(DOCUMENTS.parity, **{name: PARITY[name]})) == {"parity"}


def test_what_the_server_asks_by_itself_moves_nothing():
    assert moved_by_line(extraction_request="What is this?") == set()


def test_who_may_be_served_is_asked_without_the_picture_too():
    only = replace(DOCUMENTS.gate, candidates=(Candidate(variant="adapter"),))
    assert moved_by_line(gate=only) == {"predictions", "promotion"}


@pytest.mark.parametrize("name", [name for name, change in MODEL.items() if change])
def test_what_the_model_is_moves_its_weights(name: str):
    changes, moves = MODEL[name]
    assert moved_by_line(model=replace(DOCUMENTS.model, **changes)) == moves


def test_where_the_weights_lie_moves_nothing():
    here, there = (
        versions(replace(DOCUMENTS, model=replace(DOCUMENTS.model, source="directory", revision="", path=path)))
        for path in ("/here", "/there")
    )
    assert moved(here, there) == set()


def test_the_datasets_move_split_and_conversations():
    assert moved_by_line(datasets=("mtsamples",)) == {"split", "near_duplicates", "chat"}


def test_how_many_rejections_are_allowed_moves_nothing():
    assert moved_by_line(rejected_share_budgets=dict.fromkeys(DOCUMENTS.datasets, 0.5)) == set()


def test_another_objective_moves_the_adapter():
    [stage] = DOCUMENTS.stages
    assert moved_by_line(stages=(replace(stage, objective="classify"),)) == TRAINED


@pytest.mark.parametrize("name", sorted(NUMERICS.keys() - {"engine"}))
def test_numerics_that_hardware_decides_move_what_was_computed_with_them(name: str):
    changed = versions(DOCUMENTS, replace(CPU, **{name: NUMERICS[name]}))
    assert moved(versions(DOCUMENTS), changed) == {"nf4_model", "predictions"} | TRAINED
    assert ("nf4_model" in changed) == (name != "quantization")


def test_another_engine_moves_what_it_computes_and_has_four_bits_by_another_name():
    wide = replace(CPU, quantization="none")
    assert moved(versions(DOCUMENTS, wide), versions(DOCUMENTS, replace(wide, engine="mlx"))) == {"predictions"} | TRAINED
    packed = versions(DOCUMENTS, replace(CPU, engine="mlx", quantization="mlx-affine4"))
    assert ("affine4_model" in packed, "nf4_model" in packed) == (True, False)


def test_a_line_whose_models_another_engine_does_not_run_is_as_on_torch():
    ours, theirs = (
        versions(IMAGING, replace(CPU, engine=engine, quantization=how)) for engine, how in (("mlx", "mlx-affine4"), ("torch", "none"))
    )
    assert ours == theirs


@pytest.mark.parametrize("name", ELSEWHERE)
def test_where_and_how_fast_it_runs_moves_nothing(name: str):
    assert moved(versions(DOCUMENTS), versions(DOCUMENTS, replace(CPU, **{name: ELSEWHERE[name]}))) == set()


@pytest.mark.parametrize(
    ("room", "moves"),
    [
        (split, {"split"}), (chat, {"chat"}), (audit, {"audit"}), (model_spec, WEIGHTS), (recipe_room, TRAINED),
        (near_duplicates, {"near_duplicates"}), (overfit, {"overfit"}),
        (evaluation_spec, {"predictions"}), (floors, {"predictions"}), (vision_tokens, {"audit"}), (tokenization, {"audit"}),
        (prompts, {"audit", "predictions"} | TRAINED), (images, {"near_duplicates", "audit", "predictions"} | TRAINED),
        (scores, {"scores"}), (rows, {"benchmark"}), (promotion, {"promotion"}),
    ],
)  # fmt: skip
def test_a_room_that_computes_something_else_moves_its_own_step(room: ModuleType, moves: set[str], monkeypatch: pytest.MonkeyPatch):
    before = versions(DOCUMENTS)
    monkeypatch.setattr(room, "REVISION", room.REVISION + 1)
    assert moved(before, versions(DOCUMENTS)) == moves


def test_another_version_of_a_metric_moves_the_scores(monkeypatch: pytest.MonkeyPatch):
    before = versions(DOCUMENTS)
    monkeypatch.setattr(judging, "metric_versions", lambda: {"token_f1": 99})
    assert moved(before, versions(DOCUMENTS)) == {"scores"}


# -- datasets ----------------------------------------------------------------------------------------------------------
RUN = DatasetRun(dataset=DATASETS["mtsamples"], raw_folder=Path("/raw"), limits=PAGES)
LIMITS = {name: getattr(PAGES, name) + 1 for name in names(Limits)} | {"min_response_characters": 2}
DATASET = {
    "revision": (99, {"pairs"}), "literals": ((1,), {"pairs"}), "title": ("x", set()), "licence": ("x", set()), "source": ("x", set()),
    "may_be_shown": (False, set()), "rejected_share_budget": (0.5, set()),  # it moves a verdict, not what is written
    "answers": (("open",), set()),  # it refuses a gate, and writes nothing
    "name": None, "read": None, "context": None,
    "acquisition": (DATASETS["slake"].acquisition, set()),  # who brings the files is not what they are
    "is_read": (DATASETS["slake"].is_read, set()),  # it names files from which nothing comes
}  # fmt: skip
CONTEXT = {
    "revision": (99, {"ehr_contexts"}), "literals": ((1,), {"ehr_contexts"}), "description": ("x", set()),
    "step": None, "table": None, "write": None, "rules": None, "read": None,
}  # fmt: skip


def moved_by_run(changed: DatasetRun) -> set[str]:
    before, after = ({step.name: step.version for step in dataset_steps(run)} for run in (RUN, changed))
    return moved(before, after)


@pytest.mark.parametrize("name", sorted(LIMITS))
def test_a_limit_moves_the_validated_pairs_alone(name: str):
    assert moved_by_run(replace(RUN, limits=replace(PAGES, **{name: LIMITS[name]}))) == {"validated_pairs"}


def test_no_field_of_a_dataset_was_added_without_saying_here_what_it_moves():
    assert names(Dataset) == set(DATASET)
    assert names(Context) == set(CONTEXT)


@pytest.mark.parametrize("name", [name for name, change in DATASET.items() if change])
def test_what_a_dataset_reads_moves_its_pairs_and_its_words_move_nothing(name: str):
    value, moves = DATASET[name]
    assert moved_by_run(replace(RUN, dataset=replace(RUN.dataset, **{name: value}))) == moves


@pytest.mark.parametrize("name", [name for name, change in CONTEXT.items() if change])
def test_what_is_known_of_a_datasets_subjects_moves_its_own_step(name: str):
    run, (value, moves) = replace(RUN, dataset=DATASETS["mimic_cxr"]), CONTEXT[name]
    changed = replace(run, dataset=replace(run.dataset, context=replace(run.dataset.context, **{name: value})))
    before, after = ({step.name: step.version for step in dataset_steps(each)} for each in (run, changed))
    assert moved(before, after) == moves


def test_where_raw_files_lie_moves_nothing():
    assert moved_by_run(replace(RUN, raw_folder=Path("/elsewhere"))) == set()


@pytest.mark.parametrize(
    ("room", "moves"), [(raw_records, "raw_records"), (pairs, "pairs"), (validation, "validated_pairs"), (images, "validated_pairs")]
)
def test_a_data_room_that_computes_something_else_moves_its_own_step(room: ModuleType, moves: str, monkeypatch: pytest.MonkeyPatch):
    before = {step.name: step.version for step in dataset_steps(RUN)}
    monkeypatch.setattr(room, "REVISION", room.REVISION + 1)
    assert moved(before, {step.name: step.version for step in dataset_steps(RUN)}) == {moves}


# -- one number, wherever it is written --------------------------------------------------------------------------------
def line_from(folder: Path, more: str) -> Line:
    path = folder / "dagster_project.toml"
    datasets = "".join(f"[datasets.{name}]\n" for name in DOCUMENTS.datasets)
    path.write_text(f'data_root = "data"\nscale = "full"\nprofile = "cpu"\n{datasets}{more}')
    [line] = [line for line in lines_of(read_settings(path)) if line.name == "documents"]
    return line


def test_the_same_numbers_in_the_settings_and_in_the_code_are_the_same_line(tmp_path: Path):
    same = """
        [lines.documents.recipe]
        learning_rate = 0.0002
        num_epochs = 2
        weight_decay = 0
        max_gradient_norm = 1
        [lines.documents.audit]
        min_glyph_height_pixels = 6
        [lines.documents.evaluation]
        splits = ["test", "benchmark"]
        [lines.documents.gate]
        confidence = 0.95
    """
    assert versions(line_from(tmp_path, same)) == versions(DOCUMENTS)


def test_the_settings_choose_another_encoder_and_how_it_is_trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(configured, "LINES", {"documents": WITH_ENCODER})
    more = f"""
        [lines.documents.recipe]
        num_epochs = 3
        [lines.documents.encoder]
        lora_rank = 16
        effective_batch = 128
        [lines.documents.encoder_model]
        hub_id = "google/siglip-base-patch16-384"
        revision = "{"1" * 40}"
        max_pixels = {384 * 384}
    """
    encoder, adapter = line_from(tmp_path, more).stages
    assert encoder.recipe == replace(ENCODER.recipe, lora_rank=16, effective_batch=128)
    assert encoder.model == replace(
        ENCODER.model, hub_id="google/siglip-base-patch16-384", revision="1" * 40, max_pixels=384 * 384
    )  # fmt: skip
    assert adapter.recipe == replace(DOCUMENTS.stages[0].recipe, num_epochs=3)
    with pytest.raises(SettingsError, match="unknown key 'roco'"):
        line_from(tmp_path, "[lines.documents.encoder]\npairs_per_dataset = { roco = 1 }\n")


def test_a_line_without_an_encoder_has_none_to_set(tmp_path: Path):
    with pytest.raises(SettingsError, match="has no encoder"):
        line_from(tmp_path, "[lines.documents.encoder]\nlora_rank = 16\n")


@pytest.mark.parametrize("within", ["label=*", "label=pneumothorax", "language=*", "all"])
def test_a_guardrail_may_name_a_label_of_its_metric(within: str, tmp_path: Path):
    rail = f'[[lines.documents.gate.guardrails]]\nmetric = "chexpert_rule_f1_macro"\nmargin = 0.1\nslice = "{within}"\n'
    assert [one.slice for one in line_from(tmp_path, rail).gate.guardrails] == [within]


@pytest.mark.parametrize(
    ("metric", "within", "said"),
    [
        ("chexpert_rule_f1_macro", "label=pneumotorax", "did you mean 'label=pneumothorax'"),
        ("chexpert_rule_f1_micro", "label=pneumothorax", "there are document_type"),  # one number over all labels
        ("pair_accuracy", "label=pneumothorax", "there are document_type"),
    ],
)
def test_a_guardrail_on_a_label_that_nothing_is_told_of_is_refused(metric: str, within: str, said: str, tmp_path: Path):
    rail = f'[[lines.documents.gate.guardrails]]\nmetric = "{metric}"\nmargin = 0.1\nslice = "{within}"\n'
    with pytest.raises(SettingsError) as refused:
        line_from(tmp_path, rail)
    assert within in refused.value.found
    assert said in refused.value.do


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ('[lines.documents.evaluation]\ncontrols = ["blank_image", "retrieved_cases"]\n', "similar cases before questions"),
        ("[lines.documents.recipe]\nwith_retrieved_cases = true\n", "similar cases before questions"),
        ('[[lines.documents.gate.recall_guardrails]]\ndirection = "image_to_text"\ncutoff = 5\nmargin = 0.1\n', "recall_guardrails"),
    ],
)  # fmt: skip
def test_a_line_without_an_encoder_finds_no_cases_and_guards_no_recall(more: str, said: str, tmp_path: Path):
    with pytest.raises(SettingsError, match=said) as refused:
        line_from(tmp_path, more)
    assert "encoder" in f"{refused.value.found} {refused.value.do}"
    with pytest.raises(ValueError, match="need an encoder"):
        replace(DOCUMENTS, evaluation=replace(DOCUMENTS.evaluation, controls=("blank_image", "retrieved_cases")))


def lines_from(folder: Path, more: str) -> dict[str, Line]:
    path = folder / "dagster_project.toml"
    datasets = "".join(f"[datasets.{name}]\n" for name in DOCUMENTS.datasets)
    path.write_text(f'data_root = "data"\nscale = "full"\nprofile = "cpu"\n{datasets}{more}')
    return {line.name: line for line in lines_of(read_settings(path))}


def test_a_variation_is_the_line_with_its_own_name_and_numbers(tmp_path: Path):
    more = """
        [lines.documents.recipe]
        num_epochs = 3
        [lines.documents_five]
        like = "documents"
        datasets = ["mtsamples"]
        [lines.documents_five.evaluation]
        max_pairs_per_dataset = 5
    """
    lines = lines_from(tmp_path, more)
    five = lines["documents_five"]
    assert list(lines) == ["documents", "documents_five"]
    assert five.datasets == ("mtsamples",)
    assert five.evaluation.max_pairs_per_dataset == 5
    assert five.stages == DOCUMENTS.stages  # like the line itself, not like what the settings made of it
    assert {step.owner for step in line_steps(five, CPU)} == {"documents_five"}


@pytest.mark.parametrize(
    ("more", "found"),
    [
        ('[lines.documents]\ndatasets = ["slake"]\n', "unknown key 'slake'"),
        ("[lines.documents]\ndatasets = []\n", "no dataset of the line documents is enabled"),
        (
            "[lines.documents]\ndatasets = ['mtsamples']\n[lines.documents.recipe]\npairs_per_dataset = { clinical_documents = 1 }\n",
            "clinical_documents, which the line documents does not read as the settings are",
        ),
        ("[lines.documents.recipe]\npairs_per_dataset = { mtsample = 1 }\n", "unknown key 'mtsample'"),
        ("[lines.documents.evaluation]\ndatasets = ['mtsample']\n", "unknown key 'mtsample'"),
        ("[lines.documents.recipe]\npairs_per_dataset = { mtsamples = -1 }\n", "pairs_per_dataset = {'mtsamples': -1}"),
    ],
)
def test_a_dataset_that_a_line_does_not_read_is_refused(tmp_path: Path, more: str, found: str):
    with pytest.raises(SettingsError) as refused:
        lines_from(tmp_path, more)
    assert refused.value.found == found
    assert "[lines.documents" in refused.value.where
    assert refused.value.do.removeprefix("enable one of ")


def test_a_number_changed_in_the_settings_is_that_number_in_the_code(tmp_path: Path):
    changed = line_from(tmp_path, "[lines.documents.recipe]\nnum_epochs = 3\n")
    assert versions(changed) == versions(with_recipe(num_epochs=3.0))
    assert moved(versions(DOCUMENTS), versions(changed)) == {"adapter"}


# -- which lines there are ---------------------------------------------------------------------------------------------
def lines_with(folder: Path, datasets: str, more: str = "", scale: str = "full") -> dict[str, Line]:
    path = folder / "dagster_project.toml"
    tables = "".join(f"[datasets.{name}]\n" for name in datasets.split())
    path.write_text(f'data_root = "data"\nscale = "{scale}"\nprofile = "cpu"\n{tables or "[datasets]"}\n{more}')
    return {line.name: line for line in lines_of(read_settings(path))}


def test_a_line_without_an_enabled_dataset_is_not_in_the_graph(tmp_path: Path):
    assert list(lines_with(tmp_path, "mtsamples")) == ["documents"]
    assert list(lines_with(tmp_path, "slake", "[lines.imaging.recipe]\nlora_rank = 8\n")) == ["imaging"]
    assert list(lines_with(tmp_path, "mtsamples slake")) == ["documents", "imaging"]


@pytest.mark.parametrize(
    ("datasets", "more"),
    [
        ("", ""), ("mtsamples", '[lines.imaging]\ndatasets = ["slake"]\n'),
        ("mtsamples", '[lines.other]\nlike = "imaging"\n'),
    ],
)  # fmt: skip
def test_a_line_that_somebody_asked_for_and_that_has_no_dataset_is_refused(tmp_path: Path, datasets: str, more: str):
    with pytest.raises(SettingsError, match="no dataset of"):
        lines_with(tmp_path, datasets, more)


def test_the_settings_that_come_with_it_have_the_lines_that_they_had():
    assert [line.name for line in lines_of(read_settings(ROOT / "dagster_project.toml"))] == [
        "documents", "imaging", "radiology", "documents_mismatched", "documents_five",
    ]  # fmt: skip


def test_the_imaging_lines_numbers_are_those_of_the_requirement_documents():
    encoder, stage = IMAGING.stages
    assert encoder == ENCODER
    recipe = stage.recipe
    assert (stage.name, recipe.learning_rate, recipe.num_epochs, recipe.effective_batch, recipe.max_gradient_norm) == (
        "decoder", 2e-4, 1, 4, 1.0,
    )  # fmt: skip
    assert IMAGING.audit.max_tokens == 512
    assert (IMAGING.split.validation_share, IMAGING.split.test_share) == (0.05, 0.05)
    rows = ("knee_xray", "pad_ufes_20", "slake", "custom_reports")
    assert [recipe.pairs_per_dataset[name] for name in rows] == [1500, 400, 300, 200]
    assert recipe.pairs_per_dataset.keys() == set(IMAGING.datasets)


def test_a_line_says_nothing_of_datasets_that_it_does_not_read(tmp_path: Path):
    line = lines_with(tmp_path, "slake knee_xray")["imaging"]
    assert line.answering[0].recipe.pairs_per_dataset == {"knee_xray": 1500, "slake": 300}
    more = "[lines.imaging.recipe]\npairs_per_dataset = { roco = 5 }\n"
    with pytest.raises(SettingsError, match="roco, which the line imaging does not read"):
        lines_with(tmp_path, "slake knee_xray", more)


@pytest.mark.parametrize(("scale", "model"), [("full", MODELS["qwen2_5_vl"]), ("tiny", tiny_model("qwen2_5_vl"))])
def test_another_decoder_is_one_changed_value(tmp_path: Path, scale: str, model: ModelSpec):
    line = lines_with(tmp_path, "slake", '[lines.imaging.model]\nfamily = "qwen2_5_vl"\n', scale)["imaging"]
    assert line.model == model
    assert list(versions(line)) == list(versions(IMAGING))
    with pytest.raises(SettingsError, match="family"):
        lines_with(tmp_path, "slake", '[lines.imaging.model]\nfamily = "qwen"\n', scale)


@pytest.mark.parametrize(("table", "family"), [("model", "siglip"), ("encoder_model", "mllama")])
def test_a_family_that_cannot_do_it_is_refused_by_name(tmp_path: Path, table: str, family: str):
    with pytest.raises(SettingsError, match=family) as refused:
        lines_with(tmp_path, "slake", f'[lines.imaging.{table}]\nfamily = "{family}"\n')
    assert table in refused.value.where


def test_another_family_moves_what_is_made_of_the_model():
    changed = replace(IMAGING, model=MODELS["qwen2_5_vl"])
    assert moved(versions(IMAGING), versions(changed)) == WEIGHTS | {"decoder", "overfit", "audit", "predictions", "retrieved_cases"}


def test_what_finds_cases_is_read_by_who_is_asked_with_them():
    learning = replace(
        IMAGING, stages=(ENCODER, replace(IMAGING.stages[1], recipe=replace(IMAGING.stages[1].recipe, with_retrieved_cases=True)))
    )
    without = replace(IMAGING, evaluation=replace(IMAGING.evaluation, controls=("blank_image",)))
    for line, readers in ((IMAGING, {"predictions"}), (learning, {"decoder", "predictions"}), (without, set[str]())):
        steps = {step.name: step for step in line_steps(line, CPU)}
        assert {name for name, step in steps.items() if "retrieved_cases/imaging" in {source.key for source in step.reads}} == readers
        assert ("retrieved_cases" in steps) == bool(readers)
        for name in ("benchmark", "promotion"):
            assert "retrieval/imaging" in {source.key for source in steps[name].reads}
    more = replace(IMAGING, evaluation=replace(IMAGING.evaluation, num_retrieved_cases=5))
    assert moved(versions(IMAGING), versions(more)) == {"retrieved_cases", "predictions", "benchmark"}


def test_the_tiny_line_is_another_one_with_the_same_steps():
    assert versions(tiny(DOCUMENTS)).keys() == versions(DOCUMENTS).keys()
    assert moved(versions(DOCUMENTS), versions(tiny(DOCUMENTS))) == WEIGHTS | JUDGED | TRAINED | {"audit", "parity"}


# -- one route ---------------------------------------------------------------------------------------------------------
[ADAPTER] = DOCUMENTS.stages
TWO_STAGES = replace(
    DOCUMENTS, name="imaging", datasets=("clinical_documents",),
    stages=(
        replace(ADAPTER, name="captions", share_of_steps=0.5, handover=Handover()),
        replace(ADAPTER, name="answers", share_of_steps=0.5, share_before=0.5, recipe=replace(ADAPTER.recipe, learning_rate=1e-4)),
    ),
)  # fmt: skip


def test_another_line_with_two_stages_takes_the_same_route():
    steps = {step.name: step for step in line_steps(TWO_STAGES, CPU)}
    assert list(steps) == [
        "split", "near_duplicates", "chat", "base_model", "nf4_model", "audit", "overfit", "captions", "answers", "predictions",
        "scores", "benchmark", "promotion", "parity", "report",
    ]  # fmt: skip
    assert {step.owner for step in steps.values()} == {"imaging"}
    assert "captions/imaging" not in [source.key for source in steps["captions"].reads]
    assert "captions/imaging" in [source.key for source in steps["answers"].reads]
    assert [source.key for source in steps["predictions"].reads if source.step in {"captions", "answers"}] == ["answers/imaging"]
    assert [source.key for source in steps["split"].reads] == ["validated_pairs/clinical_documents"]


def test_a_changed_stage_moves_neither_the_one_before_nor_the_one_after():
    first, second = TWO_STAGES.stages
    changed = replace(TWO_STAGES, stages=(replace(first, recipe=replace(first.recipe, warmup_share=0.5)), second))
    assert moved(versions(TWO_STAGES), versions(changed)) == {"captions", "overfit"}  # "answers" moves when the adapter that it reads has


def test_every_input_of_a_step_is_written_by_an_earlier_one():
    for line in (*LINES.values(), TWO_STAGES, WITH_ENCODER):
        written = {f"validated_pairs/{name}" for name in line.datasets}
        for step in line_steps(line, CPU):
            assert {source.key for source in step.reads} <= written
            written.add(step.key)


def is_a_name(node: ast.AST) -> bool:
    """``line.name``, or the name of a line written out."""
    if isinstance(node, ast.Attribute):
        return node.attr == "name" and ast.unparse(node.value).split(".")[-1] == "line"
    return isinstance(node, ast.Constant) and node.value in {*LINES, "imaging", "radiology"}


def questions(source: str) -> Iterator[int]:
    """The lines of code that ask which line is running: by comparing its name, or by looking something up under it."""
    for node in ast.walk(ast.parse(source)):
        asked: list[ast.AST] = []
        if isinstance(node, ast.Compare):
            asked = [item for part in (node.left, *node.comparators) for item in (part, *getattr(part, "elts", []))]
        elif isinstance(node, ast.Match):
            asked = [node.subject, *(case.pattern.value for case in node.cases if isinstance(case.pattern, ast.MatchValue))]
        elif isinstance(node, ast.Subscript):
            asked = [node.slice]
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in {"get", "startswith"}:
            asked = list(node.args)
        if any(is_a_name(item) for item in asked):
            yield node.lineno


@pytest.mark.parametrize(
    "code",
    [
        'x = 1 if line.name == "documents" else 2', 'if name in ("imaging", "radiology"): pass', "PARTS[line.name]",
        'match name:\n    case "radiology": pass', "PARTS.get(call.line.name)", 'LINES["documents"]', "self.line.name != other",
    ],
)  # fmt: skip
def test_a_question_for_a_lines_name_would_be_seen(code: str):
    assert list(questions(code))


def test_no_code_asks_which_line_it_runs():
    files = [path for package in ("medvl_lib", "medvl_assets") for path in sorted((ROOT / package).rglob("*.py"))]
    assert len(files) > 50
    assert [f"{path}:{line}" for path in files for line in questions(path.read_text(encoding="utf-8"))] == []


@pytest.mark.parametrize("line", [TWO_STAGES, replace(WITH_ENCODER, name="imaging")])
def test_the_graph_of_another_line_has_an_asset_for_each_of_its_steps(line: Line):
    from medvl_assets.line_assets import line_assets

    keys = {key.to_user_string() for made in line_assets(line, CPU) for key in getattr(made, "keys", ())}
    assert keys == {f"imaging/{step.name}" for step in line_steps(line, CPU)} | {"imaging/served_model"}


# -- the curriculum of radiology ---------------------------------------------------------------------------------------
def test_the_radiology_line_has_the_numbers_of_its_requirement_document():
    first, second = RADIOLOGY.stages
    assert (first.name, first.pairs, first.share_of_steps) == ("impression", {"stage": "impression"}, 0.35)
    assert (second.name, second.pairs, second.share_of_steps) == ("reasoning", {"stage": "reasoning"}, 0.65)
    recipe = first.recipe
    assert recipe == second.recipe
    assert (recipe.num_epochs, recipe.effective_batch, recipe.max_training_images) == (3, 8, 10_003)
    split = RADIOLOGY.split
    assert (split.validation_share, split.test_share, split.kept_publisher_splits) == (0.1, 0.1, ("test", "benchmark"))
    assert RADIOLOGY.gate.primary_metric == "chexpert_rule_f1_micro"
    assert [(goal.wanted, goal.metric or goal.stage, goal.bound) for goal in RADIOLOGY.stretch_goals] == [
        ("Stage A loss < 2.0", "impression", "< 2"), ("Stage B loss < 1.5", "reasoning", "< 1.5"),
        ("BLEU score > 0.3", "bleu_4", "> 30"), ("CheXpert F1 > 0.7", "chexpert_rule_f1_micro", "> 0.7"),
    ]  # fmt: skip


def test_the_longest_study_that_validation_lets_through_is_not_too_long_for_the_line():
    """One study of eight pictures in the published set would keep the whole line back otherwise, and after a day of preparation."""
    seen = vision_tokens.llava({"crop_size": {"height": 336}, "do_pad": True}, RADIOLOGY.model.max_pixels)(3056, 2544).num_tokens
    texts = (PAGES.max_request_characters + PAGES.max_response_characters) / 3.5  # characters a token: English by Mistral's has about four
    assert seen == 576
    assert PAGES.max_images * seen + texts <= RADIOLOGY.audit.max_tokens


@pytest.mark.parametrize("line", [DOCUMENTS, IMAGING, RADIOLOGY], ids=lambda line: line.name)
def test_a_published_dataset_is_not_asked_whole(line: Line):
    """A tenth of PubMedVision are 129,000 questions; an evaluation that never ends decides nothing."""
    assert 300 <= line.evaluation.max_pairs_per_dataset <= 1000
    assert line.evaluation.max_pairs_per_dataset >= line.gate.min_pairs


def test_a_goal_decides_nothing():
    without = replace(RADIOLOGY, stretch_goals=())
    assert moved(versions(RADIOLOGY), versions(without)) == {"benchmark"}  # where they stand beside what was measured


@pytest.mark.parametrize("scale", ["tiny", "full"])
def test_changes_of_the_recipe_are_of_both_stages_and_their_shares_stay(scale: str, tmp_path: Path):
    path = tmp_path / "dagster_project.toml"
    path.write_text(
        f'data_root = "data"\nscale = "{scale}"\nprofile = "cpu"\n[datasets.mimic_cxr]\n[lines.radiology.recipe]\nmax_steps = 20\n'
        "max_images_per_group = 3\n"
    )
    [line] = lines_of(read_settings(path))
    assert [(stage.recipe.max_steps, stage.recipe.max_images_per_group) for stage in line.stages] == [(20, 3), (20, 3)]
    assert [stage.share_of_steps for stage in line.stages] == [0.35, 0.65]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda one, two: (one, replace(two, share_of_steps=0.6)), "share_of_steps of impression, reasoning add up to 0.95"),
        (lambda one, two: (one, replace(two, share_before=0.3)), "share_before = 0.3 of reasoning: the stages before it have 0.35"),
        (lambda one, two: (replace(one, handover=None), two), "impression: another stage goes on from it, so name in handover"),
        (lambda one, two: (one, replace(two, recipe=replace(two.recipe, lora_rank=8))), "differ in lora_rank"),
        (lambda one, two: (one, replace(two, recipe=replace(two.recipe, max_steps=8))), "differ in max_steps"),
    ],
)
def test_stages_that_do_not_fit_together_are_refused(change: Callable[[Stage, Stage], tuple[Stage, ...]], said: str):
    with pytest.raises(ValueError, match=said):
        replace(RADIOLOGY, stages=change(*RADIOLOGY.stages))


def test_the_second_stage_is_a_process_of_its_own_that_waits_for_what_the_first_has_to_show():
    steps = {step.name: step for step in line_steps(RADIOLOGY, CPU)}
    assert (steps["impression"].process, steps["reasoning"].process) == ("train", "train_reasoning")
    [before] = [source for source in steps["reasoning"].reads if source.step == "impression"]
    wanted = {"loss_fell", "held_out_loss_fell", "answers_are_sound", "full_tensors_are_whole"}
    assert wanted <= {rule.name for rule in before.rules if rule.is_blocking} == {rule.name for rule in steps["impression"].rules}
    assert "held_out_loss_fell" not in {rule.name for rule in steps["reasoning"].rules}


def test_the_graph_judges_the_first_stage_before_the_second_begins():
    """An asset each, and every check of the first stops the run there; both are in the line's job and the rehearsal in its own."""
    from medvl_assets.jobs import jobs
    from medvl_assets.line_assets import line_assets

    made = line_assets(RADIOLOGY, CPU)
    [first] = [one for one in made if isinstance(one, dg.AssetsDefinition) and dg.AssetKey(["radiology", "impression"]) in one.keys]
    assert {key.to_user_string() for key in first.keys} == {"radiology/overfit", "radiology/impression"}
    [second] = [one for one in made if isinstance(one, dg.AssetsDefinition) and dg.AssetKey(["radiology", "reasoning"]) in one.keys]
    assert dg.AssetKey(["radiology", "impression"]) in second.asset_deps[dg.AssetKey(["radiology", "reasoning"])]
    specs = [spec for one in made for spec in one.check_specs if spec.asset_key == dg.AssetKey(["radiology", "impression"])]
    assert {"held_out_loss_fell", "answers_are_sound", "full_tensors_are_whole", "loss_fell"} <= {
        spec.name for spec in specs if spec.blocking
    }
    assert {"everything", "overfit", "radiology"} <= {job.name for job in jobs([RADIOLOGY], RADIOLOGY.datasets)}


# -- the shipped settings ----------------------------------------------------------------------------------------------
SHIPPED = (Path(__file__).parent.parent / "dagster_project.toml").read_text(encoding="utf-8")


def shipped_lines(folder: Path, text: str) -> dict[str, Line]:
    path = folder / "dagster_project.toml"
    path.write_text(text, encoding="utf-8")
    return {line.name: line for line in lines_of(read_settings(path))}


@pytest.mark.parametrize("scale", ["tiny", "full"])
def test_the_stories_leave_the_line_itself_as_it_is(scale: str, tmp_path: Path):
    lines = shipped_lines(tmp_path, SHIPPED.replace('scale = "tiny"', f'scale = "{scale}"'))
    assert list(lines) == ["documents", "imaging", "radiology", "documents_mismatched", "documents_five"]
    plain = replace(DOCUMENTS, datasets=("clinical_documents", "mtsamples"))
    assert versions(lines["documents"]) == versions(tiny(plain) if scale == "tiny" else plain)


@pytest.mark.parametrize(("dataset", "story"), [("mtsamples", "documents_mismatched"), ("clinical_documents", "documents_mismatched")])
def test_a_dataset_that_a_story_needs_is_missed_with_the_way_out(dataset: str, story: str, tmp_path: Path):
    with pytest.raises(SettingsError) as refused:
        shipped_lines(tmp_path, re.sub(rf"(\[datasets\.{dataset}\]\n(?:#.*\n)*enabled = )true", r"\1false", SHIPPED))
    assert story in f"{refused.value.found} {refused.value.where}"
    assert "take out" in refused.value.do or dataset in refused.value.do


def test_a_gate_that_looks_at_what_is_not_evaluated_is_refused(tmp_path: Path):
    more = "[lines.documents.evaluation]\ndatasets = ['mtsamples']\n[lines.documents.gate]\ndatasets = ['clinical_documents']\n"
    with pytest.raises(SettingsError) as refused:
        lines_from(tmp_path, more)
    assert "clinical_documents" in refused.value.found
