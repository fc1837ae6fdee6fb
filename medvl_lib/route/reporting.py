"""The last step of a line: the report of what was measured and decided.

In: a line. Out: a step. What a report says and how it looks stands in ``report``. It reads the search for near duplicates as well, which no
other step reads, so that its verdicts are there when they are told; and it is another report once experts have rated.
"""

from medvl_lib import near_duplicates, report
from medvl_lib.benchmark import promotion, rows
from medvl_lib.datasets import SHOWN_LICENCES
from medvl_lib.lines import Line
from medvl_lib.provenance import code_version, digest
from medvl_lib.report import content, written
from medvl_lib.report.gather import Judged
from medvl_lib.reviews.written import reviews_of
from medvl_lib.route.data import sign, source
from medvl_lib.step import Step


def report_step(line: Line) -> Step:
    """The report of the evaluation that the run has just judged."""
    name = line.name
    return Step(
        name="report", owner=name, description=sign(report.__name__),
        reads=(
            source("benchmark", name, rows.RULES), source("promotion", name, promotion.RULES),
            source("near_duplicates", name, near_duplicates.RULES),
        ),
        observe=lambda workspace, inputs: digest([
            found.data_version for found in reviews_of(workspace, str(inputs[f"benchmark/{name}"].facts["evaluation_id"]))
        ]),
        version=code_version(content.REVISION, rows.REVISIONS, promotion.REVISIONS, name, SHOWN_LICENCES),
        rules=written.rules(SHOWN_LICENCES),
        write=lambda call: written.write_report(
            call.directory, call.workspace, Judged(benchmark=call.inputs[f"benchmark/{name}"], promotion=call.inputs[f"promotion/{name}"]),
            SHOWN_LICENCES,
        ),
    )  # fmt: skip
