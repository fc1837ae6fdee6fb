"""The smoke job, as the UI starts it. If this passed wrongly, the rehearsal before a long run would say that the route is whole, and have
run nothing.
"""

from pathlib import Path

import pytest

from medvl_assets.definitions import definitions
from medvl_lib.files import read_json
from medvl_lib.sample_data import write
from medvl_lib.settings import read_settings
from medvl_lib.workspace import Workspace

TOML = 'data_root = "data"\nscale = "tiny"\nprofile = "cpu"\n[datasets.clinical_documents]\n'


@pytest.mark.soak
def test_the_whole_route_is_made_small_in_a_data_root_of_its_own(tmp_path: Path):
    (tmp_path / "dagster_project.toml").write_text(TOML, encoding="utf-8")
    settings = read_settings(tmp_path / "dagster_project.toml")
    small = Workspace(root=Workspace(root=settings.data_root).smoke / "data")
    counts = {"train": 2, "validation": 1, "test": 1, "benchmark": 1}
    write("clinical_documents", small.raw("clinical_documents"), counts=counts)  # what lies there is left alone: the default takes a minute
    result = definitions(settings).resolve_job_def("smoke").execute_in_process(raise_on_error=False)
    assert result.success
    assert read_json(small.current("promotion", "documents"))["fingerprint"]
    assert small.store.is_file()
    assert {path.name for path in settings.data_root.iterdir()} == {"smoke"}  # nothing of the person's own was touched
