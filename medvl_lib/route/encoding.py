"""Steps of an encoder: its base model, its training, the index of the training cases, and how well it retrieves.

In: a line and a profile. Out: the steps of each stage that matches pictures and texts; none where the line has no such stage. Torch is
imported when a step writes, never when the graph loads.
"""

from collections.abc import Mapping

from medvl_lib import captions, case_index, chat, images, training
from medvl_lib.evaluation import galleries
from medvl_lib.hardware import Profile, numerics
from medvl_lib.images import ImageStore
from medvl_lib.lines import Line
from medvl_lib.models.weights import BASE_RULES
from medvl_lib.pairs import Split
from medvl_lib.provenance import Fact, code_version
from medvl_lib.route.data import sign, source
from medvl_lib.route.models import base_step, train_step
from medvl_lib.step import Call, Step, Table
from medvl_lib.training import matching_steps
from medvl_lib.training import recipe as training_recipe
from medvl_lib.training.recipe import Stage

PROCESS = "encode"
INDEX, RETRIEVAL = "index", "retrieval"
HELD_OUT: Split = "test"


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
        from medvl_lib.models.embedding import embed_stored, embed_texts
        from medvl_lib.models.loading import give_memory_back, load_encoder
        from medvl_lib.models.siglip import canonical

        held_out = list(captions.captioned_images(call.read("chat", name), HELD_OUT))
        texts, image_ids = [item.text for item in held_out], [item.image_id for item in held_out]
        vectors: dict[galleries.EncoderVariant, galleries.Vectors] = {}
        variants: tuple[tuple[galleries.EncoderVariant, str], ...] = (("base", base.step), ("trained", stage.name))
        for variant, step in variants:
            loaded = load_encoder(call.read(step, name), spec, profile)
            stored = ImageStore(call.workspace.images)
            vectors[variant] = galleries.Vectors(embed_stored(loaded, stored, image_ids), embed_texts(loaded, texts))
            del loaded
            give_memory_back(profile)
        return galleries.write_retrieval(call.directory, held_out, [canonical(text) for text in texts], vectors)

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
            rules=galleries.RULES, write=rank, table=Table(file=galleries.RETRIEVAL, model=galleries.RetrievalRow),
        ),
    )  # fmt: skip
