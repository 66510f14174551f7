"""``secagg plan``: what a round will take, before there is one."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table

from secagg.cli.calibration import expect
from secagg.cli.carriers import add_carriers, carrier_facts
from secagg.cli.command_options import command_of
from secagg.cli.complaints import add_complaints, complaint_arguments, complaint_facts
from secagg.cli.groups import graph_name
from secagg.cli.layout_options import LayoutOptions
from secagg.cli.option_words import option_words
from secagg.cli.output import fact_table, finite, print_json, ratio, results, seconds, size, table, usage_errors
from secagg.cli.plan_options import PlanOptions
from secagg.cli.plan_workers import worker_facts, worker_tables
from secagg.cli.private_round import PrivateRound, infeasible_as_json, privacy_facts, private_round, show_privacy
from secagg.cli.promise_options import PLAIN_BITS
from secagg.cli.rounds import config_for, warm_up_for
from secagg.encoding import Template
from secagg.pairwise.config import RoundConfig
from secagg.pairwise.grouping import GroupBounds
from secagg.pairwise.records import SIGNATURE_BYTES
from secagg.simulation.carriers import with_carrier
from secagg.simulation.traffic import traffic
from secagg.wording import counted


@command_of(PlanOptions)
def plan(options: PlanOptions) -> None:
    """Say what a round will take: neighbours, threshold, ring, and the bytes and CPU time of a client and the server.

    The times are estimates. They come from a few seconds of small rounds on this machine and are scaled up to a round
    in which the largest allowed number of clients drops out after dealing their shares.

    With --epsilon the round is private: its sum has noise that nobody can take off. The plan then says what is promised
    to each client, which noise keeps it, and what is left of it when clients are lost. The option --delta is the second
    number of that promise; the share of the clients that may drop out is --max-dropout.

    With --groups the cohort is drawn into groups, each of which has a sum of its own; threshold and quorum are then
    those of each group. With --attackers the plan says how likely it is that a robust mean of the groups fails.

    The plan also compares what carries the vectors: masks, or one lattice envelope per client. Their figures leave out
    what a round takes with either of them. With --carrier auto the round has the one that takes less CPU time in all.

    In the JSON object, each bound under security is a probability, given as its logarithm to base 2: -40 stands for
    2^-40, and null for a probability of zero. colluders and dropouts are the numbers of clients that may collude and
    drop out; gamma and delta are the shares that were given for them, or null. privacy is null for a round that is not
    private; its lengths and deviations are in the unit of --clip, but for those in steps. Where no noise keeps the
    promise, the object has the key infeasible alone, with the values that would do, or null. groups is null without
    groups; its robust_log2 is a bound like those under security. complaints is null without complaints; its most is
    how many a client may make. The figures of COMPLAIN and ANSWER are those of a round in which nobody complains.

    workers is a list, with an object for each number of workers: what MASK and UNMASK take of each of them, what
    merging their sums takes, and the memory of the server. It is empty for a round that takes one thread a minute.

    Exit code 0: the plan is printed. 2: there is none.
    """
    with usage_errors("plan"):
        plain, private = _agreed(options)
        config = with_carrier(plain if private is None else private.config, options.carrier)
        found = planned(config, options.dim, options.gamma, options.privacy.most_lost, options.workers)
        found["privacy"] = None if private is None else privacy_facts(private, plain)
        found["groups"] = group_facts(config, options.attackers)
        found["carrier"] = carrier_facts(config)
        found["complaints"] = complaint_facts(config)
        found["explain"] = config.explain(options.attackers).splitlines()
    if options.as_json:
        print_json(found)
        return
    console = results()
    show(found, config, console)
    if private is not None:
        console.print()
        show_privacy(found["privacy"], plain, console)


def _agreed(options: PlanOptions) -> tuple[RoundConfig, PrivateRound | None]:
    """The config of the round without noise, and the private one, where a promise is asked for."""
    privacy, template = options.privacy, Template.from_shapes((options.dim,))
    ask = privacy.ask(options.clients)
    bits = PLAIN_BITS if options.bits is None or ask is not None else options.bits
    encoder = LayoutOptions(clip=1.0).encoder(template, bits)
    with option_words():
        plain = config_for(
            options.clients,
            encoder,
            options.threat,
            options.gamma,
            privacy.most_lost,
            options.neighbours,
            options.suite,
            own={**options.grouped(), **complaint_arguments(complaints=options.complaints)},
        )
    if ask is None:
        return plain, None
    with infeasible_as_json(options.as_json):
        return plain, private_round(ask, template, plain)


def planned(
    config: RoundConfig, dim: int, gamma: float | None, delta: float | None, workers: int | None = None
) -> dict[str, Any]:
    """The object that ``secagg plan --json`` prints."""
    warm_up_for(config)
    expected, bytes_by_phase = expect(config), traffic(config)
    confirm = {
        "signatures_sent": 1,
        "signatures_verified": config.quorum,
        "bytes_down": config.quorum * SIGNATURE_BYTES + (config.clients + 7) // 8,
        "verify_cpu_s": config.quorum * expected.costs.verify_s,
        "server_signatures_verified": config.clients - config.dropouts,
    }
    return {
        "clients": config.clients,
        "dim": dim,
        "ring_bits": config.modulus.bits,
        "graph": graph_name(config),
        "neighbours": config.neighbours,
        "threshold": config.threshold,
        "quorum": config.quorum,
        "min_survivors": config.min_survivors,
        "phases": {
            phase: {
                "bytes_up": up,
                "bytes_down": down,
                "client_cpu_s": expected.client_s[phase],
                "server_cpu_s": expected.server_s[phase],
            }
            for phase, (up, down) in bytes_by_phase.items()
        },
        "upload_bytes": sum(up for up, _ in bytes_by_phase.values()),
        "download_bytes": sum(down for _, down in bytes_by_phase.values()),
        "client_cpu_s": sum(expected.client_s.values()),
        "server_cpu_s": sum(expected.server_s.values()),
        "client_floor_s": expected.client_floor_s,
        "server_floor_s": expected.server_floor_s,
        "confirm": confirm if config.threat_model.confirms else None,
        "workers": worker_facts(config, expected, workers),
        "security": {
            "threat": config.threat_model.value,
            "gamma": gamma,
            "delta": delta,
            "colluders": config.colluders,
            "dropouts": config.dropouts,
            "sigma": config.sigma,
            "privacy_log2": finite(config.bounds.privacy_log2),
            "connectivity_log2": finite(config.bounds.connectivity_log2),
            "correctness_log2": finite(config.bounds.correctness_log2),
        },
        "explain": config.explain().splitlines(),
    }


def group_facts(config: RoundConfig, attackers: int | None) -> dict[str, Any] | None:
    """What ``--json`` prints of the groups; None for one sum over everybody."""
    bounds = config.bounds
    if not isinstance(bounds, GroupBounds):
        return None
    smallest, largest = bounds.grouping.sizes
    poisoning = None if attackers is None else config.poisoning(attackers)
    return {
        "groups": config.groups,
        "smallest": smallest,
        "largest": largest,
        "min_group": config.min_group,
        "colluders_in_group": config.colluders_in_group,
        "expected_left_out": bounds.expected_left_out,
        "attackers": attackers,
        "expected_hit": None if poisoning is None else poisoning.expected_hit,
        "robust_log2": None if poisoning is None else finite(poisoning.failure_log2),
    }


def show(found: dict[str, Any], config: RoundConfig, console: Console) -> None:
    """Print the plan for a person."""
    facts = fact_table("The round")
    facts.add_row(
        "clients",
        f"{config.clients:,}: {config.colluders:,} may collude with the server, {config.dropouts:,} may drop out",
    )
    facts.add_row(
        "vector", f"{counted(config.length, 'element')} of {counted(config.modulus.bits, 'bit')}, {config.suite.name}"
    )
    facts.add_row("graph", f"{found['graph']}, {counted(config.neighbours, 'neighbour')}, threshold {config.threshold}")
    if found["groups"] is None:
        facts.add_row("in the sum", f"at least {counted(config.min_survivors, 'client')}")
    else:
        _add_groups(facts, found["groups"])
    add_complaints(facts, config)
    console.print(facts)
    carriers = fact_table("What carries the vectors, and what that takes")
    add_carriers(carriers, found["carrier"])
    console.print(carriers)
    rows = table(
        "Expected cost of one client and of the server", "phase", "sent", "received", "client CPU", "server CPU"
    )
    for phase, cost in found["phases"].items():
        if phase not in config.phases:
            continue
        times = seconds(cost["client_cpu_s"]), seconds(cost["server_cpu_s"])
        rows.add_row(phase, size(cost["bytes_up"]), size(cost["bytes_down"]), *times)
    rows.add_section()
    rows.add_row(
        "all",
        size(found["upload_bytes"]),
        size(found["download_bytes"]),
        seconds(found["client_cpu_s"]),
        seconds(found["server_cpu_s"]),
        style="bold",
    )
    rows.add_row("floor", "", "", seconds(found["client_floor_s"]), seconds(found["server_floor_s"]))
    rows.add_row(
        "times the floor",
        "",
        "",
        ratio(found["client_cpu_s"], found["client_floor_s"]),
        ratio(found["server_cpu_s"], found["server_floor_s"]),
    )
    console.print(rows)
    if found["workers"]:
        for rows in worker_tables(found["workers"]):
            console.print(rows)
    if found["confirm"] is not None:
        confirm = found["confirm"]
        console.print(
            f"In CONFIRM, a client sends {counted(confirm['signatures_sent'], 'signature')}. It then verifies "
            f"{counted(confirm['signatures_verified'], 'signature')} of others, which takes "
            f"{size(confirm['bytes_down'])} and {seconds(confirm['verify_cpu_s'])}; the table counts both in UNMASK. "
            f"The server verifies {counted(confirm['server_signatures_verified'], 'signature')}.",
            soft_wrap=True,
        )
    console.print()
    for line in found["explain"]:
        console.print(f"- {line}", soft_wrap=True)


def _add_groups(facts: Table, groups: dict[str, Any]) -> None:
    smallest, largest = groups["smallest"], groups["largest"]
    sizes = counted(largest, "client") if smallest == largest else f"{smallest} or {counted(largest, 'client')}"
    colluders = counted(groups["colluders_in_group"], "colluder")
    facts.add_row("groups", f"{groups['groups']:,} of {sizes}; each may hold {colluders}")
    facts.add_row("in each sum", f"at least {counted(groups['min_group'], 'client')}")
    left_out = groups["expected_left_out"]
    facts.add_row("groups left out", f"{left_out:.2g} on average, if all that may drop out do" if left_out else "none")
    if groups["attackers"] is None:
        return
    bound, attackers = groups["robust_log2"], counted(groups["attackers"], "attacker")
    fails = "never fails" if bound is None else f"fails with probability up to 2^{bound:.1f}"
    facts.add_row("robust mean", f"{fails}; {attackers} in {groups['expected_hit']:.2g} groups on average")
