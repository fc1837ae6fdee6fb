"""Costs: what each variant of an evaluation needs, as a gate's limits ask for it.

In: a predictions directory, and the held-out losses of the adapters that answered. Out: ``Cost`` by variant. Which limits there are
stands in ``gate``, whether they are kept is judged in ``findings``; the store's tables of the same measurements are ``rows``'s.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from medvl_lib.benchmark.gate import Gate, Measure
from medvl_lib.evaluation.parquet_sql import query
from medvl_lib.evaluation.predictions import PREDICTIONS, REFERENCES, VARIANTS, Variant

REVISION = 1  # first version


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What one variant needs."""

    latency_p95: float | None
    """Seconds per answer as_is to the gate's test pairs, 95th percentile over batches; None where none was timed."""
    memory_peak: float
    """Bytes, alone in a fresh process."""
    memory_after_load: float
    """Bytes, alone in a fresh process."""
    validation_loss: float | None = None
    """Lowest held-out loss of its adapter, in nats per token; None without an adapter, or where none was measured."""

    def of(self, measure: Measure) -> float | None:
        """The measure that a limit names."""
        return {
            "latency_p95": self.latency_p95, "memory_peak": self.memory_peak, "memory_after_load": self.memory_after_load,
            "validation_loss": self.validation_loss,
        }[measure]  # fmt: skip


def costs(predictions: Path, gate: Gate, validation_losses: Mapping[str, float]) -> dict[Variant, Cost]:
    """The costs of every model that answered; ``validation_losses`` are by variant."""
    tables = {"predictions": predictions / PREDICTIONS, "asked": predictions / REFERENCES, "variants": predictions / VARIANTS}
    seconds: dict[str, list[float]] = {}
    timed = query(
        """
        select variant, dataset, any_value(latency_seconds) from predictions join asked using (pair_id)
        where split = 'test' and condition = 'as_is' and batch_id is not null group by variant, dataset, split, batch_id order by all
        """,
        tables,
    )
    for variant, dataset, latency in timed:
        if not gate.datasets or dataset in gate.datasets:
            seconds.setdefault(variant, []).append(latency)
    return {
        variant: Cost(
            latency_p95=float(np.quantile(seconds[variant], 0.95)) if variant in seconds else None, memory_peak=float(peak),
            memory_after_load=float(loaded), validation_loss=validation_losses.get(variant),
        ) for variant, peak, loaded in query("select variant, memory_peak_bytes, memory_after_load_bytes from variants", tables)
    }  # fmt: skip
