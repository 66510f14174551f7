"""Which rounds of a server may be opened one after another: its ledger is asked before anybody hears of survivors."""

from __future__ import annotations

from collections import defaultdict
from typing import final

from secagg.adapters.net.round_spec import RoundSpec
from secagg.differencing import DifferenceLedger, least_difference
from secagg.errors import DisclosureError, ParameterError
from secagg.machines import ServerMachine
from secagg.pairwise.phases import Phase

_BEFORE_THE_SUM = tuple(phase for phase in Phase if not phase.has_sum)


@final
class SumsApart:
    """A server's ledger, and how many members must always be in and out of its sums together."""

    def __init__(self, ledger: DifferenceLedger, min_difference: int | None = None) -> None:
        """``min_difference`` is T; None: two more than the colluders that a round counts in a sum, so that two honest
        members or more are in every class.
        """
        self._ledger, self._least = ledger, min_difference

    def check_round(self, spec: RoundSpec) -> None:
        """Raises ParameterError for a round whose members have no names that stay the same."""
        if spec.keys is None:
            raise ParameterError(
                f"round {spec.name}: a ledger needs to know its members in other rounds, and anybody may take a seat "
                "in this one; give the round a directory, or leave the ledger out"
            )

    def why_not(self, spec: RoundSpec, server: ServerMachine) -> str:
        """Record that the sum over the clients that are left may be opened; why it must not be, where it must not.

        MASK is closed, and nobody has heard of it yet.  A set that is recorded already changes nothing, so that a
        server that is started again asks once more.  Raises DifferenceLedgerError when nothing can be recorded.
        """
        lost = {seat for phase in _BEFORE_THE_SUM for seat in server.dropped.get(phase, ())}
        sums: defaultdict[int, list[str]] = defaultdict(list)
        for seat in range(spec.config.clients):
            if seat not in lost:  # every group has a sum of its own
                sums[0 if server.graph is None else server.graph.group_of(seat)].append(_name(spec, seat))
        least = least_difference(spec.config.colluders_in_group) if self._least is None else self._least
        try:
            self._ledger.record(sums.values(), least)
        except DisclosureError as refused:
            return f"{'the sum' if len(sums) == 1 else 'the sums'} must not be opened: {refused}"
        return ""


def _name(spec: RoundSpec, seat: int) -> str:
    """What the ledger calls a member: the directory's name for it, or else its key."""
    return spec.names[seat] if spec.names or spec.keys is None else spec.keys[seat].hex()
