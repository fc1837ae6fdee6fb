"""The settings file is strict.

If these passed wrongly, a misspelt learning rate would train for hours with the old one, and a wrong path would be taken for the default.
"""

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest

from medvl_lib.errors import SettingsError
from medvl_lib.lines import DOCUMENTS, PAGES
from medvl_lib.overrides import override
from medvl_lib.provenance import digest
from medvl_lib.settings import DatasetSettings, LineSettings, find_settings, read_settings, require_known_names

HEAD = 'data_root = "data"\nscale = "tiny"\nprofile = "auto"\n'


@dataclass(frozen=True, slots=True, kw_only=True)
class Guard:
    metric: str
    margin: float

    def __post_init__(self) -> None:
        if self.margin < 0:
            raise ValueError(f"margin = {self.margin} must not be negative")


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    learning_rate: float = 1e-4
    max_steps: int = 10
    targets: tuple[str, ...] = ("q", "v")
    schedule: Literal["cosine", "linear"] = "cosine"
    limit: int | None = None
    guards: tuple[Guard, ...] = ()

    def __post_init__(self) -> None:
        if self.learning_rate <= 0:
            raise ValueError(f"learning_rate = {self.learning_rate} must be positive")


def written(folder: Path, text: str) -> Path:
    path = folder / "dagster_project.toml"
    path.write_text(text, encoding="utf-8")
    return path


def refusal(folder: Path, text: str) -> SettingsError:
    with pytest.raises(SettingsError) as raised:
        read_settings(written(folder, text))
    return raised.value


def test_the_shipped_file_is_tiny_automatic_and_uses_the_sets_of_the_demo():
    settings = read_settings(Path(__file__).parent.parent / "dagster_project.toml")
    assert (settings.scale, settings.profile) == ("tiny", "auto")
    assert settings.enabled_datasets() == ("clinical_documents", "mtsamples", "knee_xray", "slake", "custom_reports", "mimic_cxr")


def test_every_commented_out_line_of_the_shipped_file_is_a_valid_setting(tmp_path: Path):
    shipped = (Path(__file__).parent.parent / "dagster_project.toml").read_text(encoding="utf-8")
    lines = [
        line.removeprefix("# ") if line.startswith("# ") and (" = " in line or line.startswith("# [")) else line
        for line in shipped.splitlines()
    ]
    settings = read_settings(written(tmp_path, "\n".join(lines)))
    assert settings.lines and settings.profiles and settings.dataset("mtsamples").raw_path


def test_paths_are_relative_to_the_file(tmp_path: Path):
    settings = read_settings(written(tmp_path, HEAD + '[datasets.mtsamples]\nraw_path = "../mine"\n'))
    assert settings.data_root == tmp_path / "data"
    assert settings.raw_folder("mtsamples") == tmp_path.parent / "mine"
    assert settings.raw_folder("pathvqa") == tmp_path / "data" / "raw" / "pathvqa"


def test_what_the_file_does_not_list_is_not_used_and_not_changed(tmp_path: Path):
    settings = read_settings(written(tmp_path, HEAD + "[datasets.mtsamples]\n[datasets.slake]\nenabled = false\n"))
    assert settings.enabled_datasets() == ("mtsamples",)
    assert settings.dataset("pathvqa") == DatasetSettings(enabled=False)
    assert settings.line("documents") == LineSettings()


def test_a_misspelt_key_is_refused_with_its_table_and_the_nearest_valid_name(tmp_path: Path):
    error = refusal(tmp_path, HEAD + "[datasets.mtsamples]\nenabeld = true\n")
    assert error.found == "unknown key 'enabeld'"
    assert error.where == f"{tmp_path / 'dagster_project.toml'}, [datasets.mtsamples]"
    assert error.do.startswith("did you mean 'enabled'? valid keys: enabled, limits")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (HEAD.replace("tiny", "huge") + "[datasets]\n", "scale = 'huge'"),
        (HEAD.replace("scale", "scal") + "[datasets]\n", "unknown key 'scal'"),
        (HEAD, "no key 'datasets'"),
        (HEAD + "[datasets.mtsamples]\nenabled = 1\n", "enabled = 1"),
        (HEAD + "[datasets.mtsamples]\nrejected_share_budget = 10\n", "rejected_share_budget = 10"),
        (HEAD + "[datasets]\nmtsamples = true\n", "mtsamples = True"),
        (HEAD + "[datasets]\n[lines.documents.recip]\nmax_steps = 1\n", "unknown key 'recip'"),
        (HEAD + "[datasets]\n[profiles.cpu]\nsince = 2026-11-20\n", "since = datetime.date(2026, 11, 20)"),
        ("data_root = = 3\n", "not TOML: Invalid value (at line 1, column 13)"),
    ],
)
def test_what_cannot_be_meant_is_refused_and_quoted(tmp_path: Path, text: str, found: str):
    assert refusal(tmp_path, text).found == found


@pytest.mark.parametrize(
    ("text", "do"),
    [
        (HEAD.replace("tiny", "tinny") + "[datasets]\n", "did you mean 'tiny'? there are tiny, full"),
        (HEAD + "[datasets.mtsamples]\nenabled = 1\n", "write true or false"),
        (HEAD + "[datasets.mtsamples]\nrejected_share_budget = 10\n", "write a number of at most 1"),
        (HEAD + '[datasets]\n[lines.documents]\ndatasets = "mtsamples"\n', "write an array, in square brackets"),
    ],
)
def test_the_cure_is_in_the_words_of_the_file(tmp_path: Path, text: str, do: str):
    assert refusal(tmp_path, text).do == do


@pytest.mark.parametrize(
    ("changes", "found", "table", "nearest"),
    [
        ('candidates = [{ variant = "adaptor" }]', "variant = 'adaptor'", "[there], candidates", "adapter"),
        ('cost_limits = [{ measure = "latency_p59", max_ratio = 2 }]', "measure = 'latency_p59'", "[there], cost_limits", "latency_p95"),
        ('floors = ["floor_blank_empty"]', "floors = ['floor_blank_empty']", "[there]", "floor_empty"),
        ('primary_metric = "pairs_accuracy"', "primary_metric = 'pairs_accuracy'", "[there]", "pair_accuracy"),
    ],
)
def test_a_misspelt_variant_measure_or_metric_is_refused_with_the_nearest_one(changes: str, found: str, table: str, nearest: str):
    with pytest.raises(SettingsError) as raised:
        override(DOCUMENTS.gate, tomllib.loads(changes), "[there]")
    assert (raised.value.found, raised.value.where) == (found, table)
    assert f"did you mean {nearest!r}?" in raised.value.do
    assert "Input should" not in raised.value.do


def test_a_name_that_nothing_has_is_refused_with_the_nearest_one(tmp_path: Path):
    settings = read_settings(written(tmp_path, HEAD + "[datasets.mtsample]\n"))
    with pytest.raises(SettingsError, match="did you mean 'mtsamples'"):
        require_known_names(settings, datasets=["mtsamples", "pathvqa"], lines=[], profiles=["cpu"])


def test_an_unknown_profile_is_refused_with_those_that_exist(tmp_path: Path):
    settings = read_settings(written(tmp_path, HEAD.replace("auto", "gb100") + "[datasets]\n"))
    with pytest.raises(SettingsError, match="choose auto, cpu, gb10"):
        require_known_names(settings, datasets=[], lines=[], profiles=["cpu", "gb10"])


def test_the_file_is_found_in_a_folder_above_or_by_the_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = written(tmp_path, HEAD + "[datasets]\n")
    below = tmp_path / "a" / "b"
    below.mkdir(parents=True)
    monkeypatch.delenv("MEDVL_SETTINGS", raising=False)
    assert find_settings(below) == path
    monkeypatch.setenv("MEDVL_SETTINGS", "/elsewhere/settings.toml")
    assert find_settings(below) == Path("/elsewhere/settings.toml")
    with pytest.raises(SettingsError, match="no readable file"):
        read_settings()


def test_a_changed_recipe_equals_the_same_recipe_written_in_code():
    changes = tomllib.loads('learning_rate = 1\ntargets = ["k"]\nschedule = "linear"\nlimit = 3')
    assert override(Recipe(), changes, "[x]") == Recipe(learning_rate=1.0, targets=("k",), schedule="linear", limit=3)
    assert isinstance(override(Recipe(), changes, "[x]").learning_rate, float)


@pytest.mark.parametrize(
    ("key", "value", "do"),
    [
        ("learning_rat", 1e-4, "did you mean 'learning_rate'? valid keys: guards, learning_rate, limit, max_steps, schedule, targets"),
        ("max_steps", 1.5, "write a whole number"),
        ("max_steps", True, "write a whole number"),
        ("max_steps", "10", "write a whole number"),
        ("learning_rate", "1e-4", "write a number"),
        ("learning_rate", float("nan"), "write a finite number"),
        ("learning_rate", -1, "learning_rate = -1.0 must be positive"),
        ("schedule", "step", "there are cosine, linear"),
        ("schedule", "cosinus", "did you mean 'cosine'? there are cosine, linear"),
        ("targets", "q", "write an array, in square brackets"),
        ("targets", [1], "write text, in quotation marks"),
        ("guards", ["f1"], "write it as a table, in braces"),
    ],
)
def test_a_change_that_does_not_fit_the_field_is_refused(key: str, value: object, do: str):
    with pytest.raises(SettingsError) as raised:
        override(Recipe(), {key: value}, "project.toml, [lines.documents.recipe]")
    assert raised.value.do == do
    assert raised.value.where == "project.toml, [lines.documents.recipe]"


def test_an_array_of_tables_is_a_tuple_of_typed_values():
    changes = tomllib.loads('[[guards]]\nmetric = "f1"\nmargin = 0\n[[guards]]\nmetric = "recall"\nmargin = 0.1')
    found = override(Recipe(), changes, "[x]")
    assert found == Recipe(guards=(Guard(metric="f1", margin=0.0), Guard(metric="recall", margin=0.1)))
    assert digest(found) == digest(Recipe(guards=(Guard(metric="f1", margin=0.0), Guard(metric="recall", margin=0.1))))


@pytest.mark.parametrize(
    ("guard", "found", "where", "do"),
    [
        ({"metric": "f1", "margn": 0.1}, "unknown key 'margn'", "[x], guards", "did you mean 'margin'? valid keys: margin, metric"),
        ({"metric": "f1"}, "no key 'margin'", "[x], guards", "write margin = ... there"),
        ({"metric": "f1", "margin": -1}, "guards = [{'metric': 'f1', 'margin': -1}]", "[x]", "margin = -1.0 must not be negative"),
        ({"metric": 1, "margin": 0.1}, "metric = 1", "[x], guards", "write text, in quotation marks"),
        ({"metric": "f1", "margin": "0.1"}, "margin = '0.1'", "[x], guards", "write a number"),
    ],
)
def test_a_table_of_an_array_that_does_not_fit_is_refused(guard: dict[str, object], found: str, where: str, do: str):
    with pytest.raises(SettingsError) as raised:
        override(Recipe(), {"guards": [guard]}, "[x]")
    assert (raised.value.found, raised.value.where, raised.value.do) == (found, where, do)


@pytest.mark.parametrize(
    ("value", "key", "change"), [(PAGES, "max_images", 0), (PAGES, "min_response_characters", 9000), (DOCUMENTS.split, "test_share", 1)]
)
def test_what_limits_and_split_refuse_is_told_with_file_and_table(value: object, key: str, change: int):
    with pytest.raises(SettingsError) as raised:
        override(value, {key: change}, "project.toml, [there]")
    assert (raised.value.found, raised.value.where) == (f"{key} = {change}", "project.toml, [there]")


# -- variations of a line ----------------------------------------------------------------------------------------------
NAMES = {"datasets": ("mtsamples",), "lines": ("documents",), "profiles": ("cpu",)}


def test_a_line_may_be_like_another(tmp_path: Path):
    settings = read_settings(written(tmp_path, HEAD + '[datasets.mtsamples]\n[lines.documents_slow]\nlike = "documents"\n'))
    require_known_names(settings, **NAMES)
    assert settings.line("documents_slow").like == "documents"


@pytest.mark.parametrize(
    ("table", "found", "do"),
    [
        ('[lines.slow]\nlike = "dokuments"\n', "like = 'dokuments'", "name one of documents"),
        ('[lines.documents]\nlike = "documents"\n', "like = 'documents'", "documents is taken"),
        ('[lines.mtsamples]\nlike = "documents"\n', "like = 'documents'", "mtsamples is taken"),
        ('[lines.everything]\nlike = "documents"\n', "like = 'documents'", "everything is taken"),
        ('[lines.overfit]\nlike = "documents"\n', "like = 'documents'", "overfit is taken"),
        ('[lines."Slow one"]\nlike = "documents"\n', "the line 'Slow one'", "small letters"),
        ('[lines."../slow"]\nlike = "documents"\n', "the line '../slow'", "small letters"),
        ('[lines.a]\nlike = "documents"\n[lines.b]\nlike = "a"\n', "like = 'a'", "cannot be varied again"),
    ],
)
def test_a_variation_of_nothing_or_with_a_taken_name_is_refused(tmp_path: Path, table: str, found: str, do: str):
    settings = read_settings(written(tmp_path, HEAD + "[datasets.mtsamples]\n" + table))
    with pytest.raises(SettingsError) as refused:
        require_known_names(settings, **NAMES)
    assert refused.value.found == found
    assert do in refused.value.do
