"""Templates of all stages: `python deploy/aws/app.py` writes them, `--check` compares them.

Needs the environment of requirements/aws.txt and Node; `make aws-template` and `make check-aws`.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

from aws_cdk import App

FOLDER = Path(__file__).resolve().parent
sys.path.insert(0, str(FOLDER))

from sluice_aws.stack import SluiceStack  # noqa: E402 - found by the line above
from sluice_aws.stages import STAGES  # noqa: E402


def templates() -> dict[Path, str]:
    """Return the text of each committed template, by its path."""
    with tempfile.TemporaryDirectory() as scratch:
        app = App(
            outdir=scratch,
            analytics_reporting=False,
            context={"aws:cdk:version-reporting": False, "aws:cdk:disable-asset-staging": True},
        )
        stacks = {stage.name: SluiceStack(app, stage) for stage in STAGES}
        app.synth()
        texts = {}
        for name, stack in stacks.items():
            found = json.loads((Path(scratch) / stack.template_file).read_text(encoding="utf-8"))
            path = FOLDER / "template" / f"{name}.json"
            texts[path] = json.dumps(found, indent=1, sort_keys=True) + "\n"
        return texts


def main() -> int:
    """Return 1 if a committed template is stale."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing")
    is_check = parser.parse_args().check
    stale = []
    for path, text in templates().items():
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            stale.append(path.name)
            if not is_check:
                path.write_text(text, encoding="utf-8")
    names = ", ".join(stale) or "none"
    print(f"stale: {names}" if is_check else f"written: {names}")
    if is_check and stale:
        print("run `make aws-template` and commit the result", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
