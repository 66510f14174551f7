"""What both sides of a round must agree on."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from fractions import Fraction
from functools import cached_property, lru_cache
from typing import Final, Literal

from secagg.arithmetic.modulus import Modulus
from secagg.errors import ParameterError
from secagg.pairwise import config_wire, explanation, graph, messages, transcript
from secagg.pairwise.graph_rates import colluders_and_dropouts, default_colluders
from secagg.pairwise.parameters import (
    MAX_ATTACHMENT_BYTES,
    MAX_BITS,
    MAX_CLIENTS,
    MAX_CONTEXT_BYTES,
    MAX_LENGTH,
    as_suite,
    as_threat_model,
    raw_bytes,
    whole,
)
from secagg.pairwise.phases import ThreatModel
from secagg.pairwise.policy import Policy
from secagg.primitives.suites import Suite

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
        modulus: what the elements are counted in.
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
        version: of the wire, of ``transcript.VERSIONS``.  Version 2 is a draft that may change until release 0.3: all
            members of such a round run the same release of the library.
        attachment_bytes: version 2: what each client's host gives to ``submit`` beside the vector, to be revealed to
            the server with the client's last message; 0 for nothing.
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

    def __post_init__(self) -> None:
        self._take_types()
        self._check_version()
        self._check_ranges()
        self._check_survivors()
        graph.check_parameters(  # R-CONFIG-9
            self.clients,
            self.colluders,
            self.dropouts,
            self.neighbours,
            self.threshold,
            active=self.threat_model.adversarial_drops,
            complete=self.is_complete,
            sigma=self.sigma + self.grinding_bits,
            eta=self.eta,
        )

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
        suite: Suite = Suite.AES_128,
        sigma: int = 40,
        grinding_bits: int = 64,
        eta: int = 30,
        context: bytes = b"",
        cohort: bytes = b"",
        version: int = transcript.VERSION,
        attachment_bytes: int = 0,
    ) -> RoundConfig:
        """The config for ``clients`` invited clients with vectors of ``length`` elements.

        Args:
            gamma: the largest share of the cohort that colludes with the server, A = floor(gamma n); when not given,
                ``default_colluders``: max(1, floor(0.2 n)).  A float stands for the decimal or the fraction that a
                person would write for it (``graph_rates.exact_rate``).
            delta: the largest share of the cohort that is lost, from first to last, D = floor(delta n); when not given,
                max(1, floor(0.1 n)), or fewer where gamma, threshold or min_survivors leave less room.
            neighbours: ``"auto"`` for the smallest degree that keeps the bounds, ``"complete"``, or an even degree.
            threshold: found from the bounds when not given; checked when given.
            input_max: the largest element of a client's vector (``Encoder.input_max``).  Alone, it gives the
                smallest ring without overflow; 2^16 - 1 when neither it nor a modulus is given.
            modulus: a Modulus or an int.  Alone, every element is allowed and the sum is taken modulo it.
            min_survivors: the fewest clients in a sum; by default the fewest that the threshold, the quorum and two
                honest clients ask for, but n - D on a sparse graph in ``semi_honest``, whose bounds hold for D losses.
            sigma, grinding_bits, eta, context, cohort, version, attachment_bytes: see the class.

        Raises ParameterError, which names the value met, the value allowed and what to change.
        """
        model = as_threat_model(threat_model)
        active = model.adversarial_drops
        clients = whole("clients", clients, 3, MAX_CLIENTS)
        threshold = None if threshold is None else whole("threshold", threshold)
        min_survivors = None if min_survivors is None else whole("min_survivors", min_survivors)
        sigma, eta = whole("sigma", sigma, 1, MAX_BITS), whole("eta", eta, 1, MAX_BITS)
        grinding_bits = whole("grinding_bits", grinding_bits, 0, MAX_BITS) if active else 0
        chosen_modulus, chosen_max = _choose_modulus(clients, input_max, modulus)
        colluders, dropouts = colluders_and_dropouts(
            clients, gamma, delta, active=active, threshold=threshold, min_survivors=min_survivors
        )
        degree, threshold = graph.choose_parameters(
            clients,
            colluders,
            dropouts,
            _degree(neighbours),
            threshold,
            active=active,
            sigma=sigma + grinding_bits,
            eta=eta,
        )
        quorum = graph.quorum(clients, colluders) if model.confirms else 0
        if min_survivors is None:
            min_survivors = max(quorum, threshold + 1, colluders + 2)
            if not active and degree != clients - 1:
                # Connectivity of a sparse graph is bounded for D losses and no more.
                min_survivors = max(min_survivors, clients - dropouts)
        return cls(
            threat_model=model,
            suite=suite,
            clients=clients,
            length=length,
            modulus=chosen_modulus,
            input_max=chosen_max,
            colluders=colluders,
            dropouts=dropouts,
            neighbours=degree,
            threshold=threshold,
            quorum=quorum,
            min_survivors=min_survivors,
            sigma=sigma,
            grinding_bits=grinding_bits,
            eta=eta,
            context=context,
            cohort=cohort,
            version=version,
            attachment_bytes=attachment_bytes,
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
        whole("attachment_bytes", self.attachment_bytes, 0, MAX_ATTACHMENT_BYTES)
        if self.attachment_bytes and self.version == 1:
            raise ParameterError(
                f"attachment_bytes = {self.attachment_bytes}: version 1 of the wire carries no attachment; ask for "
                "version = 2, or leave it 0"
            )

    def _check_ranges(self) -> None:
        """R-CONFIG-4 and R-CONFIG-6; what a modulus is, R-CONFIG-5, ``Modulus`` sees to."""
        whole("clients", self.clients, 3, MAX_CLIENTS)
        whole("length", self.length, 1, MAX_LENGTH)
        for name in ("colluders", "dropouts"):
            whole(name, getattr(self, name), 0, self.clients - 1)
        for name, least in (("sigma", 1), ("grinding_bits", 0), ("eta", 1)):
            whole(name, getattr(self, name), least, MAX_BITS)
        whole("input_max", self.input_max, 1, self.modulus.value - 1)
        if self.input_max < self.modulus.value - 1 and self.clients * self.input_max >= self.modulus.value:
            needed = (self.clients * self.input_max).bit_length()
            raise ParameterError(
                f"modulus {self.modulus}: the sum of {self.clients} elements up to {self.input_max} can reach "
                f"{self.clients * self.input_max}; use a ring of at least {needed} bits"
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

    def _check_survivors(self) -> None:
        """R-CONFIG-7 and R-CONFIG-8."""
        remain = self.clients - self.dropouts
        if self.threat_model.confirms and not (
            2 * self.quorum > self.clients + self.colluders and self.quorum <= remain
        ):
            raise ParameterError(
                f"quorum {self.quorum}: must exceed (clients + colluders) / 2 = "
                f"{(self.clients + self.colluders) / 2:g} and be at most clients - dropouts = {remain}; "
                "lower gamma or delta"
            )
        # Two honest members: the sum of fewer is somebody's vector.
        least = max(self.quorum, self.threshold + 1, self.colluders + 2)
        if least > remain:
            raise ParameterError(
                f"dropouts {self.dropouts}: {remain} clients may remain, but a sum needs {least} "
                f"(threshold + 1 = {self.threshold + 1}, colluders + 2 = {self.colluders + 2}, "
                f"quorum = {self.quorum}); lower gamma or delta, or invite more clients"
            )
        if not least <= self.min_survivors <= remain:
            raise ParameterError(
                f"min_survivors = {self.min_survivors}: must be at least {least} "
                f"(threshold + 1 = {self.threshold + 1}, colluders + 2 = {self.colluders + 2}, "
                f"quorum = {self.quorum}) and at most clients - dropouts = {remain}"
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
    def is_complete(self) -> bool:
        """Whether every client is every other's neighbour."""
        return self.neighbours == self.clients - 1

    @cached_property
    def bounds(self) -> graph.Bounds:
        """log2 of the probabilities that privacy, connectivity and correctness fail.

        In ``semi_honest`` connectivity is that of the smallest sum that this config lets open, which may be over fewer
        than n - D clients when ``min_survivors`` was given.
        """

        def assess(lost: int) -> graph.Bounds:
            active = self.threat_model.adversarial_drops
            return graph.assess(self.clients, self.colluders, lost, self.neighbours, self.threshold, active=active)

        bounds = assess(self.dropouts)
        if self.threat_model.adversarial_drops:
            return bounds
        return replace(bounds, connectivity_log2=assess(self.clients - self.min_survivors).connectivity_log2)

    @property
    def graph_parameters(self) -> graph.GraphParameters:
        """Degree and threshold with what they were chosen for, and ``bounds``."""
        sigma, eta = float(self.sigma + self.grinding_bits), float(self.eta)
        active = self.threat_model.adversarial_drops
        none_below = self.is_complete and not graph.sparse_degree_exists(
            self.clients, self.colluders, self.dropouts, active=active, sigma=sigma, eta=eta
        )
        return graph.GraphParameters(
            clients=self.clients,
            colluders=self.colluders,
            dropouts=self.dropouts,
            neighbours=self.neighbours,
            threshold=self.threshold,
            active=active,
            sigma=sigma,
            eta=eta,
            no_sparse_degree=none_below,
            privacy_log2=self.bounds.privacy_log2,
            connectivity_log2=self.bounds.connectivity_log2,
            correctness_log2=self.bounds.correctness_log2,
        )

    def max_message_bytes(self, phase: str) -> int:
        """The most bytes that an honest message of a phase has, in either direction: a limit for transports."""
        kinds = [kind for kind, name in messages.PHASE_OF.items() if name == phase]
        if not kinds:
            raise ParameterError(f"phase {phase!r}: one of {', '.join(dict.fromkeys(messages.PHASE_OF.values()))}")
        return max(messages.max_bytes(self, kind) for kind in kinds)

    def explain(self) -> str:
        """What was chosen, what it guarantees, and what that supposes; several lines for a person."""
        return explanation.of_config(self)

    # On the wire.

    def to_bytes(self) -> bytes:
        """The canonical bytes (R-CONFIG-1)."""
        ring = self.modulus.is_ring
        values = {field.name: getattr(self, field.name) for field in fields(self) if field.name != "modulus"}
        values.update(
            threat_model=self.threat_model.value,
            suite=int(self.suite),
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
                f"input_max {input_max}: the sum over {clients} clients needs {needed} bits, the largest ring has 64; "
                "encode in fewer bits, or lower the weights"
            )
        modulus = Modulus.ring(needed)
    return modulus, modulus.value - 1 if input_max is None else input_max
