"""The URL of a round, and what may stand behind it."""

from __future__ import annotations

import ipaddress
import re
import socket
import ssl
from typing import Final
from urllib.parse import urlsplit

from secagg.errors import ParameterError

_DEFAULT_ROUND: Final = "default"
_ROUND_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_DEFAULT_PORTS: Final = {"ws": 80, "wss": 443}
_PROBE_SECONDS: Final = 5.0
"""To find out whether what answers there speaks TLS, for an error message alone."""


def check_url(url: str, *, plaintext: bool) -> None:
    """Raises ParameterError for anything but ``wss://host[:port]/round``, or ``ws`` to this machine when allowed."""
    parts = urlsplit(url)
    if parts.scheme not in _DEFAULT_PORTS or not parts.hostname:
        raise ParameterError(f"{url!r}: give wss://HOST:PORT/ROUND")
    try:
        port = parts.port
    except ValueError:
        port = 0
    if port == 0:
        raise ParameterError(f"{url!r}: the port must be a whole number from 1 to 65535; give wss://HOST:PORT/ROUND")
    if parts.scheme == "ws" and not (plaintext and is_loopback(parts.hostname)):
        raise ParameterError(
            f"{url!r}: without TLS anybody on the way can take part in your name; ws is for this machine alone, with "
            "--insecure-plaintext"
        )


def is_round_name(name: str) -> bool:
    """Whether a round can have this name: letters, digits, ``.``, ``_`` and ``-``, at most 64."""
    return _ROUND_NAME.fullmatch(name) is not None


def round_of(url: str) -> str:
    """The name of the round that a URL leads to."""
    return urlsplit(url).path.strip("/") or _DEFAULT_ROUND


def host_and_port(url: str) -> str:
    """As a person writes them: ``sum.example.org:443``, ``[::1]:8443``."""
    return urlsplit(canonical(url)).netloc


def canonical(url: str) -> str:
    """One spelling for all the URLs of one round: host in lower case, port and round spelt out."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    host = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{host}:{parts.port or _DEFAULT_PORTS[parts.scheme]}/{round_of(url)}"


def is_loopback(host: str) -> bool:
    """Whether a host name or address is this machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def speaks_tls(url: str) -> bool:
    """Whether the port of a ``ws`` URL answers a TLS handshake.  Blocks for some seconds at most."""
    parts = urlsplit(url)
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # nothing is said on this connection
    address = (parts.hostname or "", parts.port or _DEFAULT_PORTS["ws"])
    try:
        with (
            socket.create_connection(address, _PROBE_SECONDS) as plain,
            context.wrap_socket(plain, server_hostname=parts.hostname),
        ):
            return True
    except OSError:
        return False
