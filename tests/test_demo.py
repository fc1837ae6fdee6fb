"""What the demo tells while it runs. If this passed wrongly, whoever starts it would look at nothing for a quarter of an hour."""

from medvl_assets.demo import finished_steps

HEAD = "2026-11-29 21:04:26 +0000 - dagster - DEBUG - everything - 1f2e3d - 2256 - x - "


def test_steps_of_seconds_are_told_and_moments_are_not():
    lines = [
        f'{HEAD}STEP_START - Started execution of step "documents__base_model__nf4_model".\n',
        f'{HEAD}STEP_SUCCESS - Finished execution of step "documents__base_model__nf4_model" in 8.56s.\n',
        f'{HEAD}STEP_SUCCESS - Finished execution of step "slake__raw_records" in 81ms.\n',
        f'{HEAD}STEP_SUCCESS - Finished execution of step "documents__overfit__adapter" in 1m34s.\n',
        "a line of something else: \xff\n",
    ]
    told = list(finished_steps(line.encode("latin-1") for line in lines))
    assert told == ["documents base_model nf4_model (8.56s)", "documents overfit adapter (1m34s)"]
