"""The fourteen observations of CheXpert and the four states of each: names only, in the publisher's order."""

from typing import Literal

State = Literal["present", "absent", "uncertain", "not_mentioned"]
STATES: tuple[State, ...] = ("present", "absent", "uncertain", "not_mentioned")
"""1, 0, -1 and empty in the publisher's tables. ``not_mentioned`` is never folded into ``absent``."""

NO_FINDING = "No Finding"
DEVICES = "Support Devices"
OBSERVATIONS: tuple[str, ...] = (
    NO_FINDING, "Enlarged Cardiomediastinum", "Cardiomegaly", "Lung Lesion", "Lung Opacity", "Edema", "Consolidation", "Pneumonia",
    "Atelectasis", "Pneumothorax", "Pleural Effusion", "Pleural Other", "Fracture", DEVICES,
)  # fmt: skip
"""In the order of ``labeled_reports.csv`` of chexpert-labeler @ 44ddeb3."""
PATHOLOGIES = OBSERVATIONS[1:]
"""The thirteen that a report has to name: No Finding is what is left where it names none."""
