"""`medvl export` of what MLX packed. If these passed wrongly, a folder would be handed on that nobody can load, or one that says it was
judged as it stands.
"""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from medvl_lib.errors import HeavyStepFailed, InputRefused
from medvl_lib.hardware import PROFILES
from medvl_lib.lines import DOCUMENTS, tiny
from medvl_lib.models import exporting
from medvl_lib.pointer import Contender
from medvl_lib.provenance import Artifact, Fact, write_step
from medvl_lib.route import exporting as route
from medvl_lib.serving.served import ServedModel
from medvl_lib.workspace import Workspace

LINE = tiny(DOCUMENTS)


@pytest.fixture
def written(tmp_path: Path) -> Callable[[str], Artifact]:
    def write(step: str) -> Artifact:
        def fill(folder: Path) -> dict[str, Fact]:
            (folder / route.ADAPTER_CONFIG).write_text('{"r": 4}')
            return {}

        return write_step(Workspace(root=tmp_path), step, LINE.name, "1", [], fill)

    return write


def served(weights: Artifact, adapter: Artifact | None) -> ServedModel:
    return ServedModel(line=LINE.name, variant="affine4" if adapter is None else "adapter", parts=Contender(weights, adapter), pointer=None)


def test_whole_weights_in_affine4_are_refused_with_the_way_out(written: Callable[[str], Artifact]):
    with pytest.raises(InputRefused, match="affine4") as refused:
        route.require_loadable(served(written("affine4_model"), None), LINE)
    assert "medvl override documents base" in refused.value.do
    route.require_loadable(served(written("affine4_model"), written("adapter")), LINE)
    route.require_loadable(served(written("nf4_model"), None), LINE)


@pytest.mark.parametrize(("step", "kinds"), [("affine4_model", ["merged"]), ("nf4_model", ["base", "adapter", "merged"])])
def test_an_adapter_on_affine4_is_exported_merged_alone_and_says_that_it_was_not_judged_so(
    written: Callable[[str], Artifact], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, kinds: list[str]
):
    for name in ("copy_weights", "write_adapter", "write_merged_16bit", "write_how_it_is_asked"):
        monkeypatch.setattr(exporting, name, lambda *_: None)
    source = route._Source(
        workspace=Workspace(root=tmp_path), line=LINE, profile=PROFILES["cpu"], model=served(written(step), written("adapter")),
        base=written("base_model"), decided=None,
    )  # fmt: skip
    (tmp_path / "out").mkdir()
    parts = list(route._write_parts(source, tmp_path / "out"))
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(kinds)
    assert not parts[-1].is_judged
    assert ("It was not judged so" in parts[-1].what) == (kinds == ["merged"])


def test_a_process_that_fails_can_be_written_unchecked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def failed(*_: object) -> None:
        raise HeavyStepFailed(found="plain transformers ended with status 1", where="here", do="run its lines by hand")

    described: list[str] = []
    monkeypatch.setattr(route, "_source", lambda *_: SimpleNamespace(model=SimpleNamespace(sentence="what is served")))
    monkeypatch.setattr(route, "_write_parts", lambda *_: iter(()))
    monkeypatch.setattr(route, "_compared", failed)
    monkeypatch.setattr(route, "write_encoder", lambda *_: ("", ()))
    monkeypatch.setattr(route, "_describe", lambda *given: described.append(given[-1]))
    workspace = Workspace(root=tmp_path)
    with pytest.raises(HeavyStepFailed):
        route.export(workspace, LINE, PROFILES["cpu"], tmp_path / "out", num_pairs=None, is_unchecked=False)
    route.export(workspace, LINE, PROFILES["cpu"], tmp_path / "out", num_pairs=None, is_unchecked=True)
    assert described == ["plain transformers ended with status 1; run its lines by hand"]
