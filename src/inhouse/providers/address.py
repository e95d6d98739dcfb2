"""Where an endpoint is, and its key: from an environment variable only, never in a message."""

import os
import socket
from ipaddress import IPv4Address, IPv6Address, ip_address
from urllib.parse import urlsplit

from pydantic import SecretStr


def is_address(text: str) -> bool:
    """Whether it is meant as an endpoint's address rather than a folder."""
    return text.lower().startswith(("http://", "https://"))


def check_address(url: str) -> str:
    """The address, without a slash behind it and with /v1 where it has no path. Raises `ValueError` with a sentence."""
    try:
        parts = urlsplit(url)
        is_whole = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        raise ValueError("this is no address of an endpoint: give one such as https://api.example.com/v1") from None
    if parts.username is not None or parts.password is not None or parts.query or parts.fragment:
        raise ValueError(
            "an endpoint's address has no user, password, query or fragment: give the key as an environment variable"
        )
    if not is_whole:
        raise ValueError(f"{url[:200]!r} is no address of an endpoint: give one such as https://api.example.com/v1")
    if _is_metadata(parts.hostname or ""):
        raise ValueError(f"{parts.hostname} is where a cloud keeps its machines' credentials, no endpoint")
    path = parts.path.rstrip("/") or "/v1"
    return f"{parts.scheme}://{parts.netloc}{path}"


# those of clouds that are not link-local
_METADATA = ("metadata.google.internal", "metadata", "fd00:ec2::254", "100.100.100.200")


def _is_metadata(host: str) -> bool:
    """Whether this is a cloud's metadata service, in any spelling of its number. Other private addresses are where
    models of one's own are, and addresses come from the configuration alone."""
    address = _number(host)
    return host.rstrip(".") in _METADATA or (
        address is not None and (address.is_link_local or str(address) in _METADATA)
    )


def _number(host: str) -> IPv4Address | IPv6Address | None:
    try:
        address = ip_address(host)
    except ValueError:
        try:
            return IPv4Address(socket.inet_aton(host))  # 2852039166, 0xa9fea9fe, 169.254.43518
        except (OSError, UnicodeError):
            return None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address


def key_from(variable: str | None) -> SecretStr | None:
    """The key in this environment variable, if one is named. Raises `ValueError` where there is none, or no proper one:
    the message has the variable's name and never what it holds."""
    if variable is None:
        return None
    key = os.environ.get(variable, "").strip()
    if not key:
        raise ValueError(f"the environment variable {variable} is empty or not set: put the endpoint's key into it")
    if not (key.isascii() and key.isprintable()) or " " in key:
        raise ValueError(f"what the environment variable {variable} holds is no key: it has spaces or strange letters")
    return SecretStr(key)
