"""What the status page, the metrics and the table on the terminal show of a round: names, and nothing secret."""

from __future__ import annotations

from typing import Any

from secagg.adapters.net.ballot_count import tally_of
from secagg.adapters.net.ballot_layout import BallotLayout
from secagg.adapters.net.hosted import HostedRound


def status_of(hosted: HostedRound) -> dict[str, Any]:
    """Where a round stands.

    ``awaited`` are the names of those that the phase waits for, ``lost`` those that it lost, by phase, and ``refusals``
    what was refused: whose message, in which phase, by which code; ``by_client`` says that the client itself refused
    and left, with its ABORT code.  ``group_anomalies`` is there after the sum of a round with groups.  ``ballot`` has
    the digest of a ballot's candidate, and at the end the count and the verdict; it is None for other rounds.
    """
    progress, ending, name_of = hosted.progress(), hosted.ending, hosted.spec.name_of
    config = hosted.config
    return {
        "name": hosted.name,
        "phase": hosted.phase,
        "threat_model": config.threat_model.value,
        "clients": config.clients,
        "min_survivors": config.min_survivors,
        "groups": config.groups,
        "min_group": config.min_group,
        "may_be_lost": config.dropouts,
        "open": hosted.seats.is_open,
        "seated": len(hosted.seats.bound),
        "offered": len(hosted.seats.taken - hosted.seats.bound),
        "length": config.length,
        "arrived": progress.arrived,
        "expected": progress.expected,
        "seconds_left": progress.seconds_left,
        "awaited": [name_of(seat) for seat in hosted.awaited],
        "lost": {phase: [name_of(seat) for seat in seats] for phase, seats in hosted.dropped.items()},
        "phase_seconds": {phase: round(seconds, 3) for phase, seconds in list(hosted.phase_seconds.items())},
        "refused": dict(hosted.refused),
        "refusals": [
            {
                "client": name_of(record.seat),
                "phase": record.phase,
                "code": record.code,
                "by_client": record.by_client,
            }
            for record in hosted.standing.records
        ],
        "included": len(ending.included) if ending else 0,
        "failure": ending.failure if ending else "",
        "told": len(hosted.informed),
        "group_anomalies": hosted.group_anomalies,
        "ballot": _ballot_of(hosted),
    }


def _ballot_of(hosted: HostedRound) -> dict[str, Any] | None:
    layout, ending = hosted.spec.layout, hosted.ending
    if not isinstance(layout, BallotLayout):
        return None
    return layout.as_json(tally_of(layout, hosted.config, ending) if ending and not ending.failure else None)
