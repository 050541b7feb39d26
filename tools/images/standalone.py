"""Check of the standalone image: read-only, without a home, and the command in it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from tools.backends.errors import ServiceError
from tools.images.engine import Engine
from tools.images.polling import wait_until

NAME: Final = "sluice-standalone-check"
IMAGE: Final = "sluice-standalone"
HEALTHY_SECONDS: Final = 90.0
SOURCE: Final = "/etc/passwd"
RESTRICTED: Final = (
    *("--read-only", "--tmpfs=/tmp", "--cap-drop=ALL", "--security-opt=no-new-privileges"),
    *("--env=SLUICE_ALLOW_INSECURE=true", "--stop-timeout=30"),
)


def check_standalone(engine: Engine) -> None:
    """Check that it becomes healthy, that `sluice upload` works, and that it ends on SIGTERM."""
    with _running(engine):
        wait_until(lambda: _healthy(engine), HEALTHY_SECONDS, "the standalone is not healthy")
        upload = f"sluice upload {SOURCE} --drive files 2>&1"
        output = engine.run("exec", NAME, "sh", "-c", upload)
        if "warning" in output.lower() or "/nonexistent" in output:
            raise ServiceError(f"`sluice upload` in the image printed a warning:\n{output}")
        sent = engine.run("exec", NAME, "cat", SOURCE)
        back = engine.run("exec", NAME, "sluice", "get", f"files:{SOURCE.rpartition('/')[2]}", "-")
        if sent != back:
            raise ServiceError(f"what the image sent came back as:\n{back}")
        engine.run("stop", NAME)
        if (code := int(engine.inspect(NAME)["State"]["ExitCode"])) != 0:
            raise ServiceError(f"the standalone ended with {code} on SIGTERM")


@contextmanager
def _running(engine: Engine) -> Iterator[None]:
    engine.succeeds("rm", "--force", "--volumes", NAME)
    engine.run("run", "--detach", f"--name={NAME}", "--pull=never", *RESTRICTED, IMAGE)
    try:
        yield
    except ServiceError as error:
        raise ServiceError(f"{error}\n{engine.logs(NAME)}") from error
    finally:
        engine.succeeds("rm", "--force", "--volumes", NAME)


def _healthy(engine: Engine) -> bool:
    if engine.kind == "podman":
        return engine.succeeds("healthcheck", "run", NAME)
    return bool(engine.inspect(NAME)["State"]["Health"]["Status"] == "healthy")
