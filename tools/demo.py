"""`make demo`: the whole way in one go, on real files of this machine.

Collects documents, pictures and binaries (at least 200 files) and one archive of more than 500 MB
into a temporary folder, starts a server, uploads the folder, lists the nodes, reads some back,
compares SHA-256, prints throughput and acknowledgement latencies, stops the server and removes
everything again.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

BIN = Path(sys.executable).parent
LARGE_BYTES = 512 * 1024 * 1024
SMALL_BYTES = 64 * 1024 * 1024
PER_KIND = 120
SHORT_TIMEOUT = 60
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
    """A regular file that can be read and is not itself huge."""
    return (
        path.is_file()
        and not path.is_symlink()
        and os.access(path, os.R_OK)
        and path.stat().st_size < SMALL_BYTES
    )


def walk(roots: list[str], suffixes: set[str]) -> Iterator[Path]:
    """Usable files with these suffixes below the roots, in a stable order."""
    for root in roots:
        for folder, subfolders, names in os.walk(root):
            subfolders.sort()
            for name in sorted(names):
                path = Path(folder) / name
                if path.suffix in suffixes and usable(path):
                    yield path


def collect(target: Path) -> int:
    """Copy up to PER_KIND files of each kind and make the large archive; returns the number."""
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
    """A tar of this machine's libraries, large enough; goes around again where they are few."""
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


def sluice(server: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command; its progress goes to this terminal, its output is returned."""
    shown = " ".join(arguments)
    print(f"\n$ sluice {shown}", flush=True)
    return subprocess.run(
        [BIN / "sluice", "--server", server, *arguments],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )


def start_server(data_dir: Path) -> tuple[subprocess.Popen[bytes], dict[str, str]]:
    environment = {
        **os.environ,
        "SLUICE_INTAKE_ADDRESS": "127.0.0.1:0",
        "SLUICE_REPOSITORY_ADDRESS": "127.0.0.1:0",
        "SLUICE_METRICS_ADDRESS": "127.0.0.1:0",
        "SLUICE_LOG_LEVEL": "warning",
    }
    process = subprocess.Popen(
        [BIN / "sluice", "serve", "--data-dir", str(data_dir)], env=environment
    )
    announced = data_dir / "server.json"
    deadline = time.monotonic() + SHORT_TIMEOUT
    while not announced.exists():
        if process.poll() is not None or time.monotonic() > deadline:
            raise SystemExit("the server did not start; its message stands above")
        time.sleep(0.05)
    return process, json.loads(announced.read_text(encoding="utf-8"))


def acknowledgement_latencies(metrics_address: str) -> str:
    """p50, p95 and p99 from the server's own histogram (upper bounds of the buckets)."""
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
    """Download some files and the archive, and compare SHA-256; returns how many were equal."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    chosen = [*random.Random(1).sample(files, how_many), folder / "archive.tar"]
    for number, path in enumerate(chosen):
        node = f"demo:{folder.name}/{path.relative_to(folder).as_posix()}"
        copy = target / f"{number}"
        sluice(server, "get", node, str(copy))
        if sha256_of(copy) != sha256_of(path):
            raise SystemExit(f"{node} came back different")
    return len(chosen)


def run(scratch: Path) -> None:
    folder = scratch / "files"
    print("collecting files of this machine …", flush=True)
    count = collect(folder)
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    print(f"{count} files, {size / 1e6:.0f} MB, the largest {LARGE_BYTES / 1e6:.0f} MB or more")
    process, addresses = start_server(scratch / "data")
    try:
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
    finally:
        process.send_signal(signal.SIGTERM)
        code = process.wait(SHORT_TIMEOUT)
    print(f"server stopped with exit code {code}")
    if code != 0:
        raise SystemExit(1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scratch", type=Path, help="parent of the temporary folder")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="sluice-demo-", dir=options.scratch) as scratch:
        run(Path(scratch))


if __name__ == "__main__":
    main()
