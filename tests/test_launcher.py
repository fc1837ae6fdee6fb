"""Where heavy steps are started. If these passed wrongly, a profile could name a cluster that nothing can reach, or a place could become
part of what weights are called.
"""

from dataclasses import replace
from pathlib import Path

import pytest

from medvl_lib.errors import SettingsError
from medvl_lib.hardware import PROFILES, numerics, profile_named
from medvl_lib.launch import is_agent
from medvl_lib.launcher import Launcher
from medvl_lib.lines import DOCUMENTS, tiny
from medvl_lib.on_kubernetes import pod
from medvl_lib.parts import divide, missing, write_part
from medvl_lib.request import Request
from medvl_lib.route.line import line_steps
from medvl_lib.settings import read_settings
from tests import demo_runs

ON_KUBERNETES = Launcher(kind="kubernetes", image="hospital/medvl:0.1.0", claim="medvl-data", num_gpus=1, num_cpus=8)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"kind": "ray"}, "needs address"), ({"kind": "kubernetes", "image": "medvl"}, "needs image and claim"),
        ({"num_processes": 0}, "must be at least 1"), ({"num_shards": 0}, "must be at least 1"),
        ({"weights": "divided"}, "divided between 2 processes or more"),
    ],
)  # fmt: skip
def test_a_launcher_that_cannot_start_anything_is_refused(wrong: dict, said: str):
    with pytest.raises(ValueError, match=said):
        Launcher(**wrong)


def test_it_is_chosen_in_the_settings_and_refused_there(tmp_path: Path):
    settings = read_settings(
        demo_runs.project(tmp_path, more='[profiles.gb10.launcher]\nkind = "ray"\naddress = "http://head:8265"\nnum_shards = 4\n')
    )
    assert profile_named(settings, "gb10").launcher == Launcher(kind="ray", address="http://head:8265", num_shards=4)
    with pytest.raises(SettingsError, match="launcher"):
        profile_named(read_settings(demo_runs.project(tmp_path, more='[profiles.gb10.launcher]\nkind = "slurm"\n')), "gb10")


def test_where_something_ran_is_no_part_of_any_name():
    here, there = PROFILES["cuda"], replace(PROFILES["cuda"], launcher=ON_KUBERNETES)
    assert numerics(here) == numerics(there)
    line = tiny(DOCUMENTS)
    assert [step.version for step in line_steps(line, here)] == [step.version for step in line_steps(line, there)]


def test_sharing_weights_is_chosen_in_the_settings_and_no_part_of_any_name_either(tmp_path: Path):
    more = '[profiles.cuda.launcher]\nnum_processes = 4\nweights = "divided"\n'
    profile = profile_named(read_settings(demo_runs.project(tmp_path, more=more)), "cuda")
    assert (profile.launcher.num_processes, profile.launcher.num_parts) == (4, 4)
    assert Launcher(num_processes=4).num_parts == 1
    assert numerics(profile) == numerics(PROFILES["cuda"])
    more = '[profiles.m3_ultra.launcher]\nnum_processes = 2\nweights = "divided"\n'
    with pytest.raises(SettingsError, match="engine = 'mlx' and device = 'mps'"):
        profile_named(read_settings(demo_runs.project(tmp_path, more=more)), "m3_ultra")


def test_several_processes_are_started_for_a_training_alone_and_by_no_process_of_theirs(monkeypatch: pytest.MonkeyPatch):
    several = replace(PROFILES["cpu"], launcher=Launcher(num_processes=2))
    training = Request(steps=("adapter",), line=tiny(DOCUMENTS), profile=several, root="/data", run_id=None)
    assert is_agent(training)
    assert not is_agent(replace(training, steps=("base_model", "nf4_model")))
    assert not is_agent(replace(training, profile=PROFILES["cpu"]))
    monkeypatch.setenv("RANK", "1")
    assert not is_agent(training)


def test_a_part_is_there_whole_or_not_at_all(tmp_path: Path):
    parts = divide(3, {"pairs_at_a_time": 8})
    assert [part.name for part in parts] == [f"{number}-of-3-pairs_at_a_time-8" for number in range(3)]
    write_part(tmp_path, parts[1], lambda place: (place / "rows").write_bytes(b"1"))

    def cut(place: Path) -> None:
        (place / "rows").write_bytes(b"2")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_part(tmp_path, parts[2], cut)
    assert missing(tmp_path, parts) == [parts[0], parts[2]]
    assert missing(tmp_path, divide(3, {"pairs_at_a_time": 4})) == divide(3, {"pairs_at_a_time": 4})  # other batches, other parts
    assert [path.name for path in tmp_path.iterdir()] == [parts[1].name]


def test_a_pod_is_what_kubernetes_takes():
    request = Path("/data/requests/adapter-documents-1.json")
    made = pod(request, {"DAGSTER_PIPES_CONTEXT": "x"}, ON_KUBERNETES, root=Path("/data"), name="medvl-1", grace_seconds=60.0)
    [container] = made["spec"]["containers"]
    assert container["command"] == ["python", "-m", "medvl_lib.launch", str(request)]
    assert {"name": "data", "mountPath": "/data"} in container["volumeMounts"]
    assert container["resources"] == {"requests": {"cpu": "8"}, "limits": {"nvidia.com/gpu": "1"}}
    validate = pytest.importorskip("kubernetes_validate", reason="the schemas of Kubernetes: pip install kubernetes-validate").validate
    validate(made, validate_version(), strict=True)
    container["resources"]["limit"] = {}
    with pytest.raises(Exception, match="limit"):
        validate(made, validate_version(), strict=True)


def validate_version() -> str:
    """The newest version whose schemas are there."""
    import kubernetes_validate

    return kubernetes_validate.latest_version()
