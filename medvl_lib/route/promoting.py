"""The step of the decision: which look at the test set it is, and then the gate's verdict.

In: a line. Out: its promotion step. What the gate knows besides the scores is found in provenance when the step starts, and is part of the
decision's identity: the same decision is never made twice, and one more look is another decision.
"""

from medvl_lib.benchmark import promotion
from medvl_lib.benchmark.looks import Look, judged_pairs, next_look
from medvl_lib.evaluation import scores
from medvl_lib.evaluation.predictions import REFERENCES
from medvl_lib.lines import Line
from medvl_lib.provenance import Artifact, Fact, ancestor, code_version
from medvl_lib.route.data import sign, source
from medvl_lib.step import Call, Inputs, Step
from medvl_lib.workspace import Workspace


def promotion_step(line: Line) -> Step:
    """The decision on the last stage's adapter."""
    name = line.name

    def look_now(workspace: Workspace, scored: Artifact) -> Look:
        predictions = ancestor(workspace, scored, "predictions", name)
        challenger = ancestor(workspace, predictions, line.stages[-1].name, name).data_version
        return next_look(workspace, name, challenger, judged_pairs(predictions.directory / REFERENCES, line.gate))

    def observe(workspace: Workspace, inputs: Inputs) -> str:
        return str(look_now(workspace, inputs[f"scores/{name}"]).number)

    def write(call: Call) -> dict[str, Fact]:
        look = look_now(call.workspace, call.inputs[f"scores/{name}"])
        return promotion.write_promotion(call.directory, call.read("scores", name), line.gate, name, look)

    return Step(
        name="promotion", owner=name, description=sign(promotion.__name__), reads=(source("scores", name, scores.RULES),),
        version=code_version(promotion.REVISION, promotion.REVISIONS, name, line.gate), rules=promotion.RULES,
        observe=observe, write=write,
    )  # fmt: skip
