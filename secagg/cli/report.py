"""What ``simulate`` says about a round, as one JSON object or as tables."""

from __future__ import annotations

import platform
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from statistics import median
from typing import Any, Final

import numpy as np
from rich.console import Console

from secagg import __version__
from secagg.cli.inputs import EncodedInputs
from secagg.cli.output import fact_table, finite, power_of_two, ratio, seconds, size, table
from secagg.cli.rounds import middle, phase_summary
from secagg.config import RoundConfig
from secagg.testing import PHASES, Outcome
from secagg.testing.floor import measure, work_of

_LISTED_IDS: Final = 12
_LIBRARIES: Final = ("numpy", "numba", "cryptography", "pynacl", "msgspec")


@dataclass(frozen=True, kw_only=True)
class SimulatedRound:
    """A round that was run, with what was asked for."""

    config: RoundConfig
    outcome: Outcome
    inputs: EncodedInputs
    gamma: float
    delta: float
    seed: int | None
    compile_s: float
    full: int | None = None
    """How many clients ran in full; None for all of them."""


def report(run: SimulatedRound) -> dict[str, Any]:
    """The object that ``secagg simulate --json`` prints."""
    config, outcome = run.config, run.outcome
    exact, max_error = compare(run)
    client_floor, server_floor = floors(run)
    included = sorted(outcome.included)
    found: dict[str, Any] = {
        "ok": exact,
        "exact": exact,
        "abort": outcome.failure.reason if outcome.failure is not None else None,
        "clients": config.clients,
        "dim": run.inputs.encoder.template.size,
        "ring_bits": config.modulus.bits,
        "graph": "complete" if config.is_complete else "sparse",
        "neighbours": config.neighbours,
        "threshold": config.threshold,
        "included": included,
        "dropped": sorted(set(range(config.clients)) - set(included)),
        "dropped_in": {phase: sorted(outcome.dropped.get(phase, ())) for phase in PHASES},
        "phases": {phase: phase_summary(outcome.costs[phase]) for phase in PHASES},
        "client_cpu_s": client_cpu_s(outcome),
        "encode_s": median(run.inputs.encode_s.values()) if run.inputs.encode_s else 0.0,
        "server_cpu_s": sum(cost.server_cpu_s for cost in outcome.costs.values()),
        "client_floor_s": client_floor,
        "server_floor_s": server_floor,
        "upload_bytes": middle(per_client(outcome, "bytes_up")),
        "download_bytes": middle(per_client(outcome, "bytes_down")),
        "peak_rss_bytes": peak_rss_bytes(),
        "compile_s": run.compile_s,
        "max_error": max_error,
        "security": {
            "threat": config.threat_model.value,
            "gamma": run.gamma,
            "delta": run.delta,
            "sigma": config.sigma,
            "privacy_log2": finite(config.bounds.privacy_log2),
            "connectivity_log2": finite(config.bounds.connectivity_log2),
            "correctness_log2": finite(config.bounds.correctness_log2),
        },
        "versions": versions(),
    }
    if run.seed is not None:
        found["seeded"] = f"all randomness comes from seed {run.seed}: for tests only, never for a real round"
    if run.full is not None:
        found["full"] = min(run.full, config.clients)
    return found


def compare(run: SimulatedRound) -> tuple[bool, float | None]:
    """Whether the sum is exactly the plain one, and the largest error of the decoded mean; None without a sum."""
    result, encoder = run.outcome.result, run.inputs.encoder
    if result is None:
        return False, None
    encoded, plain = run.inputs.totals_of(result.included)
    if not np.array_equal(result.sum, encoded):
        return False, None
    decoded = run.inputs.flat(encoder.decode(result).mean)
    return True, float(np.abs(decoded - plain / len(result.included)).max())


def floors(run: SimulatedRound) -> tuple[float | None, float | None]:
    """The client's and the server's floor in seconds, measured now; None for an aborted round."""
    if run.outcome.result is None:
        return None, None
    costs = measure(run.config)
    client, server = work_of(run.outcome, run.config)
    return client.seconds(costs), server.seconds(costs)


def client_cpu_s(outcome: Outcome) -> float:
    """The median over the clients (in full) that stayed longest of their CPU time in all phases."""
    costs = [outcome.costs[phase].client_cpu_s for phase in PHASES]
    stayed = next((cost for cost in reversed(costs) if cost), {})
    spent = [sum(cost.get(client, 0.0) for cost in costs) for client in stayed]
    return median(spent) if spent else 0.0


def per_client(outcome: Outcome, what: str) -> Iterable[Any]:
    """A total over the phases for each client that answered in the last phase that anybody answered in."""
    costs = [outcome.costs[phase] for phase in PHASES]
    stayed = next((cost.bytes_up for cost in reversed(costs) if cost.bytes_up), {})
    return [sum(getattr(cost, what).get(client, 0) for cost in costs) for client in stayed]


def peak_rss_bytes() -> int | None:
    """The most memory that this process has held; None where the system does not tell."""
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def versions() -> dict[str, str]:
    """Of everything that has a part in the figures."""
    return {
        "secagg": __version__,
        "python": platform.python_version(),
        **{library: version(library) for library in _LIBRARIES},
    }


# Tables.


def show(found: Mapping[str, Any], config: RoundConfig, console: Console) -> None:
    """Print the report for a person."""
    _show_outcome(found, config, console)
    _show_phases(found, console)
    _show_security(found, config, console)
    if "full" in found:
        console.print(f"{found['full']:,} clients ran in full: their CPU times are above. The others' were prepared.")
    if "seeded" in found:
        console.print(f"Note: {found['seeded']}.", style="yellow")


def _show_outcome(found: Mapping[str, Any], config: RoundConfig, console: Console) -> None:
    rows = fact_table("The round")
    if found["ok"]:
        rows.add_row("outcome", "the sum is exact: it equals the plain sum of the included vectors")
    elif found["abort"] is not None:
        rows.add_row("outcome", f"ABORTED: {found['abort']}", style="red")
    else:
        rows.add_row("outcome", "WRONG: the sum differs from the plain sum of the included vectors", style="red")
    rows.add_row("clients", f"{found['clients']:,}, {len(found['included']):,} of them in the sum")
    for phase, members in found["dropped_in"].items():
        if members:
            inside = " (their vectors are in the sum)" if phase in ("CONFIRM", "UNMASK") else ""
            rows.add_row(f"lost in {phase}", f"{len(members):,}{inside}: {_listed(members)}")
    rows.add_row("vector", f"{found['dim']:,} elements of {found['ring_bits']} bits, {config.suite.name}")
    rows.add_row("graph", f"{found['graph']}, {found['neighbours']} neighbours, threshold {found['threshold']}")
    if found["max_error"] is not None:
        rows.add_row("error of the mean", f"at most {found['max_error']:.3g}, against floats")
    rows.add_row("memory", "-" if found["peak_rss_bytes"] is None else f"{size(found['peak_rss_bytes'])} at most")
    rows.add_row("compiling", f"{seconds(found['compile_s'])}, not counted below")
    rows.add_row("encoding", f"{seconds(found['encode_s'])} a client, not counted below")
    console.print(rows)


def _show_phases(found: Mapping[str, Any], console: Console) -> None:
    rows = table("CPU time and bytes", "phase", "client", "slowest", "server", "sent by a client", "sent to it")
    for phase, cost in found["phases"].items():
        if phase == "CONFIRM" and found["security"]["threat"] == "semi_honest":
            continue
        client = cost["client_cpu_s"]
        rows.add_row(
            phase,
            seconds(client["median"]),
            seconds(client["max"]),
            seconds(cost["server_cpu_s"]),
            size(cost["bytes_up"]),
            size(cost["bytes_down"]),
        )
    rows.add_section()
    totals = seconds(found["client_cpu_s"]), "", seconds(found["server_cpu_s"])
    rows.add_row("all", *totals, size(found["upload_bytes"]), size(found["download_bytes"]), style="bold")
    rows.add_row("floor", seconds(found["client_floor_s"]), "", seconds(found["server_floor_s"]))
    rows.add_row(
        "times the floor",
        ratio(found["client_cpu_s"], found["client_floor_s"]),
        "",
        ratio(found["server_cpu_s"], found["server_floor_s"]),
    )
    console.print(rows)
    console.print("Medians over clients. The floor: keystream, key agreements, signatures, one addition a vector.")


def _show_security(found: Mapping[str, Any], config: RoundConfig, console: Console) -> None:
    security = found["security"]
    console.print(
        f"\n{security['threat']}: up to {config.colluders} clients (gamma {security['gamma']:g}) may pool what they "
        f"know with the server, up to {config.dropouts} (delta {security['delta']:g}) may be lost.\n"
        f"Bounds on failure: privacy {power_of_two(security['privacy_log2'])}, "
        f"connectivity {power_of_two(security['connectivity_log2'])}, "
        f"correctness {power_of_two(security['correctness_log2'])}.",
        soft_wrap=True,
    )
    if security["threat"] == "semi_honest":
        console.print("The analysis supposes that dropouts do not depend on the neighbour graph.")


def _listed(members: list[int]) -> str:
    shown = ", ".join(map(str, members[:_LISTED_IDS]))
    return f"{shown}, ..." if len(members) > _LISTED_IDS else shown
