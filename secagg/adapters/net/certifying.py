"""What the service does for its rounds' certificates: one chain in a directory, in the order in which rounds end."""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import final

from secagg.adapters.net.clock import Clock
from secagg.adapters.net.round_spec import RoundSpec
from secagg.certificate_files import CertificateFiles
from secagg.identity import Identity
from secagg.machines import ServerMachine
from secagg.outcome import Result
from secagg.pairwise.certificate import Spent
from secagg.pairwise.messages import invitation_nonce
from secagg.privacy.layout import PrivateLayout


@final
class Certifier:
    """Signs the certificate of each round when it is over; calls may come from any thread."""

    def __init__(self, identity: Identity, files: CertificateFiles) -> None:
        """``identity`` is the server's, kept beyond rounds; ``files`` are the chain that grows."""
        self._identity, self.files = identity, files

    def certify(
        self,
        server: ServerMachine,
        spec: RoundSpec,
        result: Result | None,
        clock: Clock,
        statements: Mapping[int, bytes] = MappingProxyType({}),
    ) -> bytes:
        """The round's certificate, in its file before this returns; the one that is there, after a restart.

        ``statements`` are those of members of an aborted round that they did not answer, each checked before.  Raises
        CertificateError and OSError.
        """
        time, spent = max(0, int(clock.wall())), spent_by(spec, result)
        return self.files.add(
            server.config.to_bytes(),
            invitation_nonce(server.invitation()),
            lambda last: server.certificate(
                self._identity, previous=last, name=spec.name, time=time, spent=spent, statements=statements
            ),
        )


def spent_by(spec: RoundSpec, result: Result | None) -> Spent | None:
    """What a private round's sum took; None for a round without noise, without a sum, or without an accountant."""
    if result is None or not isinstance(spec.layout, PrivateLayout):
        return None
    try:
        report = spec.layout.terms.report(spec.config, len(result.included))
    except ModuleNotFoundError:  # without the extra that accounts for privacy
        return None
    return Spent(report.round_epsilon, report.delta) if math.isfinite(report.round_epsilon) else None
