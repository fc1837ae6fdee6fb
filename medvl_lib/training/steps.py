"""One row per optimizer step: appended to ``steps.jsonl`` while training runs, a table when it ends. No torch here."""

from dataclasses import dataclass
from typing import Annotated

from medvl_lib.tables import Column

STEPS_WHILE_RUNNING = "steps.jsonl"
TRAINING_STEPS = "training_steps.parquet"
START_LOSS = "start_validation_loss"  # fact of a stage that hands over: the held-out loss before its first step
TRAINED_ON = "num_training_pairs_"  # fact of an adapter, followed by a dataset's name: how many of its pairs an epoch had


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingStep:
    """What one optimizer step saw."""

    step: Annotated[int, Column("optimizer step, from 1")]
    epoch: Annotated[float, Column("epochs done after this step", unit="epochs")]
    loss: Annotated[
        float,
        Column(
            "mean over this step's batch: of a stage that answers the negative log-likelihood of an answer token, of one that matches the "
            "sigmoid loss of a picture",
            unit="nats",
        ),
    ]
    learning_rate: Annotated[float, Column("learning rate of this step")]
    gradient_norm: Annotated[float | None, Column("global norm before clipping; null where the engine gives none")]
    num_tokens: Annotated[int, Column("tokens of this step without padding, image tokens included", unit="tokens")]
    tokens_per_second: Annotated[float, Column("num_tokens by this step's wall time", unit="tokens per second")]
    elapsed_seconds: Annotated[float, Column("wall time since training started or resumed", unit="seconds")]
    validation_loss: Annotated[
        float | None, Column("the same of held-out pairs, measured after this step; null where none was", unit="nats")
    ]
