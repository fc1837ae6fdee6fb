"""Facts of pictures. If these passed wrongly, a cut-off picture would be trained on, or damage to our own store would be blamed on the
publisher and silently shrink a dataset.
"""

import io
from pathlib import Path

import pytest
from PIL import Image

from medvl_lib.errors import InputMissing
from medvl_lib.image_facts import ImageRow, image_rows, write_image_facts
from medvl_lib.images import ImageStore
from medvl_lib.tables import read_table


def png(width: int, height: int, mode: str = "L") -> bytes:
    stream = io.BytesIO()
    Image.new(mode, (width, height)).save(stream, "PNG")
    return stream.getvalue()


def test_golden_facts_in_the_order_given(tmp_path: Path):
    store = ImageStore(tmp_path / "images")
    data = png(40, 30, "RGB")
    good, cut, text = store.put(data), store.put(data[:40]), store.put(b"not a picture")
    rows = list(image_rows([text, good, cut], store))
    assert [row.image_id for row in rows] == [text, good, cut]
    assert rows[1] == ImageRow(
        image_id=good, is_readable=True, width_pixels=40, height_pixels=30, mode="RGB", format="PNG", num_frames=1,
        num_bytes=len(data), problem=None,
    )  # fmt: skip
    assert rows[0].problem == "not a picture that Pillow knows (13 bytes)"
    assert (rows[2].is_readable, rows[2].width_pixels) == (False, None)


def test_more_pictures_than_fit_a_batch_are_all_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("medvl_lib.image_facts.BATCH_IMAGES", 4)
    store = ImageStore(tmp_path / "images")
    image_ids = [store.put(png(1 + number, 5)) for number in range(10)]
    assert write_image_facts(tmp_path / "facts.parquet", image_ids, store) == 10
    assert [row.width_pixels for row in read_table(tmp_path / "facts.parquet", ImageRow)] == list(range(1, 11))


def test_a_picture_lost_from_the_store_is_an_error_not_a_rejection(tmp_path: Path):
    with pytest.raises(InputMissing, match="not in the image store"):
        list(image_rows(["0" * 64], ImageStore(tmp_path)))


def test_a_picture_changed_in_the_store_is_an_error_not_a_rejection(tmp_path: Path):
    store = ImageStore(tmp_path)
    image_id = store.put(png(9, 9))
    store.path(image_id).write_bytes(png(9, 8))
    with pytest.raises(InputMissing, match="bytes have changed"):
        list(image_rows([image_id], store))
