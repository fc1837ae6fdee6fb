"""What is trained, and how: every number of a stage that bears identity. No torch here.

In: nothing. Out: ``Recipe`` and ``Stage``. The defaults of the documents line stand in ``lines``; there are none here, because a
number that decides the weights is written down by whoever decides it.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Literal

from medvl_lib.chat import LABELS
from medvl_lib.models.spec import ModelSpec

REVISION = 3  # the adapter of the lowest held-out loss is kept; first version of what training.route, batches and models.loading make of it

MATCH_REVISION = 4  # equal candidates of the validation split are ranked once

Objective = Literal["generate", "match"]
POSITIVE = ("learning_rate", "num_epochs", "effective_batch", "max_gradient_norm", "lora_rank", "lora_alpha")
SMALL = 1e-9  # what is lost when shares are added
MOST_COPIES = 100  # of a pair in one epoch
NOT_NEGATIVE = ("max_steps", "weight_decay", "seed", "max_training_pairs", "max_validation_pairs", "validations_per_epoch")
IMAGE_LIMITS = ("max_training_images", "max_images_per_group")
PACE = ("num_epochs", "max_steps", "effective_batch", "seed", *IMAGE_LIMITS, "max_training_pairs")
"""Fields of a recipe that decide how many steps a line has: equal in stages that share them."""
UPDATE = ("lora_rank", "lora_alpha", "lora_dropout", "lora_targets", "fully_trained")
"""Fields that an adapter holds: equal in stages of which one goes on with the other's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How a stage's weights come about. Every field bears identity."""

    learning_rate: float
    """Peak learning rate of AdamW."""
    num_epochs: float
    """Passes over the training pairs."""
    max_steps: int
    """Optimizer steps after which training stops whatever the epochs say; 0 for no such limit."""
    effective_batch: int
    """Pairs per optimizer step, however they are shared between devices and accumulation."""
    warmup_share: float
    """Share of all steps in which the learning rate rises from 0; a cosine takes it back to 0 afterwards."""
    weight_decay: float
    """AdamW's decoupled weight decay."""
    max_gradient_norm: float
    """Global gradient norm to which larger ones are clipped."""
    lora_rank: int
    """Rank of the low-rank update."""
    lora_alpha: int
    """The update is scaled by ``lora_alpha / lora_rank``."""
    lora_dropout: float
    """Dropout before the update's first matrix."""
    lora_targets: str
    """Regular expression that matches the full name of every adapted linear."""
    seed: int
    """Seed of the update's initial weights, the order of pairs and dropout."""
    pairs_per_dataset: Mapping[str, int]
    """Which datasets are trained on, and the most training pairs of each (the first by a seeded hash of their ids; 0 for all); one that is
    not named gives none, to the held-out loss neither. Empty: all pairs of all datasets."""
    mixture_weights: Mapping[str, float]
    """How often a pair of a dataset comes in one epoch, by the dataset's name: 2.5 is twice, and about half of them a third time; 0.5 is
    about half of them, in every epoch the same ones by a seeded hash of their ids; 1 where a dataset is not named."""
    max_training_pairs: int
    """Most pairs that are trained on (the first by a seeded hash of their ids); 0 for all."""
    max_validation_pairs: int
    """Most pairs that the held-out loss is measured on; 0 for all."""
    validations_per_epoch: int
    """About how often the held-out loss is measured (never less often), and once after the last step; the adapter of its lowest value is
    what is kept. 0: it is never measured, and the last adapter is kept."""
    with_retrieved_cases: bool = False
    """Whether half of the pairs, by a seeded hash of their ids, are asked with similar training cases before the question, so that answers
    learn to use them and do not learn to need them. It takes a line that has an encoder."""
    max_training_images: int = 0
    """Most different pictures that are trained on; 0 for all. A study's pictures are taken together, studies by a seeded hash of their
    pictures as long as they fit, whatever is asked about them: two stages of a line take the same ones."""
    max_images_per_group: int = 0
    """The same for one patient, or one document where no patient is known: those that come first by the same hash; 0 for all."""
    fully_trained: tuple[str, ...] = ()
    """Modules of which every weight is trained, in 32 bits, beside the low-rank update: how their full names end, as in
    ``multi_modal_projector``. They are kept with the adapter, and never quantized."""
    fully_trained_rate: float = 0.0
    """Peak learning rate of these modules; 0 where there are none."""

    def __post_init__(self) -> None:
        """Refuse numbers that cannot be meant."""
        for name in POSITIVE:
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} = {getattr(self, name)!r} must be positive")
        for name in (*NOT_NEGATIVE, *IMAGE_LIMITS):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} = {getattr(self, name)!r} must be 0 or more")
        if not 0 <= self.warmup_share < 1:
            raise ValueError(f"warmup_share = {self.warmup_share!r} must be at least 0 and below 1")
        if not 0 <= self.lora_dropout < 1:
            raise ValueError(f"lora_dropout = {self.lora_dropout!r} must be at least 0 and below 1")
        _require_pattern(self.lora_targets)
        _require_counts(self.pairs_per_dataset)
        _require_weights(self.mixture_weights)
        if not all(self.fully_trained) or bool(self.fully_trained) != (self.fully_trained_rate > 0):
            raise ValueError(
                f"fully_trained = {list(self.fully_trained)!r} and fully_trained_rate = {self.fully_trained_rate!r}: "
                "name modules and a rate above 0, or neither"
            )

    @property
    def identity(self) -> Mapping[str, object]:
        """Every field by its name; what could not be said when the first recipes were written is left out where it says nothing."""
        said = ((each, getattr(self, each.name)) for each in fields(self))
        later = ("fully_trained", "fully_trained_rate", *IMAGE_LIMITS)
        return {"type": "Recipe", **{each.name: value for each, value in said if each.name not in later or value != each.default}}


def _require_counts(pairs_per_dataset: Mapping[str, int]) -> None:
    for name, count in pairs_per_dataset.items():
        if count < 0:
            raise ValueError(f"pairs_per_dataset: {name} = {count!r} must be 1 or more, or 0 for all")


def _require_weights(mixture_weights: Mapping[str, float]) -> None:
    for name, weight in mixture_weights.items():
        if not 0 < weight <= MOST_COPIES:
            raise ValueError(
                f"mixture_weights: {name} = {weight!r} must be above 0 and at most {MOST_COPIES}; "
                "to leave a dataset out, name the others in pairs_per_dataset"
            )


def _require_pattern(targets: str) -> None:
    try:
        re.compile(targets)
    except re.error as error:
        raise ValueError(f"lora_targets = {targets!r} is no regular expression: {error}") from error
    if not targets:
        raise ValueError(f"lora_targets = {targets!r} matches nothing: name the linears to adapt")


@dataclass(frozen=True, slots=True, kw_only=True)
class MatchRecipe:
    """How an encoder of pictures and texts comes about. Every field bears identity; those of ``Recipe`` mean the same here."""

    learning_rate: float
    num_epochs: float
    max_steps: int
    effective_batch: int
    """Pairs that are told apart in one optimizer step: a picture has the texts of all others as negatives. Accumulation would not make
    this any larger, so the whole batch goes through one loss, however few pairs are embedded at a time."""
    warmup_share: float
    weight_decay: float
    """AdamW's, on matrices alone: temperature, biases and norms keep theirs."""
    adam_beta1: float
    adam_beta2: float
    """0.95 where 0.999 is usual: the paper's cure for spikes of the loss (Zhai et al. 2023, arXiv 2303.15343, section 4.7)."""
    max_gradient_norm: float
    lora_rank: int
    """Rank of the low-rank update, which is added into the weights in the end; 0: every weight is trained."""
    lora_alpha: int
    lora_dropout: float
    lora_targets: str
    seed: int
    pairs_per_dataset: Mapping[str, int]
    max_training_pairs: int
    max_validation_pairs: int
    """Most captioned pictures of the validation split that the held-out loss and recall are measured on; 0 for all."""
    validations_per_epoch: int

    def __post_init__(self) -> None:
        """Refuse numbers that cannot be meant."""
        for name in ("learning_rate", "num_epochs", "effective_batch", "max_gradient_norm", "lora_alpha"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} = {getattr(self, name)!r} must be positive")
        for name in (*NOT_NEGATIVE, "lora_rank"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} = {getattr(self, name)!r} must be 0 or more")
        for name in ("warmup_share", "lora_dropout", "adam_beta1", "adam_beta2"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} = {getattr(self, name)!r} must be at least 0 and below 1")
        if self.effective_batch < 2:
            raise ValueError(f"effective_batch = {self.effective_batch!r} must be at least 2: a pair alone has no negatives")
        _require_pattern(self.lora_targets)
        _require_counts(self.pairs_per_dataset)


@dataclass(frozen=True, slots=True, kw_only=True)
class Handover:
    """What a stage has to show before the next one goes on from it. Every field bears identity, since the answers are written down."""

    num_answers: int = 8
    """Held-out questions of the stage (the first by a seeded hash of their ids) that its adapter answers when it is trained."""
    max_answer_tokens: int = 128
    """Tokens after which such an answer is cut."""
    max_degenerate_share: float = 0.25
    """Most of these answers (0-1) that may say nothing, or repeat themselves to the end."""
    max_relative_change: float = 1.0
    """How far a linear that is trained in full may have moved, weight and bias together, by its own norm before the stage."""

    def __post_init__(self) -> None:
        """Refuse what would ask nothing, or let everything through."""
        for name in ("num_answers", "max_answer_tokens", "max_relative_change"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} = {getattr(self, name)!r} must be positive")
        if not 0 <= self.max_degenerate_share < 1:
            raise ValueError(f"max_degenerate_share = {self.max_degenerate_share!r} must be at least 0 and below 1")


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One step of training: an asset of its own."""

    name: str
    """The asset's name: ``adapter``, ``impression``, ..."""
    objective: Objective
    """``generate``: the loss is the negative log-likelihood of the answer's tokens; ``match``: it is the sigmoid loss of pictures and
    texts."""
    recipe: Recipe | MatchRecipe
    model: ModelSpec | None = None
    """The encoder that it trains, of a stage that matches; None: the line's model."""
    pairs: Mapping[str, str] = field(default_factory=dict[str, str])
    """Label -> value that a pair must have to be trained on, or be in the held-out loss (``stage``: ``impression``); empty: every pair."""
    share_of_steps: float = 1.0
    """Its share of the line's optimizer steps, at least one. The line has as many as its recipe needs for its epochs over *all* pairs,
    whatever their labels (or its ``max_steps``); the shares of the stages that answer add up to 1."""
    share_before: float = 0.0
    """Shares of the stages before it: it has the steps from here on, both ends to the nearest whole step, so that none is lost between."""
    handover: Handover | None = None
    """What it has to show before the next stage goes on from it; None: nothing beside what every stage has."""

    def __post_init__(self) -> None:
        """Refuse an objective with the recipe of another, an encoder that nobody names, pairs by no label, and no share of the steps."""
        if (self.objective == "match") != isinstance(self.recipe, MatchRecipe):
            raise ValueError(
                f"objective {self.objective!r} and a {type(self.recipe).__name__}: match takes a MatchRecipe, generate a Recipe"
            )
        if (self.objective == "match") != (self.model is not None):
            has = "no model" if self.model is None else f"the model {self.model.hub_id!r}"
            raise ValueError(f"the stage {self.name!r} has {has}: name the encoder of one that matches, and none of one that answers")
        if unknown := sorted(self.pairs.keys() - set(LABELS)):
            raise ValueError(
                f"the stage {self.name!r} takes pairs by {unknown}, which is no label of pairs: name some of {', '.join(LABELS)}"
            )
        if not 0 < self.share_of_steps <= 1:
            raise ValueError(f"share_of_steps = {self.share_of_steps!r} of the stage {self.name!r} must be above 0 and at most 1")
        if not 0 <= self.share_before <= 1 - self.share_of_steps + SMALL:
            raise ValueError(
                f"share_before = {self.share_before!r} of the stage {self.name!r} and its own {self.share_of_steps!r} are more than 1"
            )
        if self.objective == "match" and (self.pairs or self.share_of_steps != 1 or self.handover is not None):
            raise ValueError(f"the stage {self.name!r} matches: pairs, share_of_steps and handover are of stages that answer")

    @property
    def identity(self) -> Mapping[str, object]:
        """What of it decides how weights are trained; which ones it starts from is told by the base model that its step reads."""
        recipe = self.recipe.identity if isinstance(self.recipe, Recipe) else self.recipe
        own = {name: getattr(self, name) for name in ("pairs", "share_of_steps", "share_before", "handover")}
        alone: dict[str, object] = {"pairs": {}, "share_of_steps": 1.0, "share_before": 0.0, "handover": None}
        of_several = {} if own == alone else own
        return {"type": "Stage", "name": self.name, "objective": self.objective, "recipe": recipe, **of_several}
