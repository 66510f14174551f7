"""Why a client has no connection: what does not mend itself ends the client, all else is said and tried again."""

from __future__ import annotations

import asyncio
import errno
import socket
import ssl
from typing import Final

from websockets.exceptions import ConnectionClosed, InvalidMessage, InvalidStatus

from secagg.adapters.net import reasons
from secagg.adapters.net.addresses import host_and_port, round_of, speaks_tls
from secagg.adapters.net.closings import open_rounds_on
from secagg.adapters.net.frames import Refusal, RefusedError
from secagg.adapters.net.membership import NotTrustedError
from secagg.errors import ParameterError

_NO_TLS_THERE: Final = frozenset(
    {"WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "HTTP_REQUEST", "PACKET_LENGTH_TOO_LONG"}
)
_NOT_FOUND: Final = 404
_GONE: Final = 410
_TOO_MANY_CONNECTIONS: Final = 503
_MEND_THEMSELVES: Final = frozenset({408, 425, 429})
"""Of HTTP's 4xx: too slow, too early, too often."""


async def trouble_of(failure: Exception, url: str) -> str:
    """What to say of a failure after which to try again: what happened, and what to look at.

    Raises what ends the client: NotTrustedError, ParameterError, RefusedError.
    """
    match failure:
        case ssl.SSLCertVerificationError():
            raise NotTrustedError(
                f"the server's certificate is not trusted ({failure.verify_message}); give the certificate of the "
                "authority that signed it with --ca"
            ) from None
        case ssl.SSLError() if getattr(failure, "reason", "") in _NO_TLS_THERE:
            raise ParameterError(
                f"what answers at {url} speaks no TLS: check host and port; a server on this machine with "
                "--insecure-plaintext is reached by ws://"
            ) from None
        case InvalidMessage() if url.startswith("ws:") and await asyncio.to_thread(speaks_tls, url):
            raise ParameterError(
                f"the server at {url} speaks TLS: give wss://, with --ca for a demo certificate, and leave "
                "--insecure-plaintext out"
            ) from None
        case InvalidStatus():
            return _trouble_of_status(failure, url)
    return _trouble_of_network(failure, host_and_port(url))


def _trouble_of_status(failure: InvalidStatus, url: str) -> str:
    code = failure.response.status_code
    if code == _NOT_FOUND:
        raise reasons.no_such_round(round_of(url), open_rounds_on(bytes(failure.response.body))) from None
    if code == _GONE:
        raise reasons.series_over(round_of(url)) from None
    if 400 <= code < 500 and code not in _MEND_THEMSELVES:
        raise RefusedError(Refusal.OTHER, f"the server refuses to connect: HTTP status {code}") from None
    if code == _TOO_MANY_CONNECTIONS:
        return f"the server at {host_and_port(url)} has as many connections as it takes (HTTP status {code})"
    return f"the server at {host_and_port(url)} cannot serve this client now (HTTP status {code})"


def _trouble_of_network(failure: Exception, where: str) -> str:
    match failure:
        case socket.gaierror():
            return f"the name in {where} is not known ({failure.strerror}): check the URL, and this machine's network"
        case OSError() if _is_refused(failure):
            return (
                f"nobody listens at {where} (connection refused): the server is not started yet, or its rounds are "
                "over and it has ended; check host and port, or ask whoever runs it"
            )
        case TimeoutError():
            return (
                f"{where} does not answer in time: the server is busy, or a firewall is in between; check host and port"
            )
        case ConnectionClosed():
            return f"the connection to {where} broke ({failure})"
    return f"no connection to {where} ({str(failure) or type(failure).__name__})"


def _is_refused(failure: OSError) -> bool:
    """Also where a name has several addresses, and asyncio joins what each of them said."""
    return isinstance(failure, ConnectionRefusedError) or f"[Errno {errno.ECONNREFUSED}]" in str(failure)
