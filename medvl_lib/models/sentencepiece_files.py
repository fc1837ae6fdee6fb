"""SentencePiece's ``tokenizer.model``, read and written without the library of that name, and the same tokenizer as ``tokenizers`` has it.

In: the file of a BPE model (a protocol buffer), or pieces. Out: pieces; or the file; or a ``Tokenizer`` that cuts every text into the same
pieces as Llama's own, with a blank before each stretch of text between special tokens. What the ids mean to a model is not known here.
Source of the format: github.com/google/sentencepiece, src/sentencepiece_model.proto @ v0.2.0 (field 1 of the model: a piece with its text,
score and kind); of the merges: transformers 5.23, convert_slow_tokenizer.py, ``generate_merges``.
"""

import struct
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple, get_args

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers

from medvl_lib.errors import MedVLError

BLANK = "▁"  # how SentencePiece writes one
Kind = Literal["normal", "unknown", "control", "user_defined", "unused", "byte"]
KINDS: tuple[Kind, ...] = get_args(Kind)  # in the format's order, from 1
VARINT, FIXED64, LENGTH, FIXED32 = 0, 1, 2, 5  # kinds of values in a protocol buffer
PIECES, TEXT, SCORE, KIND = 1, 1, 2, 3  # numbers of fields


class Piece(NamedTuple):
    """One entry of the vocabulary; its id is its place."""

    text: str
    score: float
    """The higher, the earlier it is merged."""
    kind: Kind


def read_pieces(path: Path) -> list[Piece]:
    """The vocabulary of a ``tokenizer.model``; raises MedVLError where the file is none."""
    try:
        return [_piece(value) for number, value in _fields(path.read_bytes()) if number == PIECES and isinstance(value, bytes)]
    except (IndexError, ValueError, struct.error) as error:
        raise MedVLError(
            found=f"no SentencePiece model ({error})", where=str(path), do="bring tokenizer.model from the checkpoint's own repository"
        ) from error


def _piece(data: bytes) -> Piece:
    text, score, kind = "", 0.0, 1
    for number, value in _fields(data):
        if number == TEXT and isinstance(value, bytes):
            text = value.decode("utf-8")
        elif number == SCORE and isinstance(value, bytes):
            [score] = struct.unpack("<f", value)
        elif number == KIND and isinstance(value, int):
            kind = value
    return Piece(text, score, KINDS[kind - 1])


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """The fields of a protocol buffer's message, in their order."""
    place = 0
    while place < len(data):
        key, place = _varint(data, place)
        number, how = key >> 3, key & 7
        if how == VARINT:
            value, place = _varint(data, place)
            yield number, value
            continue
        if how not in {FIXED64, LENGTH, FIXED32}:
            raise ValueError(f"a value of kind {how}")
        length, place = _varint(data, place) if how == LENGTH else ({FIXED64: 8, FIXED32: 4}[how], place)
        if place + length > len(data):
            raise ValueError(f"a field of {length} bytes, {len(data) - place} are left")
        yield number, data[place : place + length]
        place += length


def _varint(data: bytes, place: int) -> tuple[int, int]:
    """A number of seven bits a byte, and the place behind it."""
    value = shift = 0
    while True:
        byte = data[place]
        value, shift, place = value | (byte & 0x7F) << shift, shift + 7, place + 1
        if byte < 0x80:
            return value, place


def write_pieces(path: Path, pieces: Sequence[Piece]) -> None:
    """Write a ``tokenizer.model`` that has nothing but its pieces."""
    path.write_bytes(b"".join(_field(PIECES, _message(piece)) for piece in pieces))


def _message(piece: Piece) -> bytes:
    score = bytes([SCORE << 3 | FIXED32]) + struct.pack("<f", piece.score)
    return _field(TEXT, piece.text.encode()) + score + bytes([KIND << 3 | VARINT, KINDS.index(piece.kind) + 1])


def _field(number: int, data: bytes) -> bytes:
    length, head = len(data), bytearray()
    while length >= 0x80:
        head.append(length & 0x7F | 0x80)
        length >>= 7
    return bytes([number << 3 | LENGTH, *head, length]) + data


def to_tokenizer(pieces: Sequence[Piece], added: Sequence[str]) -> Tokenizer:
    """The same tokenizer for ``tokenizers``, with more special tokens behind the pieces.

    Llama's way, as the published checkpoints were trained: a blank before each stretch between special tokens, a character without a piece
    as its bytes. Raises MedVLError for pieces that come twice, and where none stands for what is unknown.
    """
    vocabulary = {piece.text: place for place, piece in enumerate(pieces)}
    unknown = next((piece.text for piece in pieces if piece.kind == "unknown"), None)
    if unknown is None or len(vocabulary) != len(pieces):
        raise MedVLError(
            found=f"{len(pieces)} pieces, {len(vocabulary)} distinct, unknown: {unknown!r}", where="tokenizer.model",
            do="bring tokenizer.model from the checkpoint's own repository",
        )  # fmt: skip
    scores = {piece.text: piece.score for piece in pieces}
    tokenizer = Tokenizer(models.BPE(
        vocab=vocabulary, merges=_merges(vocabulary, scores), unk_token=unknown, fuse_unk=True,
        byte_fallback=any(piece.kind == "byte" for piece in pieces),
    ))  # fmt: skip
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend(BLANK), normalizers.Replace(" ", BLANK)])
    tokenizer.decoder = decoders.Sequence([
        decoders.Replace(BLANK, " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0),
    ])  # fmt: skip
    special = [piece.text for piece in pieces if piece.kind in {"unknown", "control"}]
    tokenizer.add_special_tokens([AddedToken(text, special=True, normalized=False) for text in (*special, *added)])
    return tokenizer


def _merges(vocabulary: Mapping[str, int], scores: Mapping[str, float]) -> list[tuple[str, str]]:
    """Every way in which two pieces make a third, the highest score first."""
    found: list[tuple[str, str, float]] = []
    for text, score in scores.items():
        cuts = ((text[:place], text[place:]) for place in range(1, len(text)))
        parts = [(left, right) for left, right in cuts if left in vocabulary and right in vocabulary]
        found += [(*pair, score) for pair in sorted(parts, key=lambda pair: (vocabulary[pair[0]], vocabulary[pair[1]]))]
    return [(left, right) for left, right, _ in sorted(found, key=lambda merge: -merge[2])]
