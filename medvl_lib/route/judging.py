"""Steps of the judgement: predictions, scores, benchmark, the decision, and whether what is served answers as it was judged.

In: a line and a profile. Out: steps. Metrics and gate have their own rooms; what is served because of a decision is ``pointing``'s.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from medvl_lib import audit, case_index, chat, images, prompts, retrieved_cases, split
from medvl_lib.benchmark import rows
from medvl_lib.benchmark.tables import DatasetCount
from medvl_lib.evaluation import floors, prediction_rules, scores, similarities
from medvl_lib.evaluation import predictions as predictions_room
from medvl_lib.evaluation import spec as evaluation_spec
from medvl_lib.evaluation.fresh import start_server
from medvl_lib.evaluation.metrics import metric_versions
from medvl_lib.evaluation.predictions import PREDICTIONS, Prediction, Variant
from medvl_lib.hardware import Profile, numerics
from medvl_lib.images import ImageStore
from medvl_lib.lines import Line
from medvl_lib.models.weights import BASE_RULES
from medvl_lib.parts import Part, divide
from medvl_lib.plan.memory import fitting_predictions, longest
from medvl_lib.pointer import Contender
from medvl_lib.provenance import Artifact, Fact, ancestor, code_version
from medvl_lib.route.champion import JUDGED_AGAINST, champion_of, contenders
from medvl_lib.route.data import sign, source
from medvl_lib.route.encoding import INDEX, retrieval_of, retrieval_source
from medvl_lib.route.models import CASES, further_models, merged_steps, stage_rules, trained_on
from medvl_lib.route.parity import parity_step
from medvl_lib.route.promoting import promotion_step
from medvl_lib.step import Call, Inputs, Step, Table
from medvl_lib.training import matching_steps
from medvl_lib.training.steps import TRAINED_ON
from medvl_lib.workspace import Workspace

AT_A_TIME = "pairs_at_a_time"


def judging_steps(line: Line, profile: Profile) -> tuple[Step, ...]:
    """Predictions of every variant, their scores and means, and the decision on the last stage's adapter."""
    name, last, encoder = line.name, line.stages[-1].name, line.encoder
    beside = () if encoder is None else (
        source(encoder.name, name, matching_steps.RULES), source(INDEX, name, case_index.RULES),
        *([source(CASES, name, retrieved_cases.RULES)] if "retrieved_cases" in line.evaluation.controls else ()),
    )  # fmt: skip
    adapter = source(last, name, stage_rules(line.stages[-1]))
    weights = trained_on(line, profile)
    models = {item.key: item for item in (source("base_model", name, BASE_RULES), weights, *further_models(line))}

    def served(workspace: Workspace, inputs: Inputs) -> str:
        champion = champion_of(workspace, line, contenders(line, inputs))
        return "" if champion is None else champion.data_version

    def predict_part(call: Call, part: Part) -> None:
        from medvl_lib.evaluation.predict import write_shard

        write_shard(call.directory, part, **asked(call, line, profile, part.given[AT_A_TIME]))

    def predict(call: Call) -> Mapping[str, Fact]:
        start_server(profile)  # before torch is imported here
        from medvl_lib.evaluation.predict import write_predictions

        bound = line.audit.max_tokens if "retrieved_cases" in line.evaluation.controls else 0
        length = longest(call.read("audit", name), line.evaluation.splits, bound)
        plan = fitting_predictions(line.evaluation, line.model, profile, length, call.read("base_model", name))
        call.report({"planned_bytes": round(plan.total_bytes), "pairs_at_a_time": plan.micro_batch})
        number = profile.launcher.num_shards
        shards = call.finish(divide(number, {AT_A_TIME: plan.micro_batch})) if number > 1 else []
        facts = write_predictions(
            call.directory, audit=call.read("audit", name), shards=shards, **asked(call, line, profile, plan.micro_batch)
        )
        return {**facts, **liken(call), JUDGED_AGAINST: call.observed}

    def liken(call: Call) -> Mapping[str, Fact]:
        """How near each answer lies to its pictures, where the line has an encoder to say so."""
        if encoder is None or encoder.model is None:
            return {}
        from medvl_lib.evaluation.predict import parts
        from medvl_lib.models.embedding import embed_stored, embed_texts
        from medvl_lib.models.loading import give_memory_back, load_encoder

        give_memory_back(profile)  # what answered
        shown = {item.pair_id: item.image_ids for group in parts(call.read("chat", name), line.evaluation) for item in group}
        image_ids, texts = list(dict.fromkeys(image for ids in shown.values() for image in ids)), similarities.said(call.directory)
        loaded = load_encoder(call.read(encoder.name, name), encoder.model, profile)
        pictures = dict(zip(image_ids, embed_stored(loaded, ImageStore(call.workspace.images), image_ids), strict=True))
        return similarities.write_similarities(
            call.directory, shown, pictures, dict(zip(texts, embed_texts(loaded, texts) if texts else (), strict=True))
        )  # fmt: skip

    def measure(call: Call) -> Mapping[str, Fact]:
        ranked = retrieval_of(line, call.inputs, call.inputs[f"predictions/{name}"])
        *before, (stage, own) = reversed(_adapters_of(call, line).items())
        return rows.write_benchmark(
            call.directory, line=name, scores_directory=call.read("scores", name), predictions_directory=call.read("predictions", name),
            adapter_directory=own.directory, earlier_adapters={earlier: adapter.directory for earlier, adapter in before},
            dataset_counts=_data_funnel(call, line),
            retrieval_directory=None if ranked is None else ranked.directory, stage=stage, run_id=call.workspace.run_id,
            encoders=_encoders_of(call, line), goals=line.stretch_goals,
        )  # fmt: skip

    return (
        *merged_steps(line, profile),
        Step(
            name="predictions", owner=name, description=sign(predictions_room.__name__), process="predict",
            reads=(source("chat", name, chat.RULES), source("audit", name, audit.RULES), *models.values(), adapter, *beside),
            version=code_version(
                evaluation_spec.REVISION, (prompts.REVISION, images.REVISION, floors.REVISION), name, line.evaluation, numerics(profile),
                line.model.max_pixels, controlled(line), similarities.REVISION if encoder else 0,
            ),
            rules=prediction_rules.RULES, write=predict, part=predict_part, observe=served, table=Table(file=PREDICTIONS, model=Prediction),
        ),
        Step(
            name="scores", owner=name, description=sign(scores.__name__), reads=(source("predictions", name, prediction_rules.RULES),),
            version=code_version(scores.REVISION, scores.REVISIONS, name, metric_versions()),
            rules=scores.RULES, write=lambda call: scores.write_scores(call.directory, call.read("predictions", name)),
            table=Table(file=scores.SCORES, model=scores.Score),
        ),
        Step(
            name="benchmark", owner=name, description=sign(rows.__name__),
            reads=(
                source("scores", name, scores.RULES), source("predictions", name, prediction_rules.RULES), adapter, *retrieval_source(line),
            ),
            version=code_version(rows.REVISION, rows.REVISIONS, name, line.evaluation, *([goals] if (goals := line.stretch_goals) else [])),
            rules=rows.RULES, write=measure,
        ),
        promotion_step(line),
        parity_step(line, profile),
    )  # fmt: skip


def asked(call: Call, line: Line, profile: Profile, pairs_at_a_time: int) -> dict[str, Any]:
    """Who answers what, and on what: of all predictions, and of a part of them."""
    from medvl_lib.evaluation.answering import Weights

    name = line.name
    found = contenders(line, call.inputs)
    champion = champion_of(call.workspace, line, found)
    everyone: dict[Variant, Contender] = found if champion is None else {**found, "champion": champion}
    variants = [
        Weights(
            variant=variant, directory=one.weights.directory, adapter=one.adapter and one.adapter.directory,
            data_version=one.data_version,
        ) for variant, one in everyone.items()
    ]  # fmt: skip
    return {
        "weights": variants, "controlled": controlled(line), "spec": line.model, "evaluation": line.evaluation,
        "chat": call.read("chat", name), "images": ImageStore(call.workspace.images),
        "profile": replace(profile, prediction_batch=pairs_at_a_time), "report": call.report,
        "cases": call.read(CASES, name) if f"{CASES}/{name}" in call.inputs else None,
    }  # fmt: skip


def controlled(line: Line) -> tuple[Variant, ...]:
    """Who has to show that it uses the picture, and so is asked under the evaluation's controls: whoever may be served."""
    return tuple(candidate.variant for candidate in line.gate.candidates)


def _adapter_of(call: Call, line: Line) -> Artifact:
    """The adapter that made these very predictions: another may have been trained since."""
    return ancestor(call.workspace, call.inputs[f"predictions/{line.name}"], line.stages[-1].name, line.name)


def _data_funnel(call: Call, line: Line) -> list[DatasetCount]:
    """How many rows of each dataset got how far on the way to these very predictions: read from provenance, not looked up anew."""
    chat_artifact = ancestor(call.workspace, call.inputs[f"predictions/{line.name}"], "chat", line.name)
    placed = split.num_pairs_by_dataset(ancestor(call.workspace, chat_artifact, "split", line.name).directory)
    counts: list[DatasetCount] = []
    for dataset in line.datasets:
        facts = ancestor(call.workspace, chat_artifact, "validated_pairs", dataset).facts
        counts.append(DatasetCount(dataset=dataset, outcome="read", reason=None, num_pairs=int(facts["num_read"] or 0)))
        counts.append(DatasetCount(dataset=dataset, outcome="accepted", reason=None, num_pairs=int(facts["num_pairs"] or 0)))
        counts.extend(
            DatasetCount(dataset=dataset, outcome="rejected", reason=name.removeprefix("rejected_"), num_pairs=int(count or 0))
            for name, count in facts.items() if name.startswith("rejected_")
        )  # fmt: skip
        counts.extend(
            DatasetCount(dataset=dataset, outcome=part, reason=None, num_pairs=count)
            for (name, part), count in placed.items()
            if name == dataset
        )
        counts.append(DatasetCount(dataset=dataset, outcome="trained_on", reason=None, num_pairs=_num_trained_on(call, line, dataset)))
    return counts


def _adapters_of(call: Call, line: Line) -> dict[str, Artifact]:
    """The adapter of each stage behind these predictions: the last one's, and those that it went on from."""
    adapter = _adapter_of(call, line)
    found: dict[str, Artifact] = {}
    for stage in reversed(line.answering):
        adapter = adapter if stage.name == adapter.step else ancestor(call.workspace, adapter, stage.name, line.name)
        found[stage.name] = adapter
    return found


def _encoders_of(call: Call, line: Line) -> dict[str, Path]:
    """The encoder beside which these predictions were made, where the line has one."""
    if line.encoder is None:
        return {}
    return {line.encoder.name: ancestor(call.workspace, call.inputs[f"predictions/{line.name}"], line.encoder.name, line.name).directory}


def _num_trained_on(call: Call, line: Line, dataset: str) -> int:
    """How many pairs of a dataset the stages that answer took together; those with equal labels took the same ones."""
    adapters, counts = _adapters_of(call, line), dict[tuple[tuple[str, str], ...], int]()
    for stage in line.answering:
        kind = tuple(sorted(stage.pairs.items()))
        counts[kind] = max(counts.get(kind, 0), int(adapters[stage.name].facts.get(f"{TRAINED_ON}{dataset}", 0) or 0))
    return sum(counts.values())
