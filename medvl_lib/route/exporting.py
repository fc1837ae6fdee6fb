"""Exporting what a line serves: which weights, which evaluation, which pairs it is asked again on.

In: a line and an empty place. Out: a folder of folders in the hub's layout, each with its card and its comparison with what was judged;
or a refusal that says what differs. How a folder is loaded, compared and described stands in ``export``; weights are
``models.exporting``'s.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path

from medvl_lib.benchmark.promotion import read_decisions
from medvl_lib.chat import Conversation
from medvl_lib.errors import HeavyStepFailed, InputMissing, InputRefused
from medvl_lib.evaluation.parity import Answers
from medvl_lib.evaluation.predictions import Reference
from medvl_lib.export.card import Described, render, render_base
from medvl_lib.export.comparing import Asked, Parity, as_json, compare
from medvl_lib.export.folder import write_folder, write_sums
from medvl_lib.export.plain import Loadable
from medvl_lib.export.plain import answers as plain_answers
from medvl_lib.files import read_json, write_json
from medvl_lib.hardware import Profile
from medvl_lib.images import ImageStore
from medvl_lib.lines import Line
from medvl_lib.models.spec import LAYOUT_REVISIONS
from medvl_lib.pointer import Contender
from medvl_lib.provenance import PROVENANCE, Artifact, Fact, ancestor
from medvl_lib.report import gather
from medvl_lib.report.content import Report
from medvl_lib.route.exported_data import data_behind
from medvl_lib.route.exporting_encoder import write_encoder
from medvl_lib.route.models import stage_steps
from medvl_lib.route.parity import chosen_pairs, circumstances, decision_on, evaluated, in_groups
from medvl_lib.route.pointing import predictions_of
from medvl_lib.route.promoting import answered_as, terms_of
from medvl_lib.serving.forms import FORMS, Question
from medvl_lib.serving.served import ServedModel, served_model
from medvl_lib.workspace import Workspace

CARD, PARITY = "README.md", "parity.json"
ADAPTER_CONFIG = "adapter_config.json"
BASE = "base"
MLX_STEP = "affine4_model"
NOT_JUDGED_SO = " It was not judged so: the evaluation asked the adapter on base weights in affine4, which MLX alone reads."
TRAINED = ("num_steps", "num_planned_steps", "first_loss", "last_loss", "num_trainable_parameters", "num_parameters", "precision")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Source:
    """What is exported, and what is known of it."""

    workspace: Workspace
    line: Line
    profile: Profile
    model: ServedModel
    base: Artifact
    """The 16-bit weights behind it."""
    decided: Artifact | None
    """The decision that the pointer rests on; None where nothing was ever decided."""

    @property
    def is_on_the_hub(self) -> bool:
        """Whether plain transformers finds the base there: not a small one, and none whose layout it does not know."""
        return self.line.model.source == "hub" and self.line.model.family not in LAYOUT_REVISIONS


@dataclass(frozen=True, slots=True, kw_only=True)
class _Part:
    """One folder of the export."""

    kind: str
    loadable: Loadable
    what: str
    asked: ServedModel
    """Whose answers MedVL gives to compare with: the same weights."""
    is_judged: bool


def export(workspace: Workspace, line: Line, profile: Profile, folder: Path, *, num_pairs: int | None, is_unchecked: bool) -> list[str]:
    """Write what the line serves into ``folder``; returns what came of it, in sentences.

    Raises InputRefused where plain transformers does not say from it what was judged, and InputMissing where there is nothing to ask it;
    with ``is_unchecked`` the folder is written all the same, and its cards say so.
    """
    source = _source(workspace, line, profile)

    def fill(root: Path) -> list[str]:
        parts = tuple(_write_parts(source, root))
        unchecked, compared = "", dict[str, Parity]()
        try:
            compared = _compared(source, parts, root, num_pairs)
        except (InputMissing, InputRefused, HeavyStepFailed) as error:
            if not is_unchecked:
                raise
            unchecked = f"{error.found}; {error.do}"
        encoder, differs = write_encoder(workspace, line, profile, root)
        refused = [f"{kind}: {reason}" for kind, parity in compared.items() for reason in parity.refusals] + list(differs)
        if refused and not is_unchecked:
            raise InputRefused(
                found="; ".join(refused), where=f"the export of {line.name}",
                do="look for what differs (docs/export.md), or write it --unchecked: its cards then say so",
            )  # fmt: skip
        _describe(source, parts, root, compared, unchecked or "; ".join(refused))
        return [*_told(source, compared, unchecked), *filter(None, [encoder])]

    return write_folder(folder, fill)


def _source(workspace: Workspace, line: Line, profile: Profile) -> _Source:
    model = served_model(workspace, line)
    require_loadable(model, line)
    base = model.weights if model.weights.step == "base_model" else ancestor(workspace, model.weights, "base_model", line.name)
    return _Source(
        workspace=workspace, line=line, profile=profile, model=model, base=base, decided=decision_on(workspace, line, model)
    )  # fmt: skip


def require_loadable(model: ServedModel, line: Line) -> None:
    """Refuse whole weights in a form that MLX alone reads."""
    if model.adapter is None and model.weights.step == MLX_STEP:
        raise InputRefused(
            found="whole weights in affine4, MLX's four bits, which plain transformers does not load", where=f"the export of {line.name}",
            do=f"serve another variant of it first: `medvl override {line.name} base` or adapter",
        )  # fmt: skip


def _told(source: _Source, compared: Mapping[str, Parity], unchecked: str) -> Iterator[str]:
    yield source.model.sentence
    for kind, parity in compared.items():
        yield f"{kind}: {parity.said.num_equal} of {parity.num_pairs} answers by plain transformers are MedVL's own"
    if unchecked:
        yield f"unchecked: {unchecked}"


# -- weights -----------------------------------------------------------------------------------------------------------
def _write_parts(source: _Source, root: Path) -> Iterator[_Part]:
    """The folders that a plain loader needs: an adapter with what it stands on, and merged; or the model itself."""
    from medvl_lib.models import exporting

    model, spec, base = source.model, source.line.model, source.base.directory
    adapter = None if model.adapter is None else model.adapter.directory

    def made(kind: str, write: Callable[[Path], None]) -> None:
        (root / kind).mkdir()
        write(root / kind)
        exporting.write_how_it_is_asked(root / kind, base, spec, source.line.evaluation.max_answer_tokens)

    if adapter is None:
        made("model", lambda folder: exporting.copy_weights(folder, model.weights.directory))
        yield _Part(
            kind="model", loadable=_loadable(source, "model"), asked=model, is_judged=True,
            what=f"The {model.variant} weights of the line {source.line.name} as they are served: whole weights, without an adapter.",
        )  # fmt: skip
        return
    is_of_mlx = model.weights.step == MLX_STEP  # plain transformers cannot put the adapter on what it was judged on
    if not source.is_on_the_hub and not is_of_mlx:
        made(BASE, lambda folder: exporting.copy_weights(folder, base))
    named, revision = (spec.hub_id, spec.revision) if source.is_on_the_hub else (BASE, None)
    if not is_of_mlx:
        made("adapter", lambda folder: exporting.write_adapter(folder, adapter, base, named, revision))
        yield _adapter_part(source, adapter, named, revision)
    made("merged", lambda folder: exporting.write_merged_16bit(folder, base, adapter, spec, source.profile))
    merged = Contender(replace(source.base, directory=root / "merged"))
    yield _Part(
        kind="merged", loadable=_loadable(source, "merged"), asked=replace(model, variant="merged", parts=merged), is_judged=False,
        what=f"The adapter of the line {source.line.name} added into the weights of its base model, in bfloat16: it loads without PEFT."
        + (NOT_JUDGED_SO if is_of_mlx else ""),
    )  # fmt: skip


def _adapter_part(source: _Source, adapter: Path, named: str, revision: str | None) -> _Part:
    return _Part(
        kind="adapter", asked=source.model, is_judged=True,
        loadable=replace(
            _loadable(source, "adapter"), weights=named, revision=revision or "", is_adapter=True,
            is_packed=source.model.weights.step == "nf4_model", lora_rank=int(read_json(adapter / ADAPTER_CONFIG)["r"]),
        ),
        what=f"The adapter of the line {source.line.name} (PEFT), as it is served: it belongs on its base model, in the width that the "
        "lines below load.",
    )  # fmt: skip


def _loadable(source: _Source, folder: str) -> Loadable:
    return Loadable(
        folder=folder, family=source.line.model.family, weights=folder, revision="", is_adapter=False, is_packed=False, lora_rank=0,
        device=source.profile.device, dtype=source.profile.weights_dtype,
    )  # fmt: skip


# -- comparing ---------------------------------------------------------------------------------------------------------
def _compared(source: _Source, parts: Sequence[_Part], root: Path, num_pairs: int | None) -> dict[str, Parity]:
    """Every folder against MedVL's own answers of the same weights, and against what was judged."""
    if source.decided is None:
        raise InputMissing(
            found=f"no evaluation of what {source.line.name} serves, and so no pair to ask it on", where=f"{source.line.name}/promotion",
            do=f"materialize {source.line.name}/promotion, or export it --unchecked",
        )  # fmt: skip
    workspace, line = source.workspace, source.line
    predictions = predictions_of(workspace, line, source.decided)
    variant = answered_as(predictions, source.model.data_version)
    if variant is None:
        raise InputRefused(
            found=f"what is served ({source.model.data_version}) did not answer", where=str(predictions.directory),
            do=f"materialize {line.name}/predictions again, and what follows from it",
        )  # fmt: skip
    chosen = chosen_pairs(predictions, line if num_pairs is None else replace(line, parity=replace(line.parity, max_pairs=num_pairs)))
    groups = in_groups(workspace, line, predictions, chosen)
    judged = evaluated(predictions, variant)
    served = _own(source, source.model, groups)
    found: dict[str, Parity] = {}
    for part in parts:
        asked = Asked(
            variant=part.asked.variant, is_judged=part.is_judged, served=served, evaluated=judged,
            exported=_plain(source, part, root, [item for group in groups for item in group]),
            own=served if part.is_judged else _own(source, part.asked, groups),
        )  # fmt: skip
        found[part.kind] = compare(asked, _asked_in(chosen, groups), line.parity)
    return found


def _own(source: _Source, model: ServedModel, groups: Sequence[Sequence[Conversation]]) -> Answers:
    question = Question(
        model=model, base=source.base, line=source.line, profile=source.profile, workspace=source.workspace, groups=groups
    )  # fmt: skip
    return FORMS["reloaded"](question)


def _plain(source: _Source, part: _Part, root: Path, asked: Sequence[Conversation]) -> Answers:
    """By the lines of the card; a base of the hub is read from here, where the same commit lies, checked byte by byte."""
    what = replace(part.loadable, weights=str(source.base.directory), revision="") if part.loadable.revision else part.loadable
    return plain_answers(root, what, asked, ImageStore(source.workspace.images), source.profile)


def _asked_in(chosen: Sequence[Reference], groups: Sequence[Sequence[Conversation]]) -> list[Reference]:
    asked = {item.pair_id for group in groups for item in group}
    return [row for row in chosen if row.pair_id in asked]


# -- describing --------------------------------------------------------------------------------------------------------
def _describe(source: _Source, parts: Sequence[_Part], root: Path, compared: Mapping[str, Parity], unchecked: str) -> None:
    line, report = source.line, _report(source)
    where = circumstances(line, source.profile, source.model)
    recipe, note = _recipe(source)
    data = () if source.model.adapter is None else tuple(data_behind(source.workspace, line, source.model.adapter))
    for part in parts:
        parity = compared.get(part.kind)
        described = Described(
            line=line.name, kind=part.kind, variant=part.asked.variant, served=source.model.sentence, what=part.what, spec=line.model,
            loadable=part.loadable,
            data=data, recipe=recipe, recipe_note=note, training=_training(source), report=report, parity=parity,
            unchecked=unchecked, num_context_tokens=line.audit.max_tokens + line.evaluation.max_answer_tokens,
            made_by=f"MedVL {version('medvl')}",
        )  # fmt: skip
        (root / part.kind / CARD).write_text(render(described), encoding="utf-8")
        write_json(root / part.kind / PARITY, {"is_checked": False, "why": unchecked} if parity is None else as_json(parity, where))
    if (root / BASE).is_dir():
        (root / BASE / CARD).write_text(render_base(line.model), encoding="utf-8")
    for folder in sorted(root.iterdir()):
        write_sums(folder)


def _report(source: _Source) -> Report | None:
    """The evaluation that the pointer rests on; None where there is none."""
    if source.decided is None:
        return None
    decision = read_decisions(source.decided.directory)[0]
    judged = gather.find(source.workspace, source.line.name, decision.evaluation_id)
    return gather.gather(source.workspace, replace(judged, promotion=source.decided), {}, terms_of(source.line))


def _recipe(source: _Source) -> tuple[dict[str, object], str]:
    """Every number of what was trained, as long as the settings still say it; else what the adapter itself says."""
    adapter, line = source.model.adapter, source.line
    if adapter is None:
        return {}, ""
    said = read_json(adapter.directory / ADAPTER_CONFIG)
    held = {name: said[name] for name in ("r", "lora_alpha", "lora_dropout", "target_modules", "modules_to_save")}
    step = next((step for step in stage_steps(line, source.profile) if step.name == adapter.step), None)
    stage = next((stage for stage in line.answering if stage.name == adapter.step), None)
    if step is None or stage is None or read_json(adapter.directory / PROVENANCE)["code_version"] != step.version:
        return held, "The settings have changed since it was trained; this is what the adapter itself says."
    before = f" after {line.answering.index(stage)} stages before it" if stage is not line.answering[0] else ""
    return asdict(stage.recipe), f"Stage `{stage.name}`{before}, {stage.share_of_steps:.0%} of the line's optimizer steps."


def _training(source: _Source) -> dict[str, Fact]:
    adapter = source.model.adapter
    return {} if adapter is None else {name: adapter.facts[name] for name in TRAINED if name in adapter.facts}
