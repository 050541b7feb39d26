"""The rendered manifests in the repository, and how they are compared with a new rendering."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import yaml

from tools.backends.errors import ServiceError
from tools.deploy_checks.rendering import (
    K8S,
    OVERLAYS,
    RENDERED,
    find_kustomize,
    read_rendered,
    render,
    stale,
)


@pytest.fixture(scope="module")
def kustomize() -> Sequence[str]:
    try:
        return find_kustomize()
    except ServiceError as error:
        # `make check-deploy`, which CI runs, fails there.
        pytest.skip(str(error))


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_committed_manifests_are_up_to_date(kustomize: Sequence[str], overlay: str) -> None:
    assert not stale(overlay, render(kustomize, K8S / "overlays" / overlay))


def test_only_overlays_are_rendered() -> None:
    assert {file.stem for file in RENDERED.iterdir()} == set(OVERLAYS)


def test_other_content_is_stale_and_another_order_is_not() -> None:
    manifests = read_rendered("dev")
    assert not stale("dev", yaml.safe_dump_all(reversed(manifests), sort_keys=True))
    manifests[0]["metadata"]["labels"]["extra"] = "1"
    assert stale("dev", yaml.safe_dump_all(manifests))


def test_folder_that_cannot_be_rendered_is_an_error(kustomize: Sequence[str]) -> None:
    with pytest.raises(ServiceError, match=r"deploy/k8s/components"):
        render(kustomize, K8S / "components")
