"""Tasks of `web/`: lint, tests, build, and whether what is committed matches its sources.

python tools/web.py [--where-possible] install | lint | fmt | test | build | check | dev
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
WEB: Final = ROOT / "web"
BUNDLE: Final = ROOT / "services" / "gateway" / "src" / "sluice_gateway" / "panel" / "bundle"
"""What `make web-build` writes and the gateway serves."""
OLDEST_NODE: Final = (20, 19)
MAX_FIRST_VIEW_BYTES: Final = 250 * 1024
"""JavaScript that a page loads by itself, each file compressed by gzip."""
LOADED_SOON: Final = ("assets/lists.js",)
"""Chunks that each page imports right after its first view, without a wish of anybody."""
_SCHEMA: Final = "src/lib/api/schema.d.ts"
_STATIC_IMPORT: Final = re.compile(rb"""(?:\bimport|\bfrom)\s*["'](\.{1,2}/[^"']+\.js)["']""")


class WebError(Exception):
    """A task failed; the text says what to do."""


class _Scripts(HTMLParser):
    """Finds the scripts of a page and the modules that it preloads."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        if tag == "script" and (source := values.get("src")):
            self.found.append(source)
        elif tag == "link" and values.get("rel") == "modulepreload" and values.get("href"):
            self.found.append(values["href"] or "")


def first_view_scripts(bundle: Path) -> list[Path]:
    """Return the scripts that the first view loads: those of the page, those that it loads soon,
    and what they import.

    Other chunks of a dynamic `import()` are loaded for a wish and do not count.
    """
    parser = _Scripts()
    parser.feed((bundle / "index.html").read_text(encoding="utf-8"))
    pending = [bundle / source.lstrip("/") for source in (*parser.found, *LOADED_SOON)]
    scripts: list[Path] = []
    while pending:
        script = pending.pop(0).resolve()
        if not script.is_file():
            raise WebError(f"the bundle has no {script.name}: run `make web-build` and commit it")
        if script not in scripts:
            scripts.append(script)
            imported = _STATIC_IMPORT.findall(script.read_bytes())
            pending += [script.parent / name.decode() for name in imported]
    return scripts


def gzip_bytes(files: Sequence[Path]) -> int:
    """Return the sum of the sizes of these files, each compressed as servers do."""
    return sum(len(gzip.compress(file.read_bytes(), 6, mtime=0)) for file in files)


def bundle_differences(committed: Path, built: Path) -> list[str]:
    """Return a line for each file that is in one of them only or has other bytes."""
    before, after = _digests(committed), _digests(built)
    lines = [f"{name}: not in the committed bundle" for name in sorted(after.keys() - before)]
    lines += [f"{name}: not built any more" for name in sorted(before.keys() - after)]
    both = sorted(before.keys() & after)
    return lines + [f"{name}: other content" for name in both if before[name] != after[name]]


def _digests(folder: Path) -> dict[str, str]:
    return {
        str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in folder.rglob("*")
        if file.is_file()
    }


def missing_node() -> str | None:
    """Return what is missing of Node and npm; None if both are here."""
    node, npm = shutil.which("node"), shutil.which("npm")
    oldest = ".".join(map(str, OLDEST_NODE))
    if node is None or npm is None:
        return f"web/ needs Node {oldest} or newer, with npm: install it"
    text = subprocess.run([node, "--version"], capture_output=True, text=True, check=True).stdout
    found = re.match(r"v(\d+)\.(\d+)", text)
    if found is None or (int(found[1]), int(found[2])) < OLDEST_NODE:
        return f"web/ needs Node {oldest} or newer, and {node} is {text.strip()}"
    return None


def install() -> None:
    """Install exactly the lock into `web/node_modules`, unless that was done already."""
    stamp = WEB / "node_modules" / ".sluice-lock"
    digest = hashlib.sha256()
    for name in ("package.json", "package-lock.json", ".npmrc"):
        digest.update((WEB / name).read_bytes())
    if stamp.exists() and stamp.read_text(encoding="ascii") == digest.hexdigest():
        return
    _run("npm", "ci", "--ignore-scripts", "--prefer-offline", "--loglevel=error")
    stamp.write_text(digest.hexdigest(), encoding="ascii")


def lint() -> None:
    """Run eslint, prettier and the type checker."""
    _run("npm", "run", "--silent", "lint")
    _run("npm", "run", "--silent", "types")


def fmt() -> None:
    """Format the sources and apply the linter's fixes."""
    _run("npm", "run", "--silent", "fmt")


def test() -> None:
    _run("npm", "run", "--silent", "test")


def build() -> None:
    """Build the bundle into the gateway's package."""
    _run("npm", "run", "--silent", "build")


def check() -> None:
    """Raise `WebError` if the API client or the bundle is stale, or the first view too large."""
    problems = [*_stale_api(), *_stale_bundle(), *_oversize()]
    if problems:
        raise WebError("\n".join(problems))


def dev() -> None:
    """Serve the sources with reloading; SLUICE_GATEWAY_URL names the gateway behind it."""
    _run("npm", "run", "dev")


def _stale_api() -> Iterator[str]:
    """Yield what differs between the gateway's API, its document and the client's types."""
    document = subprocess.run(
        [sys.executable, "tools/web_api.py", "--check"], cwd=ROOT, check=False
    )
    if document.returncode != 0:
        yield "web/openapi.json does not match the gateway: run `make web-api`"
    with tempfile.TemporaryDirectory(prefix="sluice-web-") as folder:
        fresh = Path(folder) / "schema.d.ts"
        script = json.loads((WEB / "package.json").read_text(encoding="utf-8"))["scripts"]["api"]
        command = [str(fresh) if word == _SCHEMA else word for word in script.split()]
        _run("npx", "--no-install", *command, quiet=True)
        if fresh.read_bytes() != (WEB / _SCHEMA).read_bytes():
            yield f"web/{_SCHEMA} does not match web/openapi.json: run `make web-api`"


def _stale_bundle() -> Iterator[str]:
    with tempfile.TemporaryDirectory(prefix="sluice-web-") as folder:
        _run(
            *("npm", "run", "--silent", "build", "--", "--emptyOutDir", "--logLevel", "error"),
            *("--outDir", folder),
        )
        differences = bundle_differences(BUNDLE, Path(folder))
        if differences:
            yield "the bundle does not match its sources: run `make web-build` and commit it"
            yield from (f"  {line}" for line in differences)


def _oversize() -> Iterator[str]:
    scripts = first_view_scripts(BUNDLE)
    size = gzip_bytes(scripts)
    print(f"first view: {size / 1024:.1f} KiB of JavaScript in {len(scripts)} files, compressed")
    if size > MAX_FIRST_VIEW_BYTES:
        most = MAX_FIRST_VIEW_BYTES // 1024
        yield f"the first view loads {size / 1024:.1f} KiB of JavaScript, at most {most}"


def _run(*command: str, quiet: bool = False) -> None:
    """Run a command in `web/`. Raise `WebError` if it fails."""
    environment = {**os.environ, "NO_UPDATE_NOTIFIER": "1"}
    output = subprocess.DEVNULL if quiet else None
    done = subprocess.run(command, cwd=WEB, env=environment, stdout=output, check=False)
    if done.returncode != 0:
        raise WebError(f"`{' '.join(command)}` in web/ failed with exit code {done.returncode}")


TASKS: Final[dict[str, Callable[[], None]]] = {
    "install": lambda: None,
    "lint": lint,
    "fmt": fmt,
    "test": test,
    "build": build,
    "check": check,
    "dev": dev,
}


def main(arguments: Sequence[str]) -> int:
    """Run the tasks in order. Return 1 if one fails, or if Node is missing.

    With `--where-possible` a machine without Node passes with a message; not in CI, where nothing
    is left out.
    """
    parser = argparse.ArgumentParser(prog="web.py", description="Tasks of web/.")
    parser.add_argument("--where-possible", action="store_true", help="pass without Node")
    parser.add_argument("tasks", nargs="+", choices=TASKS, metavar="TASK", help=", ".join(TASKS))
    parsed = parser.parse_args(arguments)
    missing = missing_node()
    if missing is not None:
        print(f"web/ is left out: {missing}", file=sys.stderr)
        may_skip = parsed.where_possible and os.environ.get("SLUICE_REQUIRE_SERVICES") != "1"
        return 0 if may_skip else 1
    try:
        install()
        for task in parsed.tasks:
            TASKS[task]()
    except WebError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
