"""`make demo`: a server with uploads of files and photos of this machine, all verified."""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import os
import random
import re
import shutil
import sysconfig
import tarfile
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Final

from tools.demo_http import upload_over_http
from tools.demo_photos import DemoFailed, check_photos, collect_real_pictures, make_photos
from tools.demo_server import SHORT_TIMEOUT, running_server, sluice
from tools.demo_tenants import show_tenants

LARGE_BYTES = 512 * 1024 * 1024
SMALL_BYTES = 64 * 1024 * 1024
PER_KIND = 120
FILES: Final = "files"
PHOTOS: Final = "photos"
TENANTS: Final = "tenants"
PARTS: Final = (FILES, PHOTOS, TENANTS)
KINDS = {
    "documents": (
        ["/usr/share/doc", "/usr/share", "/etc"],
        {".txt", ".gz", ".md", ".html", ".pdf"},
    ),
    "pictures": (["/usr/share", "/usr/lib", "/opt"], {".png", ".jpg", ".jpeg", ".svg", ".gif"}),
    "binaries": (["/usr/bin", "/usr/lib", "/bin"], {"", ".so"}),
    "sources": ([sysconfig.get_paths()["stdlib"]], {".py"}),
}


def usable(path: Path) -> bool:
    """Return whether this is a readable regular file of moderate size."""
    return (
        path.is_file()
        and not path.is_symlink()
        and os.access(path, os.R_OK)
        and path.stat().st_size < SMALL_BYTES
    )


def walk(roots: list[str], suffixes: set[str]) -> Iterator[Path]:
    """Yield usable files with these suffixes below the roots, in a stable order."""
    for root in roots:
        for folder, subfolders, names in os.walk(root):
            subfolders.sort()
            for name in sorted(names):
                path = Path(folder) / name
                if path.suffix in suffixes and usable(path):
                    yield path


def collect(target: Path) -> int:
    """Copy up to PER_KIND files of each kind and create the large archive.

    Return the number of files.
    """
    count = 0
    for kind, (roots, suffixes) in KINDS.items():
        folder = target / kind
        folder.mkdir(parents=True)
        for path in islice(walk(roots, suffixes), PER_KIND):
            shutil.copyfile(path, folder / f"{count:03d}-{path.name}")
            count += 1
    make_archive(target / "archive.tar")
    return count + 1


def make_archive(path: Path) -> None:
    """Create a tar of this machine's libraries, repeating them until it is large enough."""
    roots = ["/usr/lib", sysconfig.get_paths()["purelib"], "/usr/share", "/usr/bin"]
    suffixes = {"", ".so", ".a", ".py", ".gz", ".jar", ".dat", ".mo"}
    with tarfile.open(path, "w") as archive:
        for turn in range(1000):
            for file in walk(roots, suffixes):
                archive.add(file, f"{turn}/{str(file).lstrip('/')}", recursive=False)
                if archive.offset > LARGE_BYTES:
                    return
    raise SystemExit("this machine has too few files for the demo's large archive")


def sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def acknowledgement_latencies(metrics_address: str) -> str:
    """Return p50, p95 and p99 from the server's histogram (upper bounds of the buckets)."""
    url = f"http://{metrics_address}/metrics"
    with urllib.request.urlopen(url, timeout=SHORT_TIMEOUT) as answer:
        text = answer.read().decode()
    pattern = r'sluice_ack_seconds_bucket\{le="([^"]+)",level="accepted"\} (\S+)'
    buckets = [(float(le), float(count)) for le, count in re.findall(pattern, text)]
    total = buckets[-1][1] if buckets else 0.0
    if not total:
        raise SystemExit("the server has measured no acknowledgement")
    bounds = [
        (percent, next(le for le, count in buckets if count >= total * percent / 100))
        for percent in (50, 95, 99)
    ]
    listed = ", ".join(f"p{percent} ≤ {bound * 1000:g} ms" for percent, bound in bounds)
    return f"{listed} (of {total:.0f} chunks)"


def read_back(server: str, folder: Path, target: Path, how_many: int) -> int:
    """Download some files and the archive, and compare SHA-256. Return how many were equal."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    chosen = [*random.Random(1).sample(files, how_many), folder / "archive.tar"]
    for number, path in enumerate(chosen):
        node = f"demo:{folder.name}/{path.relative_to(folder).as_posix()}"
        copy = target / f"{number}"
        sluice(server, "get", node, str(copy))
        if sha256_of(copy) != sha256_of(path):
            raise SystemExit(f"{node} came back different")
    return len(chosen)


def show_files(scratch: Path, addresses: dict[str, str]) -> None:
    """Upload files of this machine and download some of them."""
    folder = scratch / "files"
    print("collecting files of this machine …", flush=True)
    count = collect(folder)
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    print(f"{count} files, {size / 1e6:.0f} MB, the largest {LARGE_BYTES / 1e6:.0f} MB or more")
    server = addresses["intake"]
    begun = time.perf_counter()
    sluice(server, "upload", str(folder), "--drive", "demo", "--parallel", "8")
    seconds = time.perf_counter() - begun
    listed = sluice(server, "ls", "demo:", "--json").stdout.splitlines()
    print(f"{len(listed)} nodes, the first ones:")
    for line in listed[:5]:
        node = json.loads(line)
        print(f"  {node['size']:>12}  {node['path']}")
    if len(listed) != count:
        raise SystemExit(f"{count} files went up but {len(listed)} nodes are there")
    back = scratch / "back"
    back.mkdir()
    equal = read_back(server, folder, back, 5)
    print(f"\nuploaded {size / 1e6:.0f} MB in {seconds:.1f} s: {size / seconds / 1e6:.0f} MB/s")
    print(f"acknowledged: {acknowledgement_latencies(addresses['metrics'])}")
    print(f"read back {equal} files: SHA-256 equal")


def show_photos(scratch: Path, addresses: dict[str, str], own: Path | None) -> None:
    """Upload photos and verify the processor's results."""
    folder = scratch / "photos"
    print("\nmaking photos, and looking for pictures of this machine …", flush=True)
    made = make_photos(folder / "made")
    real = collect_real_pictures(folder / "real", own)
    print(f"{len(made)} photos generated, {len(real)} pictures found")
    server = addresses["intake"]
    begun = time.perf_counter()
    sluice(server, "upload", str(folder), "--drive", "photos", "--parallel", "8")
    for kind, photos in (("made", made), ("real", real)):
        print(f"\nresults of the {'generated' if kind == 'made' else 'real'} photos:")
        try:
            tally = asyncio.run(check_photos(server, "photos", f"photos/{kind}", photos))
        except DemoFailed as failure:
            raise SystemExit(f"wrong:\n{failure}") from None
        refused = f", {tally.refused} refused by name" if tally.refused else ""
        print(
            f"{tally.pictures} pictures: {tally.thumbnails} thumbnails the right way up and bare,"
            f" {tally.fields} fields right{refused}"
        )
    print(f"photos took {time.perf_counter() - begun:.1f} s from the first byte to the last look")
    print(sluice(server, "stat", "photos:photos/made/phone.heic").stdout)
    small = scratch / "small"
    small.mkdir()
    sluice(server, "get", "photos:photos/made/phone.heic", str(small), "--thumbnail", "256")
    print(f"{', '.join(path.name for path in small.iterdir())} is there")
    show_http(folder / "made", addresses)


def show_http(folder: Path, addresses: dict[str, str]) -> None:
    """Upload photos over HTTP, as a browser does."""
    begun = time.perf_counter()
    try:
        count = upload_over_http(addresses["gateway"], folder)
    except DemoFailed as failure:
        raise SystemExit(f"wrong:\n{failure}") from None
    seconds = time.perf_counter() - begun
    print(f"\n{count} photos over HTTP: completed with thumbnails in {seconds:.1f} s")


def run(scratch: Path, parts: Sequence[str], own: Path | None) -> None:
    """Run the demo on a temporary folder and remove everything afterwards.

    Files: at least 200 documents, pictures and binaries, and one archive of more than 500 MB.
    Upload the folder, list the nodes, read some back, compare SHA-256, print throughput and
    latencies of acknowledgements. Photos: upload generated ones and pictures of this machine, and
    compare the processor's pixels and EXIF of each; put some of them over HTTP too. Tenants: serve
    two tenants by tokens, and try what each of them may not. Any difference ends the demo with a
    non-zero exit code.
    """
    if FILES in parts or PHOTOS in parts:
        with running_server(scratch / "data") as addresses:
            if FILES in parts:
                show_files(scratch, addresses)
            if PHOTOS in parts:
                show_photos(scratch, addresses, own)
    if TENANTS in parts:
        with running_server(scratch / "tenants", "--auth") as addresses:
            show_tenants(scratch, addresses["intake"], scratch / "tenants")


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="demo", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--scratch", type=Path, help="parent of the temporary folder")
    parser.add_argument("--only", choices=PARTS, help="one of the parts")
    parser.add_argument("--pictures", type=Path, help="a folder of your own pictures to add")
    options = parser.parse_args()
    if options.pictures is not None and not options.pictures.is_dir():
        parser.error(f"{options.pictures} is not a folder")
    parts = PARTS if options.only is None else (options.only,)
    with tempfile.TemporaryDirectory(prefix="sluice-demo-", dir=options.scratch) as scratch:
        run(Path(scratch), parts, options.pictures)


if __name__ == "__main__":
    main()
