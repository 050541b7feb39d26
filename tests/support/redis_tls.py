"""A Redis server behind TLS, with a certificate of the tests' authority."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from support.certificates import Authority, Issued, TlsPaths, write_tls
from support.redis_server import RedisServer, free_port
from support.tls_terminator import terminating_tls
from tools.backends.redis import WITHOUT_TLS


@contextmanager
def tls_redis(
    folder: Path, authority: Authority | None = None, issued: Issued | None = None
) -> Iterator[str]:
    """Run a server and yield its URL without a database number; write `ca.pem` to the folder.

    A Valkey built without TLS, such as that of the wheel, gets a TLS terminator in front, as many
    managed servers have.

    Args:
        authority: of `ca.pem`; by default a new one.
        issued: the server's certificate; by default one of the authority for 127.0.0.1.
    """
    authority = authority or Authority()
    write_tls(folder, authority, issued or authority.issue())
    port = free_port()
    arguments = ["--tls-port", str(port), "--tls-auth-clients", "no"]
    for name, file in (("cert-file", "cert"), ("key-file", "key"), ("ca-cert-file", "ca")):
        arguments += [f"--tls-{name}", str(folder / f"{file}.pem")]
    url = f"rediss://127.0.0.1:{port}"
    server = RedisServer(*arguments)
    try:
        server.start()
    except RuntimeError as error:
        if WITHOUT_TLS not in str(error):
            raise
        with RedisServer() as plain, terminating_tls(TlsPaths(folder), plain.port, port):
            yield url
    else:
        yield url
    finally:
        server.__exit__(None, None, None)
