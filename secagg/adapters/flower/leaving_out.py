"""Nodes that stood out over rounds with groups are no longer invited, where the strategy was told so."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, final

from flwr.app import Message

from secagg.adapters.flower.grouped import HowMany, Opened
from secagg.adapters.flower.records import log
from secagg.errors import ParameterError
from secagg.pairwise.phases import ThreatModel
from secagg.pairwise.values import is_auto
from secagg.robust.exclusions import Exclusions, LeaveOut


def checked_leave_out(leave_out: LeaveOut | None, groups: HowMany | None, model: ThreatModel) -> LeaveOut | None:
    """What was asked for.  Raises ParameterError where it cannot be done."""
    if leave_out is None:
        return None
    if groups is None:
        raise ParameterError("leave_out is about groups: give groups=..., or leave it out")
    if model.signs:
        raise ParameterError(
            "leave_out, in active: every member of the directory is in the cohort, and whoever is not invited would "
            "count as lost; give a directory without those members, and leave leave_out out"
        )
    return leave_out


@final
class LeftOutNodes:
    """Who is left out of a strategy's rounds.

    Attributes:
        exclusions: by node, as a string.
        chosen: how many nodes the wrapped strategy chose for the present round.
        absent: those of them that are not invited, ascending.
    """

    def __init__(self, leave_out: LeaveOut) -> None:
        self.exclusions = Exclusions(leave_out)
        self.chosen = 0
        self.absent: tuple[int, ...] = ()

    def narrow(self, messages: list[Message], fits: Callable[[int], bool]) -> list[Message]:
        """The messages to nodes that are not left out.

        Where a round of so few does not fit, the nodes that stood out the least are invited all the same, which is
        logged: the wrapped strategy and the round's config both bound from below how many take part.
        """
        nodes = [message.metadata.dst_node_id for message in messages]
        self.chosen = len(nodes)
        staying = {int(name) for name in self.exclusions.staying(map(str, nodes), fits)}
        self.absent = tuple(sorted(set(nodes) - staying))
        taken_back = sorted(staying & set(map(int, self.exclusions.names)))
        if self.absent:
            log.info("secagg: not invited, since they stood out in earlier rounds: nodes %s", _listed(self.absent))
        if taken_back:
            log.warning(
                "secagg: invited although they stood out in earlier rounds, because the round would have too few nodes "
                "without them: nodes %s",
                _listed(taken_back),
            )
        return [message for message in messages if message.metadata.dst_node_id in staying]

    def learn(self, opened: Opened, names: Sequence[str]) -> None:
        """Take in the groups of a round; ``names``: the node of each cohort index."""
        if opened.report is None or opened.means is None:
            return
        for one in self.exclusions.add(opened.means, [group.members for group in opened.report.groups], names):
            log.warning(
                "secagg: node %s is no longer invited: over %d rounds its update, as estimated from its groups' means, "
                "was %.1f times as far from the others' as the middle node's (modified z-score %.1f); this is a hint, "
                "and no proof: unusual data look alike",
                one.client,
                one.rounds,
                one.distance,
                one.excess,
            )

    def options_for(self, options: Mapping[str, Any], invited: int) -> dict[str, Any]:
        """The options of a round of fewer nodes: groups of at least the same size, and fewer attackers to bear."""
        changed, absent = dict(options), self.chosen - invited
        if absent > 0 and is_auto(options["groups"]) and options.get("attackers") is not None:
            changed["attackers"] = max(1, options["attackers"] - absent)
        elif absent > 0 and not is_auto(options["groups"]):
            changed["groups"] = max(1, options["groups"] * invited // self.chosen)
        return changed


def _listed(nodes: Sequence[int]) -> str:
    return ", ".join(map(str, nodes))
