"""DICOM. If these passed wrongly, a model would be trained on inverted or black radiographs that a viewer shows well, or a patient's name
would come into the image store, an error message or a log.
"""

import io
import warnings
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom import Dataset
from pydicom.encaps import encapsulate
from pydicom.pixels import apply_windowing
from pydicom.sequence import Sequence
from pydicom.uid import JPEGLosslessSV1

from medvl_lib.dicom import IDENTIFYING, Clearance, DicomError, is_dicom, refusal, said_facts, windowed
from medvl_lib.dicom import facts as dicom_facts
from medvl_lib.images import ImageFacts, ImageStore, UnreadableImage, facts, rgb_pixels
from medvl_lib.pairs import Draft, ImageSource, Pair, Rejection, store
from medvl_lib.sample_data.custom_reports import dicom
from tests.serving.files import compressed_dicom, deflated_dicom, flooded_dicom, run_length_dicom, runs

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:pydicom")  # it names tags of damaged headers
REAL = Path(__file__).resolve().parents[2] / "shared" / "data" / "dicom-samples"
UID = "1.2.826.0.1.3680043.8.498.1"
SECRET = "Doe^Jane"  # invented, and never to be said
WINDOW = {"WindowCenter": 2500, "WindowWidth": 3000}


def gray(*rows: list[int], **tags: Any) -> list[list[int]]:
    """What is shown of stored values, in the first of three equal channels."""
    shown = rgb_pixels(dicom(np.array(rows), UID, **tags))
    assert (shown[..., 0] == shown[..., 1]).all()
    assert (shown[..., 0] == shown[..., 2]).all()
    return shown[..., 0].tolist()


def changed(data: bytes, change: Any) -> bytes:
    dataset, buffer = pydicom.dcmread(io.BytesIO(data)), io.BytesIO()
    change(dataset)
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def colour(values: list[Any], photometric: str, dtype: str = "u1", **tags: Any) -> bytes:
    """A colour picture of one row."""

    def paint(dataset: Dataset) -> None:
        pixels = np.array([values], dtype=dtype)
        dataset.Rows, dataset.Columns = pixels.shape[:2]
        dataset.SamplesPerPixel, dataset.PlanarConfiguration = 3, 0
        dataset.PhotometricInterpretation = photometric
        dataset.BitsAllocated = dataset.BitsStored = pixels.itemsize * 8
        dataset.HighBit = dataset.BitsStored - 1
        dataset.add_new("PixelData", "OW", pixels.tobytes() + b"\0" * (pixels.nbytes % 2))
        for keyword, value in tags.items():
            setattr(dataset, keyword, value)

    return changed(dicom(None, UID), paint)


def lut(first: int, bits: int, entries: list[int]) -> Sequence:
    item = Dataset()
    item.LUTDescriptor = [len(entries), first, bits]
    item.LUTData = np.array(entries, dtype="<u2").tobytes()
    return Sequence([item])


# -- values -> screen --------------------------------------------------------------------------------------------------
def test_a_window_is_applied_as_the_standard_says():
    # PS3.3 C.11.2.1.2.1: ((x - (c - 0.5)) / (w - 1) + 0.5) * 255, so 2,500 is 0.5 + 0.5 / 2,999
    assert gray([0, 1000, 2500, 4000, 4095], **WINDOW) == [[0, 0, 128, 255, 255]]


def test_monochrome1_is_inverted():
    assert gray([0, 1000, 2500, 4000], PhotometricInterpretation="MONOCHROME1", **WINDOW) == [[255, 255, 127, 0]]
    assert gray([0, 50, 100], PhotometricInterpretation="MONOCHROME1") == [[255, 128, 0]]


@pytest.mark.parametrize("function", ["LINEAR", "LINEAR_EXACT", "SIGMOID"])
@pytest.mark.parametrize(("center", "width"), [(2048, 4096), (600, 1), (100.5, 37.25), (-5, 900)])
def test_windows_agree_with_pydicom(function: str, center: float, width: float):
    values = np.random.default_rng(0).integers(0, 4096, (40, 50))
    known = Dataset()
    known.PhotometricInterpretation, known.BitsStored, known.PixelRepresentation = "MONOCHROME2", 12, 0
    known.WindowCenter, known.WindowWidth, known.VOILUTFunction = center, width, function
    with np.errstate(divide="ignore", invalid="ignore"):  # pydicom divides by a width of 0
        expected = apply_windowing(values, known) / 4095
    assert np.allclose(windowed(values.astype(float), center, width, function), expected, atol=1e-12)


@pytest.mark.parametrize(("width", "function"), [(0, "LINEAR"), (0.5, "LINEAR"), (0, "SIGMOID"), (float("nan"), "LINEAR"), (9, "CUBIC")])
def test_a_window_that_is_none_is_refused(width: float, function: str):
    with pytest.raises(DicomError, match="window"):
        windowed(np.zeros((1, 1)), 10, width, function)


def test_the_first_of_several_windows_counts():
    assert gray([0, 100, 200], WindowCenter=[100.5, 9999], WindowWidth=[201, 1]) == [[0, 128, 255]]


def test_stored_values_are_rescaled_before_the_window():
    window = {"RescaleSlope": 2, "RescaleIntercept": -1000, "WindowCenter": 0.5, "WindowWidth": 2001}
    assert gray([0, 500, 1000], **window) == [[0, 128, 255]]


def test_without_a_window_values_are_stretched_and_padding_does_not_count():
    assert gray([100, 150, 200]) == [[0, 128, 255]]
    assert gray([4095, 100, 150, 200], PixelPaddingValue=4095) == [[255, 0, 128, 255]]
    assert gray([4095, 4000, 100, 200], PixelPaddingValue=4095, PixelPaddingRangeLimit=4000) == [[255, 255, 0, 255]]
    assert gray([7, 7]) == [[0, 0]]


def test_signed_values_are_signed():
    signed = {"PixelRepresentation": 1, "BitsStored": 16, "HighBit": 15}
    assert gray([-100, 0, 100], **signed) == [[0, 128, 255]]
    assert gray([-2000, -100, 0, 100], PixelPaddingValue=-2000, **signed) == [[0, 0, 128, 255]]


def test_lookup_tables_are_looked_up():
    assert gray([5, 10, 11, 12, 99], VOILUTSequence=lut(10, 8, [0, 51, 255])) == [[0, 0, 51, 255, 255]]
    # the modality's table first, then the window
    assert gray([0, 1, 2], ModalityLUTSequence=lut(0, 16, [0, 1000, 2000]), WindowCenter=1000.5, WindowWidth=2001) == [[0, 128, 255]]


def test_what_a_functional_group_says_counts():
    window = Dataset()
    window.WindowCenter, window.WindowWidth = 100.5, 201
    group = Dataset()
    group.FrameVOILUTSequence = Sequence([window])
    assert gray([0, 100, 200], SharedFunctionalGroupsSequence=Sequence([group]), WindowCenter=5, WindowWidth=3) == [[0, 128, 255]]


def test_colours_become_rgb():
    assert rgb_pixels(colour([[255, 0, 0], [0, 0, 255]], "RGB")).tolist() == [[[255, 0, 0], [0, 0, 255]]]
    assert rgb_pixels(colour([[65535, 0, 32768]], "RGB", "<u2")).tolist() == [[[255, 0, 128]]]
    assert rgb_pixels(colour([[128, 128, 128], [76, 85, 255]], "YBR_FULL")).tolist() == [[[128, 128, 128], [254, 0, 0]]]


def test_a_palette_is_looked_up():
    table = {f"{name}PaletteColorLookupTableDescriptor": [256, 0, 16] for name in ("Red", "Green", "Blue")}
    ramp = np.arange(256, dtype="<u2") * 257
    table |= {"RedPaletteColorLookupTableData": ramp.tobytes(), "GreenPaletteColorLookupTableData": ramp[::-1].tobytes()}
    table["BluePaletteColorLookupTableData"] = bytes(512)
    shown = rgb_pixels(dicom(np.array([[0, 255, 51]]), UID, PhotometricInterpretation="PALETTE COLOR", **table))
    assert shown.tolist() == [[[0, 255, 0], [255, 0, 0], [51, 204, 0]]]


def test_only_the_first_frame_is_shown_and_all_are_counted():
    data = dicom(np.stack([np.full((4, 6), value) for value in (0, 50, 100)]), UID, NumberOfFrames=3, WindowCenter=50, WindowWidth=100)
    assert facts(data) == ImageFacts(width_pixels=6, height_pixels=4, mode="MONOCHROME2 12 bit", format="DICOM", num_frames=3)
    assert rgb_pixels(data).shape == (4, 6, 3)
    assert rgb_pixels(data).max() == 0


def test_a_file_without_a_preamble_is_one_too():
    whole = dicom(np.array([[0, 100, 200]]), UID)
    dataset, bare = pydicom.dcmread(io.BytesIO(whole)), io.BytesIO()
    del dataset.file_meta
    pydicom.dcmwrite(bare, dataset, implicit_vr=True, little_endian=True)
    assert is_dicom(bare.getvalue())
    assert rgb_pixels(bare.getvalue()).tolist() == rgb_pixels(whole).tolist()
    assert refusal(changed(whole, lambda found: setattr(found, "PatientName", SECRET))) is not None


# -- what would become anything once it is read -------------------------------------------------------------------------
def test_a_deflated_data_set_is_refused_before_it_is_inflated(monkeypatch: pytest.MonkeyPatch):
    def inflated(*_: object) -> bytes:
        raise AssertionError("it was inflated")

    data = deflated_dicom(1000)
    monkeypatch.setattr("pydicom.filereader.zlib.decompress", inflated)
    with pytest.raises(UnreadableImage, match="Deflated .*which is not read"):
        rgb_pixels(data)
    found = refusal(data)
    assert found is not None
    assert "Deflated" in found.detail


@pytest.mark.parametrize("kind", ["JPEG", "JPEG2000"])
def test_a_codestream_of_another_size_than_the_header_says_is_refused_before_it_is_decoded(kind: str, monkeypatch: pytest.MonkeyPatch):
    assert rgb_pixels(compressed_dicom((30, 20), (30, 20), kind)).shape == (20, 30, 3)

    def decoded(*_: object, **__: object) -> None:
        raise AssertionError("it was decoded")

    monkeypatch.setattr("pydicom.pixels.pixel_array", decoded)
    with pytest.raises(UnreadableImage, match="a codestream of 300 x 200 pixels in a file that says 30 x 20"):
        rgb_pixels(compressed_dicom((300, 200), (30, 20), kind))


def test_a_run_length_encoded_picture_is_read_and_one_that_is_longer_than_it_says_is_refused(monkeypatch: pytest.MonkeyPatch):
    whole = runs(30 * 20)
    assert rgb_pixels(run_length_dicom((30, 20), [whole])).shape == (20, 30, 3)
    assert rgb_pixels(run_length_dicom((30, 20), [whole + b"\0"])).shape == (20, 30, 3)  # padded to an even length

    def decoded(*_: object, **__: object) -> None:
        raise AssertionError("it was decoded")

    monkeypatch.setattr("pydicom.pixels.decoders.rle._rle_decode_segment", decoded)
    for segment in (runs(4000), b"\x7f" + bytes(128) + whole * 2, b"\x80" * 2000 + whole, b"\0\1" * 900, b"\x80" * 1000 + whole[:10]):
        with pytest.raises(UnreadableImage, match="segment of more than the 600 bytes that Rows and Columns say"):
            rgb_pixels(run_length_dicom((30, 20), [segment]))


@pytest.mark.parametrize("tags", [{"SamplesPerPixel": 200}, {"BitsAllocated": 6400}, {"SamplesPerPixel": 0}])
def test_a_frame_of_more_bytes_than_pixels_have_is_refused_before_it_is_made(tags: dict[str, int], monkeypatch: pytest.MonkeyPatch):
    film = run_length_dicom((3000, 3000), [runs(9_000_000)], **tags)
    monkeypatch.setattr("pydicom.pixels.pixel_array", lambda *_, **__: pytest.fail("it was decoded"))
    for read in (rgb_pixels, facts):
        with pytest.raises(UnreadableImage, match=r"a frame of \d+ bytes \(Rows, Columns, SamplesPerPixel, BitsAllocated\)"):
            read(film)


@pytest.mark.parametrize(
    "data",
    [dicom(np.zeros((20, 30)), UID), compressed_dicom((30, 20), (30, 20), "JPEG"), run_length_dicom((30, 20), [runs(600)])],
    ids=["as it is", "JPEG", "runs"],
)
def test_what_a_file_says_of_its_picture_is_what_is_found_when_it_is_decoded(data: bytes):
    assert said_facts(data, 10_000) == dicom_facts(data, 10_000)


@pytest.mark.parametrize("is_nested", [False, True])
def test_a_flood_of_tags_is_refused_at_its_bound(is_nested: bool):
    few, many = (flooded_dicom(number, is_nested=is_nested) for number in (2000, 600_000))
    assert rgb_pixels(few).shape == (60, 60, 3)
    assert refusal(few) is None
    found = refusal(many)
    assert found is not None
    assert "a DICOM header of more than" in found.detail
    with pytest.raises(UnreadableImage, match="a DICOM header of more than"):
        rgb_pixels(many)


def test_a_sequence_of_too_many_tags_says_nothing_of_its_patient():
    """It is short enough to be shown: its elements become objects when they are looked through."""
    found = refusal(flooded_dicom(150_000, is_nested=True))
    assert found is not None
    assert "more than 50000 elements" in found.detail


# -- what cannot be shown ----------------------------------------------------------------------------------------------
def lossless(dataset: Dataset) -> None:
    dataset.file_meta.TransferSyntaxUID = JPEGLosslessSV1
    dataset.PixelData = encapsulate([b"\xff\xd8\xff\xd9"])
    dataset["PixelData"].is_undefined_length = True


PICTURE = dicom(np.arange(400).reshape(20, 20), UID)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (dicom(None, UID), "without pixel data"),
        (changed(PICTURE, lossless), "JPEG Lossless, Non-Hierarchical, First-Order Prediction .*: no decoder for it is installed"),
        (PICTURE[:-200], "pixel data that cannot be decoded"),
        (PICTURE[:140], "header that cannot be read|without pixel data"),
        (changed(PICTURE, lambda dataset: setattr(dataset, "Rows", 0)), "20 x 0 pixels"),
        (changed(PICTURE, lambda dataset: setattr(dataset, "Rows", 65535) or setattr(dataset, "Columns", 65535)), "at most 100000000"),
        (
            changed(PICTURE, lambda dataset: setattr(dataset, "PhotometricInterpretation", "HSV")),
            "PhotometricInterpretation that is not read",
        ),
        (changed(PICTURE, lambda dataset: dataset.update({"WindowCenter": 5, "WindowWidth": 0})), "WindowWidth that is not at least 1"),
    ],
)
def test_what_cannot_be_shown_says_why(data: bytes, says: str):
    for read in (facts, rgb_pixels):
        with pytest.raises(UnreadableImage, match=says):
            read(data)


def test_damage_is_read_or_unreadable_and_nothing_else():
    draw, outcomes = np.random.default_rng(1), Counter[str]()
    data = dicom(np.arange(400).reshape(20, 20), UID, **WINDOW, VOILUTSequence=lut(10, 8, [0, 51, 255]))
    for _ in range(300):
        damaged = bytearray(data)
        for place in draw.integers(132, len(data) - 800, 4):
            damaged[place] = draw.integers(0, 256)
        cut = bytes(damaged[: draw.integers(140, len(data))] if draw.random() < 0.3 else damaged)
        refusal(cut)
        try:
            facts(cut)
            rgb_pixels(cut)  # what has facts has pixels
            outcomes["read"] += 1
        except UnreadableImage:
            outcomes["unreadable"] += 1
    assert min(outcomes["read"], outcomes["unreadable"]) > 20, outcomes


# -- whose picture it is -----------------------------------------------------------------------------------------------
def named(**tags: Any) -> bytes:
    return dicom(np.zeros((2, 2)), UID, **tags)


def test_a_file_that_says_that_it_was_deidentified_is_taken():
    assert refusal(named()) is None
    assert refusal(named(PatientName="^^^^", PatientID=" ", InstitutionName="")) is None  # what an emptied name is made of


@pytest.mark.parametrize("tag", IDENTIFYING)
def test_each_identifying_tag_is_named_and_what_it_holds_is_not(tag: str):
    value = {"PatientBirthDate": "19700101", "PatientBirthTime": "120000"}.get(tag, SECRET)
    found = refusal(named(**{tag: value}))
    assert found is not None
    assert (found.reason, found.detail) == ("dicom_names_patient", f"{tag}: not empty")


def test_there_are_sixteen_identifying_tags_that_dicom_knows():
    assert len(set(IDENTIFYING)) == 16
    assert all(pydicom.datadict.tag_for_keyword(tag) for tag in IDENTIFYING)


def test_a_name_in_a_sequence_is_found():
    inner = Dataset()
    inner.PatientID = "4711"
    assert refusal(named(OtherPatientIDsSequence=Sequence([inner]))) == ("dicom_names_patient", "PatientID: not empty")


@pytest.mark.parametrize(
    ("tags", "reason", "clearance"),
    [
        ({"PatientID": "P-1"}, "dicom_names_patient", Clearance(pseudonyms=frozenset(["PatientID"]))),
        ({"PatientIdentityRemoved": "NO"}, "dicom_identity_not_removed", Clearance(identity_removed=True)),
        ({"PatientIdentityRemoved": ""}, "dicom_identity_not_removed", Clearance(identity_removed=True)),
        ({"BurnedInAnnotation": ""}, "dicom_may_show_patient", Clearance(pixels_reviewed=True)),
        ({"BurnedInAnnotation": "YES"}, "dicom_may_show_patient", Clearance(pixels_reviewed=True)),
        ({"Modality": "US"}, "dicom_may_show_patient", Clearance(pixels_reviewed=True)),
        ({"Modality": "SC"}, "dicom_may_show_patient", Clearance(pixels_reviewed=True)),
    ],
)
def test_what_is_not_cleared_is_refused_and_what_somebody_vouches_for_is_not(tags: dict[str, str], reason: str, clearance: Clearance):
    found = refusal(named(**tags))
    assert found is not None
    assert found.reason == reason
    assert refusal(named(**tags), clearance) is None
    assert refusal(named(**tags, PatientName=SECRET), clearance) is not None


def test_everything_that_was_found_is_told_at_once():
    found = refusal(named(PatientName=SECRET, AccessionNumber="7", PatientIdentityRemoved="NO", Modality="US"))
    assert found is not None
    assert found.detail == (
        "PatientName, AccessionNumber: not empty; PatientIdentityRemoved is not YES; "
        "modality US, and nobody vouches that no name is burned into the picture"
    )


def test_a_header_that_cannot_be_read_is_refused():
    found = refusal(PICTURE[:154])  # cut within the group that says how the rest is written
    assert found is not None
    assert found.reason == "dicom_unreadable"


def test_a_misspelt_pseudonym_is_refused():
    with pytest.raises(ValueError, match="'PatientId' is none of the identifying tags"):
        Clearance(pseudonyms=frozenset(["PatientId"]))


def test_a_refused_file_never_comes_into_the_store(tmp_path: Path):
    pair = Pair(
        pair_id="p/1", dataset="p", image_ids=(), request="?", response="!", expected=(), subject_id=None, document_id="d",
        publisher_split=None, language="en", source="s", licence="l", metadata={},
    )  # fmt: skip
    data, images = named(PatientName=SECRET), ImageStore(tmp_path)
    refused = store(Draft(pair=pair, images=(ImageSource(name="a.dcm", data=lambda: data),)), images)
    assert isinstance(refused, Rejection)
    assert (refused.stage, refused.reason, refused.detail) == ("read", "dicom_names_patient", "a.dcm: PatientName: not empty")
    assert list(tmp_path.iterdir()) == []
    cleared = ImageSource(name="a.dcm", data=lambda: data, clearance=Clearance(pseudonyms=frozenset(["PatientName"])))
    assert isinstance(store(Draft(pair=pair, images=(cleared,)), images), Pair)


def test_nothing_is_said_of_what_a_header_holds(caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]):
    odd = changed(named(), lambda dataset: dataset.add_new("PatientName", "PN", SECRET * 20))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for data in (odd, odd[:300], odd.replace(b"PN", b"DA")):
            refusal(data)
            with suppress(UnreadableImage):
                facts(data)
    said = caplog.text + "".join(capfd.readouterr()) + "".join(str(each.message) for each in caught)
    assert "Doe" not in said


# -- the real files ----------------------------------------------------------------------------------------------------
SHOWN = {
    "2_ORIGINAL.dcm": (394, 552, "MONOCHROME2 16 bit", 1), "MR2_J2KI.dcm": (1024, 1024, "MONOCHROME2 12 bit", 1),
    "OBXXXX1A_rle.dcm": (800, 600, "PALETTE COLOR 8 bit", 1), "RG3_J2KI.dcm": (1760, 1760, "MONOCHROME1 10 bit", 1),
    "SC_rgb_16bit.dcm": (100, 100, "RGB 16 bit", 1), "US1_J2KI.dcm": (640, 480, "YBR_ICT 8 bit", 1),
    "color-px.dcm": (256, 120, "RGB 8 bit", 1), "emri_small.dcm": (64, 64, "MONOCHROME2 12 bit", 10),
    "explicit_VR-UN.dcm": (512, 512, "MONOCHROME2 16 bit", 1), "liver.dcm": (512, 512, "MONOCHROME2 1 bit", 3),
    "vlut_04.dcm": (512, 512, "MONOCHROME2 8 bit", 1),
}  # fmt: skip


@pytest.mark.real_data
def test_eleven_of_fourteen_real_files_are_shown_and_all_are_refused_as_they_are():
    if not REAL.is_dir():
        pytest.skip(f"the DICOM samples are not at {REAL}")
    shown: dict[str, tuple[int, int, str, int]] = {}
    problems: list[str] = []
    for path in sorted(REAL.rglob("*.dcm")):
        data = path.read_bytes()
        found = refusal(data)
        assert found is not None
        assert found.reason == "dicom_names_patient"  # even those that were made for tests have an invented name
        try:
            seen = facts(data)
            shown[path.name] = (seen.width_pixels, seen.height_pixels, seen.mode, seen.num_frames)
        except UnreadableImage as error:
            problems.append(str(error))
    assert shown == SHOWN
    assert [problem.split(",")[0] for problem in problems] == ["a DICOM file without pixel data", *["transfer syntax JPEG Lossless"] * 2]


@pytest.mark.real_data
def test_the_real_radiograph_is_shown_bright_where_bone_is():
    if not REAL.is_dir():
        pytest.skip(f"the DICOM samples are not at {REAL}")
    data = (REAL / "pydicom-data" / "RG3_J2KI.dcm").read_bytes()
    stored = pydicom.dcmread(io.BytesIO(data)).pixel_array
    shown = rgb_pixels(data)[..., 0].astype(float)
    assert np.corrcoef(stored.flatten(), shown.flatten())[0, 1] < -0.95  # MONOCHROME1


@pytest.mark.parametrize(
    "tags", [{}, {"PixelPaddingValue": 17}, {"WindowCenter": 900, "WindowWidth": 1500}, {"PhotometricInterpretation": "MONOCHROME1"}]
)
def test_a_picture_in_strips_is_the_picture_as_a_whole(tags: dict[str, object], monkeypatch: pytest.MonkeyPatch):
    values = np.random.RandomState(1).randint(17, 4000, (50, 30)).astype(np.uint16)
    values[:9] = 17  # a strip of padding alone
    data = dicom(values, "1.2.3", **tags)
    whole = rgb_pixels(data)
    monkeypatch.setattr("medvl_lib.dicom.STRIP_PIXELS", 7 * 30)
    assert (rgb_pixels(data) == whole).all()
