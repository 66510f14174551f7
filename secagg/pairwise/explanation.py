"""A config in words: what was chosen, what it guarantees, and what that supposes."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from secagg.wording import counted

if TYPE_CHECKING:
    from secagg.pairwise.config import RoundConfig
    from secagg.pairwise.grouping import GroupBounds
    from secagg.pairwise.parameters import Bounds
    from secagg.pairwise.poisoning import Poisoning


def of_config(config: RoundConfig, poisoning: Poisoning | None = None) -> str:
    """Several lines for a person; the probabilities are those of ``config.bounds``, and of ``poisoning``."""
    losses = f"Up to {counted(config.dropouts, 'client')} may be lost."
    if not config.dropouts:
        losses = "0 clients may be lost: the round can end without a sum if one client does not answer."
    colluders = f"Up to {counted(config.colluders, 'client')} may collude with the server."
    if not config.colluders:
        colluders = "No client is counted as a colluder of the server."
    lines = [
        f"{counted(config.clients, 'client')}, threat model {config.threat_model}.",
        colluders,
        losses,
        *config.bounds.explain(),
        _smallest_sum(config),
    ]
    if config.input_max < config.modulus.value - 1:
        lines.append(
            f"Elements are at most {config.input_max}: the sum of {config.clients} of them stays below "
            f"{config.modulus}."
        )
        lines.append(f"An element takes {counted(config.modulus.bits, 'bit')} in a message.")
    else:
        lines.append(f"Every element below {config.modulus} is allowed. The sum is taken modulo {config.modulus}.")
    if config.version > 1:
        lines.append(
            f"The round speaks version {config.version} of the wire, which members understand from release 0.3 of the "
            "library on."
        )
    if config.envelope is not None:
        lines += config.envelope.explain()
        lines.append(
            "Envelopes rest on the hardness of Ring-LWE, with the sum of the secrets known. That is newer, and less "
            "studied, than AES masks."
        )
    if config.suite.is_hybrid:
        lines.append(
            "Keys are agreed on by X25519 and by ML-KEM-768: whoever records the messages and breaks one of the two "
            "later opens nothing by it."
        )
    if config.complaints:
        lines.append(
            f"A client complains about up to {counted(config.complaints, 'client')} whose shares are bad. Whoever is "
            "in conflict with more is named, and left out before anybody masks."
        )
    if config.attachment_bytes:
        lines.append(
            f"Each client that unmasks the sum reveals {counted(config.attachment_bytes, 'byte')} of its host's "
            "besides."
        )
    if config.threat_model.confirms:
        whose = "" if config.groups == 1 else " of its group"
        lines.append(
            f"A client reveals shares only after {counted(config.quorum, 'client')}{whose} have confirmed the same "
            "survivors."
        )
    if config.threat_model.adversarial_drops:
        lines.append(
            f"sigma is {config.sigma}, and {config.grinding_bits} bits more allow for a server that tries many graphs."
        )
    lines += [] if poisoning is None else poisoning.explain()
    return "\n".join(lines)


def _smallest_sum(config: RoundConfig) -> str:
    if config.groups == 1:
        honest = config.min_survivors - config.colluders
        return (
            f"A sum is opened over at least {counted(config.min_survivors, 'client')}, of which at least {honest} are "
            "honest."
        )
    return (
        f"A group's sum is opened over at least {counted(config.min_group, 'client')}, of which at least "
        f"{config.min_group - config.colluders_in_group} are honest. A group with fewer is left out, and the round "
        f"goes on with at least {counted(config.min_survivors, 'client')} in all."
    )


def of_groups(bounds: GroupBounds) -> tuple[str, ...]:
    """Sentences about groups, good or bad, and the bounds that they reach."""
    grouping, lost = bounds.grouping, _lost(bounds.demand.dropouts)
    smallest, largest = grouping.sizes
    sizes = counted(largest, "client") if smallest == largest else f"{smallest} or {counted(largest, 'client')}"
    lines = [
        f"Public randomness that nobody chose draws the cohort into {grouping.groups} groups of {sizes}, and "
        "the sum of each group is opened.",
        f"Within a group everybody is everybody's neighbour. {bounds.threshold} shares reconstruct a secret, and fewer "
        "reveal nothing.",
    ]
    if bounds.most_colluding >= min(bounds.demand.colluders, largest):
        lines.append("Privacy: no group can hold more colluders than its numbers withstand.")
    elif bounds.privacy_log2 >= 0:
        lines.append("Privacy: nothing bounds the probability that a group holds more colluders than it withstands.")
    else:
        lines.append(
            f"Privacy: a group withstands {counted(bounds.most_colluding, 'colluder')}. Some group holds more of the "
            f"{bounds.demand.colluders} with probability at most 2^{bounds.privacy_log2:.1f}."
        )
    left_out = bounds.expected_left_out
    if not left_out:
        lines.append(f"Correctness: if {lost}, no group is left out.")
    elif bounds.correctness_log2 < -10:
        lines.append(
            f"Correctness: if {lost}, some group is left out with probability at most 2^{bounds.correctness_log2:.1f}."
        )
    else:
        lines.append(f"Correctness: if {lost}, at most {left_out:.2g} groups are left out on average.")
    lines.append("The last statement supposes that dropouts do not depend on the groups.")
    return tuple(lines)


def of_attackers(poisoning: Poisoning) -> tuple[str, ...]:
    """Sentences about clients that may send anything, and the bound on the failure of a robust mean."""
    attackers, groups = counted(poisoning.attackers, "attacker"), poisoning.bounds.grouping.groups
    hold = "holds" if poisoning.attackers == 1 else "hold"
    told = f"Robustness: {attackers} {hold} a place in {poisoning.expected_hit:.2g} of the {groups} groups on average."
    lost = _lost(poisoning.bounds.demand.dropouts)
    if poisoning.is_impossible:
        return told, f"Even if {lost}, fewer than half of the groups that are left hold an attacker, whatever the draw."
    if poisoning.failure_log2 >= 0:
        return told, "Nothing bounds the probability that half of the groups, or more, hold an attacker."
    return (
        told,
        f"If {lost}, half of the groups that are left, or more, hold an attacker with probability at most "
        f"2^{poisoning.failure_log2:.1f}; a median or a trimmed mean of the groups withstands less than half.",
        "This supposes that attackers are chosen before the groups are drawn, and that losses do not depend on the "
        "groups.",
    )


def of_bounds(bounds: Bounds) -> tuple[str, ...]:
    """Sentences about a degree and a threshold, good or bad, and the bounds that they reach."""
    demand = bounds.demand
    lines = [
        f"Each client has {counted(bounds.neighbours, 'neighbour')}. {bounds.threshold} shares reconstruct a secret, "
        "and fewer reveal nothing."
    ]
    if bounds.complete and not demand.has_sparse_degree():
        lines.append(
            f"The graph is complete, because no smaller degree reaches sigma = {demand.privacy_bits:g} and eta = "
            f"{demand.eta:g}."
        )
    elif bounds.complete:
        lines.append("The graph is complete: every client is every other client's neighbour.")
    lines += [_privacy(bounds), *_connectivity(bounds), _correctness(bounds)]
    if bounds.complete:
        lines.append("These statements hold whichever clients drop out.")
    elif demand.threat_model.adversarial_drops:
        lines.append("Privacy holds whichever clients the server drops, even after it has seen the graph.")
        lines.append("Correctness supposes that dropouts do not depend on the graph.")
    else:
        lines.append("These statements suppose that dropouts do not depend on the graph.")
    return tuple(lines)


def _lost(count: int) -> str:
    if not count:
        return "no client is lost"
    return f"{counted(count, 'client')} {'is' if count == 1 else 'are'} lost"


def _privacy(bounds: Bounds) -> str:
    who, learns, whose = "the server alone", "learns", "a client's secrets"
    colluders = bounds.demand.colluders
    if colluders:
        who, learns = counted(colluders, "colluding client"), "learns" if colluders == 1 else "learn"
        whose = "another client's secrets"
    if bounds.privacy_log2 == -math.inf:
        return f"Privacy: {who} never {learns} {whose}."
    if bounds.privacy_log2 >= 0:
        return f"Privacy: nothing bounds the probability that {who} {learns} {whose}."
    return f"Privacy: {who} {learns} {whose} with probability at most 2^{bounds.privacy_log2:.1f}."


def _connectivity(bounds: Bounds) -> tuple[str, ...]:
    demand, bound = bounds.demand, bounds.connectivity_log2
    if bound == -math.inf:
        return ("Connectivity: the graph never falls apart.",)
    # The bound is for the smallest sum that may open, also where that is over fewer than n - D clients.
    smallest = demand.clients - demand.dropouts
    if not demand.threat_model.adversarial_drops:
        smallest = min(smallest, bounds.min_survivors)
    remaining = counted(smallest, "client")
    if bound >= 0:
        return (
            f"Connectivity: nothing bounds the probability that the graph of {remaining} falls apart.",
            "If it falls apart, the sum of each part opens. Raise min_survivors.",
        )
    return (
        f"Connectivity: the graph of {remaining} falls apart with probability at most 2^{bound:.1f}.",
        "If it falls apart, the sum of each part opens.",
    )


def _correctness(bounds: Bounds) -> str:
    lost = _lost(bounds.demand.dropouts)
    if bounds.correctness_log2 == -math.inf:
        return f"Correctness: if {lost}, the round always completes."
    if bounds.correctness_log2 >= 0:
        return f"Correctness: if {lost}, nothing bounds the probability that the round fails."
    return f"Correctness: if {lost}, the round fails with probability at most 2^{bounds.correctness_log2:.1f}."
