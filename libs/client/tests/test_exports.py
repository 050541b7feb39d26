"""Public names of the package: loaded on first use."""

from __future__ import annotations

import subprocess
import sys

import pytest

import sluice_client
from sluice_client import errors


def test_import_of_the_package_does_not_load_grpc() -> None:
    """Neither do its submodules that need no gRPC."""
    code = (
        "import sys, sluice_client\nfrom sluice_client import names, errors\n"
        "assert 'grpc' not in sys.modules\n"
        "sluice_client.Client\n"
        "assert 'grpc' in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_public_name_is_that_of_its_module() -> None:
    assert sluice_client.InvalidArgument is errors.InvalidArgument


def test_star_import_and_dir_list_the_public_names() -> None:
    namespace: dict[str, object] = {}
    exec("from sluice_client import *", namespace)
    names = {name for name in namespace if not name.startswith("_")}
    assert {"Client", "ClientOptions", "SluiceError", "Source", "UploadResult"} <= names
    assert names <= set(dir(sluice_client))
    assert not {name for name in names if not name[0].isupper()}


@pytest.mark.parametrize("name", ["NoSuchName", "no_such_name", "TYPE_CHECKING_"])
def test_unknown_name_is_an_attribute_error(name: str) -> None:
    with pytest.raises(AttributeError, match=name):
        getattr(sluice_client, name)


def test_empty_name_is_an_attribute_error() -> None:
    assert not hasattr(sluice_client, "")
