"""An S3 server: SeaweedFS, or MinIO or versitygw on request."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Final

import botocore.session  # type: ignore[import-untyped]
from botocore.config import Config  # type: ignore[import-untyped]
from botocore.exceptions import BotoCoreError, ClientError  # type: ignore[import-untyped]

from tools.backends.errors import NotReadyError
from tools.backends.ports import PortPicker
from tools.backends.s3_servers import (
    CHOICE,
    REGION,
    STARTERS,
    Account,
    find_server,
    version_of,
)
from tools.backends.server_choice import Choice
from tools.backends.service import Facts, Launch, Service

ACCESS_KEY: Final = "sluice"
BUCKET: Final = "sluice"
CONNECT_SECONDS: Final = 2
ANSWER_SECONDS: Final = 10


class S3(Service):
    name: ClassVar[str] = "s3"
    choice: ClassVar[Choice | None] = CHOICE

    def prepare(self, ports: PortPicker, before: Mapping[str, int]) -> Launch:
        kind, program = find_server(install=True)
        account = Account(ACCESS_KEY, self.secret())
        start = STARTERS[kind](program, self.home, account, ports, before, self.tls)
        scheme = "http" if self.tls is None else "https"
        facts = {
            "endpoint_url": f"{scheme}://127.0.0.1:{start.ports['s3']}",
            "region": REGION,
            "access_key": account.access_key,
            "secret_key": account.secret_key,
            "bucket": BUCKET,
            "kind": kind,
            "version": version_of(kind, program),
        }
        return Launch(start.command, start.ports, facts, start.environment)

    def confirm(self, facts: Facts) -> Facts:
        client = make_client(facts)
        try:
            buckets = [bucket["Name"] for bucket in client.list_buckets().get("Buckets", [])]
            if facts["bucket"] not in buckets:
                client.create_bucket(Bucket=facts["bucket"])
        except (BotoCoreError, ClientError) as error:
            raise NotReadyError(str(error)) from error
        finally:
            client.close()
        return facts

    def leftovers(self, ports: Mapping[str, int]) -> list[Path]:
        # SeaweedFS chooses the place of these, and leaves some behind when it stops.
        named = (name.removesuffix(".grpc") for name in ports if name.endswith(".grpc"))
        return [Path(f"/tmp/seaweedfs-{part}-grpc-{ports[f'{part}.grpc']}.sock") for part in named]


def make_client(facts: Facts) -> Any:
    """Return a plain client: botocore creates its classes at run time, so no type exists."""
    return botocore.session.get_session().create_client(
        "s3",
        endpoint_url=facts["endpoint_url"],
        region_name=facts["region"],
        aws_access_key_id=facts["access_key"],
        aws_secret_access_key=facts["secret_key"],
        verify=facts.get("ca_file"),
        config=Config(
            connect_timeout=CONNECT_SECONDS,
            read_timeout=ANSWER_SECONDS,
            retries={"total_max_attempts": 1},
            s3={"addressing_style": "path"},
        ),
    )
