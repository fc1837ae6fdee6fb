"""Steps of an encoder: its base model, its training, the index of the training cases, how well it retrieves, and cases for questions.

In: a line and a profile. Out: the steps of each stage that matches pictures and texts; none where the line has no such stage. Torch is
imported when a step writes, never when the graph loads.
"""

from collections.abc import Mapping
from functools import partial
from pathlib import Path

from medvl_lib import captions, case_index, chat, images, prompts, retrieved_cases, training
from medvl_lib.errors import InputRefused
from medvl_lib.evaluation import galleries
from medvl_lib.hardware import Profile, numerics
from medvl_lib.images import ImageStore
from medvl_lib.lines import Line
from medvl_lib.models.weights import BASE_RULES
from medvl_lib.pairs import Split
from medvl_lib.pointer import read_pointer
from medvl_lib.provenance import Artifact, Fact, code_version, read_artifact
from medvl_lib.route.data import sign, source
from medvl_lib.route.models import CASES, base_step, train_step
from medvl_lib.step import Call, Inputs, Source, Step, Table
from medvl_lib.training import matching_steps
from medvl_lib.training import recipe as training_recipe
from medvl_lib.training.recipe import Stage
from medvl_lib.workspace import Workspace

PROCESS = "encode"
EVERY_PART: tuple[Split, ...] = ("train", "validation")  # what training asks of: its pairs, and those of the held-out loss
INDEX, RETRIEVAL = case_index.STEP, "retrieval"
HELD_OUT: Split = "test"
BESIDE = "served_encoder"  # fact of the ranks: fingerprint of the served encoder that was ranked, too; empty where none, or this one, was


def base_name(stage: Stage) -> str:
    """What the step of a stage's own base model is called."""
    return f"{stage.name}_base_model"


def encoder_base_steps(line: Line) -> tuple[Step, ...]:
    """The base model of the encoder, where the line has one."""
    stage = line.encoder
    return () if stage is None or stage.model is None else (base_step(line, base_name(stage), stage.model),)


def encoder_steps(line: Line, profile: Profile) -> tuple[Step, ...]:
    """The encoder, its index and its ranks, where the line has one."""
    stage = line.encoder
    if stage is None or stage.model is None:
        return ()
    spec = stage.model
    name, base = line.name, source(base_name(stage), line.name, BASE_RULES)
    conversations, encoder = source("chat", name, chat.RULES), source(stage.name, name, matching_steps.RULES)
    # 16-bit products of training are the profile's; what embeds and ranks is in 32 bits everywhere
    computed = (training_recipe.MATCH_REVISION, captions.REVISION, images.REVISION)

    def write_index(call: Call) -> Mapping[str, Fact]:
        from medvl_lib.models.embedding import embed_stored
        from medvl_lib.models.loading import load_encoder

        cases = list(captions.captioned_images(call.read("chat", name), "train"))
        loaded = load_encoder(call.read(stage.name, name), spec, profile)
        vectors = embed_stored(loaded, ImageStore(call.workspace.images), [case.image_id for case in cases])
        return case_index.write_index(call.directory, cases, vectors)

    def rank(call: Call) -> Mapping[str, Fact]:
        from medvl_lib.models.embedding import BATCH, embed_stored, embed_texts
        from medvl_lib.models.loading import give_memory_back, load_encoder
        from medvl_lib.models.siglip import canonical

        held_out = list(captions.captioned_images(call.read("chat", name), HELD_OUT))
        texts, image_ids = [item.text for item in held_out], [item.image_id for item in held_out]
        stored, speeds = ImageStore(call.workspace.images), list[galleries.EncoderSpeed]()
        vectors: dict[galleries.EncoderVariant, galleries.Vectors] = {}
        variants: dict[galleries.EncoderVariant, Path] = {"base": call.read(base.step, name), "trained": call.read(stage.name, name)}
        if call.observed:
            variants["champion"] = read_artifact(call.workspace.directory(stage.name, name, call.observed)).directory
        for variant, directory in variants.items():
            loaded = load_encoder(directory, spec, profile)
            seen, pictures = galleries.timed(variant, "picture", image_ids, partial(embed_stored, loaded, stored), BATCH)
            read, words = galleries.timed(variant, "text", texts, partial(embed_texts, loaded), BATCH)
            vectors[variant] = galleries.Vectors(pictures, words)
            speeds += [seen, read]
            del loaded
            give_memory_back(profile)
        facts = galleries.write_retrieval(call.directory, held_out, [canonical(text) for text in texts], vectors, speeds)
        return {**facts, BESIDE: call.observed}

    def served(workspace: Workspace, inputs: Inputs) -> str:
        return _served_instead(workspace, line, inputs[encoder.key].fingerprint)

    def retrieve(call: Call) -> Mapping[str, Fact]:
        from medvl_lib.models.embedding import embed_stored
        from medvl_lib.models.loading import load_encoder

        chat_directory, splits = call.read("chat", name), _asked_splits(line)
        image_ids = list(dict.fromkeys(image for pair in retrieved_cases.asked(chat_directory, splits) for image in pair.image_ids))
        loaded = load_encoder(call.read(stage.name, name), spec, profile)
        vectors = dict(zip(image_ids, embed_stored(loaded, ImageStore(call.workspace.images), image_ids), strict=True))
        facts = retrieved_cases.write_queries(call.directory, chat_directory, splits, vectors)
        return {**facts, **retrieved_cases.write_retrieved_cases(
            call.directory, chat=chat_directory, index=call.read(INDEX, name), model=call.read("base_model", name),
            images=ImageStore(call.workspace.images), splits=splits, num_cases=line.evaluation.num_retrieved_cases,
            max_tokens=line.audit.max_tokens, max_pixels=line.model.max_pixels,
        )}  # fmt: skip

    return (
        train_step(
            line, profile, stage, spec, base, reads=(conversations,), rules=matching_steps.RULES, room=training.__name__, process=PROCESS,
            version=code_version(training_recipe.REVISION, computed, name, stage.identity, numerics(profile), spec.max_pixels),
        ),
        Step(
            name=INDEX, owner=name, description=sign(case_index.__name__), reads=(conversations, encoder), process=PROCESS,
            version=code_version(case_index.REVISION, computed, name, spec.max_pixels), rules=case_index.RULES, write=write_index,
            table=Table(file=case_index.INDEX, model=case_index.IndexedCase),
        ),
        Step(
            name=RETRIEVAL, owner=name, description=sign(galleries.__name__), reads=(conversations, base, encoder), process=PROCESS,
            version=code_version(galleries.REVISION, galleries.REVISIONS, computed, name, spec.max_pixels, HELD_OUT),
            rules=galleries.RULES, write=rank, observe=served, table=Table(file=galleries.RETRIEVAL, model=galleries.RetrievalRow),
        ),
        *([] if not line.retrieves else [Step(
            name=CASES, owner=name, description=sign(retrieved_cases.__name__), process=PROCESS,
            reads=(conversations, encoder, source(INDEX, name, case_index.RULES), source("base_model", name, BASE_RULES)),
            version=code_version(
                retrieved_cases.REVISION, retrieved_cases.REVISIONS, (computed, prompts.REVISION), name, spec.max_pixels,
                line.evaluation.num_retrieved_cases, _asked_splits(line), line.audit.max_tokens, line.model.max_pixels,
            ),
            rules=retrieved_cases.RULES, write=retrieve,
            table=Table(file=retrieved_cases.RETRIEVED_CASES, model=retrieved_cases.RetrievedCases),
        )]),
    )  # fmt: skip


def retrieval_source(line: Line) -> tuple[Source, ...]:
    """How well the line's encoder retrieves, as an input of what judges it; none where it has no encoder."""
    return () if line.encoder is None else (source(RETRIEVAL, line.name, galleries.RULES),)


def retrieval_of(line: Line, inputs: Inputs, predictions: Artifact) -> Artifact | None:
    """The ranks of the very encoder that predictions were made beside; None where the line has no encoder.

    Raises InputRefused where the encoder was trained anew since.
    """
    if line.encoder is None:
        return None
    found, key = inputs[f"{RETRIEVAL}/{line.name}"], f"{line.encoder.name}/{line.name}"
    if found.inputs[key] != predictions.inputs[key]:
        raise InputRefused(
            found=f"ranks of {key} {found.inputs[key]}, and answers that were made beside {predictions.inputs[key]}",
            where=str(found.directory), do=f"materialize {line.name}/predictions again, and what follows from it",
        )  # fmt: skip
    return found


def ranks_of(workspace: Workspace, line: Line, ranked: Artifact) -> list[galleries.Rank]:
    """The ranks by which an encoder is held against the one that is served now, or against its base where that is it, or none is.

    Raises InputRefused where another encoder is served than was ranked beside it.
    """
    assert line.encoder is not None  # noqa: S101 (it made the ranks)
    mark, beside = _served_instead(workspace, line, ranked.inputs[f"{line.encoder.name}/{line.name}"]), ranked.facts.get(BESIDE)
    if mark and beside != mark:
        raise InputRefused(
            found=f"ranks beside the served encoder {beside or '(none)'}, and {mark} is served", where=str(ranked.directory),
            do=f"materialize {line.name}/{RETRIEVAL} again, and what follows from it",
        )  # fmt: skip
    return [rank for rank in galleries.read_ranks(ranked.directory) if mark or rank.variant != "champion"]


def _served_instead(workspace: Workspace, line: Line, trained: str) -> str:
    """The encoder that is served, where it is another one than was just trained: recall must not fall behind it."""
    pointer = read_pointer(workspace, line.name)
    mark = None if pointer is None else pointer.encoder_fingerprint
    return "" if mark is None or mark == trained else mark


def _asked_splits(line: Line) -> tuple[Split, ...]:
    """Whose questions cases are looked for: those that are evaluated with cases, and those that are trained on with them."""
    learns = any(isinstance(stage.recipe, training_recipe.Recipe) and stage.recipe.with_retrieved_cases for stage in line.stages)
    evaluated = line.evaluation.splits if "retrieved_cases" in line.evaluation.controls else ()
    return tuple(dict.fromkeys((*(EVERY_PART if learns else ()), *evaluated)))
