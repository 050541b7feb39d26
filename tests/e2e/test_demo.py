"""`make demo`: correct output, and detection of wrong results."""

from __future__ import annotations

import io
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import replace
from importlib.metadata import packages_distributions
from pathlib import Path

import pillow_heif
import pytest
from PIL import ImageOps

from support.cli import Sluice
from support.environment import process_environment
from support.pictures import heic, saved
from support.server import StandaloneServer, standalone
from tools.cameras import CAMERAS, PHONE
from tools.demo_http import upload_over_http
from tools.demo_photos import DemoFailed, Expected, check_photos, make_photos
from tools.pictures import (
    CORNERS,
    HEIC_ORIENTATION,
    as_stored,
    close,
    corners,
    quadrants,
    ready_made_heic,
)

ROOT = Path(__file__).resolve().parents[2]
EXPECTED_WORDS = re.compile(
    r"\d+ files? uploaded, \S+ \S+ in \S+ s \(\S+ \S+\)|.*: \S+ \S+ in \S+ s, verified"
)
"""The only lines that the demo may write to standard error."""


@pytest.mark.long
def test_demo_photos_are_processed_correctly(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tools.demo", "--only", "photos", "--scratch", str(tmp_path)],
        cwd=ROOT,
        env=process_environment({"SLUICE_STATE_DIR": str(tmp_path / "state")}),
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    made = re.search(r"(\d+) pictures: (\d+) thumbnails the right way up", done.stdout)
    assert made is not None
    pictures, thumbnails = (int(number) for number in made.groups())
    assert thumbnails == 2 * pictures
    for word in ("camera-", "orientation-8", "cmyk", "16-bit", "animated", ".heic", ".avif"):
        assert word in done.stdout
    assert not list(tmp_path.glob("sluice-demo-*"))
    # Only the progress of the commands, and no line that a new user would have to ignore.
    strange = [line for line in done.stderr.splitlines() if not EXPECTED_WORDS.fullmatch(line)]
    assert strange == []


def wrong_side_up(expected: Expected) -> Expected:
    assert expected.upright is not None
    return replace(expected, upright=ImageOps.flip(expected.upright), marked=False)


def mirrored(expected: Expected) -> Expected:
    assert expected.upright is not None
    return replace(expected, upright=ImageOps.mirror(expected.upright), marked=False)


def of_other_exposure(expected: Expected) -> Expected:
    assert expected.exif is not None
    return replace(expected, exif={**expected.exif, "exposure_seconds": 0.5})


def without_lens(expected: Expected) -> Expected:
    assert expected.exif is not None
    return replace(expected, exif={k: v for k, v in expected.exif.items() if k != "lens_model"})


def elsewhere(expected: Expected) -> Expected:
    assert expected.location is not None
    return replace(expected, location={**expected.location, "latitude": 60.17})


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda expected: expected, ""),
        (wrong_side_up, "differs by"),
        (mirrored, "differs by"),
        (of_other_exposure, "exposure_seconds is 0.008 and has to be 0.5"),
        (without_lens, "lens_model"),
        (elsewhere, "latitude"),
        (lambda expected: replace(expected, frames=2), "frames is 1"),
        (lambda expected: replace(expected, size=(400, 640)), "size is"),
    ],
)
async def test_demo_detects_wrong_results(
    phone: tuple[StandaloneServer, Expected],
    change: Callable[[Expected], Expected],
    complaint: str,
) -> None:
    server, expected = phone
    shown: list[str] = []
    raises = pytest.raises(DemoFailed, match=complaint) if complaint else nullcontext()
    with raises:
        await check_photos(server.address, "demo", "p", [change(expected)], shown.append)
    assert ("WRONG" in shown[0]) is bool(complaint)


@pytest.fixture(scope="module")
def phone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[StandaloneServer, Expected]]:
    """Run a server that has processed the HEIC of a phone; yield it and the expected result."""
    folder = tmp_path_factory.mktemp("demo")
    made = {one.name: one for one in make_photos(folder / "made")}
    with standalone(folder / "data") as server:
        sluice = Sluice(server.address, folder / "state")
        photo = str(folder / "made" / "phone.heic")
        sluice.ok("upload", photo, "--drive", "demo", "--prefix", "p")
        yield server, made["phone.heic"]


def test_demo_photos_over_http_are_finalized(
    phone: tuple[StandaloneServer, Expected], tmp_path: Path
) -> None:
    """As for a store that sends no notifications."""
    server, _ = phone
    (tmp_path / "a.jpg").write_bytes(saved(as_stored(quadrants(), 6), "JPEG"))
    assert upload_over_http(server.gateway_address, tmp_path, finalize=True) == 1


def test_ready_made_heic_has_the_expected_content() -> None:
    for data in (
        ready_made_heic(),
        heic(as_stored(quadrants(640, 400), HEIC_ORIENTATION), PHONE.exif(HEIC_ORIENTATION)),
    ):
        opened = pillow_heif.open_heif(io.BytesIO(data))
        image = opened.to_pillow()
        assert image.size == (640, 400)  # the decoder applies the file's transformation
        assert close(corners(image), CORNERS)
        assert PHONE.base[0x0110].encode() in opened.info["exif"]


def test_demo_cameras_have_three_makers_and_distinct_tags() -> None:
    assert len({camera.base[0x010F] for camera in CAMERAS.values()}) >= 3
    assert len({frozenset(camera.detail) for camera in CAMERAS.values()}) >= 3
    assert any(camera.location is not None for camera in CAMERAS.values())


def test_demo_needs_only_runtime_dependencies() -> None:
    """`make demo` installs no development tools, so it must import without them."""
    locked = re.findall(r"^([\w.-]+)[\[=]", (ROOT / "requirements" / "run.txt").read_text(), re.M)
    runtime = {_normal(name) for name in locked}
    missing = [
        module
        for module, owners in packages_distributions().items()
        if not any(_normal(one) in runtime or _normal(one).startswith("sluice-") for one in owners)
    ]
    assert {"pytest", "pillow_heif"} <= set(missing)
    subprocess.run(
        [
            *(sys.executable, "-c"),
            "import sys; sys.modules |= dict.fromkeys(sys.argv[1:]); import tools.demo",
            *missing,
        ],
        cwd=ROOT,
        env=process_environment({}),
        timeout=60,
        check=True,
    )


def _normal(name: str) -> str:
    return name.lower().replace("_", "-")


@pytest.mark.slow
def test_demo_keeps_two_tenants_apart(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tools.demo", "--only", "tenants", "--scratch", str(tmp_path)],
        cwd=ROOT,
        env=process_environment({"SLUICE_STATE_DIR": str(tmp_path / "state")}),
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
    for reason in ("MISSING_SCOPE", "DRIVE_NOT_FOUND", "NO_CREDENTIALS"):
        assert f"[{reason}]" in done.stdout
    assert not list(tmp_path.glob("sluice-demo-*"))
