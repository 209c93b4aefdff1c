"""Stores for the gateway's tests: SQLite in a temporary folder, PostgreSQL in a private cluster."""

from __future__ import annotations

import contextlib
import itertools
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1] / "adapters"))  # its server stands behind the gateway here

_FOLDERS = ("/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin", "/opt/homebrew/opt/postgresql*/bin")
_ACCOUNTS = ("postgres", "nobody")
_SECONDS = 60.0


def _binary(name: str) -> str | None:
    """Find a PostgreSQL program on the path or where distributions hide it; the newest one."""
    found = [str(p) for pattern in _FOLDERS for p in Path("/").glob(f"{pattern[1:]}/{name}")]
    return shutil.which(name) or max(found, default=None)


def _unprivileged() -> pwd.struct_passwd | None:
    """Return whom to run the server as when the tests run as root, which it refuses."""
    if os.geteuid() != 0:
        return None
    for name in _ACCOUNTS:
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name)
    return pytest.skip("PostgreSQL does not run as root, and there is no user postgres or nobody here")


class Cluster:
    """A private PostgreSQL server on a Unix socket in its own folder; nothing listens on a port."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.initdb, self.postgres = _binary("initdb"), _binary("postgres")
        if self.initdb is None or self.postgres is None:
            pytest.skip(
                "PostgreSQL is not installed (initdb and postgres are missing): apt install postgresql"
            )
        self.owner = _unprivileged()
        if self.owner is not None:
            os.chown(folder, self.owner.pw_uid, self.owner.pw_gid)
        self.data, self.log = folder / "data", folder / "log"
        self.server: subprocess.Popen[bytes] | None = None
        self._numbers = itertools.count()

    def _start(self, command: list[str], **options: object) -> subprocess.Popen[bytes]:
        as_owner = {} if self.owner is None else {
            "user": self.owner.pw_uid, "group": self.owner.pw_gid, "extra_groups": []
        }  # fmt: skip
        environment = {"PATH": os.environ["PATH"], "LC_ALL": "C", "HOME": str(self.folder)}
        return subprocess.Popen(command, cwd=self.folder, env=environment, **as_owner, **options)

    def create(self) -> None:
        options = ["--no-sync", "--auth=trust", "--username=assay", "--encoding=UTF8", "--locale=C"]
        with self.log.open("ab") as log:
            made = self._start([self.initdb, "-D", str(self.data), *options], stdout=log, stderr=log)
            if made.wait(_SECONDS) != 0:
                pytest.skip(f"initdb failed: {self.log.read_text()[-500:]}")
        self.start()

    def start(self) -> None:
        settings = {
            "listen_addresses": "",
            "unix_socket_directories": str(self.folder),
            "shared_buffers": "32MB",
            "max_connections": "120",
            "fsync": "off",  # a killed server loses nothing even so, only a crashed machine would
            "logging_collector": "off",
        }
        options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        with self.log.open("ab") as log:
            self.server = self._start(
                [self.postgres, "-D", str(self.data), *options],
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._wait()

    def _wait(self) -> None:
        import psycopg

        end = time.monotonic() + _SECONDS
        while True:
            try:
                psycopg.connect(self.dsn("postgres"), connect_timeout=2).close()
            except psycopg.OperationalError:
                if time.monotonic() > end or self.server.poll() is not None:
                    pytest.skip(f"PostgreSQL did not start: {self.log.read_text()[-500:]}")
                time.sleep(0.05)
            else:
                return

    def dsn(self, database: str) -> str:
        return f"host={self.folder} user=assay dbname={database}"

    def database(self) -> str:
        """Return the URL of an empty schema: to stores it is a database, and it costs less than one."""
        import psycopg

        name = f"gateway{next(self._numbers)}"
        with psycopg.connect(self.dsn("postgres"), autocommit=True) as connection:
            connection.execute(f"CREATE SCHEMA {name}")
        return f"postgresql://assay@/postgres?host={self.folder}&options=-csearch_path%3D{name}"

    def stop(self, how: signal.Signals = signal.SIGQUIT) -> None:
        """Stop this server, by its own process; SIGQUIT is at once, as after a crash."""
        if self.server is not None and self.server.poll() is None:
            self.server.send_signal(how)
            try:
                self.server.wait(20)
            except subprocess.TimeoutExpired:
                self.server.kill()
                self.server.wait(20)
        self.server = None


@contextlib.contextmanager
def _cluster() -> Iterator[Cluster]:
    pytest.importorskip("psycopg", reason="the PostgreSQL driver psycopg is not installed")
    # Not below pytest's own folder, which only its user may enter; sockets want a short path, too.
    with tempfile.TemporaryDirectory(prefix="assay-pg-", ignore_cleanup_errors=True) as folder:
        cluster = Cluster(Path(folder))
        try:
            cluster.create()
            yield cluster
        finally:
            cluster.stop()


@pytest.fixture(scope="session")
def postgresql() -> Iterator[Cluster]:
    """A PostgreSQL server of its own for the whole run; skips with a reason where there is none."""
    with _cluster() as cluster:
        yield cluster


@pytest.fixture
def mortal_postgresql() -> Iterator[Cluster]:
    """A PostgreSQL server that a test may stop and start."""
    with _cluster() as cluster:
        yield cluster


@pytest.fixture
def postgresql_url(postgresql: Cluster) -> str:
    """URL of an empty PostgreSQL database."""
    return postgresql.database()


@pytest.fixture(params=["sqlite", "postgresql"])
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """URL of an empty database, of each kind in turn."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'gateway.db'}"
    return request.getfixturevalue("postgresql_url")


@pytest.fixture
def store(store_url: str):
    """A store of each kind in turn."""
    pytest.importorskip("sqlalchemy", reason="the gateway's packages are not installed: assay-ml[serve]")
    from assay.gateway.store.sql import SqlStore

    opened = SqlStore(store_url)
    yield opened
    opened.close()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """Where services are required, as in CI, a test that skips for want of one fails."""
    report = yield
    if (
        report.skipped
        and os.environ.get("ASSAY_TEST_SERVICES") == "required"
        and not hasattr(report, "wasxfail")
    ):
        report.outcome = "failed"
        report.longrepr = f"skipped although ASSAY_TEST_SERVICES=required: {report.longrepr}"
    return report
