"""All steps of a line, in order.

In: a line and a profile. Out: steps from the split to the promotion decision, and the report on it.
"""

from dataclasses import replace

from medvl_lib.hardware import Profile
from medvl_lib.lines import Line
from medvl_lib.models.spec import on_its_engine
from medvl_lib.route.data import audit_step, data_steps
from medvl_lib.route.encoding import encoder_base_steps, encoder_steps
from medvl_lib.route.exhibiting import exhibits_of
from medvl_lib.route.judging import judging_steps
from medvl_lib.route.models import model_steps, stage_steps
from medvl_lib.route.reporting import report_step
from medvl_lib.step import Step


def line_steps(line: Line, profile: Profile) -> tuple[Step, ...]:
    """Every step of one line; which line it is nobody asks."""
    encoding, profile = on_its_engine(profile, "siglip"), on_its_engine(profile, line.model.family)
    steps = (
        *data_steps(line), *model_steps(line, profile), *encoder_base_steps(line), audit_step(line), *encoder_steps(line, encoding),
        *stage_steps(line, profile), *judging_steps(line, profile), report_step(line),
    )  # fmt: skip
    shown = exhibits_of(line)
    return tuple(replace(step, exhibits=shown[step.name]) if step.name in shown else step for step in steps)
