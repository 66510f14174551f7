"""A config in words: what was chosen, what it guarantees, and what that supposes."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from secagg.wording import counted

if TYPE_CHECKING:
    from secagg.pairwise.config import RoundConfig
    from secagg.pairwise.graph import GraphParameters


def of_config(config: RoundConfig) -> str:
    """Several lines for a person; the probabilities are those of ``config.bounds``."""
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
        *of_graph(config.graph_parameters, config.clients - config.min_survivors),
        f"A sum is opened over at least {counted(config.min_survivors, 'client')}, of which at least "
        f"{config.min_survivors - config.colluders} are honest.",
    ]
    if config.input_max < config.modulus.value - 1:
        lines.append(
            f"Elements are at most {config.input_max}: the sum of {config.clients} of them stays below "
            f"{config.modulus}."
        )
        lines.append(f"An element takes {config.modulus.bits} bits in a message.")
    else:
        lines.append(f"Every element below {config.modulus} is allowed. The sum is taken modulo {config.modulus}.")
    if config.version > 1:
        lines.append(
            f"The round speaks version {config.version} of the wire, a draft: all members run the same release of the "
            "library."
        )
    if config.attachment_bytes:
        lines.append(f"Each client that unmasks the sum reveals {config.attachment_bytes} bytes of its host's besides.")
    if config.threat_model.confirms:
        lines.append(
            f"A client reveals shares only after {counted(config.quorum, 'client')} have confirmed the same survivors."
        )
    if config.threat_model.adversarial_drops:
        lines.append(
            f"sigma is {config.sigma}, and {config.grinding_bits} bits more allow for a server that tries many graphs."
        )
    return "\n".join(lines)


def of_graph(parameters: GraphParameters, lost: int) -> tuple[str, ...]:
    """Sentences about a degree and a threshold, good or bad.

    Args:
        parameters: what is described, with its bounds.
        lost: how many clients may be out of the smallest sum; in `semi_honest` the connectivity bound is for so many.
    """
    found = parameters
    lines = [
        f"Each client has {found.neighbours} neighbours. {found.threshold} shares reconstruct a secret, and "
        "fewer reveal nothing."
    ]
    if found.no_sparse_degree:
        lines.append(
            f"The graph is complete, because no smaller degree reaches sigma = {found.sigma:g} and eta = {found.eta:g}."
        )
    elif found.complete:
        lines.append("The graph is complete: every client is every other client's neighbour.")
    lines += [_privacy(found), *_connectivity(found, lost), _correctness(found)]
    if found.complete:
        lines.append("These statements hold whichever clients drop out.")
    elif found.active:
        lines.append("Privacy holds whichever clients the server drops, even after it has seen the graph.")
        lines.append("Correctness supposes that dropouts do not depend on the graph.")
    else:
        lines.append("These statements suppose that dropouts do not depend on the graph.")
    return tuple(lines)


def _lost(count: int) -> str:
    if not count:
        return "no client is lost"
    return f"{counted(count, 'client')} {'is' if count == 1 else 'are'} lost"


def _privacy(found: GraphParameters) -> str:
    who, learns, whose = "the server alone", "learns", "a client's secrets"
    if found.colluders == 1:
        who, whose = "1 colluding client", "another client's secrets"
    elif found.colluders:
        who, learns, whose = counted(found.colluders, "colluding client"), "learn", "another client's secrets"
    if found.privacy_log2 == -math.inf:
        return f"Privacy: {who} never {learns} {whose}."
    if found.privacy_log2 >= 0:
        return f"Privacy: nothing bounds the probability that {who} {learns} {whose}."
    return f"Privacy: {who} {learns} {whose} with probability at most 2^{found.privacy_log2:.1f}."


def _connectivity(found: GraphParameters, lost: int) -> tuple[str, ...]:
    if found.connectivity_log2 == -math.inf:
        return ("Connectivity: the graph never falls apart.",)
    # The bound is for the smallest sum that may open, also where that is over fewer than n - D clients.
    remaining = counted(found.clients - (found.dropouts if found.active else lost), "client")
    if found.connectivity_log2 >= 0:
        return (
            f"Connectivity: nothing bounds the probability that the graph of {remaining} falls apart.",
            "If it falls apart, the sum of each part opens. Raise min_survivors.",
        )
    return (
        f"Connectivity: the graph of {remaining} falls apart with probability at most 2^{found.connectivity_log2:.1f}.",
        "If it falls apart, the sum of each part opens.",
    )


def _correctness(found: GraphParameters) -> str:
    lost = _lost(found.dropouts)
    if found.correctness_log2 == -math.inf:
        return f"Correctness: if {lost}, the round always completes."
    if found.correctness_log2 >= 0:
        return f"Correctness: if {lost}, nothing bounds the probability that the round fails."
    return f"Correctness: if {lost}, the round fails with probability at most 2^{found.correctness_log2:.1f}."
