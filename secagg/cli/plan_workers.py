"""What a plan says about workers: how MASK and UNMASK of a long round are shared out, and what each worker takes."""

from __future__ import annotations

from typing import Any, Final

from rich.table import Table

from secagg.cli.calibration import Expected
from secagg.cli.output import seconds, size, table
from secagg.pairwise.config import RoundConfig
from secagg.pairwise.phases import Phase
from secagg.pairwise.records import COMMITMENTS_BYTES, sealed_bytes
from secagg.pairwise.sums import MaskedSums
from secagg.primitives import masking

COUNTS: Final = (1, 8, 64)
"""The numbers of workers that a plan shows unless it is told one."""
_WORTH_SHARING_S: Final = 60.0
"""Of the server's MASK and UNMASK together: below that, a plan says nothing about workers unless it is asked."""


def worker_facts(config: RoundConfig, expected: Expected, workers: int | None) -> list[dict[str, Any]]:
    """What ``--json`` prints of workers: an object for each number of them; none where one thread is enough."""
    if workers is not None:
        return [_facts(config, expected, count) for count in sorted({1, workers})]
    busy = expected.server_s[Phase.MASK] + expected.server_s[Phase.UNMASK]
    return [_facts(config, expected, count) for count in COUNTS] if busy >= _WORTH_SHARING_S else []


def _facts(config: RoundConfig, expected: Expected, workers: int) -> dict[str, Any]:
    survivors = config.clients - config.dropouts
    each, message = -(-survivors // workers), config.max_message_bytes(Phase.MASK)
    sums, lanes = MaskedSums.size(config), config.masked_length * config.masked_modulus.dtype.itemsize
    blocks = masking.blocks(lanes, workers)
    pairs = config.clients * config.neighbours * (sealed_bytes(config.suite) + COMMITMENTS_BYTES)
    merged = workers if workers > 1 else 0
    return {
        "workers": workers,
        "intake": {
            "vectors": each,
            "bytes_received": each * message,
            "cpu_s": expected.server_s[Phase.MASK] / workers,
            "memory_bytes": sums + message,
        },
        "merge": {"bytes": merged * sums, "cpu_s": merged * expected.costs.add_s * config.groups},
        "unmask": {
            "blocks": blocks,
            "cpu_s": expected.server_s[Phase.UNMASK] / workers,
            "memory_bytes": -(-lanes // blocks),
        },
        # The sum, the one without masks, and what an executor's jobs return; shares and commitments of all pairs.
        "server_memory_bytes": 3 * sums + pairs,
    }


def worker_tables(found: list[dict[str, Any]]) -> tuple[Table, Table]:
    """The same for a person: one table for MASK, and one for UNMASK."""
    masking_rows = table(
        "MASK shared out", "workers", "vectors each", "received each", "CPU each", "memory each", "merging them"
    )
    unmasking_rows = table("UNMASK shared out", "workers", "blocks", "CPU each", "memory per block", "server's memory")
    for facts in found:
        workers, intake, unmask = f"{facts['workers']:,}", facts["intake"], facts["unmask"]
        masking_rows.add_row(
            workers,
            f"{intake['vectors']:,}",
            size(intake["bytes_received"]),
            seconds(intake["cpu_s"]),
            size(intake["memory_bytes"]),
            seconds(facts["merge"]["cpu_s"]),
        )
        unmasking_rows.add_row(
            workers,
            f"{unmask['blocks']:,}",
            seconds(unmask["cpu_s"]),
            size(unmask["memory_bytes"]),
            size(facts["server_memory_bytes"]),
        )
    return masking_rows, unmasking_rows
