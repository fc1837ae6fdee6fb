"""How often different things are taken for near-duplicates, and how many true ones are missed.

In: nothing but this project's generators; with a folder as argument also the pictures below it. Out: a table on the terminal.

    python benchmarks/near_duplicates.py [folder of pictures]

False alarms: pairs of things that are different, as a share of all pairs. Misses: copies of a thing that were changed as copies are in
practice (saved again, scaled, brightened, cropped by 2 %; a word in a hundred replaced, a date changed) and not found.
"""

import io
import itertools
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from random import Random

from PIL import Image, ImageEnhance

from medvl_lib.near_duplicates import (
    BANDS,
    MAX_HASH_DISTANCE,
    MIN_CORRELATION,
    MIN_JACCARD,
    MIN_SHINGLES,
    buckets,
    correlation,
    jaccard,
    perceptual_hash,
    shingles,
)  # fmt: skip
from medvl_lib.sample_data.clinical_documents import draw_document, page_bytes
from medvl_lib.sample_data.clinical_facts import DOCUMENT_TYPES
from medvl_lib.sample_data.micrographs import draw_micrograph
from medvl_lib.sample_data.mtsamples import note, transcription

NUM_THINGS, NUM_COPIED = 200, 60
SEED = 5
PICTURES = (".png", ".jpg", ".jpeg", ".bmp")


def _saved(image: Image.Image, form: str = "PNG", **options: int) -> bytes:
    buffer = io.BytesIO()
    image.convert("RGB").save(buffer, form, **options)
    return buffer.getvalue()


def copies(data: bytes) -> dict[str, bytes]:
    """A picture as it comes back from other hands."""
    image = Image.open(io.BytesIO(data)).convert("RGB")
    width, height = image.size
    return {
        "saved as JPEG, quality 50": _saved(image, "JPEG", quality=50),
        "scaled to 0.8": _saved(image.resize((max(1, width * 4 // 5), max(1, height * 4 // 5)))),
        "a tenth brighter": _saved(ImageEnhance.Brightness(image).enhance(1.1)),
        "cropped by 2 % on each side": _saved(image.crop((width // 50, height // 50, width - width // 50, height - height // 50))),
    }


def is_same_picture(left: bytes, right: bytes) -> bool:
    """As ``near_duplicates`` decides it."""
    distance = ((perceptual_hash(left) ^ perceptual_hash(right)) % 2**64).bit_count()
    return distance <= MAX_HASH_DISTANCE and correlation(left, right) >= MIN_CORRELATION


def is_same_text(left: str, right: str) -> bool:
    """As ``near_duplicates`` decides it."""
    mine, yours = shingles(left), shingles(right)
    return bool(set(enumerate(buckets(mine))) & set(enumerate(buckets(yours)))) and jaccard(mine, yours) >= MIN_JACCARD


def _pictures(name: str, pictures: Sequence[bytes]) -> None:
    hashes = [perceptual_hash(data) for data in pictures]
    pairs = list(itertools.combinations(range(len(pictures)), 2))
    near = [(a, b) for a, b in pairs if ((hashes[a] ^ hashes[b]) % 2**64).bit_count() <= MAX_HASH_DISTANCE]
    alarms = [(a, b) for a, b in near if correlation(pictures[a], pictures[b]) >= MIN_CORRELATION]
    print(f"{name}: {len(pictures)} pictures, {len(pairs)} pairs: {len(near)} within {MAX_HASH_DISTANCE} bits, {len(alarms)} false alarms")
    missed = dict.fromkeys(copies(pictures[0]), 0)
    copied = pictures[:NUM_COPIED]
    for data in copied:
        for kind, copy in copies(data).items():
            missed[kind] += not is_same_picture(data, copy)
    print(f"   missed of {len(copied)} copies: " + ", ".join(f"{kind}: {count}" for kind, count in missed.items()))


def _edited(text: str, share: float, chance: Random) -> str:
    return " ".join("changed" if chance.random() < share else word for word in text.split())


def _texts(name: str, texts: Sequence[str]) -> None:
    shingled = [shingles(text) for text in texts]
    known = [(text, each) for text, each in zip(texts, shingled, strict=True) if len(each) >= MIN_SHINGLES]
    pairs = list(itertools.combinations(known, 2))
    alarms = sum(jaccard(mine, yours) >= MIN_JACCARD for (_, mine), (_, yours) in pairs)
    print(f"{name}: {len(known)} texts of at least {MIN_SHINGLES} shingles, {len(pairs)} pairs: {alarms} false alarms ({BANDS} bands)")
    chance = Random(SEED)  # noqa: S311 - a measurement, no secret
    edits: dict[str, Callable[[str], str]] = {
        "one word in 100 changed": lambda text: _edited(text, 0.01, chance),
        "one word in 20 changed": lambda text: _edited(text, 0.05, chance),
        "a sentence added": lambda text: f"{text} Seen on the third of May.",
    }
    for kind, edit in edits.items():
        missed = sum(not is_same_text(text, edit(text)) for text, _ in known)
        print(f"   {kind}: {missed} of {len(known)} missed")


def _below(folder: Path) -> Iterator[bytes]:
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() in PICTURES:
            yield path.read_bytes()


def main(arguments: list[str]) -> int:
    """Measure and print."""
    documents = [draw_document(SEED, "test", kind, index) for index in range(NUM_THINGS // len(DOCUMENT_TYPES)) for kind in DOCUMENT_TYPES]
    _pictures("invented forms", [page_bytes(document) for document in documents])
    drawn = {draw_micrograph(Random(number)): None for number in range(NUM_THINGS)}  # noqa: S311 - a measurement, no secret
    _pictures("invented micrographs", [_saved(picture.image()) for picture in drawn])
    if arguments:
        _pictures(Path(arguments[0]).name, list(itertools.islice(dict.fromkeys(_below(Path(arguments[0]))), NUM_THINGS)))
    _texts("invented notes", list({transcription(note(SEED, "csv", row)): None for row in range(NUM_THINGS)}))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
