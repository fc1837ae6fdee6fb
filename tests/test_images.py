"""Pictures. If these passed wrongly, a model would be trained on sideways, black or inverted pictures, and a damaged one would pass
validation only to end a training run hours later.
"""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, features

from medvl_lib.errors import WriteFailed
from medvl_lib.images import MAX_PIXELS, ImageFacts, ImageStore, UnreadableImage, facts, rgb_pixels
from tests.small_disk import small_disk

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL.TiffImagePlugin")  # it names each damaged tag

RED, WHITE = [255, 0, 0], [255, 255, 255]
HALVES = np.repeat(np.array([[RED, WHITE]], np.uint8), 8, axis=0).repeat(8, axis=1)  # 8 high, 16 wide: red on the left, white on the right
NOISE = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)


def encoded(pixels: np.ndarray | Image.Image, format_: str, **options: object) -> bytes:
    image, stream = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels), io.BytesIO()
    image.save(stream, format_, **options)
    return stream.getvalue()


def rotated(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def png_of(width: int, height: int) -> bytes:
    """A few bytes that claim to be so large a picture."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(b"\0" * 9)) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("orientation", "shape", "top_left", "bottom_right"),
    [
        (1, (8, 16), RED, WHITE), (2, (8, 16), WHITE, RED), (3, (8, 16), WHITE, RED), (4, (8, 16), RED, WHITE),
        (5, (16, 8), RED, WHITE), (6, (16, 8), RED, WHITE), (7, (16, 8), WHITE, RED), (8, (16, 8), WHITE, RED),
        (9, (8, 16), RED, WHITE),
    ],
)  # fmt: skip
@pytest.mark.parametrize("format_", ["PNG", "TIFF", "WEBP"])
def test_a_picture_is_turned_upright(format_: str, orientation: int, shape: tuple[int, int], top_left: list[int], bottom_right: list[int]):
    pixels = rgb_pixels(encoded(HALVES, format_, exif=rotated(orientation), **({"lossless": True} if format_ == "WEBP" else {})))
    assert pixels.shape == (*shape, 3)
    assert (pixels[0, 0].tolist(), pixels[-1, -1].tolist()) == (top_left, bottom_right)


def test_facts_are_those_of_the_stored_bytes():
    found = facts(encoded(HALVES, "JPEG", exif=rotated(6)))
    assert found == ImageFacts(width_pixels=16, height_pixels=8, mode="RGB", format="JPEG", num_frames=1)


def test_cmyk_is_converted():
    pixels = rgb_pixels(encoded(Image.fromarray(HALVES).convert("CMYK"), "JPEG", quality=100, subsampling=0))
    assert np.abs(pixels.astype(int) - HALVES).max() < 8  # JPEG's own loss


def test_transparency_is_laid_on_white():
    layer = np.zeros((2, 2, 4), np.uint8)
    layer[0, 0], layer[0, 1] = (255, 0, 0, 255), (0, 0, 0, 51)
    assert rgb_pixels(encoded(layer, "PNG")).tolist() == [[RED, [204, 204, 204]], [WHITE, WHITE]]
    assert rgb_pixels(encoded(Image.fromarray(layer).convert("LA"), "PNG"))[1, 1].tolist() == WHITE


def test_a_transparent_colour_of_a_palette_or_of_gray_is_white():
    palette = Image.new("P", (2, 1))
    palette.putpalette([255, 0, 0, 0, 0, 255])
    palette.putdata([0, 1])
    assert rgb_pixels(encoded(palette, "PNG")).tolist() == [[RED, [0, 0, 255]]]
    assert rgb_pixels(encoded(palette, "PNG", transparency=1)).tolist() == [[RED, WHITE]]
    assert rgb_pixels(encoded(np.array([[0, 9]], np.uint8), "PNG", transparency=0)).tolist() == [[WHITE, [9, 9, 9]]]


@pytest.mark.parametrize("format_", ["PNG", "TIFF"])
def test_sixteen_bits_are_scaled_between_darkest_and_brightest(format_: str):
    deep = np.array([[1000, 2000, 3000], [1000, 1500, 3000]], np.uint16)
    assert rgb_pixels(encoded(deep, format_))[:, :, 0].tolist() == [[0, 128, 255], [0, 64, 255]]
    assert rgb_pixels(encoded(np.full((2, 2), 40_000, np.uint16), format_)).max() == 0  # nothing to see is black


def test_one_bit_gray_and_palette_become_three_channels():
    for mode in ("1", "L", "P"):
        pixels = rgb_pixels(encoded(Image.new(mode, (3, 2), 0), "PNG"))
        assert (pixels.shape, pixels.dtype) == ((2, 3, 3), np.uint8)


def test_only_the_first_frame_is_read_and_all_are_counted():
    frames = [Image.new("L", (4, 4), value) for value in (0, 128, 255)]
    data = encoded(frames[0], "TIFF", save_all=True, append_images=frames[1:])
    assert facts(data).num_frames == 3
    assert rgb_pixels(data).max() == 0


@pytest.mark.parametrize("format_", ["JPEG", "PNG", "TIFF", "GIF", "BMP", "WEBP"])
def test_a_picture_that_is_cut_short_is_unreadable(format_: str):
    data = encoded(NOISE, format_)
    for cut in (data[: len(data) // 2], data[:20], b""):
        for read in (facts, rgb_pixels):
            with pytest.raises(UnreadableImage):
                read(cut)


@pytest.mark.parametrize("compression", ["raw", "tiff_lzw", "tiff_adobe_deflate", "jpeg"])
def test_a_damaged_tiff_is_read_or_unreadable_and_nothing_else(compression: str):
    data, draw, num_unreadable = encoded(NOISE, "TIFF", compression=compression), np.random.default_rng(1), 0
    for _ in range(200):
        damaged = bytearray(data)
        for place in draw.integers(0, len(data), 8):
            damaged[place] = draw.integers(0, 256)
        damaged[-draw.integers(1, 150)] ^= 0xFF  # the directory lies at the end
        try:
            facts(bytes(damaged))
            rgb_pixels(bytes(damaged))  # what has facts has pixels
        except UnreadableImage:
            num_unreadable += 1
    assert num_unreadable > 0


@pytest.mark.parametrize("block", [b"Exif\0\0garbage!!", b"Exif\0\0MM\0*\0\0\0"])
def test_a_damaged_exif_block_is_known_before_training(block: bytes):
    for format_ in ("PNG", "WEBP"):
        data = encoded(NOISE, format_, exif=block)
        with pytest.raises(UnreadableImage):
            rgb_pixels(data)
        with pytest.raises(UnreadableImage):
            facts(data)


def test_an_odd_tag_beside_the_orientation_costs_nothing():
    block = b"Exif\0\0MM\0*\0\0\0\x08\0\x02\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\x87\x69\0\x0c\0\0\0\x01\0\0\0\x01\0\0\0\0"
    assert rgb_pixels(encoded(HALVES, "PNG", exif=block)).shape == (16, 8, 3)


@pytest.mark.skipif(not features.check("avif"), reason="this Pillow was built without AVIF")
def test_a_damaged_avif_is_unreadable():
    data = encoded(NOISE, "AVIF").replace(b"iloc", b"ilox")
    with pytest.raises(UnreadableImage):
        facts(data)


@pytest.mark.parametrize("side", [10_001, 20_000, 100_000])
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_an_absurdly_large_picture_is_refused_before_it_is_decoded(side: int):
    for read in (facts, rgb_pixels):
        with pytest.raises(UnreadableImage, match=str(MAX_PIXELS)):
            read(png_of(side, side))


def test_gray_values_that_are_no_numbers_are_unreadable():
    data = encoded(np.array([[0.0, np.nan, 1.0]], np.float32), "TIFF")
    for read in (facts, rgb_pixels):
        with pytest.raises(UnreadableImage, match="no numbers"):
            read(data)


def test_the_store_keeps_bytes_unchanged_and_each_picture_once(tmp_path: Path):
    store, data = ImageStore(tmp_path), encoded(NOISE, "JPEG", exif=rotated(6))
    image_id = store.put(data)
    written_ns = store.path(image_id).stat().st_mtime_ns
    assert store.put(data) == image_id
    assert store.read(image_id) == data
    assert store.path(image_id) == tmp_path / image_id[:2] / image_id
    assert (store.path(image_id).stat().st_mtime_ns, len(list(tmp_path.rglob("*")))) == (written_ns, 2)


def test_a_picture_cut_short_in_the_store_is_written_again(tmp_path: Path):
    store, data = ImageStore(tmp_path), encoded(NOISE, "PNG")
    store.path(store.put(data)).write_bytes(data[:10])
    assert store.read(store.put(data)) == data


def test_a_full_disk_leaves_no_picture_in_the_store(tmp_path: Path):
    with small_disk(1000), pytest.raises(WriteFailed):
        ImageStore(tmp_path).put(encoded(NOISE, "PNG"))
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_an_unknown_id_is_not_found(tmp_path: Path):
    with pytest.raises(FileNotFoundError):
        ImageStore(tmp_path).read("0" * 64)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA", "P", "L", "1", "CMYK", "I;16", "F"])
def test_a_picture_in_strips_is_the_picture_as_a_whole(mode: str, monkeypatch: pytest.MonkeyPatch):
    drawn = np.random.RandomState(1).randint(0, 256, (50, 30, 4)).astype(np.uint8)
    image = Image.fromarray(drawn)
    image = (
        Image.fromarray(drawn[..., 0].astype(np.uint16) * 256)
        if mode == "I;16"
        else image.convert("RGB" if mode == "P" else "RGBA").convert(mode)
    )
    written = io.BytesIO()
    image.save(written, "TIFF")
    whole = rgb_pixels(written.getvalue())
    monkeypatch.setattr("medvl_lib.images.STRIP_PIXELS", 7 * 30)
    assert (rgb_pixels(written.getvalue()) == whole).all()
