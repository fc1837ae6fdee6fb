"""The last step of a line: the report of what was measured and decided.

In: a line. Out: a step. What a report says and how it looks stands in ``report``. It reads the search for near duplicates and the parity as
well, so that their verdicts are there when the report tells them, though it finds both by itself. Where parity fails, the run ends there,
and ``medvl report`` tells it. What is served is checked beside this step, or after it: the report says so, and is another one once that was
checked, something else is served, a person has decided, or experts have rated.
"""

from medvl_lib import near_duplicates, report
from medvl_lib.benchmark import promotion, rows
from medvl_lib.datasets import SHOWN_LICENCES
from medvl_lib.evaluation import parity
from medvl_lib.lines import Line
from medvl_lib.provenance import code_version
from medvl_lib.report import content, written
from medvl_lib.report.gather import Judged, standing
from medvl_lib.route.data import sign, source
from medvl_lib.route.promoting import terms_of
from medvl_lib.step import Inputs, Step


def report_step(line: Line) -> Step:
    """The report of the evaluation that the run has just judged."""
    name = line.name

    def judged(inputs: Inputs) -> Judged:
        return Judged(benchmark=inputs[f"benchmark/{name}"], promotion=inputs[f"promotion/{name}"])

    return Step(
        name="report", owner=name, description=sign(report.__name__),
        reads=(
            source("benchmark", name, rows.RULES), source("promotion", name, promotion.RULES),
            source("near_duplicates", name, near_duplicates.RULES), source("parity", name, parity.rules(line.parity, line.gate.min_pairs)),
        ),
        observe=lambda workspace, inputs: standing(workspace, judged(inputs), terms_of(line)),
        version=code_version(content.REVISION, rows.REVISIONS, promotion.REVISIONS, name, SHOWN_LICENCES),
        rules=written.rules(SHOWN_LICENCES),
        write=lambda call: written.write_report(
            call.directory, call.workspace, judged(call.inputs), SHOWN_LICENCES, terms_of(line),
        ),
    )  # fmt: skip
