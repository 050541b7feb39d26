"""Addresses of objects: path style and virtual-host style, by botocore's rules. Pure."""

from __future__ import annotations

import ipaddress
import re
from typing import Final
from urllib.parse import quote, urlsplit

from sluice_backends.s3.options import S3Options
from sluice_backends.s3.sigv4 import Target
from sluice_core.errors import InvalidArgument
from sluice_core.uploads.model import ObjectRef

_DEFAULT_PORTS: Final = {"http": 80, "https": 443}
_BUCKET: Final = re.compile(r"[A-Za-z0-9._-]{1,255}")
_HOST_LABEL: Final = re.compile(r"(?!-)[a-z0-9-]{1,63}(?<!-)")
_IPV4_LIKE: Final = re.compile(r"\d+\.\d+\.\d+\.\d+")
_MIN_HOST_BUCKET_CHARACTERS: Final = 3


class Addressing:
    """Translates objects to addresses at one endpoint.

    Args:
        endpoint_url: http(s) URL of the store, possibly with a path.
        path_style: `endpoint/bucket/key` instead of `bucket.endpoint/key`. A bucket that cannot be
            part of a host name, and an endpoint that is an IP address, have path style anyway.
    """

    def __init__(self, endpoint_url: str, *, path_style: bool) -> None:
        parts = urlsplit(endpoint_url)
        self._scheme = parts.scheme
        self._authority = parts.netloc
        self._path = parts.path.rstrip("/")
        hostname = parts.hostname or ""
        host = f"[{hostname}]" if ":" in hostname else hostname
        is_default_port = parts.port in (None, _DEFAULT_PORTS.get(parts.scheme))
        self._host = host if is_default_port else f"{host}:{parts.port}"
        self._path_style = path_style or _is_ip_address(hostname)

    def target(self, ref: ObjectRef) -> Target:
        """Return the address of an object. Raises `InvalidArgument` BAD_BUCKET."""
        if _BUCKET.fullmatch(ref.bucket) is None:
            raise InvalidArgument(
                "BAD_BUCKET",
                "The object store cannot have such a bucket or key; correct the drive.",
                log_detail=f"bucket {ref.bucket!r}",
            )
        key = quote(ref.key, safe="/~")
        if self._path_style or not self._is_in_host_name(ref.bucket):
            origin = f"{self._scheme}://{self._authority}"
            return Target(origin, self._host, f"{self._path}/{ref.bucket}/{key}")
        origin = f"{self._scheme}://{ref.bucket}.{self._authority}"
        return Target(origin, f"{ref.bucket}.{self._host}", f"{self._path}/{key}")

    def _is_in_host_name(self, bucket: str) -> bool:
        """Return whether the bucket can precede the host.

        Under https its name must not have dots: a wildcard certificate covers one label.
        """
        if len(bucket) < _MIN_HOST_BUCKET_CHARACTERS or _IPV4_LIKE.fullmatch(bucket):
            return False
        labels = bucket.split(".") if self._scheme == "http" else [bucket]
        return all(_HOST_LABEL.fullmatch(label) for label in labels)


def signed_urls_origin(options: S3Options, bucket: str) -> str:
    """Return the origin of the presigned URLs of a bucket, without opening a client.

    Raise `InvalidArgument` BAD_BUCKET.
    """
    domain = "amazonaws.com.cn" if options.region.startswith("cn-") else "amazonaws.com"
    endpoint = (
        options.public_endpoint_url
        or options.endpoint_url
        or f"https://s3.{options.region}.{domain}"
    )
    addressing = Addressing(endpoint, path_style=options.addressing_style == "path")
    return addressing.target(ObjectRef(bucket, "")).origin


def _is_ip_address(hostname: str) -> bool:
    try:
        ipaddress.ip_address(hostname)
    except ValueError:
        return False
    return True
