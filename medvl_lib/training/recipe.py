"""What is trained, and how: every number of a stage that bears identity. No torch here.

In: nothing. Out: ``Recipe`` and ``Stage``. The defaults of the documents line stand in ``lines``; there are none here, because a
number that decides the weights is written down by whoever decides it.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from medvl_lib.models.spec import ModelSpec

REVISION = 3  # the adapter of the lowest held-out loss is kept; first version of what training.route, batches and models.loading make of it

MATCH_REVISION = 2  # the loss is computed in 32 bits under a 16-bit trainer, too

Objective = Literal["generate", "match"]
POSITIVE = ("learning_rate", "num_epochs", "effective_batch", "max_gradient_norm", "lora_rank", "lora_alpha")
MOST_COPIES = 100  # of a pair in one epoch
NOT_NEGATIVE = ("max_steps", "weight_decay", "seed", "max_training_pairs", "max_validation_pairs", "validations_per_epoch")


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

    def __post_init__(self) -> None:
        """Refuse numbers that cannot be meant."""
        for name in POSITIVE:
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} = {getattr(self, name)!r} must be positive")
        for name in NOT_NEGATIVE:
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} = {getattr(self, name)!r} must be 0 or more")
        if not 0 <= self.warmup_share < 1:
            raise ValueError(f"warmup_share = {self.warmup_share!r} must be at least 0 and below 1")
        if not 0 <= self.lora_dropout < 1:
            raise ValueError(f"lora_dropout = {self.lora_dropout!r} must be at least 0 and below 1")
        _require_pattern(self.lora_targets)
        _require_counts(self.pairs_per_dataset)
        _require_weights(self.mixture_weights)


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

    def __post_init__(self) -> None:
        """Refuse an objective with the recipe of another, and an encoder that nobody names."""
        if (self.objective == "match") != isinstance(self.recipe, MatchRecipe):
            raise ValueError(
                f"objective {self.objective!r} and a {type(self.recipe).__name__}: match takes a MatchRecipe, generate a Recipe"
            )
        if (self.objective == "match") != (self.model is not None):
            has = "no model" if self.model is None else f"the model {self.model.hub_id!r}"
            raise ValueError(f"the stage {self.name!r} has {has}: name the encoder of one that matches, and none of one that answers")

    @property
    def identity(self) -> Mapping[str, object]:
        """What of it decides how weights are trained; which ones it starts from is told by the base model that its step reads."""
        return {"type": "Stage", "name": self.name, "objective": self.objective, "recipe": self.recipe}
