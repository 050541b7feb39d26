"""Options of a client: frozen, validated once, units in the names."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from sluice_client.retry import RetryPolicy


@dataclass(frozen=True, slots=True)
class TlsOptions:
    """Files of TLS targets (`https://…`), in PEM.

    Replace them while a client runs: new calls use a connection with the new files, calls in
    progress end on the old one. Files that cannot be used, such as a certificate whose key is not
    written yet, leave the last good ones in use.
    """

    ca_file: Path | None = None
    """CAs that may issue the server's certificate; None means the system's."""
    cert_file: Path | None = None
    """Client certificate with its chain, for servers that require one."""
    key_file: Path | None = None
    """Private key of `cert_file`, not encrypted."""
    skip_verification: bool = False
    """Trust the certificate that the server shows first, whoever issued it and whichever name it
    has. Whoever controls the network can then read the token and the files: for tests only.
    """

    def __post_init__(self) -> None:
        if (self.cert_file is None) != (self.key_file is None):
            raise ValueError("cert_file and key_file belong together: give both")
        if self.skip_verification and self.ca_file is not None:
            raise ValueError("skip_verification needs no ca_file: give one of them")


@dataclass(frozen=True, slots=True)
class ClientOptions:
    """Options of a `Client`.

    Memory: an upload holds at most two chunks per stream (two chunks × window for sources that
    cannot be read again). Each upload has one stream; further ones come from `extra_streams`, which
    all uploads of the client share. With n concurrent uploads: (n + extra_streams) × 2 × chunk
    size.
    """

    repository_target: str | None = None
    """Address of the RepositoryService; None means the same as the intake's."""
    root_certificates: bytes | None = None
    """PEM for TLS targets (`https://…`), like `tls.ca_file`; None means the system's."""
    tls: TlsOptions = field(default_factory=TlsOptions)
    """Files of TLS targets."""
    allow_insecure: bool = False
    """Send the token in plain text to other machines too, where the network itself keeps
    strangers out.
    """
    connections: int = 1
    """TCP connections to the intake; streams are assigned round-robin."""
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    call_timeout_seconds: float = 30.0
    """Deadline of one attempt of a unary call."""
    stall_seconds: float = 60.0
    """A stream without any activity for this long is reopened."""
    max_streams: int = 4
    """Parallel streams of one upload."""
    extra_streams: int = 8
    """Streams beyond the first of each upload, over all uploads of the client."""
    window_chunks: int = 4
    """Chunks of one stream that may await their acknowledgement."""
    completion_wait_seconds: float = 5.0
    """How long CompleteUpload waits for the end before WatchUpload takes over."""
    max_restarts: int = 3
    """How often one upload restarts automatically (rule 28)."""
    state_dir: Path | None = None
    """Directory of the resume journals; None means SLUICE_STATE_DIR, else the user's state
    directory.
    """

    def __post_init__(self) -> None:
        if min(self.connections, self.max_streams, self.window_chunks) < 1:
            raise ValueError("connections, max_streams and window_chunks start at 1")
        if min(self.extra_streams, self.max_restarts) < 0:
            raise ValueError("extra_streams and max_restarts start at 0")
        if min(self.call_timeout_seconds, self.stall_seconds) <= 0:
            raise ValueError("call_timeout_seconds and stall_seconds are above 0")
        if self.root_certificates is not None and (
            self.tls.ca_file is not None or self.tls.skip_verification
        ):
            raise ValueError("root_certificates excludes tls.ca_file and tls.skip_verification")
