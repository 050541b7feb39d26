"""The data directory: one server at a time, one layout, one announcement."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from sluice_core.configuration import ConfigurationError
from sluice_standalone.data_dir import announced, opened


def test_it_is_made_for_its_owner_only(tmp_path: Path) -> None:
    with opened(tmp_path / "a" / "b") as data_dir:
        assert stat.S_IMODE(data_dir.root.stat().st_mode) == 0o700


def test_a_second_server_is_refused_while_the_first_one_lives(tmp_path: Path) -> None:
    with (
        opened(tmp_path),
        pytest.raises(ConfigurationError, match="another server"),
        opened(tmp_path),
    ):
        pass
    with opened(tmp_path):
        pass


def test_a_killed_server_leaves_no_lock_behind(tmp_path: Path) -> None:
    program = (
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "from sluice_standalone.data_dir import announced, opened\n"
        "with opened(Path(sys.argv[1])) as data_dir, announced(data_dir, {'intake': 'x:1'}):\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=False, timeout=30)
    assert done.returncode == -9
    assert (tmp_path / "server.json").exists()
    with opened(tmp_path) as data_dir:
        assert not data_dir.announcement.exists(), "nobody listens where it says"


def test_the_announcement_lasts_as_long_as_the_server_listens(tmp_path: Path) -> None:
    with opened(tmp_path) as data_dir:
        with announced(data_dir, {"intake": "127.0.0.1:1"}):
            facts = json.loads((tmp_path / "server.json").read_text())
            assert facts == {"intake": "127.0.0.1:1", "pid": os.getpid()}
        assert not (tmp_path / "server.json").exists()


def test_a_directory_of_another_layout_is_left_alone(tmp_path: Path) -> None:
    with opened(tmp_path):
        pass
    (tmp_path / "version").write_text("2\n")
    with pytest.raises(ConfigurationError, match="another release"), opened(tmp_path):
        pass
    assert (tmp_path / "version").read_text() == "2\n"


def test_what_is_no_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigurationError, match="SLUICE_DATA_DIR"), opened(tmp_path / "file"):
        pass
    with (
        pytest.raises(ConfigurationError, match="SLUICE_DATA_DIR"),
        opened(tmp_path / "file" / "below"),
    ):
        pass
