"""What both sides of a round must agree on."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from fractions import Fraction
from functools import cached_property, lru_cache
from typing import Final, Literal

from secagg.arithmetic.modulus import Modulus
from secagg.envelopes.parameters import EnvelopeParameters, find
from secagg.errors import ParameterError
from secagg.pairwise import carrier as carriers
from secagg.pairwise import config_wire, explanation, messages, transcript
from secagg.pairwise.carrier import Carrier, as_carrier
from secagg.pairwise.grouping import LEAST_VERSION, UNGROUPED, GroupBounds, Grouping, check_group_degree
from secagg.pairwise.parameters import (
    DEFAULT_ETA,
    DEFAULT_GRINDING_BITS,
    DEFAULT_SIGMA,
    Bounds,
    Demand,
    default_colluders,
)
from secagg.pairwise.phases import Phase, ThreatModel, phases
from secagg.pairwise.poisoning import DEFAULT_ROBUST_BITS, Poisoning, groups_asked
from secagg.pairwise.policy import Policy
from secagg.pairwise.values import (
    FEWEST_CLIENTS,
    MAX_ATTACHMENT_BYTES,
    MAX_BITS,
    MAX_CLIENTS,
    MAX_CONTEXT_BYTES,
    MAX_LENGTH,
    as_suite,
    as_threat_model,
    is_auto,
    raw_bytes,
    whole,
)
from secagg.primitives.suites import Suite
from secagg.wording import counted

__all__ = [
    "MAX_CLIENTS",
    "MAX_CONTEXT_BYTES",
    "MAX_LENGTH",
    "Policy",
    "RoundConfig",
    "Suite",
    "ThreatModel",
    "decode_config",
    "default_colluders",
]

_DEFAULT_INPUT_MAX: Final = 2**16 - 1
"""16 bits per element, as many as the encoder's default takes."""


@dataclass(frozen=True, kw_only=True)
class RoundConfig:
    """The constants of a round.  Made with ``for_cohort``; a config that breaks the protocol's rules does not exist.

    Attributes:
        clients: n, the clients invited; their ids are 0 .. n-1.
        length: m, the elements of each client's vector.
        modulus: the modulus of the vectors' elements.
        input_max: the largest value of an element of a client's vector.  When it is below ``modulus - 1`` the plain
            sum of n such vectors is below the modulus; when it is ``modulus - 1`` any element is allowed and the sum
            is the sum modulo the modulus.
        colluders: A, the clients that may pool what they know with the server.
        dropouts: D, the clients that may be lost from ADVERTISE to the end.
        neighbours: k, n - 1 for the complete graph.
        threshold: t, the shares that reconstruct a secret; t - 1 do not.
        quorum: Q, the confirmations that a client asks for in ``active``; 0 in ``semi_honest``.
        min_survivors: the fewest clients that may be in the sum.
        sigma: privacy holds except with probability 2^-sigma (before grinding, in ``active``).
        grinding_bits: ``active``: log2 of the graphs that a server may try; 0 in ``semi_honest``.
        eta: a round with at most D dropouts completes except with probability 2^-eta.
        context: public bytes that the host ties the round to, such as the hash of the global model.
        cohort: ``active``: the digest of the cohort's identity keys; empty in ``semi_honest``.
        version: of the wire, of ``transcript.VERSIONS``.  Members understand version 2 from release 0.3 on.
        attachment_bytes: version 2: what each client's host gives to ``submit`` beside the vector, to be revealed to
            the server with the client's last message; 0 for nothing.
        groups: version 2: G, into how many groups the cohort is drawn; 1 for one sum over everybody.  With groups,
            every group has a sum of its own, k is ceil(n / G) - 1, and t and Q are those of each group.
        min_group: version 2: with groups, the fewest vectors in a group's sum; a group with fewer is left out.  0
            without groups.
        chain: version 2, ``active``: the digest of the last certificate of the cohort, 32 bytes (``NO_CERTIFICATE`` in
            the first round of a chain); empty for a round that is not chained.
        carrier: version 2: what carries the vectors; ``Carrier.MASKS``, or ``Carrier.LATTICE`` for one lattice envelope
            a client, whose parameters follow from the other fields.
        complaints: version 2: r, about how many dealers a client may complain, and how many pairs of shares a dealer
            opens to the server because of complaints.  A client in conflict with more others is named and left out.  0
            for a round without complaints, in which a client whose shares do not open leaves.
    """

    threat_model: ThreatModel
    suite: Suite
    clients: int
    length: int
    modulus: Modulus
    input_max: int
    colluders: int
    dropouts: int
    neighbours: int
    threshold: int
    quorum: int
    min_survivors: int
    sigma: int
    grinding_bits: int
    eta: int
    context: bytes = b""
    cohort: bytes = b""
    version: int = transcript.VERSION
    attachment_bytes: int = 0
    groups: int = UNGROUPED
    min_group: int = 0
    chain: bytes = b""
    carrier: Carrier = Carrier.MASKS
    complaints: int = 0

    def __post_init__(self) -> None:
        self._take_types()
        self._check_version()
        self._check_chain()
        self._check_ranges()
        self._check_groups()
        self._check_carrier()
        self.bounds.check()
        self._check_complaints()

    @classmethod
    def for_cohort(
        cls,
        clients: int,
        length: int,
        *,
        threat_model: ThreatModel | str = ThreatModel.SEMI_HONEST,
        gamma: float | Fraction | None = None,
        delta: float | Fraction | None = None,
        neighbours: int | Literal["auto", "complete"] = "auto",
        threshold: int | None = None,
        input_max: int | None = None,
        modulus: Modulus | int | None = None,
        min_survivors: int | None = None,
        suite: Suite | str = Suite.AES_128,
        sigma: int = DEFAULT_SIGMA,
        grinding_bits: int = DEFAULT_GRINDING_BITS,
        eta: int = DEFAULT_ETA,
        context: bytes = b"",
        cohort: bytes = b"",
        version: int = transcript.VERSION,
        attachment_bytes: int = 0,
        groups: int | Literal["auto"] = UNGROUPED,
        min_group: int | None = None,
        chain: bytes = b"",
        carrier: Carrier | Literal["masks", "lattice"] = Carrier.MASKS,
        complaints: int | Literal["auto"] = 0,
        attackers: int | None = None,
        robust_bits: int = DEFAULT_ROBUST_BITS,
    ) -> RoundConfig:
        """The config for ``clients`` invited clients with vectors of ``length`` elements.

        Args:
            gamma: the largest share of the cohort that colludes with the server, A = floor(gamma n); when not given,
                ``default_colluders``: max(1, floor(0.2 n)).  A float stands for the decimal or the fraction that a
                person would write for it (``rates.exact_rate``).
            delta: the largest share of the cohort that is lost, from first to last, D = floor(delta n); when not given,
                max(1, floor(0.1 n)), or fewer where gamma, threshold or min_survivors leave less room.
            neighbours: ``"auto"`` for the smallest degree that keeps the bounds, ``"complete"``, or an even degree.
            threshold: found from the bounds when not given; checked when given.
            input_max: the largest element of a client's vector (``Encoder.input_max``).  Alone, it gives the
                smallest ring without overflow; 2^16 - 1 when neither it nor a modulus is given.
            modulus: a Modulus or an int.  Alone, every element is allowed and the sum is taken modulo it.
            min_survivors: the fewest clients in a sum; by default the fewest that the threshold, the quorum and two
                honest clients ask for, but n - D on a sparse graph in ``semi_honest``, whose bounds hold for D losses;
                with groups, ``min_group``.
            groups: into how many groups the cohort is drawn; needs ``version = 2``.  ``"auto"`` finds the smallest
                number whose robust mean withstands the attackers.
            min_group: the fewest clients in a group's sum; by default the fewest that the group's threshold, its
                quorum and two honest clients ask for.
            complaints: needs ``version = 2``.  ``"auto"`` for the smallest number with which no honest client is ever
                named: the most colluders that are counted among a client's neighbours, or 1.
            attackers: f, how many clients may send any vector they like; not part of the config.  With a number of
                groups, that number is checked.
            robust_bits: the robust mean of the groups fails, since half of them or more hold an attacker, with a
                probability below 2^-robust_bits; see ``poisoning.Poisoning``.
            carrier: ``"masks"`` or ``"lattice"``, which needs ``version = 2``; ``secagg.simulation.cheaper_carrier``
                measures which of the two takes less time here.
            suite: a Suite, or its name; ``"hybrid"`` (X25519 and ML-KEM-768) needs ``version = 2``.
            sigma, grinding_bits, eta, context, cohort, version, attachment_bytes, chain: see the class.

        Raises ParameterError, which names the value met, the value allowed and what to change.
        """
        model, grouped = as_threat_model(threat_model), is_auto(groups) or whole("groups", groups, 1) > UNGROUPED
        demand = Demand.of_rates(
            whole("clients", clients, FEWEST_CLIENTS, MAX_CLIENTS),
            gamma,
            delta,
            threat_model=model,
            sigma=whole("sigma", sigma, 1, MAX_BITS),
            grinding_bits=whole("grinding_bits", grinding_bits, 0, MAX_BITS) if model.adversarial_drops else 0,
            eta=whole("eta", eta, 1, MAX_BITS),
            neighbours="auto" if grouped else _degree(neighbours),
            threshold=None if threshold is None or grouped else whole("threshold", threshold),
            min_survivors=None if min_survivors is None else whole("min_survivors", min_survivors),
        )
        chosen_modulus, chosen_max = _choose_modulus(demand.clients, input_max, modulus)
        bounds: Bounds | GroupBounds
        groups = groups_asked(demand, groups, attackers, robust_bits, threshold=threshold, min_group=min_group)
        if grouped:
            if neighbours != "auto":
                check_group_degree(demand.clients, whole("neighbours", _degree(neighbours)), groups)
            bounds = Grouping(demand, groups).choose(
                threshold=threshold, min_group=min_group, min_survivors=demand.min_survivors
            )
            min_group = bounds.min_group
        else:
            bounds = demand.choose()
        if isinstance(complaints, str) and complaints == "auto":
            complaints = _fewest_complaints(bounds)
        return cls(
            threat_model=model,
            suite=as_suite(suite),
            clients=demand.clients,
            length=length,
            modulus=chosen_modulus,
            input_max=chosen_max,
            colluders=demand.colluders,
            dropouts=demand.dropouts,
            neighbours=bounds.neighbours,
            threshold=bounds.threshold,
            quorum=bounds.quorum,
            min_survivors=bounds.min_survivors,
            sigma=int(demand.sigma),
            grinding_bits=int(demand.grinding_bits),
            eta=int(demand.eta),
            context=context,
            cohort=cohort,
            version=version,
            attachment_bytes=attachment_bytes,
            groups=groups,
            min_group=0 if min_group is None else min_group,
            chain=chain,
            carrier=as_carrier(carrier),
            complaints=complaints,
        )

    # The rules.

    def _take_types(self) -> None:
        """Every value in its own type: NumPy's integers become ints, names and numbers what they stand for."""
        if not isinstance(self.modulus, Modulus):
            raise ParameterError(f"modulus = {self.modulus!r}: must be a Modulus, such as Modulus.ring(32)")
        taken: dict[str, object] = {
            "threat_model": as_threat_model(self.threat_model),
            "suite": as_suite(self.suite),
            "context": raw_bytes("context", self.context, MAX_CONTEXT_BYTES),
            "cohort": raw_bytes("cohort", self.cohort),
            "chain": raw_bytes("chain", self.chain),
            "carrier": as_carrier(self.carrier),
        }
        taken.update(
            (field.name, whole(field.name, getattr(self, field.name)))
            for field in fields(self)
            if field.name not in taken and field.name != "modulus"
        )
        for name, value in taken.items():
            object.__setattr__(self, name, value)

    def _check_version(self) -> None:
        if self.version not in transcript.VERSIONS:
            raise ParameterError(
                f"version = {self.version}: this library speaks the versions {transcript.known_versions()}"
            )
        if self.suite.is_hybrid and self.version == 1:
            raise ParameterError(
                f"suite {self.suite.name} in version 1 of the wire, which has no place for its keys: ask for version = "
                "2, or for another suite"
            )
        whole("attachment_bytes", self.attachment_bytes, 0, MAX_ATTACHMENT_BYTES)
        if self.attachment_bytes and self.version == 1:
            raise ParameterError(
                f"attachment_bytes = {self.attachment_bytes}: version 1 of the wire carries no attachment; ask for "
                "version = 2, or leave it 0"
            )

    def _check_groups(self) -> None:
        """R-GROUP-1: groups go with version 2, with a min_group, and without attachments."""
        if self.groups == UNGROUPED:
            if self.min_group:
                raise ParameterError(
                    f"min_group = {self.min_group}: it belongs to a round with groups; leave it out, or ask for groups"
                )
            return
        if self.version < LEAST_VERSION:
            raise ParameterError(
                f"groups = {self.groups}: version {self.version} of the wire knows no groups; ask for version = "
                f"{LEAST_VERSION}, or leave it 1"
            )
        check_group_degree(self.clients, self.neighbours, self.groups)
        if self.attachment_bytes:
            raise ParameterError(
                f"attachment_bytes = {self.attachment_bytes}: no attachment goes with groups = {self.groups}, because "
                "it depends on how many clients of the whole cohort are lost; ask for one of the two"
            )

    def _check_carrier(self) -> None:
        """R-ENV-1, R-ENV-2: envelopes go with version 2, and with sums that one of them can hold."""
        if self.carrier is Carrier.LATTICE and self.version < carriers.LEAST_VERSION:
            raise ParameterError(
                f"carrier = {self.carrier}: version {self.version} of the wire knows no envelopes; ask for version = "
                f"{carriers.LEAST_VERSION}, or for carrier = {Carrier.MASKS}"
            )
        _ = self.envelope

    def _check_chain(self) -> None:
        """R-CHAIN-6."""
        if not self.chain:
            return
        if len(self.chain) != transcript.DIGEST_BYTES:
            raise ParameterError(
                f"chain of {counted(len(self.chain), 'byte')}: must be the {transcript.DIGEST_BYTES}-byte digest of a "
                "certificate, or empty"
            )
        if self.version == 1 or not self.threat_model.confirms:
            raise ParameterError(
                f"chain in a round of version {self.version} in {self.threat_model}: chained rounds are active, and of "
                "version 2"
            )

    def _check_complaints(self) -> None:
        """R-COMPLAIN-1."""
        if self.complaints == 0:
            return
        if self.version == 1:
            raise ParameterError(
                f"complaints = {self.complaints}: version 1 of the wire has no complaints; ask for version = 2, or "
                "leave it 0"
            )
        least, most = _fewest_complaints(self.bounds), self.threshold - 1
        if not least <= self.complaints <= most:
            raise ParameterError(
                f"complaints = {self.complaints}: it must be from {least}, the colluders that may be among a client's "
                f"neighbours, to {most}, the threshold without one; lower gamma if there is no such number"
            )

    def _check_ranges(self) -> None:
        """R-CONFIG-4 and R-CONFIG-6; what a modulus is, R-CONFIG-5, ``Modulus`` sees to."""
        whole("clients", self.clients, FEWEST_CLIENTS, MAX_CLIENTS)
        whole("length", self.length, 1, MAX_LENGTH)
        for name in ("colluders", "dropouts"):
            whole(name, getattr(self, name), 0, self.clients - 1)
        for name, least in (("sigma", 1), ("grinding_bits", 0), ("eta", 1)):
            whole(name, getattr(self, name), least, MAX_BITS)
        whole("input_max", self.input_max, 1, self.modulus.value - 1)
        if self.input_max < self.modulus.value - 1 and self.clients * self.input_max >= self.modulus.value:
            needed = (self.clients * self.input_max).bit_length()
            raise ParameterError(
                f"modulus {self.modulus}: the sum of {counted(self.clients, 'element')} up to {self.input_max} can "
                f"reach {self.clients * self.input_max}; use a ring of at least {needed} bits"
            )
        if self.threat_model.signs and len(self.cohort) != transcript.DIGEST_BYTES:
            raise ParameterError("active: cohort must be the 32-byte digest of the cohort's identity keys (Directory)")
        if (
            (self.cohort and not self.threat_model.signs)
            or (self.grinding_bits and not self.threat_model.adversarial_drops)
            or (self.quorum and not self.threat_model.confirms)
        ):
            raise ParameterError(
                "semi_honest: cohort, grinding_bits and quorum belong to active; leave them empty and 0"
            )

    # What follows from the constants.

    @property
    def is_active(self) -> bool:
        """Whether the threat model is ``active``."""
        return self.threat_model is ThreatModel.ACTIVE

    @property
    def labels(self) -> transcript.Labels:
        """What this round's hashes, signatures and keys are made over: those of its version."""
        return transcript.labels(self.version)

    @property
    def phases(self) -> tuple[Phase, ...]:
        """The phases of the round, in order; those of complaints are there when the config has complaints."""
        return phases(self.threat_model, complaints=self.complaints > 0)

    @property
    def is_complete(self) -> bool:
        """Whether every client is every other's neighbour."""
        return self.neighbours == self.clients - 1

    @property
    def demand(self) -> Demand:
        """What this config says of who may collude, who may be lost, and how sure the round must be."""
        return Demand(
            clients=self.clients,
            colluders=self.colluders,
            dropouts=self.dropouts,
            threat_model=self.threat_model,
            sigma=self.sigma,
            grinding_bits=self.grinding_bits,
            eta=self.eta,
        )

    @cached_property
    def bounds(self) -> Bounds | GroupBounds:
        """The numbers of this config, and log2 of the probabilities that privacy, connectivity and correctness fail."""
        if self.groups > UNGROUPED:
            return Grouping(self.demand, self.groups).assess(
                self.threshold, quorum=self.quorum, min_group=self.min_group, min_survivors=self.min_survivors
            )
        return self.demand.assess(self.neighbours, self.threshold, quorum=self.quorum, min_survivors=self.min_survivors)

    @cached_property
    def envelope(self) -> EnvelopeParameters | None:
        """R-ENV-3: the parameters of a client's lattice envelope; None where masks carry the vectors."""
        if self.carrier is Carrier.MASKS:
            return None
        largest = -(-self.clients // self.groups)
        return find(largest, self.length, (largest * self.input_max).bit_length())

    @property
    def masked_length(self) -> int:
        """How many elements each client masks: m, or with envelopes the coefficients of a secret."""
        return self.length if self.envelope is None else self.envelope.degree

    @property
    def masked_modulus(self) -> Modulus:
        """The modulus of the masks: M, or with envelopes that of the sum of the secrets."""
        return self.modulus if self.envelope is None else Modulus.ring(self.envelope.key_bits)

    @property
    def masked_input_bytes(self) -> int:
        """What a MaskedInput carries: the masked vector, or with envelopes the masked key and the envelope."""
        masked = self.masked_modulus.packed_bytes(self.masked_length)
        return masked if self.envelope is None else masked + self.envelope.envelope_bytes

    @property
    def running_sum_bytes(self) -> int:
        """What a server holds, and stores in a snapshot, of the vectors that it adds up."""
        one = self.masked_length * self.masked_modulus.dtype.itemsize
        return self.groups * (one if self.envelope is None else one + self.envelope.sum_bytes)

    @property
    def smallest_sum(self) -> int:
        """The fewest vectors in a sum that is opened: min_group with groups, min_survivors without."""
        return self.min_survivors if self.groups == UNGROUPED else self.min_group

    @property
    def colluders_in_group(self) -> int:
        """The most colluders that are counted in a sum: A_g with groups, A without."""
        bounds = self.bounds
        return bounds.grouping.colluders if isinstance(bounds, GroupBounds) else self.colluders

    @property
    def graph_parameters(self) -> Bounds | GroupBounds:
        """What ``bounds`` was called before; this name stays for one release."""
        return self.bounds

    def max_message_bytes(self, phase: str) -> int:
        """The most bytes that an honest message of a phase has, in either direction: a limit for transports."""
        kinds = [kind for kind, name in messages.PHASE_OF.items() if name == phase]
        if not kinds:
            raise ParameterError(f"phase {phase!r}: one of {', '.join(dict.fromkeys(messages.PHASE_OF.values()))}")
        return max(messages.max_bytes(self, kind) for kind in kinds)

    def poisoning(self, attackers: int) -> Poisoning:
        """How well a robust mean of the groups withstands clients that send anything.

        Raises ParameterError without groups, and for a number of attackers that the cohort does not have.
        """
        bounds = self.bounds
        if not isinstance(bounds, GroupBounds):
            raise ParameterError(f"attackers = {attackers}: one sum over everybody withstands none; ask for groups")
        return Poisoning(bounds, attackers)

    def explain(self, attackers: int | None = None) -> str:
        """What was chosen, what it guarantees, and what that supposes; several lines for a person.

        With ``attackers``, of a round with groups, also how well a robust mean withstands them.
        """
        return explanation.of_config(self, None if attackers is None else self.poisoning(attackers))

    # On the wire.

    def to_bytes(self) -> bytes:
        """The canonical bytes (R-CONFIG-1)."""
        ring = self.modulus.is_ring
        values = {field.name: getattr(self, field.name) for field in fields(self) if field.name != "modulus"}
        values.update(
            threat_model=self.threat_model.value,
            suite=int(self.suite),
            carrier=self.carrier.number,
            ring_bits=self.modulus.bits if ring else 0,
            prime=0 if ring else self.modulus.value,
        )
        return config_wire.encode(values)

    @classmethod
    def from_bytes(cls, data: bytes) -> RoundConfig:
        """R-CONFIG-3: the config in ``data``.  Raises ParameterError when it is malformed or breaks a rule."""
        values = config_wire.decode(data)
        suite, prime, ring_bits = values["suite"], values.pop("prime"), values.pop("ring_bits")
        if suite not in list(Suite):
            raise ParameterError(f"suite {suite}: this library knows {[known.value for known in Suite]}")
        if prime and ring_bits:
            raise ParameterError("a config gives ring_bits or prime, not both")
        if prime and Modulus(prime).is_ring:
            raise ParameterError(f"prime {prime}: a power of two is given as ring_bits")
        values.update(
            carrier=Carrier.of_number(values.get("carrier", 0)),
            threat_model=as_threat_model(values["threat_model"]),
            suite=Suite(suite),
            modulus=Modulus(prime) if prime else Modulus.ring(ring_bits),
        )
        return cls(**values)

    @cached_property
    def digest(self) -> bytes:
        """SHA-256 of the canonical bytes under the config's label: what a host approves."""
        return self.labels.config_digest(self.to_bytes())

    def replace(self, **changes: object) -> RoundConfig:
        """A copy with other values, checked again."""
        return replace(self, **changes)  # type: ignore[arg-type]


@lru_cache(maxsize=16)
def decode_config(data: bytes) -> RoundConfig:
    """``RoundConfig.from_bytes``, remembered: many clients of one process join the same round."""
    return RoundConfig.from_bytes(data)


def _degree(neighbours: int | str) -> int | Literal["auto", "complete"]:
    if isinstance(neighbours, str) and neighbours == "auto":
        return "auto"
    if isinstance(neighbours, str) and neighbours == "complete":
        return "complete"
    try:
        return whole("neighbours", neighbours)
    except ParameterError:
        raise ParameterError(
            f"neighbours = {neighbours!r}: must be 'auto', 'complete' or an even number below clients - 1"
        ) from None


def _fewest_complaints(bounds: Bounds | GroupBounds) -> int:
    """R-COMPLAIN-1: as many as may lie about one honest client, and 1 at least."""
    if isinstance(bounds, GroupBounds):
        return max(1, bounds.grouping.colluders)
    return max(1, bounds.demand.most_colluding(bounds.neighbours))


def _choose_modulus(clients: int, input_max: int | None, modulus: Modulus | int | None) -> tuple[Modulus, int]:
    if modulus is not None and not isinstance(modulus, Modulus):
        modulus = Modulus(whole("modulus", modulus))
    if input_max is None and modulus is None:
        input_max = _DEFAULT_INPUT_MAX
    if input_max is not None:
        input_max = whole("input_max", input_max, 1, 2**64 - 1)
    if modulus is None:
        needed = (clients * (input_max or 0)).bit_length()
        if needed > 64:
            raise ParameterError(
                f"input_max {input_max}: the sum over {counted(clients, 'client')} needs {needed} bits, the largest "
                "ring has 64; encode in fewer bits, or lower the weights"
            )
        modulus = Modulus.ring(needed)
    return modulus, modulus.value - 1 if input_max is None else input_max
