"""Encodings. If these passed wrongly, a French or Japanese table would be trained on as Chinese, character by character, without a word."""

from pathlib import Path

import pytest

from medvl_lib.datasets import encodings
from medvl_lib.datasets.encodings import GB18030, UTF8, encoding_of
from medvl_lib.errors import InputRefused

CHINESE = "检查所见：右肺上叶见一结节影，边界清晰。诊断意见：建议随访。\n" * 20
CURE = "declare it"


def told(path: Path, data: bytes, declared: encodings.Declared = "") -> str:
    (path / "t.csv").write_bytes(data)
    return encoding_of(path / "t.csv", declared, CURE)


@pytest.mark.parametrize("text", ["", "plain ASCII", CHINESE, "Jönköping µ 5 × 3"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_utf8_is_told_with_and_without_a_mark(text: str, mark: str, tmp_path: Path):
    assert told(tmp_path, (mark + text).encode()) == UTF8
    assert (tmp_path / "t.csv").read_text(encoding=UTF8) == text


@pytest.mark.parametrize("codec", ["gb2312", "gbk", "gb18030"])
def test_chinese_in_any_of_the_three_national_encodings_is_told(codec: str, tmp_path: Path):
    assert told(tmp_path, CHINESE.encode(codec)) == GB18030
    assert (tmp_path / "t.csv").read_text(encoding=GB18030) == CHINESE


def test_a_rare_character_in_a_name_is_borne(tmp_path: Path):
    assert told(tmp_path, (CHINESE + "朱镕基").encode("gbk")) == GB18030  # the second is in GBK, and not in GB2312


@pytest.mark.parametrize(
    ("text", "codec"),
    [
        ("Patient à Jönköping, né à Sète: opacité étendue", "latin-1"), ("胸部に異常なし。心拡大を認める。", "shift_jis"),
        ("檢查所見：右肺上葉見一結節影，邊界清晰。", "big5"), ("Größe 5 µm, Übersicht", "cp1252"),
    ],
)  # fmt: skip
def test_any_other_encoding_is_refused_with_its_first_byte(text: str, codec: str, tmp_path: Path):
    with pytest.raises(InputRefused, match="not UTF-8") as refused:
        told(tmp_path, text.encode(codec) * 3)
    assert "byte 0x" in refused.value.found
    assert refused.value.do == CURE


def test_the_first_byte_that_is_not_utf8_is_found_in_any_chunk(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setattr(encodings, "CHUNK_BYTES", 5)
    with pytest.raises(InputRefused, match=r"byte 0xE9 at 17"):
        told(tmp_path, "检查所见：ab".encode() + b"\xe9x")
    assert told(tmp_path, CHINESE.encode("gbk")) == GB18030
    assert told(tmp_path, CHINESE.encode()) == UTF8


@pytest.mark.parametrize("codec", ["utf-16", "utf-16-be"])
def test_utf16_is_refused_by_name(codec: str, tmp_path: Path):
    data = CHINESE.encode(codec)
    with pytest.raises(InputRefused, match="UTF-16, by its mark"):
        told(tmp_path, data if codec == "utf-16" else b"\xfe\xff" + data)


def test_a_character_that_the_end_cuts_in_two_does_not_count(tmp_path: Path):
    assert told(tmp_path, CHINESE.encode()[:-2]) == UTF8
    assert told(tmp_path, CHINESE.encode("gbk")[:-2]) == GB18030


def test_what_is_declared_counts(tmp_path: Path):
    assert told(tmp_path, b"\xe9\xff", "utf-8") == UTF8
    assert told(tmp_path, b"abc", "gb18030") == GB18030
