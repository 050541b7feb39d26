"""A Kafka broker with SASL_SSL listeners, each with a certificate of its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final

from pydantic import SecretStr

from sluice_backends.kafka.options import KafkaOptions, SaslMechanism, SecurityProtocol
from support.certificates import Authority, Issued
from support.kafka_broker import KafkaBroker
from support.redis_server import free_port

USER: Final = "sluice"
PASSWORD: Final = "hush-hush"
_JAAS: Final = (
    "org.apache.kafka.common.security.plain.PlainLoginModule required "
    f'username="{USER}" password="{PASSWORD}" user_{USER}="{PASSWORD}";'
)


class TlsKafkaBroker(KafkaBroker):
    """A broker that clients reach by SASL_SSL, at one port per certificate.

    Args:
        certificates: by the listener's name.
    """

    def __init__(
        self, folder: Path, authority: Authority, certificates: Mapping[str, Issued]
    ) -> None:
        super().__init__(folder)
        self._ca_file = folder / "ca.pem"
        self._ca_file.write_bytes(authority.pem)
        self._ports = {name: free_port() for name in certificates}
        names = {name: f"TLS{number}" for number, name in enumerate(certificates)}
        lines: dict[str, str] = {"sasl.enabled.mechanisms": "PLAIN"}
        for name, issued in certificates.items():
            keystore = folder / f"{names[name]}.pem"
            keystore.write_bytes(issued.key + issued.cert)
            prefix = f"listener.name.{names[name].lower()}"
            lines |= {
                f"{prefix}.ssl.keystore.type": "PEM",
                f"{prefix}.ssl.keystore.location": str(keystore),
                f"{prefix}.plain.sasl.jaas.config": _JAAS,
            }
        added = {names[name]: f"127.0.0.1:{port}" for name, port in self._ports.items()}
        self.configure(
            {
                **lines,
                "listeners": _listeners(added),
                "advertised.listeners": _listeners(added),
                "listener.security.protocol.map": ",".join(f"{one}:SASL_SSL" for one in added),
            }
        )

    def tls_options(self, name: str) -> KafkaOptions:
        """Return the options of a client that uses this listener and trusts the authority."""
        return replace(
            self.options,
            bootstrap_servers=f"127.0.0.1:{self._ports[name]}",
            security_protocol=SecurityProtocol.SASL_SSL,
            sasl_mechanism=SaslMechanism.PLAIN,
            username=USER,
            password=SecretStr(PASSWORD),
            ca_file=self._ca_file,
        )


def _listeners(addresses: Mapping[str, str]) -> str:
    return ",".join(f"{name}://{address}" for name, address in addresses.items())
