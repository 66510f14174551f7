"""What ``simulate`` says about a round, as one JSON object or as tables."""

from __future__ import annotations

import platform
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from secagg import __version__
from secagg.cli.array_files import write_arrays
from secagg.cli.complaints import add_complaints, complaint_facts
from secagg.cli.groups import add_groups, graph_name, group_facts
from secagg.cli.inputs import RoundInputs
from secagg.cli.output import fact_table, finite, power_of_two, ratio, seconds, size, table
from secagg.cli.precision import ArrayPrecision, precision_of, warnings_of
from secagg.cli.rounds import lower_median, phase_summary
from secagg.encoding import Exact, Mean
from secagg.encoding.sums import sums_by_name
from secagg.pairwise.config import RoundConfig
from secagg.pairwise.phases import WITHOUT_COMPLAINTS, Phase, ThreatModel
from secagg.simulation import Outcome
from secagg.simulation.costs import measure, work_of
from secagg.wording import counted, was

_LISTED_IDS: Final = 12
_LISTED_ARRAYS: Final = 12
"""Clients' ids in one line, and arrays in a table: what fits on a screen."""
MOST_PRINTED: Final = 1000
"""The values of an exact array that are printed; those of a larger one are in ``--output`` alone."""
_LIBRARIES: Final = ("numpy", "numba", "cryptography", "pynacl", "msgspec")


@dataclass(frozen=True, kw_only=True)
class SimulatedRound:
    """A round that was run, with what was asked for."""

    config: RoundConfig
    outcome: Outcome
    inputs: RoundInputs[Any]
    gamma: float | None
    delta: float
    seed: int | None
    compile_s: float
    full: int | None = None
    """How many clients ran in full; None for all of them."""
    output: Path | None = None
    """Where the sum is to be written."""


def report(run: SimulatedRound) -> dict[str, Any]:
    """The object that ``secagg simulate --json`` prints; writes the sum first, where there is one to be written."""
    decoded, max_error = compare(run)
    exact = decoded is not None
    if decoded is not None and run.output is not None:
        write_arrays(run.output, sums(run, decoded))
    arrays = precision(run)
    return {
        **round_facts(run, exact=exact, max_error=max_error),
        "error_bound": max(array.error_bound for array in arrays),
        "clipped": decoded.clipped if decoded is not None else None,
        "arrays": {array.name: array.as_json() for array in arrays},
        "exact_sums": exact_sums(run, decoded),
        "warnings": [*run.inputs.updates.warnings, *warnings_of(arrays), *_wide(run, decoded)],
    }


def round_facts(run: SimulatedRound, *, exact: bool, max_error: float | None) -> dict[str, Any]:
    """What there is to say of every simulated round, whether it is private or not.

    Args:
        run: the round.
        exact: whether its sum is the plain one of the vectors.
        max_error: the largest error of the mean, against the values as they were given; None without a sum.
    """
    config, outcome = run.config, run.outcome
    client_floor, server_floor = floors(run)
    included = sorted(outcome.included)
    found: dict[str, Any] = {
        "ok": exact,
        "exact": exact,
        "abort": outcome.failure.reason if outcome.failure is not None else None,
        "clients": config.clients,
        "dim": run.inputs.encoder.template.size,
        "ring_bits": config.modulus.bits,
        "graph": graph_name(config),
        "groups": group_facts(config, outcome),
        "carrier": config.carrier.value,
        "complaints": complaint_facts(config),
        "neighbours": config.neighbours,
        "threshold": config.threshold,
        "included": included,
        "dropped": sorted(set(range(config.clients)) - set(included)),
        "dropped_in": {phase: sorted(outcome.dropped.get(phase, ())) for phase in _told(config)},
        "phases": {phase: phase_summary(outcome.costs[phase]) for phase in _told(config)},
        "client_cpu_s": client_cpu_s(outcome),
        "encode_s": median(run.inputs.encode_s.values()) if run.inputs.encode_s else 0.0,
        "server_cpu_s": sum(cost.server_cpu_s for cost in outcome.costs.values()),
        "client_floor_s": client_floor,
        "server_floor_s": server_floor,
        "upload_bytes": lower_median(per_client(outcome, "bytes_up")),
        "download_bytes": lower_median(per_client(outcome, "bytes_down")),
        "peak_rss_bytes": peak_rss_bytes(),
        "compile_s": run.compile_s,
        "max_error": max_error,
        "output": str(run.output) if run.output is not None and exact else None,
        "security": {
            "threat": config.threat_model.value,
            "gamma": run.gamma,
            "delta": run.delta,
            "colluders": config.colluders,
            "dropouts": config.dropouts,
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


def precision(run: SimulatedRound) -> list[ArrayPrecision]:
    """What each array keeps; of all clients, where the round was aborted."""
    included = run.outcome.included or range(run.config.clients)
    inputs = run.inputs
    return precision_of(
        inputs.encoder,
        inputs.updates.layout,
        largest=inputs.largest,
        clipped=inputs.clipped_of(included),
        count=len(included),
    )


def sums(run: SimulatedRound, decoded: Mean) -> dict[str, npt.NDArray[Any]]:
    """The sum by array, as ``--output`` writes it."""
    decimals = {name: exact.decimals for name, exact in _exact_arrays(run).items()}
    return sums_by_name(decoded, run.inputs.encoder.template, decimals)


def exact_sums(run: SimulatedRound, decoded: Mean | None) -> dict[str, list[str]]:
    """The sums of exact arrays as decimal numbers, flat; of arrays that are not too large to print."""
    if decoded is None:
        return {}
    return {
        name: [f"{Decimal(int(units)).scaleb(-exact.decimals):f}" for units in decoded.totals[name].reshape(-1)]
        for name, exact in _exact_arrays(run).items()
        if decoded.totals[name].size <= MOST_PRINTED
    }


def _exact_arrays(run: SimulatedRound) -> dict[str, Exact]:
    return run.inputs.updates.layout.exact_of(leaf.name for leaf in run.inputs.encoder.template.leaves)


def _wide(run: SimulatedRound, decoded: Mean | None) -> Iterator[str]:
    """Arrays whose exact sums a file's float64 cannot hold."""
    if decoded is None or run.output is None:
        return
    for name, exact in _exact_arrays(run).items():
        totals = decoded.totals[name]
        largest = max((abs(int(units)) for units in (totals.max(), totals.min())), default=0) if totals.size else 0
        if largest > (2**53 if exact.decimals else 2**64 - 1):
            yield (
                f"{name}: its sum has more digits than a float64, so that {run.output} has the nearest value; the JSON "
                f"object has all digits of arrays of up to {counted(MOST_PRINTED, 'value')}"
            )


def compare(run: SimulatedRound) -> tuple[Mean | None, float | None]:
    """The decoded sum if it is exactly the plain one, and the largest error of its mean; None and None otherwise."""
    result = run.outcome.result
    if result is None:
        return None, None
    encoded, plain = run.inputs.totals_of(result.included)
    if not np.array_equal(result.sum, encoded) or not _groups_are_plain_sums(run):
        return None, None
    decoded = run.inputs.encoder.decode_sum(result.sum, len(result.included))
    return decoded, float(np.abs(run.inputs.flat(decoded.mean) - plain / len(result.included)).max())


def _groups_are_plain_sums(run: SimulatedRound) -> bool:
    """Whether the sum of each group is the plain one of its members; without groups it is the round's own."""
    if run.config.groups == 1 or run.outcome.result is None:
        return True
    groups = run.outcome.result.groups
    return all(np.array_equal(group.sum, run.inputs.encoded_again(group.included)) for group in groups)


def _told(config: RoundConfig) -> tuple[Phase, ...]:
    """The phases that a report names: CONFIRM in each threat model, those of complaints in rounds that have them."""
    return tuple(Phase) if config.complaints else WITHOUT_COMPLAINTS


def floors(run: SimulatedRound) -> tuple[float | None, float | None]:
    """The client's and the server's floor in seconds, measured now; None for an aborted round."""
    if run.outcome.result is None:
        return None, None
    costs = measure(run.config)
    client, server = work_of(run.outcome, run.config)
    return client.seconds(costs), server.seconds(costs)


def client_cpu_s(outcome: Outcome) -> float:
    """The median over the clients (in full) that stayed longest of their CPU time in all phases."""
    costs = [outcome.costs[phase].client_cpu_s for phase in Phase]
    stayed = next((cost for cost in reversed(costs) if cost), {})
    spent = [sum(cost.get(client, 0.0) for cost in costs) for client in stayed]
    return median(spent) if spent else 0.0


def per_client(outcome: Outcome, what: str) -> Iterable[Any]:
    """A total over the phases for each client that answered in the last phase that anybody answered in."""
    costs = [outcome.costs[phase] for phase in Phase]
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
    _show_arrays(found, console)
    _show_exact_sums(found, console)
    show_costs(found, config, console)
    if found["output"] is not None:
        console.print(f"The sum is in {found['output']}.", soft_wrap=True, markup=False)
    show_notes(found, console)


def show_notes(found: Mapping[str, Any], console: Console) -> None:
    """Print the warnings, and that a seeded round is a test."""
    for warning in found["warnings"][:_LISTED_ARRAYS]:
        console.print(f"Warning: {warning}", style="yellow", soft_wrap=True, markup=False)
    if len(found["warnings"]) > _LISTED_ARRAYS:
        more = len(found["warnings"]) - _LISTED_ARRAYS
        console.print(f"Not shown: {counted(more, 'more warning')}. --json prints all of them.", style="yellow")
    if "seeded" in found:
        console.print(f"Note: {found['seeded']}.", style="yellow")


def show_costs(found: Mapping[str, Any], config: RoundConfig, console: Console) -> None:
    """Print what the round took, and what its protocol rests on."""
    _show_phases(found, config, console)
    _show_security(found, config, console)
    if "full" in found:
        console.print(
            f"The CPU times are those of {counted(found['full'], 'client')} that ran in full. The messages of the "
            "others were made in a cheaper way."
        )


def _show_outcome(found: Mapping[str, Any], config: RoundConfig, console: Console) -> None:
    rows = fact_table("The round")
    outcome = _outcome(found) if found["ok"] else ""
    add_outcome(rows, found, config, outcome)
    if found["max_error"] is not None:
        met, bound = found["max_error"], found["error_bound"]
        rows.add_row("error of the mean", f"{met:.3g} at most, against the mean of the values as they were given")
        rows.add_row("its bound", f"{bound:.3g}, for values that were not clipped")
    add_machine(rows, found)
    console.print(rows)


def add_outcome(rows: Table, found: Mapping[str, Any], config: RoundConfig, outcome: str) -> None:
    """How the round ended, and who was in it; ``outcome`` is what to say of a good end."""
    if found["ok"]:
        rows.add_row("outcome", outcome)
    elif found["abort"] is not None:
        rows.add_row("outcome", f"ABORTED: {found['abort']}", style="red")
    else:
        rows.add_row("outcome", "WRONG: the sum differs from the plain sum of the included vectors", style="red")
    rows.add_row("clients", f"{found['clients']:,}, {len(found['included']):,} of them in the sum")
    for phase, members in found["dropped_in"].items():
        if members:
            inside = " (their vectors are in the sum)" if Phase(phase).has_sum else ""
            rows.add_row(f"lost in {phase}", f"{len(members):,}{inside}: {_listed(members)}")
    rows.add_row(
        "vector", f"{counted(found['dim'], 'element')} of {counted(found['ring_bits'], 'bit')}, {config.suite.name}"
    )
    rows.add_row(
        "graph", f"{found['graph']}, {counted(found['neighbours'], 'neighbour')}, threshold {found['threshold']}"
    )
    add_groups(rows, config, found["groups"])
    add_complaints(rows, config)


def add_machine(rows: Table, found: Mapping[str, Any]) -> None:
    """What this process took."""
    rows.add_row("memory", "-" if found["peak_rss_bytes"] is None else f"{size(found['peak_rss_bytes'])} at most")
    rows.add_row("compiling", f"{seconds(found['compile_s'])} (not counted below)")
    rows.add_row("encoding", f"{seconds(found['encode_s'])} per client (not counted below)")


def _outcome(found: Mapping[str, Any]) -> str:
    if not found["clipped"]:
        return "the sum is exact: it equals the plain sum of the included vectors"
    return (
        f"the included vectors were summed exactly, but {counted(found['clipped'], 'value')} {was(found['clipped'])} "
        "clipped before, so that this is not the sum of the values as they were given"
    )


def _show_arrays(found: Mapping[str, Any], console: Console) -> None:
    """The arrays that lose most, in proportion to their values."""
    rows = table("Precision", "array", "largest value", "step", "error of the mean, at most", "clipped values")

    def loss(item: tuple[str, Mapping[str, Any]]) -> tuple[bool, float]:
        _, array = item
        return array["clipped"] > 0, array["error_bound"] / array["largest"] if array["largest"] else 0.0

    listed = sorted(found["arrays"].items(), key=loss, reverse=True)
    for name, array in listed[:_LISTED_ARRAYS]:
        largest = "-" if array["largest"] is None else f"{array['largest']:.4g}"
        bound = "exact" if array["exact"] else f"{array['error_bound']:.2g}"
        rows.add_row(escape(name), largest, f"{array['step']:.2g}", bound, f"{array['clipped']:,}")
    console.print(rows)
    if len(listed) > _LISTED_ARRAYS:
        console.print(f"Not shown: {counted(len(listed) - _LISTED_ARRAYS, 'more array')}, in which less is lost.")


def _show_exact_sums(found: Mapping[str, Any], console: Console) -> None:
    if not found["exact_sums"]:
        return
    rows = fact_table("Exact sums")
    for name, values in list(found["exact_sums"].items())[:_LISTED_ARRAYS]:
        rows.add_row(escape(name), _listed(values))
    console.print(rows)


def _show_phases(found: Mapping[str, Any], config: RoundConfig, console: Console) -> None:
    rows = table("CPU time and bytes", "phase", "client", "slowest", "server", "sent by a client", "sent to it")
    for phase, cost in found["phases"].items():
        if phase not in config.phases:
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
    console.print(
        "The figures of clients are medians. The floor is the time of what no protocol of this kind can save: the "
        "keystream, the key agreements, the signatures, and one addition per vector.",
        soft_wrap=True,
    )


def _show_security(found: Mapping[str, Any], config: RoundConfig, console: Console) -> None:
    security = found["security"]
    share_lost = "--max-dropout" if "privacy" in found else "delta"  # which is another number in private rounds
    console.print(
        f"\nThreat model {security['threat']}: {_clients(config.colluders)}{_share('gamma', security['gamma'])} may "
        f"pool what they know with the server, and {_clients(config.dropouts)}{_share(share_lost, security['delta'])} "
        "may drop out.\n"
        "The probability that the protocol's graph fails them is at most: "
        f"privacy {power_of_two(security['privacy_log2'])}, "
        f"connectivity {power_of_two(security['connectivity_log2'])}, "
        f"correctness {power_of_two(security['correctness_log2'])}.",
        soft_wrap=True,
    )
    if not ThreatModel(security["threat"]).adversarial_drops:
        console.print("The analysis assumes that dropouts do not depend on the neighbour graph.")


def _clients(count: int) -> str:
    return f"up to {counted(count, 'client')}" if count else "no client"


def _share(name: str, value: float | None) -> str:
    return "" if value is None else f" ({name} {value:g})"


def _listed(members: list[int] | list[str]) -> str:
    shown = ", ".join(map(str, members[:_LISTED_IDS]))
    return f"{shown}, ..." if len(members) > _LISTED_IDS else shown
