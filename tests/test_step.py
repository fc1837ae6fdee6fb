"""Steps. If these passed wrongly, a step could run on inputs that nobody checked, or a changed raw file would be answered from an old
directory.
"""

import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from medvl_lib.errors import InputMissing, InputRefused
from medvl_lib.provenance import Artifact, Fact, Outcome, Rule, code_version, judge, newest
from medvl_lib.step import Call, Source, Step, reuse_step, run_step
from medvl_lib.workspace import Workspace

WELL = Rule(name="all_is_well", sentence="All is well.", holds=lambda _: Outcome(passed=True, found="it is"))
MORE = Rule(name="there_is_more", sentence="There is more.", holds=lambda _: Outcome(passed=True, found="there is"))


def say(text: str, call: Call) -> Mapping[str, Fact]:
    (call.directory / "said.txt").write_text(text)
    call.report({"num_characters": len(text)})
    return {"num_characters": len(text)}


def step(name: str, text: str, *reads: Source) -> Step:
    return Step(
        name=name, owner="documents", description="", version=code_version(1, text), reads=reads, rules=(WELL,),
        write=lambda call: say(text, call),
    )  # fmt: skip


def joined(call: Call) -> Mapping[str, Fact]:
    parts = [(call.read(name, "documents") / "said.txt").read_text() for name in ("one", "two")]
    return say("+".join(parts), call)


ONE, TWO = step("one", "1"), step("two", "2")
READS = tuple(Source(step=name, name="documents", rules=(WELL,)) for name in ("one", "two"))
SUM = replace(step("sum", "", *READS), version="v", write=joined)


def done(workspace: Workspace, made: Step) -> Artifact:
    artifact = run_step(workspace, made)
    judge(workspace, artifact, made.rules)
    return artifact


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(root=tmp_path)


def test_a_step_reads_its_inputs_and_names_them(workspace: Workspace):
    one, two = done(workspace, ONE), done(workspace, TWO)
    made = run_step(workspace, SUM)
    assert (made.directory / "said.txt").read_text() == "1+2"
    assert made.inputs == {ONE.key: one.fingerprint, TWO.key: two.fingerprint}
    assert made.key == SUM.key == "sum/documents"


def test_a_step_is_told_where_it_writes_and_reports_while_it_runs(workspace: Workspace):
    calls: list[Call] = []
    reported: list[Mapping[str, Fact]] = []
    told = replace(ONE, write=lambda call: calls.append(call) or say("1", call))
    made = run_step(workspace, told, reported.append)
    assert calls[0].fingerprint == made.fingerprint
    assert calls[0].directory.parent == made.directory.parent and not calls[0].directory.exists()
    assert reported == [{"num_characters": 1}]


def test_a_step_waits_for_inputs_that_passed(workspace: Workspace):
    done(workspace, ONE)
    with pytest.raises(InputMissing, match="no two of documents has passed"):
        run_step(workspace, SUM)
    run_step(workspace, TWO)
    with pytest.raises(InputMissing):
        run_step(workspace, SUM)
    assert not workspace.step("sum", "documents").exists()


def test_a_step_refuses_an_input_whose_checks_lack_a_rule(workspace: Workspace):
    done(workspace, ONE)
    strict = step("strict", "x", Source(step="one", name="documents", rules=(WELL, MORE)))
    for start in (run_step, reuse_step):
        with pytest.raises(InputRefused, match="there_is_more"):
            start(workspace, strict)


def test_a_step_is_reused_until_its_version_or_an_inputs_contents_change(workspace: Workspace):
    done(workspace, ONE), done(workspace, TWO)
    assert reuse_step(workspace, SUM) is None
    made = run_step(workspace, SUM)
    assert reuse_step(workspace, SUM) == run_step(workspace, SUM) == replace(made, reused=True)
    assert reuse_step(workspace, replace(SUM, version="w")) is None
    done(workspace, replace(ONE, version="made otherwise"))
    assert reuse_step(workspace, SUM) == replace(made, reused=True)  # the same contents
    done(workspace, step("one", "3"))
    assert reuse_step(workspace, SUM) is None
    assert (run_step(workspace, SUM).directory / "said.txt").read_text() == "3+2"


def test_what_is_observed_bears_identity(workspace: Workspace):
    outside = ["a"]
    watching = replace(ONE, observe=lambda *_: outside[0])
    first = run_step(workspace, watching)
    outside[0] = "b"
    assert reuse_step(workspace, watching) is None
    second = run_step(workspace, watching)
    assert first.fingerprint != second.fingerprint
    assert first.data_version == second.data_version
    outside[0] = "a"
    assert run_step(workspace, watching) == replace(first, reused=True)


def test_a_step_is_told_what_was_observed(workspace: Workspace):
    told: list[str] = []
    for watching in (ONE, replace(ONE, observe=lambda *_: "the champion")):
        run_step(workspace, replace(watching, write=lambda call: told.append(call.observed) or say("1", call)))
    assert told == ["", "the champion"]


def test_what_is_observed_may_depend_on_the_inputs(workspace: Workspace):
    one, _ = done(workspace, ONE), done(workspace, TWO)
    seen: list[str] = []
    run_step(workspace, replace(SUM, observe=lambda _, inputs: seen.append(inputs["one/documents"].data_version) or ""))
    assert seen == [one.data_version]


# -- one of each --------------------------------------------------------------------------------------------------------
READS_ORIGIN, READS_RAW, READS_SPLIT = (Source(step=name, name="documents", rules=(WELL,)) for name in ("origin", "raw", "split"))


def test_one_thing_in_two_contents_is_refused_whichever_way_it_comes(workspace: Workspace):
    raw, split = step("raw", "one"), step("split", "a", READS_RAW)
    chat = step("chat", "b", READS_SPLIT, READS_RAW)
    for each in (raw, split, chat):
        done(workspace, each)
    done(workspace, step("raw", "other"))  # alone: the split is still that of the first
    with pytest.raises(InputRefused, match="two contents of raw/documents") as raised:
        run_step(workspace, chat)
    assert raised.value.do.startswith("materialize documents/split again")
    done(workspace, split)
    assert run_step(workspace, chat).reused is False


def test_the_same_contents_of_another_make_are_no_mixture(workspace: Workspace):
    done(workspace, step("origin", "one"))
    raw = step("raw", "the same", READS_ORIGIN)
    for each in (raw, step("split", "a", READS_RAW)):
        done(workspace, each)
    done(workspace, step("origin", "other"))
    done(workspace, raw)  # made from something else, and the same to the last byte
    assert set(done(workspace, step("chat", "b", READS_SPLIT, READS_RAW)).inputs) == {READS_SPLIT.key, READS_RAW.key}


def test_what_a_reused_directory_was_made_from_may_have_been_made_again(workspace: Workspace):
    reads_chat, reads_near = (Source(step=name, name="documents", rules=(WELL,)) for name in ("chat", "near"))
    split, chat, near = step("split", "a", READS_RAW), step("chat", "b", READS_SPLIT), step("near", "c", READS_RAW)
    for each in (step("raw", "one"), split, chat, step("raw", "one and a row that is left out"), split):
        done(workspace, each)
    assert done(workspace, chat).reused  # from the same split, which names the raw records that it was first made from
    done(workspace, near)
    assert set(done(workspace, step("report", "d", reads_chat, reads_near)).inputs) == {reads_chat.key, reads_near.key}


def test_what_was_collected_is_not_looked_into(workspace: Workspace):
    for each in (step("raw", "one"), step("split", "a", READS_RAW)):
        done(workspace, each)
    old = newest(workspace, "raw", "documents").directory
    done(workspace, step("raw", "other"))
    shutil.rmtree(old)
    assert set(done(workspace, step("report", "b", READS_SPLIT)).inputs) == {READS_SPLIT.key}
