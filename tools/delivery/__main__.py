"""The steps of a release; .github/workflows/release.yml runs them in turn.

python -m tools.delivery preflight | images | record | deploy | watch | rollback
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from tools.delivery.burn_rate import ALERTS, Prometheus, watch
from tools.delivery.cluster import deploy, revisions, roll_back
from tools.delivery.errors import DeliveryError
from tools.delivery.images import verified_images

NAMESPACE = "sluice"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one step; return 1 with a line that says why if it fails."""
    options = _parser().parse_args(arguments)
    try:
        _run(options)
    except DeliveryError as error:
        print(f"{options.step}: {error}", file=sys.stderr)
        return 1
    return 0


def _run(options: argparse.Namespace) -> None:
    if options.step == "preflight":
        firing = _prometheus(options).firing()
        if firing:
            raise DeliveryError(f"the error budget burns already: {', '.join(firing)}")
    elif options.step == "images":
        images = verified_images(options.owner, options.tag, options.signer)
        print(json.dumps(images, indent=2))
    elif options.step == "record":
        print(json.dumps(revisions(options.namespace), indent=2))
    elif options.step == "deploy":
        deploy(options.overlay, json.loads(options.images.read_text(encoding="utf-8")))
    elif options.step == "watch":
        polls = watch(_prometheus(options), options.minutes * 60)
        print(f"no burn-rate alert in {options.minutes:g} minutes, {polls} polls")
    else:
        before = json.loads(options.before.read_text(encoding="utf-8"))
        changed = roll_back(options.namespace, before)
        print(f"back at the revisions before: {', '.join(changed) or 'nothing had changed'}")


def _prometheus(options: argparse.Namespace) -> Prometheus:
    url = os.environ.get("PROMETHEUS_URL", "")
    return Prometheus(url, os.environ.get("PROMETHEUS_TOKEN") or None, options.alerts)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="delivery", description=__doc__)
    steps = parser.add_subparsers(dest="step", required=True)
    preflight = steps.add_parser("preflight", help="fail if the error budget burns already")
    images = steps.add_parser("images", help="verify the signed images and print their digests")
    for name in ("--owner", "--tag", "--signer"):
        images.add_argument(name, required=True)
    record = steps.add_parser("record", help="print the revisions that run")
    deploying = steps.add_parser("deploy", help="apply an overlay with these images")
    deploying.add_argument("--overlay", type=Path, required=True)
    deploying.add_argument("--images", type=Path, required=True)
    watching = steps.add_parser("watch", help="fail as soon as a burn-rate alert fires")
    watching.add_argument("--minutes", type=float, required=True)
    rollback = steps.add_parser("rollback", help="go back to the recorded revisions")
    rollback.add_argument("--before", type=Path, required=True)
    for step in (preflight, watching):
        step.add_argument("--alerts", default=ALERTS, help="names of burn-rate alerts")
    for step in (record, rollback):
        step.add_argument("--namespace", default=NAMESPACE)
    return parser


if __name__ == "__main__":
    sys.exit(main())
