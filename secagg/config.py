"""What both sides of a round must agree on (RoundConfig), and the least that a client accepts (Policy)."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from enum import IntEnum, StrEnum
from fractions import Fraction
from functools import cached_property, lru_cache
from typing import Final, Literal

import msgspec

from secagg import explanation, graph, messages, transcript
from secagg.arithmetic.modulus import Modulus
from secagg.errors import ErrorCode, ParameterError, PeerError
from secagg.graph_rates import colluders_and_dropouts, count_of, default_colluders, exact_rate

__all__ = ["Policy", "RoundConfig", "Suite", "ThreatModel", "decode_config", "default_colluders"]

MAX_CLIENTS: Final = 2**20
MAX_LENGTH: Final = 2**36
MAX_CONTEXT_BYTES: Final = 1024
_DEFAULT_INPUT_MAX: Final = 2**16 - 1


class ThreatModel(StrEnum):
    """What the server may do; in both, up to A clients pool what they know with it."""

    SEMI_HONEST = "semi_honest"
    """It follows the protocol."""
    ACTIVE = "active"
    """It does anything; identity keys are known beforehand."""


class Suite(IntEnum):
    """The primitives of a round.  Both use X25519, HKDF-SHA256 and SHA-256; the AES key size differs."""

    AES_128 = 1
    """AES-128-CTR masks, shares sealed with AES-128-GCM."""
    AES_256 = 2
    """AES-256-CTR masks, shares sealed with AES-256-GCM."""

    @property
    def key_bytes(self) -> int:
        """Bytes of a mask key and of a sealing key."""
        return 16 if self is Suite.AES_128 else 32


class _ConfigFields(msgspec.Struct, array_like=True, forbid_unknown_fields=True, frozen=True):
    """A config on the wire, in canonical order."""

    version: int
    threat_model: str
    suite: int
    clients: int
    length: int
    ring_bits: int
    prime: int
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
    context: bytes
    cohort: bytes


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

    def __post_init__(self) -> None:
        self._check_ranges()
        self._check_survivors()
        graph.check_parameters(
            self.clients,
            self.colluders,
            self.dropouts,
            self.neighbours,
            self.threshold,
            active=self.is_active,
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
            sigma, grinding_bits, eta, context, cohort: see the class.

        Raises ParameterError, which names the value met, the value allowed and what to change.
        """
        active = _threat_model(threat_model) is ThreatModel.ACTIVE
        _int_in("clients", clients, 3, MAX_CLIENTS)
        grinding_bits = grinding_bits if active else 0
        chosen_modulus, chosen_max = _choose_modulus(clients, input_max, modulus)
        colluders, dropouts = colluders_and_dropouts(
            clients, gamma, delta, active=active, threshold=threshold, min_survivors=min_survivors
        )
        degree, threshold = graph.choose_parameters(
            clients,
            colluders,
            dropouts,
            neighbours,
            threshold,
            active=active,
            sigma=sigma + grinding_bits,
            eta=eta,
        )
        quorum = graph.quorum(clients, colluders) if active else 0
        if min_survivors is None:
            min_survivors = max(quorum, threshold + 1, colluders + 2)
            if not active and degree != clients - 1:
                # Connectivity of a sparse graph is bounded for D losses and no more.
                min_survivors = max(min_survivors, clients - dropouts)
        return cls(
            threat_model=_threat_model(threat_model),
            suite=Suite(suite),
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
        )

    # The rules.

    def _check_ranges(self) -> None:
        _int_in("clients", self.clients, 3, MAX_CLIENTS)
        _int_in("length", self.length, 1, MAX_LENGTH)
        _int_in("colluders", self.colluders, 0, self.clients - 1)
        _int_in("dropouts", self.dropouts, 0, self.clients - 1)
        _int_in("sigma", self.sigma, 1, 256)
        _int_in("grinding_bits", self.grinding_bits, 0, 256)
        _int_in("eta", self.eta, 1, 256)
        _int_in("input_max", self.input_max, 1, self.modulus.value - 1)
        if self.input_max < self.modulus.value - 1 and self.clients * self.input_max >= self.modulus.value:
            needed = (self.clients * self.input_max).bit_length()
            raise ParameterError(
                f"modulus {self.modulus}: the sum of {self.clients} elements up to {self.input_max} can reach "
                f"{self.clients * self.input_max}; use a ring of at least {needed} bits"
            )
        if len(self.context) > MAX_CONTEXT_BYTES:
            raise ParameterError(
                f"context of {len(self.context)} bytes; at most {MAX_CONTEXT_BYTES}: give a hash instead"
            )
        if self.is_active and len(self.cohort) != transcript.DIGEST_BYTES:
            raise ParameterError("active: cohort must be the 32-byte digest of the cohort's identity keys (Directory)")
        if not self.is_active and (self.cohort or self.grinding_bits or self.quorum):
            raise ParameterError(
                "semi_honest: cohort, grinding_bits and quorum belong to active; leave them empty and 0"
            )

    def _check_survivors(self) -> None:
        remain = self.clients - self.dropouts
        if self.is_active and not (2 * self.quorum > self.clients + self.colluders and self.quorum <= remain):
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
        _int_in("min_survivors", self.min_survivors, least, remain)

    # What follows from the constants.

    @property
    def is_active(self) -> bool:
        """Whether the threat model is ``active``."""
        return self.threat_model is ThreatModel.ACTIVE

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
            return graph.assess(
                self.clients, self.colluders, lost, self.neighbours, self.threshold, active=self.is_active
            )

        bounds = assess(self.dropouts)
        if self.is_active:
            return bounds
        return replace(bounds, connectivity_log2=assess(self.clients - self.min_survivors).connectivity_log2)

    @property
    def graph_parameters(self) -> graph.GraphParameters:
        """Degree and threshold with what they were chosen for, and ``bounds``."""
        sigma, eta = float(self.sigma + self.grinding_bits), float(self.eta)
        none_below = self.is_complete and not graph.sparse_degree_exists(
            self.clients, self.colluders, self.dropouts, active=self.is_active, sigma=sigma, eta=eta
        )
        return graph.GraphParameters(
            clients=self.clients,
            colluders=self.colluders,
            dropouts=self.dropouts,
            neighbours=self.neighbours,
            threshold=self.threshold,
            active=self.is_active,
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
        """The canonical bytes."""
        ring = self.modulus.is_ring
        values = {field.name: getattr(self, field.name) for field in fields(self) if field.name != "modulus"}
        values.update(
            version=transcript.VERSION,
            threat_model=self.threat_model.value,
            suite=int(self.suite),
            ring_bits=self.modulus.bits if ring else 0,
            prime=0 if ring else self.modulus.value,
        )
        return msgspec.msgpack.encode(_ConfigFields(**values))

    @classmethod
    def from_bytes(cls, data: bytes) -> RoundConfig:
        """The config in ``data``.  Raises ParameterError when it is malformed or breaks a rule."""
        try:
            wire = msgspec.msgpack.decode(data, type=_ConfigFields)
        except (msgspec.DecodeError, UnicodeDecodeError) as refused:
            raise ParameterError(f"the config does not decode: {refused}") from None
        if wire.version != transcript.VERSION:
            raise ParameterError(f"config of protocol version {wire.version}; this library speaks {transcript.VERSION}")
        if wire.suite not in {int(suite) for suite in Suite}:
            raise ParameterError(f"suite {wire.suite}: this library knows {sorted(int(suite) for suite in Suite)}")
        if wire.prime and wire.ring_bits:
            raise ParameterError("a config gives ring_bits or prime, not both")
        if wire.prime and Modulus(wire.prime).is_ring:
            raise ParameterError(f"prime {wire.prime}: a power of two is given as ring_bits")
        values = msgspec.structs.asdict(wire)
        for name in ("version", "ring_bits", "prime"):
            del values[name]
        values.update(
            threat_model=_threat_model(wire.threat_model),
            suite=Suite(wire.suite),
            modulus=Modulus(wire.prime) if wire.prime else Modulus.ring(wire.ring_bits),
        )
        return cls(**values)

    @cached_property
    def digest(self) -> bytes:
        """SHA-256 of the canonical bytes under the config's label: what a host approves."""
        return transcript.config_digest(self.to_bytes())

    def replace(self, **changes: object) -> RoundConfig:
        """A copy with other values, checked again."""
        return replace(self, **changes)  # type: ignore[arg-type]


@lru_cache(maxsize=16)
def decode_config(data: bytes) -> RoundConfig:
    """``RoundConfig.from_bytes``, remembered: many clients of one process join the same round."""
    return RoundConfig.from_bytes(data)


def _threat_model(value: ThreatModel | str) -> ThreatModel:
    try:
        return ThreatModel(value)
    except ValueError:
        raise ParameterError(f"threat model {value!r}: one of {', '.join(ThreatModel)}") from None


def _int_in(name: str, value: int, low: int, high: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise ParameterError(f"{name} = {value!r}: must be an int from {low} to {high}")


def _choose_modulus(clients: int, input_max: int | None, modulus: Modulus | int | None) -> tuple[Modulus, int]:
    if isinstance(modulus, int):
        modulus = Modulus(modulus)
    if input_max is None and modulus is None:
        input_max = _DEFAULT_INPUT_MAX
    if input_max is not None:
        _int_in("input_max", input_max, 1, 2**64 - 1)
    if modulus is None:
        needed = (clients * (input_max or 0)).bit_length()
        if needed > 64:
            raise ParameterError(
                f"input_max {input_max}: the sum over {clients} clients needs {needed} bits, the largest ring has 64; "
                "encode in fewer bits, or lower the weights"
            )
        modulus = Modulus.ring(needed)
    return modulus, modulus.value - 1 if input_max is None else input_max


@dataclass(frozen=True, kw_only=True)
class Policy:
    """The least that a client accepts of a config (check 2); a server cannot talk it below this.

    A config is refused when a value of it is below the value here; each field is named after the config's.

    Attributes:
        threat_model: ACTIVE refuses a round in ``semi_honest``; SEMI_HONEST takes both; None asks for ACTIVE of a
            client that brings an identity or a directory, and takes both of one that does not.
        min_clients, max_clients: how many may be invited.
        gamma: the least share of the cohort that the config must count among the colluders: at least floor(gamma n) of
            them; ``"default"`` asks for those that ``RoundConfig.for_cohort`` counts when it is not told how many,
            ``default_colluders(n)``.  A server that may say that nobody colludes may choose a threshold that few
            colluders reach: ask for what you believe.
        min_sigma: bits of privacy.
        min_grinding_bits: asked of ``active`` configs only.
        min_neighbours, min_threshold, min_quorum, min_survivors: see RoundConfig.
        suites: the suites to accept.
        min_modulus_bits, min_input_bits: so that the server cannot make inputs coarser than agreed.
        min_length, max_length: elements of a vector.
        context: when given, the config's context must be these very bytes.
    """

    threat_model: ThreatModel | None = None
    min_clients: int = 3
    max_clients: int = MAX_CLIENTS
    gamma: float | Fraction | Literal["default"] = 0.0
    min_sigma: int = 40
    min_grinding_bits: int = 64
    min_neighbours: int = 2
    min_threshold: int = 2
    min_quorum: int = 0
    min_survivors: int = 2
    suites: frozenset[Suite] = frozenset(Suite)
    min_modulus_bits: int = 1
    min_input_bits: int = 1
    min_length: int = 1
    max_length: int = 2**32
    context: bytes | None = None

    def __post_init__(self) -> None:
        if self.gamma != "default":
            exact_rate("gamma", self.gamma)

    def _colluders(self, clients: int) -> int:
        return default_colluders(clients) if self.gamma == "default" else count_of(clients, "gamma", self.gamma)

    def check(self, config: RoundConfig, *, identified: bool = False) -> None:
        """Raises PeerError(CONFIG_BELOW_POLICY), naming the value met and the value allowed.

        ``identified`` says that the client brings an identity or a directory.
        """
        asked = self.threat_model or (ThreatModel.ACTIVE if identified else ThreatModel.SEMI_HONEST)
        if asked is ThreatModel.ACTIVE and not config.is_active:
            raise _below("threat_model", config.threat_model, "active")
        if config.suite not in self.suites:
            raise _below("suite", config.suite.name, " or ".join(suite.name for suite in sorted(self.suites)))
        floors = [
            ("clients", config.clients, self.min_clients),
            ("colluders", config.colluders, self._colluders(config.clients)),
            ("sigma", config.sigma, self.min_sigma),
            ("neighbours", config.neighbours, self.min_neighbours),
            ("threshold", config.threshold, self.min_threshold),
            ("quorum", config.quorum, self.min_quorum),
            ("min_survivors", config.min_survivors, self.min_survivors),
            ("modulus bits", config.modulus.bits, self.min_modulus_bits),
            ("input bits", config.input_max.bit_length(), self.min_input_bits),
            ("length", config.length, self.min_length),
        ]
        if config.is_active:
            floors.append(("grinding_bits", config.grinding_bits, self.min_grinding_bits))
        for name, met, allowed in floors:
            if met < allowed:
                raise _below(name, met, f"at least {allowed}")
        for name, met, allowed in (
            ("clients", config.clients, self.max_clients),
            ("length", config.length, self.max_length),
        ):
            if met > allowed:
                raise _below(name, met, f"at most {allowed}")
        if self.context is not None and config.context != self.context:
            raise _below("context", f"{config.context.hex() or 'nothing'}", self.context.hex())


def _below(name: str, met: object, allowed: str) -> PeerError:
    return PeerError(
        ErrorCode.CONFIG_BELOW_POLICY,
        f"the server's config has {name} = {met}; this client's policy asks for {allowed}",
        phase="ADVERTISE",
    )
