"""Names from clients: accepted ones are safe everywhere, refused ones name the field."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sluice_core.errors import InvalidArgument
from sluice_core.photos import names
from sluice_core.photos.ids import (
    check_job_id,
    check_photo_id,
    job_id_of,
    new_operation_id,
    new_photo_id,
)
from sluice_core.photos.strategies import UploadStrategy, parse_strategy
from sluice_core.uploads.names import normalize_path

ANY_TEXT = st.text(st.characters(exclude_categories=())) | st.text("./\\a\u0301é\n\0\u202e ")
BIDI = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"


def accepted(filename: str) -> str | None:
    try:
        return names.check_filename(filename)
    except InvalidArgument:
        return None


@st.composite
def filenames(draw: st.DrawFn) -> str:
    """Accepted names, many of them close to each other or to the longest."""
    stem = draw(st.sampled_from(["a", "A", "a (2)", "é", "ß", "", "x" * 249, "日" * 83]) | ANY_TEXT)
    name = stem + draw(st.sampled_from([".jpg", ".JPG", "", ".tar.gz", "." + "e" * 200]))
    return accepted(name) or "a.jpg"


@given(ANY_TEXT)
def test_an_accepted_filename_is_one_safe_segment(text: str) -> None:
    name = accepted(text)
    if name is not None:
        assert 1 <= len(name.encode()) <= 255
        assert not set("/\\\0\n\r" + BIDI) & set(name)
        assert name not in (".", "..")
        assert name == name.strip()
        assert len(name.splitlines()) == 1
        categories = {unicodedata.category(character) for character in name}
        assert not categories & {"Cc", "Cs", "Co", "Zl", "Zp"}


@given(ANY_TEXT)
def test_an_accepted_filename_is_stable_and_a_path(text: str) -> None:
    name = accepted(text)
    if name is not None:
        assert accepted(name) == name
        path = names.photo_path(job_id_of(new_operation_id()), name)
        assert normalize_path(path) == path


@pytest.mark.parametrize(
    "name",
    [
        "IMG_001.jpg",
        "Bildschirmfoto 2024 (1).png",
        "Screenshot at 1.00.00\u202fPM.png",  # macOS
        "Öl & Wasser; 50 %, «neu».jpg",
        "日本の写真.heic",
        "می\u200cخواهم.jpg",
        "👩\u200d👧 🏖️.jpg",
        "\U0001fae8.jpg",  # Unicode 15
        ".hidden",
        "a" * 251 + ".jpg",
    ],
)
def test_names_of_cameras_and_people_are_accepted(name: str) -> None:
    assert accepted(name) == name


@pytest.mark.parametrize(
    "name",
    [
        "",
        " ",
        ".",
        "..",
        "../a.jpg",
        "a/b.jpg",
        "C:\\a.jpg",
        "a\0.jpg",
        "a\n.jpg",
        "a\x7f.jpg",
        "a\u2028.jpg",
        "\ud800.jpg",
        "\ue000.jpg",
        "\ufeffa.jpg",
        "\uffff.jpg",
        " a.jpg",
        "a.jpg ",
        "a" * 252 + ".jpg",
        "é" * 128,
        "a" * 100_000,
        *(f"a{character}gpj.exe" for character in BIDI),
    ],
)
def test_dangerous_filenames_are_refused(name: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        names.check_filename(name)
    assert (refused.value.reason, refused.value.field) == ("BAD_FILENAME", "filename")


def test_a_decomposed_filename_is_composed() -> None:
    assert names.check_filename("e\u0301.jpg") == "é.jpg"


@given(st.lists(filenames(), max_size=30))
@example(["a.jpg", "a.jpg", "a (2).jpg"])
@example(["a.jpg", "A.JPG", "a.jpg"])
@example(["x" * 251 + ".jpg"] * 12)
def test_filenames_of_a_job_are_made_unique(given_names: list[str]) -> None:
    """Without regard to case; and they stay valid."""
    unique = names.unique_filenames(given_names)
    assert len({name.casefold() for name in unique}) == len(given_names) == len(unique)
    for name, before in zip(unique, given_names, strict=True):
        assert accepted(name) == name
        first = [other.casefold() for other in given_names].index(before.casefold())
        if unique[first] is name:
            assert name == before


def test_a_number_goes_before_the_extension() -> None:
    given_names = ["a.jpg", "a.jpg", "a (2).jpg", "A.jpg", "b", "b", ".c", ".c"]
    assert names.unique_filenames(given_names) == [
        "a.jpg",
        "a (3).jpg",
        "a (2).jpg",
        "A (4).jpg",
        "b",
        "b (2)",
        ".c",
        ".c (2)",
    ]


def test_a_thousand_names_cut_to_one_stem_take_few_tries(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise they would block the event loop."""
    tries = 0
    numbered = names._numbered

    def counted(name: str, number: int) -> str:
        nonlocal tries
        tries += 1
        return numbered(name, number)

    monkeypatch.setattr(names, "_numbered", counted)
    long = [f"{'x' * 245}{number:03}.jpg" for number in range(500)]
    assert len(set(names.unique_filenames([*long, *long]))) == 1000
    assert tries <= 3 * 1000


@pytest.mark.parametrize("content_type", ["image/jpeg", "IMAGE/PNG", "image/heic", "image/avif"])
def test_types_of_photos_are_accepted(content_type: str) -> None:
    assert names.check_content_type(content_type) == content_type.lower()


def test_an_alias_of_a_type_gets_its_usual_name() -> None:
    assert names.check_content_type("image/jpg") == "image/jpeg"


@pytest.mark.parametrize("content_type", ["", "image/svg+xml", "text/html", "image/jpeg; a=b"])
def test_other_types_are_refused(content_type: str) -> None:
    with pytest.raises(InvalidArgument, match="UNSUPPORTED_CONTENT_TYPE"):
        names.check_content_type(content_type)


@given(st.integers(-5, 15))
def test_a_photo_has_one_byte_to_the_maximum(size: int) -> None:
    if 1 <= size <= 10:
        assert names.check_photo_size(size, 10) == size
    else:
        with pytest.raises(InvalidArgument, match="BAD_PHOTO_SIZE"):
            names.check_photo_size(size, 10)


@given(ANY_TEXT)
def test_an_accepted_label_is_stable_and_bounded(text: str) -> None:
    try:
        label = names.check_label(text)
    except InvalidArgument:
        return
    assert names.check_label(label) == label == label.strip()
    assert 1 <= len(label) <= 64
    assert not set(BIDI + "\n\0") & set(label)


@pytest.mark.parametrize("label", ["", " ", "a\nb", "a\u202eb", "x" * 65, "\ud800"])
def test_a_bad_label_is_refused(label: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        names.check_label(label)
    assert (refused.value.reason, refused.value.field) == ("BAD_TAG", "tags")


def test_a_search_ignores_case_and_composition() -> None:
    assert names.search_key("STRASSE É.JPG") == names.search_key("straße e\u0301.jpg")


@given(filenames())
def test_a_search_key_fits_its_column(name: str) -> None:
    assert len(names.search_key(name).encode()) <= 1024


@pytest.mark.parametrize("name", ["s3-presigned", "S3_PRESIGNED"])
def test_both_spellings_of_a_strategy_are_known(name: str) -> None:
    assert parse_strategy(name) is UploadStrategy.S3_PRESIGNED
    assert parse_strategy("tus") is parse_strategy("TUS") is UploadStrategy.TUS


@pytest.mark.parametrize("name", ["", "s3", "S3-PRESIGNED", "tus "])
def test_an_unknown_strategy_is_refused(name: str) -> None:
    with pytest.raises(InvalidArgument, match="BAD_STRATEGY"):
        parse_strategy(name)


def test_ids_are_accepted_and_named_by_kind() -> None:
    operation = new_operation_id()
    assert check_job_id(job_id_of(operation)) == job_id_of(operation) == f"job_{operation}"
    assert check_photo_id(new_photo_id()).startswith("ph_")
    assert new_photo_id() != new_photo_id()


@pytest.mark.parametrize("value", ["", "a/b", "a b", "x" * 65, "job_é"])
def test_a_malformed_id_is_refused(value: str) -> None:
    with pytest.raises(InvalidArgument, match="BAD_JOB_ID"):
        check_job_id(value)
    with pytest.raises(InvalidArgument, match="BAD_PHOTO_ID"):
        check_photo_id(value)
