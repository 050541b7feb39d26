"""The data directory of a standalone: lock, layout version and announcement."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from sluice_core.configuration import ConfigurationError
from sluice_standalone.data_dir import announce_addresses, open_data_dir


def test_data_dir_is_private_to_its_owner(tmp_path: Path) -> None:
    with open_data_dir(tmp_path / "a" / "b") as data_dir:
        assert stat.S_IMODE(data_dir.root.stat().st_mode) == 0o700


def test_second_server_on_a_data_dir_is_refused(tmp_path: Path) -> None:
    with (
        open_data_dir(tmp_path),
        pytest.raises(ConfigurationError, match="another server"),
        open_data_dir(tmp_path),
    ):
        pass
    with open_data_dir(tmp_path):
        pass


def test_killed_server_leaves_no_lock(tmp_path: Path) -> None:
    program = (
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "from sluice_standalone.data_dir import announce_addresses, open_data_dir\n"
        "with open_data_dir(Path(sys.argv[1])) as data_dir:\n"
        "    with announce_addresses(data_dir, {'intake': 'x:1'}):\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=False, timeout=30)
    assert done.returncode == -9
    assert (tmp_path / "server.json").exists()
    with open_data_dir(tmp_path) as data_dir:
        assert not data_dir.announcement.exists(), "its addresses are dead"


def test_announcement_exists_while_the_server_runs(tmp_path: Path) -> None:
    with open_data_dir(tmp_path) as data_dir:
        with announce_addresses(data_dir, {"intake": "127.0.0.1:1"}):
            facts = json.loads((tmp_path / "server.json").read_text())
            assert facts == {"intake": "127.0.0.1:1", "pid": os.getpid()}
        assert not (tmp_path / "server.json").exists()


def test_data_dir_of_another_layout_is_refused_unchanged(tmp_path: Path) -> None:
    with open_data_dir(tmp_path):
        pass
    (tmp_path / "version").write_text("2\n")
    with pytest.raises(ConfigurationError, match="another release"), open_data_dir(tmp_path):
        pass
    assert (tmp_path / "version").read_text() == "2\n"


def test_data_dir_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with (
        pytest.raises(ConfigurationError, match="SLUICE_DATA_DIR"),
        open_data_dir(tmp_path / "file"),
    ):
        pass
    with (
        pytest.raises(ConfigurationError, match="SLUICE_DATA_DIR"),
        open_data_dir(tmp_path / "file" / "below"),
    ):
        pass
