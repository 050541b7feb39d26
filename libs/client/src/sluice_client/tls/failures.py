"""Failures of TLS, from gRPC's texts to one typed error each."""

from __future__ import annotations

from sluice_client.errors import TlsFailed

_NEVER_CONNECTED = "failed to connect to all addresses"
_NAME_SIGNS = ("Hostname Verification Check failed", "is not in peer certificate")
_UNTRUSTED = "CERTIFICATE_VERIFY_FAILED"
_VALIDITY_SIGNS = ("certificate has expired", "certificate is not yet valid")
_PLAIN_SIGNS = (
    "WRONG_VERSION_NUMBER",
    "HTTP_REQUEST",
    "UNKNOWN_PROTOCOL",
    "PACKET_LENGTH_TOO_LONG",
)
_CLIENT_SIGNS = ("ALERT_CERTIFICATE_REQUIRED", "ALERT_BAD_CERTIFICATE", "ALERT_UNKNOWN_CA")
_HANDSHAKE_SIGNS = ("Tls handshake failed", "SSL_ERROR_SSL", "Cannot check peer", "ALPN")
_SILENT_SIGNS = ("Socket closed", "Connection reset", "Failed parsing HTTP/2")
"""How a server looks that speaks TLS to a plain client, or refuses a client's certificate."""


def tls_failure(text: str, target: str, request_id: str = "") -> TlsFailed | None:
    """Return the error for a failed connection, or None when TLS is not known to be the cause."""
    found = _reason(text, target)
    return None if found is None else TlsFailed(*found, request_id=request_id)


def is_silent(text: str) -> bool:
    """Return whether the server ended a new connection without an answer, so that only a probe
    can find out why.
    """
    return _NEVER_CONNECTED in text and any(sign in text for sign in _SILENT_SIGNS)


def tls_required(address: str) -> TlsFailed:
    """Return the error of a plain `host:port` whose server speaks TLS."""
    return TlsFailed(
        "TLS_REQUIRED",
        f"the server at {address} speaks TLS; write https://{address} as its address",
    )


def client_certificate_refused(target: str) -> TlsFailed:
    """Return the error of a server that ends connections as soon as they are secured."""
    return TlsFailed(
        "CLIENT_CERTIFICATE_REFUSED",
        f"{target} ends the connection after the handshake, which is how a server refuses a client"
        " certificate that is missing or not of its CA; give the certificate and the key that its"
        " operator issued",
    )


def _reason(text: str, target: str) -> tuple[str, str] | None:
    if _NEVER_CONNECTED not in text:
        # A proxy may report the same words of its own connection to the server.
        return None
    if any(sign in text for sign in _NAME_SIGNS):
        return (
            "SERVER_NAME_MISMATCH",
            f"the certificate of {target} is for another name; use the name in the certificate as"
            " the address",
        )
    if _UNTRUSTED in text:
        for sign in _VALIDITY_SIGNS:
            if sign in text:
                return (
                    "SERVER_CERTIFICATE_EXPIRED",
                    f"{target}: its {sign}; renew it on the server, and check the clock of this"
                    " machine",
                )
        return (
            "SERVER_NOT_TRUSTED",
            f"no CA that this client trusts has issued the certificate of {target}; give the"
            " server's CA",
        )
    if any(sign in text for sign in _CLIENT_SIGNS):
        refused = client_certificate_refused(target)
        return refused.reason, refused.message
    if any(sign in text for sign in _PLAIN_SIGNS):
        return (
            "SERVER_WITHOUT_TLS",
            f"the server at {target} does not speak TLS; write http:// or nothing in front of"
            " host:port if plain text is meant",
        )
    if any(sign in text for sign in _HANDSHAKE_SIGNS):
        detail = text.partition("last error: ")[2] or text
        return "TLS_HANDSHAKE_FAILED", f"no TLS connection to {target}: {detail}"
    return None
