"""Tests of `sluice-repository migrate`."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from sluice_backends.sql import migrations
from sluice_common.process.lifecycle import run_service
from sluice_common.settings import load_settings
from sluice_core.combinations import CatalogueKind, Events, Objects
from sluice_repository.migrate_command import migrate_main
from support.mysql_server import PASSWORD, MysqlServer, shared_server


@pytest.fixture
def server() -> MysqlServer:
    return shared_server()


def run(catalogue: CatalogueKind, folder: Path, url: str = "mysql://nobody@nowhere/x") -> int:
    settings = load_settings(
        coordination="redis",
        chunk_transport="redis",
        objects=Objects.S3 if catalogue is not CatalogueKind.OFF else Objects.DISCARD,
        events=Events.OFF,
        catalogue=catalogue,
        data_dir=folder,
        mysql={"url": url},
    )
    return run_service(lambda _stop: migrate_main(settings))


def test_second_migration_is_a_no_op(
    tmp_path: Path, server: MysqlServer, capsys: pytest.CaptureFixture[str]
) -> None:
    url = server.create_database()
    assert run(CatalogueKind.MYSQL, tmp_path, url) == 0
    files = Path(migrations.__path__[0], "versions").glob("[0-9]*.py")
    revisions = sorted(path.name.partition("_")[0] for path in files)
    applied = f"catalogue: applied {', '.join(revisions)}; its schema is {revisions[-1]}\n"
    assert capsys.readouterr().out == applied
    assert run(CatalogueKind.MYSQL, tmp_path, url) == 0
    assert capsys.readouterr().out == (
        f"catalogue: nothing to migrate, its schema is {revisions[-1]}\n"
    )


def test_sqlite_catalogue_is_migrated(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data_dir = tmp_path / "not" / "there yet"
    assert run(CatalogueKind.SQLITE, data_dir) == 0
    assert "applied 0001" in capsys.readouterr().out
    with closing(sqlite3.connect(data_dir / "catalogue.sqlite")) as connection:
        assert connection.execute("SELECT COUNT(*) FROM nodes").fetchone() == (0,)


def test_unusable_data_dir_is_refused_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_bytes(b"")
    assert run(CatalogueKind.SQLITE, tmp_path / "file" / "data") == 78
    assert capsys.readouterr().err == (
        f"SLUICE_DATA_DIR: {tmp_path / 'file' / 'data'} cannot be used: Not a directory\n"
    )


def test_newer_schema_is_refused_in_one_line(
    tmp_path: Path, server: MysqlServer, capsys: pytest.CaptureFixture[str]
) -> None:
    url = server.create_database()
    run(CatalogueKind.MYSQL, tmp_path, url)
    server.run(f"UPDATE {url.rpartition('/')[2]}.alembic_version SET version_num = '9999'")
    capsys.readouterr()
    assert run(CatalogueKind.MYSQL, tmp_path, url) == 78
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.startswith("SLUICE_MYSQL__URL: A newer release has migrated")
    assert output.err.count("\n") == 1


@pytest.mark.parametrize("wrong", ["password", "database"])
def test_denied_login_names_server_without_password(
    tmp_path: Path, server: MysqlServer, capsys: pytest.CaptureFixture[str], wrong: str
) -> None:
    name = server.create_database().rpartition("/")[2]
    server.run("GRANT ALL ON nowhere.* TO sluice")
    url = {
        "password": server.url(name, password="hunter2"),
        "database": server.url("nowhere"),
    }[wrong]
    assert run(CatalogueKind.MYSQL, tmp_path, url) == 78
    output = capsys.readouterr().err
    assert output.startswith("SLUICE_MYSQL__URL: ")
    assert f"127.0.0.1:{server.port}" in output
    assert output.count("\n") == 1
    assert "hunter2" not in output
    assert PASSWORD not in output


def test_migrate_without_catalogue_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(CatalogueKind.OFF, tmp_path) == 78
    assert capsys.readouterr().err.startswith("SLUICE_CATALOGUE=off")
