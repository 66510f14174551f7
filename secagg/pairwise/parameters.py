"""What a round asks for, and what follows from it: how many neighbours, shares, confirmations and survivors it takes.

    demand = Demand.of_rates(1000, gamma=0.2, delta=0.1)
    bounds = demand.choose()
    bounds.check()
    print("\\n".join(bounds.explain()))

A ``Demand`` counts who may collude and who may be lost, and says how sure the round must be.  ``Bounds`` are a degree,
a threshold, a quorum and the fewest survivors, chosen or given, with bounds on the probability of three events, after
Bell et al. (CCS 2020, "Secure Single-Server Aggregation with (Poly)Logarithmic Overhead"):

- privacy: too many of a client's neighbours collude, so that the colluders' shares open what must stay shut;
- connectivity: the ring falls apart once colluders and dropouts are taken out, so that the sum of one part is opened;
- correctness: too few of a client's neighbours are left to reconstruct its secret, so that the round aborts.

Each bound is a union over clients, or over pairs of them.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any, ClassVar, Final, Literal, Self, TypeAlias

from secagg.errors import ParameterError
from secagg.pairwise import explanation
from secagg.pairwise.phases import ThreatModel
from secagg.pairwise.rates import count_of, exact_rate
from secagg.pairwise.tails import log2_at_least, log2_disconnected, quantile
from secagg.pairwise.values import FEWEST_CLIENTS, whole
from secagg.wording import counted

DEFAULT_GAMMA: Final = Fraction(1, 5)
DEFAULT_DELTA: Final = Fraction(1, 10)
"""A fifth and a tenth are no measurements: they are what a host gets that states no rates, and ``explain`` says
them."""
DEFAULT_SIGMA: Final = 40
DEFAULT_GRINDING_BITS: Final = 64
DEFAULT_ETA: Final = 30
LARGEST_LOSS: Final = Fraction(9, 10)
"""Of gamma + delta, or gamma + 2 delta: beyond it degrees grow without use."""
LOWEST_THRESHOLD: Final = 2
"""With one share enough, every share would be the secret itself."""

Degree: TypeAlias = int | Literal["auto", "complete"]


def default_colluders(clients: int) -> int:
    """The colluders that a config counts when nobody says how many: max(1, floor(0.2 n)).

    The rules leave room for them in every cohort, in both threat models, if nobody says how many may be lost.
    ``Policy(gamma="default")`` asks for as many.

    Raises:
        ParameterError: ``clients`` is not an int of 3 or more.
    """
    return max(1, count_of(whole("clients", clients, FEWEST_CLIENTS), "gamma", DEFAULT_GAMMA))


def check_degree(clients: int, neighbours: int, *, complete: bool) -> None:
    """Raises ParameterError unless k is even and below n - 1, or n - 1 if the complete graph is allowed here."""
    whole("neighbours", neighbours, 1)
    if complete and neighbours == clients - 1:
        return
    if neighbours >= clients - 1:
        raise ParameterError(
            f"neighbours = {neighbours}: in a sparse graph of {counted(clients, 'client')} it is below {clients - 1}; "
            "lower it, or ask for the complete graph"
        )
    if neighbours % 2:
        raise ParameterError(f"neighbours = {neighbours}: it must be even, half on each side; take {neighbours + 1}")


@dataclass(frozen=True, kw_only=True)
class Demand:
    """What a round asks for.

    Attributes:
        clients: n, everyone invited.
        colluders: A, how many of them may work with the server.
        dropouts: D, how many may be lost from the start to the end.
        threat_model: whether the adversary chooses who drops out, and whether a quorum confirms the survivors.
        sigma: privacy holds except with probability 2^-sigma.
        grinding_bits: bits of privacy more, where the adversary chooses who drops out: it can try many graphs so.
        eta: a round with at most D dropouts completes except with probability 2^-eta.
        neighbours: an even degree; ``"auto"`` for the smallest that keeps the bounds, or the complete graph where no
            even degree below n - 1 does, which ``explain`` says; ``"complete"``.
        threshold: t, the shares that reconstruct a secret; None to have it chosen.
        min_survivors: the fewest clients in a sum; None to have it chosen.

    Raises ParameterError when a value is out of its range.
    """

    clients: int
    colluders: int
    dropouts: int
    threat_model: ThreatModel = ThreatModel.SEMI_HONEST
    sigma: float = DEFAULT_SIGMA
    grinding_bits: float = DEFAULT_GRINDING_BITS
    eta: float = DEFAULT_ETA
    neighbours: Degree = "auto"
    threshold: int | None = None
    min_survivors: int | None = None
    _lowest_threshold: ClassVar[int] = LOWEST_THRESHOLD

    def __post_init__(self) -> None:
        whole("clients", self.clients, FEWEST_CLIENTS)
        whole("colluders", self.colluders, 0, self.clients)
        whole("dropouts", self.dropouts, 0, self.clients)
        for name, bits in (("sigma", self.sigma), ("grinding_bits", self.grinding_bits), ("eta", self.eta)):
            if isinstance(bits, bool) or not isinstance(bits, int | float) or not 0 <= bits < math.inf:
                raise ParameterError(f"{name} = {bits!r}: it must be a finite number of bits, 0 or more")
        if self.neighbours not in ("auto", "complete"):
            check_degree(self.clients, self.neighbours, complete=False)  # type: ignore[arg-type]
        if self.threshold is not None:
            whole("threshold", self.threshold, LOWEST_THRESHOLD, self.clients - 1)

    @classmethod
    def of_rates(
        cls,
        clients: int,
        gamma: float | Fraction | None = None,
        delta: float | Fraction | None = None,
        **asked: Any,
    ) -> Self:
        """Count A = floor(gamma n) and D = floor(delta n), or the defaults of the rates that are not given.

        A default is max(1, floor(0.2 n)) colluders and max(1, floor(0.1 n)) dropouts: in a small cohort the tenth part
        is less than one client, and a round that tolerates no loss ends with the first late client.  Dropouts that are
        not given are as many as the rules leave room for (``most_dropouts``), if that is fewer.  The one colluder of a
        cohort of fewer than five is not counted if a ``delta`` that is given leaves no room for it.

        Args:
            clients: n.
            gamma: the largest share of clients that collude with the server.
            delta: the largest share of clients that are lost, from the first message to the last.
            asked: the other attributes.

        Raises ParameterError when a rate is none, or gamma + delta (gamma + 2 delta where the adversary chooses who
        drops out) exceeds 0.9.
        """
        clients = whole("clients", clients, FEWEST_CLIENTS)
        colluders = default_colluders(clients) if gamma is None else count_of(clients, "gamma", gamma)
        lost = max(1, count_of(clients, "delta", DEFAULT_DELTA)) if delta is None else count_of(clients, "delta", delta)
        demand = cls(clients=clients, colluders=colluders, dropouts=lost, **asked)
        if gamma is not None and delta is not None:
            demand._check_rates(exact_rate("gamma", gamma), exact_rate("delta", delta))
        room = demand.most_dropouts()
        if delta is None:
            lost = min(lost, max(0, room))
        elif gamma is None and room < lost:
            colluders = count_of(clients, "gamma", DEFAULT_GAMMA)
        return replace(demand, colluders=colluders, dropouts=lost)

    # What follows from the counts alone.

    @property
    def privacy_bits(self) -> float:
        """The bits of privacy that a graph must have: sigma, and those for grinding where a server can grind."""
        return self.sigma + (self.grinding_bits if self.threat_model.adversarial_drops else 0)

    @property
    def quorum(self) -> int:
        """Q = floor((n + A) / 2) + 1, so that two sets of Q clients have an honest one in common; 0 without CONFIRM."""
        return (self.clients + self.colluders) // 2 + 1 if self.threat_model.confirms else 0

    def quorums_meet(self, quorum: int) -> bool:
        """R-CONFIG-7: any two sets of so many clients have an honest one in common."""
        return 2 * quorum > self.clients + self.colluders

    def fewest_survivors(self, threshold: int, quorum: int | None = None) -> int:
        """R-CONFIG-8: the fewest clients that the rules allow in a sum.

        A quorum confirms it, t neighbours of each survivor are left beside it, and two members are honest: the sum of
        one honest client is its vector.
        """
        return max(self.quorum if quorum is None else quorum, threshold + 1, self.colluders + 2)

    def most_dropouts(self) -> int:
        """The most clients that may be lost beside the colluders; below 0 when there are too many colluders.

        This is what the rules allow on the complete graph; a sparse graph may allow less.
        """
        threshold = self.thresholds(self.clients - 1)[0] if self.threshold is None else self.threshold
        survivors = max(self.fewest_survivors(threshold), self.min_survivors or 0)
        spare = math.floor(LARGEST_LOSS * self.clients) - self.colluders
        return min(self.clients - survivors, spare // self._weight_of_a_loss)

    @property
    def _weight_of_a_loss(self) -> int:
        """An adversary that chooses who drops out can tell either thing of a client to its neighbours."""
        return 2 if self.threat_model.adversarial_drops else 1

    def check_losses(self) -> None:
        """R-CONFIG-9: no more than nine tenths of the cohort collude or are lost.  Raises ParameterError."""
        weight = self._weight_of_a_loss
        total = self.colluders + weight * self.dropouts
        if total > LARGEST_LOSS * self.clients:
            raise ParameterError(
                f"colluders + {'2 ' if weight == 2 else ''}dropouts = {total} with colluders = {self.colluders}, "
                f"dropouts = {self.dropouts}: at most {float(LARGEST_LOSS)} of {counted(self.clients, 'client')} is "
                "allowed; lower either"
            )

    def _check_rates(self, gamma: Fraction, delta: Fraction) -> None:
        weight = self._weight_of_a_loss
        total = gamma + weight * delta
        if total > LARGEST_LOSS:
            largest_delta = float(max(Fraction(0), (LARGEST_LOSS - gamma) / weight))
            remedy = "gamma" if gamma > LARGEST_LOSS else f"delta to at most {largest_delta:.4g}, or gamma"
            raise ParameterError(
                f"gamma + {'2 ' if weight == 2 else ''}delta = {float(total):.4g} with gamma = {float(gamma):g}, delta "
                f"= {float(delta):g}: at most {float(LARGEST_LOSS)} is allowed; lower {remedy}"
            )

    # What a degree must stand up to.

    def connects(self, neighbours: int) -> bool:
        """Whether the connectivity bound is reached; it falls as the degree grows."""
        return self.connectivity_log2(neighbours, self.dropouts) < -(self.privacy_bits + 1)

    def connectivity_log2(self, neighbours: int, lost: int) -> float:
        """log2 of the bound on a ring's being cut by the colluders and so many clients that are lost."""
        if neighbours == self.clients - 1:
            return -math.inf
        return log2_disconnected(self.clients, min(self.colluders + lost, self.clients), neighbours)

    def thresholds(self, neighbours: int) -> tuple[int, int]:
        """The smallest threshold that privacy allows, the largest that correctness allows: empty if out of order."""
        most_colluding = self.most_colluding(neighbours)
        if neighbours == self.clients - 1:
            fewest_left = neighbours - self.dropouts
        else:
            others, owners = self._correctness_draw()
            dropouts = min(self.dropouts, others)
            fewest_left = neighbours - quantile(others, dropouts, neighbours, -self.eta - owners)
        least = (neighbours + most_colluding) // 2 + 1 if self.threat_model.adversarial_drops else most_colluding + 1
        return max(least, self._lowest_threshold), fewest_left

    def most_colluding(self, neighbours: int) -> int:
        """t1: the most colluders among a client's neighbours, but for the chance that privacy allows."""
        if neighbours == self.clients - 1:
            return self.colluders
        drawn_from, victims = self._privacy_draw()
        bound = -(self.privacy_bits + 1) - victims
        return quantile(drawn_from, min(self.colluders, drawn_from), neighbours, bound)

    def _privacy_draw(self) -> tuple[int, float]:
        """From how many a victim's neighbours are drawn, and log2 of the number of victims.

        One victim has n - 1 others.  Where the adversary chooses who drops out it is a pair, the two ends of a cut arc,
        so that no choice of whom to drop, made after seeing the graph, disconnects the honest survivors.
        """
        if self.threat_model.adversarial_drops:
            return self.clients - 2, math.log2(self.clients * (self.clients - 1) / 2)
        return self.clients - 1, math.log2(self.clients)

    def _correctness_draw(self) -> tuple[int, float]:
        """The same for whose secret cannot be reconstructed."""
        return self.clients - 1, math.log2(self.clients)

    # Choosing.

    def choose(self) -> Bounds:
        """Degree, threshold, quorum and fewest survivors, from the bounds where they are not asked for.

        A threshold that is not given is the smallest that privacy allows, since each share more is one more survivor
        needed; but on the complete graph, where the adversary does not choose who drops out, it is the middle of
        (A, n - 1 - D], rounded up: every threshold there is certain to hold, and the middle one still holds when a few
        more collude, or are lost, than was supposed.  What is asked for is taken as it is: ``Bounds.check`` says
        whether it will do.

        Raises ParameterError when nothing fits; the message names what to lower.
        """
        return self.assess(*self._chosen())

    def _chosen(self) -> tuple[int, int]:
        if self.neighbours == "auto":
            found = self._search()
            if found is not None:
                return found
        elif self.neighbours != "complete":
            return self.neighbours, self._interval(self.neighbours)[0] if self.threshold is None else self.threshold
        return self.clients - 1, self._complete_threshold() if self.threshold is None else self.threshold

    def has_sparse_degree(self) -> bool:
        """Whether an even degree below n - 1 keeps the bounds, with any threshold."""
        return replace(self, threshold=None)._search() is not None

    def _search(self) -> tuple[int, int] | None:
        """The first even degree below n - 1 that has a threshold, with its smallest one, or that allows the one given.

        Degrees that cannot fit are skipped.  One draw more raises either quantile by 0 or 1, so from k to k + 2 the
        largest threshold rises by at most 2, and the smallest by at least 0, or at least 1 where the adversary chooses
        who drops out: a gap of g thresholds takes g further neighbours to close, or 2g.
        """
        neighbours = 2 + 2 * bisect_left(range(2, self.clients - 1, 2), True, key=self.connects)
        while neighbours < self.clients - 1:
            least, most = self.thresholds(neighbours)
            if self.threshold is not None and least > self.threshold:
                return None
            wanted = least if self.threshold is None else self.threshold
            if most >= wanted:
                return neighbours, wanted
            gap = wanted - most
            widens = self.threat_model.adversarial_drops and self.threshold is None
            neighbours += 2 * gap if widens else gap + gap % 2
        return None

    def _interval(self, neighbours: int) -> tuple[int, int]:
        """``thresholds``, when there are some.  Raises ParameterError."""
        least, most = self.thresholds(neighbours)
        if least > most:
            raise ParameterError(
                f"neighbours = {neighbours}: privacy needs a threshold of at least {least}, completing the round one "
                f"of at most {most}; raise the degree, or lower the dropouts or the colluders"
            )
        return least, most

    def _complete_threshold(self) -> int:
        """The threshold taken on the complete graph; see ``choose`` for the reasons."""
        least, most = self.thresholds(self.clients - 1)
        if least <= most:
            return least if self.threat_model.adversarial_drops else (least + most + 1) // 2
        spare = self.clients - 1 - least
        remedy = (
            f"lower delta so that at most {spare} are lost, or invite more clients"
            if spare >= 0
            else f"lower gamma: {self.colluders} are too many for this threat model, even if nobody is lost"
        )
        raise ParameterError(
            f"{counted(self.clients, 'client')}, {self.colluders} of them colluding and {self.dropouts} lost: even "
            f"the complete graph would need a threshold of at least {least} for privacy and at most {most} to "
            f"complete; {remedy}"
        )

    # Assessing.

    def assess(
        self, neighbours: int, threshold: int, *, quorum: int | None = None, min_survivors: int | None = None
    ) -> Bounds:
        """The bounds that a degree and a threshold reach, good or bad.

        Args:
            neighbours: k, even, or n - 1 for the complete graph.
            threshold: t, from 1 to n.
            quorum: Q; the demand's own when not given.
            min_survivors: the fewest clients in a sum.  When neither this nor the demand gives it, the fewest that the
                rules allow, but n - D on a sparse graph whose bounds hold for D losses and no more.

        Raises ParameterError when there is no such graph, or a count is out of its range.
        """
        clients, complete = self.clients, neighbours == self.clients - 1
        check_degree(clients, neighbours, complete=True)
        whole("threshold", threshold, 1, clients)
        quorum = self.quorum if quorum is None else quorum
        if min_survivors is None:
            min_survivors = self.min_survivors
        if min_survivors is None:
            min_survivors = self.fewest_survivors(threshold, quorum)
            if not complete and not self.threat_model.adversarial_drops:
                min_survivors = max(min_survivors, clients - self.dropouts)
        return Bounds(
            demand=self,
            neighbours=neighbours,
            threshold=threshold,
            quorum=quorum,
            min_survivors=min_survivors,
            privacy_log2=self._privacy_log2(neighbours, threshold),
            connectivity_log2=min(self.connectivity_log2(neighbours, self._most_lost(min_survivors)), 0.0),
            correctness_log2=self._correctness_log2(neighbours, threshold),
        )

    def _most_lost(self, min_survivors: int) -> int:
        """The losses that connectivity is bounded for: those of the smallest sum that may open.

        Where the adversary chooses who drops out, privacy and not connectivity keeps small parts shut.
        """
        if self.threat_model.adversarial_drops:
            return self.dropouts
        return max(self.dropouts, self.clients - min_survivors)

    def _privacy_log2(self, neighbours: int, threshold: int) -> float:
        # An adversary that chooses who drops out opens a client with 2t shares of both kinds: an honest neighbour gives
        # one, a colluding one two.
        fatal = 2 * threshold - neighbours if self.threat_model.adversarial_drops else threshold
        if neighbours == self.clients - 1:
            return 0.0 if self.colluders >= fatal else -math.inf
        drawn_from, victims = self._privacy_draw()
        return min(victims + log2_at_least(drawn_from, min(self.colluders, drawn_from), neighbours, fatal), 0.0)

    def _correctness_log2(self, neighbours: int, threshold: int) -> float:
        if neighbours == self.clients - 1:
            return 0.0 if neighbours - self.dropouts < threshold else -math.inf
        others, owners = self._correctness_draw()
        lost = min(self.dropouts, others)
        return min(owners + log2_at_least(others, lost, neighbours, neighbours - threshold + 1), 0.0)


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """What a demand comes to: the numbers of a round, and how likely each of three failures is at most.

    The bounds are log2 of a probability, -inf for what cannot happen, 0.0 where there is no bound.

    Attributes:
        demand: what was asked for.
        neighbours: k, n - 1 for the complete graph.
        threshold: t, the shares that reconstruct a secret; t - 1 do not.
        quorum: Q, the confirmations that a client asks for; 0 without CONFIRM.
        min_survivors: the fewest clients that may be in the sum.
        privacy_log2: somebody's secrets open to the colluders.
        connectivity_log2: the mask graph falls apart, and the sum of a part opens.  Where the adversary does not choose
            who drops out, it is that of the smallest sum that may open, which can be over fewer than n - D clients.
        correctness_log2: somebody's secret cannot be reconstructed after D losses, and the round aborts.
    """

    demand: Demand
    neighbours: int
    threshold: int
    quorum: int
    min_survivors: int
    privacy_log2: float
    connectivity_log2: float
    correctness_log2: float

    @property
    def complete(self) -> bool:
        """Whether everyone is everyone's neighbour."""
        return self.neighbours == self.demand.clients - 1

    def reach(self) -> bool:
        """Whether privacy fails with less than 2^-sigma, half of it for either event, and the round with 2^-eta."""
        privacy = max(self.privacy_log2, self.connectivity_log2)
        return privacy < -(self.demand.privacy_bits + 1) and self.correctness_log2 < -self.demand.eta

    def check(self) -> Self:
        """R-CONFIG-7, R-CONFIG-8, R-CONFIG-9: these numbers keep the rules of the protocol.

        Raises ParameterError, which names the parameter, its value, what is allowed, and what to change.
        """
        self._check_quorum()
        self._check_survivors()
        self._check_graph()
        return self

    def _check_quorum(self) -> None:
        demand, remain = self.demand, self.demand.clients - self.demand.dropouts
        most_split = demand.clients + demand.colluders
        if demand.threat_model.confirms and not (demand.quorums_meet(self.quorum) and self.quorum <= remain):
            raise ParameterError(
                f"quorum {self.quorum}: must exceed (clients + colluders) / 2 = {most_split / 2:g} and be at most "
                f"clients - dropouts = {remain}; lower gamma or delta"
            )

    def _check_survivors(self) -> None:
        demand, remain = self.demand, self.demand.clients - self.demand.dropouts
        least = demand.fewest_survivors(self.threshold, self.quorum)
        reasons = (
            f"(threshold + 1 = {self.threshold + 1}, colluders + 2 = {demand.colluders + 2}, quorum = {self.quorum})"
        )
        if least > remain:
            raise ParameterError(
                f"dropouts {demand.dropouts}: {counted(remain, 'client')} may remain, but a sum needs {least} "
                f"{reasons}; lower gamma or delta, or invite more clients"
            )
        if not least <= self.min_survivors <= remain:
            raise ParameterError(
                f"min_survivors = {self.min_survivors}: must be at least {least} {reasons} and at most clients - "
                f"dropouts = {remain}"
            )

    def _check_graph(self) -> None:
        demand, neighbours = self.demand, self.neighbours
        whole("threshold", self.threshold, LOWEST_THRESHOLD, neighbours)
        demand.check_losses()
        if not demand.connects(neighbours):
            raise ParameterError(
                f"neighbours = {neighbours}: the chance that the graph falls apart is bounded by "
                f"2^{demand.connectivity_log2(neighbours, demand.dropouts):.1f}, and it must be below "
                f"2^-{demand.privacy_bits + 1:g}; raise the degree, or lower the dropouts or the colluders"
            )
        least, most = demand._interval(neighbours)
        if not least <= self.threshold <= most:
            remedy = (
                "raise it: colluders could open secrets" if self.threshold < least else "lower it: rounds would abort"
            )
            raise ParameterError(
                f"threshold = {self.threshold}: with {counted(neighbours, 'neighbour')} it must lie in {least} .. "
                f"{most}; {remedy}"
            )

    def explain(self) -> tuple[str, ...]:
        """Sentences for a person: the degree and the threshold, the bounds they reach and what those rest on."""
        return explanation.of_bounds(self)
