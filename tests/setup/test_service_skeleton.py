"""The services have one skeleton: the same modules, with the same names in them."""

from __future__ import annotations

import ast
import subprocess
import sys

import pytest

from support.clone import ROOT

SERVICES = ("intake", "repository", "processor", "gateway")
SKELETON = {
    "__main__": {"main"},
    "service": {"run", "check_settings"},
    "bootstrap": set(),
    "settings": {"{name}_options"},
    "options": {"{Name}Options"},
    "deps": {"{Name}Deps"},
}


@pytest.mark.parametrize("service", SERVICES)
def test_service_has_the_modules_of_the_skeleton(service: str) -> None:
    for module, templates in SKELETON.items():
        path = ROOT / f"services/{service}/src/sluice_{service}/{module}.py"
        assert path.is_file(), f"{path} is missing"
        names = {one.format(name=service, Name=service.title()) for one in templates}
        tree = ast.parse(path.read_text(encoding="utf-8"))
        defined = {getattr(node, "name", "") for node in tree.body}
        assert names <= defined, f"{path} lacks {names - defined}"


@pytest.mark.parametrize("service", [*SERVICES, "standalone"])
def test_process_is_prepared_before_grpc_is_imported(service: str) -> None:
    """Both malloc and gRPC's environment take effect only before the first import of grpc."""
    program = f"""
import sys
from sluice_common.process import start
order = []
prepare = start.prepare_process
def recorded():
    order.append("grpc" in sys.modules)
    prepare()
start.prepare_process = recorded
from sluice_{service}.__main__ import main
sys.argv[1:] = ["--show-settings"]
assert main() == 0
assert order == [False], order
assert "grpc" in sys.modules
"""
    subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, timeout=60)
