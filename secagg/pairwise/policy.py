"""The least that a client accepts of a config; a server cannot talk it below this."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields
from fractions import Fraction
from typing import TYPE_CHECKING, Literal

from secagg.errors import ParameterError
from secagg.pairwise import transcript
from secagg.pairwise.carrier import ANY_CARRIER, Carrier
from secagg.pairwise.parameters import DEFAULT_GRINDING_BITS, DEFAULT_SIGMA, default_colluders
from secagg.pairwise.phases import ThreatModel, default_threat_model
from secagg.pairwise.rates import count_of, exact_rate
from secagg.pairwise.rules import client as rules
from secagg.pairwise.values import (
    FEWEST_CLIENTS,
    MAX_CLIENTS,
    MAX_CONTEXT_BYTES,
    as_suite,
    as_threat_model,
    raw_bytes,
    whole,
)
from secagg.primitives.suites import Suite

if TYPE_CHECKING:
    from secagg.pairwise.config import RoundConfig


@dataclass(frozen=True, kw_only=True)
class Policy:
    """The least that a client accepts of a config (R-CONFIG-11); a server cannot talk it below this.

    A config is refused when a value of it is below the value here; each field is named after the config's.  The
    defaults are those that R-CONFIG-16 recommends to whoever knows nothing of the round; what depends on the round
    (``gamma``, ``min_survivors``, ``min_input_bits``, lengths, ``context``) asks for nothing by default.

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
        min_neighbours, min_threshold, min_quorum: see RoundConfig.
        min_survivors: the fewest clients in the sum that shows this client's vector: the config's ``min_group`` in a
            round with groups, its ``min_survivors`` in any other.
        max_neighbours: a client's work in SHARE grows with the square of its neighbours: with 4,096 it takes about a
            second, with 2^20 hours.  Raise it for complete graphs, or rates, that need more.
        suites: the suites to accept.
        min_modulus_bits, min_input_bits: so that the server cannot make inputs coarser than agreed.
        min_length, max_length: elements of a vector.
        context: when given, the config's context must be these very bytes.
        min_version: the least version of the wire.
        max_attachment_bytes: the most that a config may ask of this client's host beside its vector.  A host that
            attaches something to its vectors says how much here; one that knows of no attachment leaves it 0, and
            refuses the round before it has sent anything, instead of being unable to submit later.
        max_groups: the most groups that the cohort may be drawn into; None for any number.  A client that knows of no
            groups leaves it 1: the sum of a group says more about its members than the sum of the cohort does.
        max_complaints: the most pairs of shares that this client opens to the server because others complain about
            them; None for any number that the protocol allows.  A host whose rounds have no place for complaints leaves
            it 0, and refuses such a round before it has sent anything.
        require_chain: refuse a round that is not chained to the cohort's last certificate.
        carrier: what the vector may be carried by: ``"masks"``, ``"lattice"`` for envelopes alone, or ``"any"``.
            Envelopes rest on another assumption, which is newer and less studied, so that a server cannot ask for them
            unless the client agrees.
    """

    threat_model: ThreatModel | None = None
    min_clients: int = FEWEST_CLIENTS
    max_clients: int = MAX_CLIENTS
    gamma: float | Fraction | Literal["default"] = 0.0
    min_sigma: int = DEFAULT_SIGMA
    min_grinding_bits: int = DEFAULT_GRINDING_BITS
    min_neighbours: int = 2
    max_neighbours: int = 4096
    min_threshold: int = 2
    min_quorum: int = 0
    min_survivors: int = 2
    suites: frozenset[Suite] = frozenset(Suite)
    min_modulus_bits: int = 1
    min_input_bits: int = 1
    min_length: int = 1
    max_length: int = 2**32
    context: bytes | None = None
    min_version: int = transcript.VERSION
    max_attachment_bytes: int = 0
    max_groups: int | None = 1
    max_complaints: int | None = 0
    require_chain: bool = False
    carrier: Carrier | Literal["any"] = Carrier.MASKS

    def __post_init__(self) -> None:
        taken: dict[str, object] = {
            field.name: whole(field.name, getattr(self, field.name), 0, 2**64)
            for field in fields(self)
            if field.name.startswith(("min_", "max_")) and field.name not in ("max_groups", "max_complaints")
        }
        if self.max_complaints is not None:
            taken["max_complaints"] = whole("max_complaints", self.max_complaints, 0)
        if self.max_groups is not None:
            taken["max_groups"] = whole("max_groups", self.max_groups, 1)
        if self.threat_model is not None:
            taken["threat_model"] = as_threat_model(self.threat_model)
        if self.carrier not in (*Carrier, ANY_CARRIER):
            raise ParameterError(
                f"carrier {self.carrier!r:.80}: must be one of {', '.join((*Carrier, ANY_CARRIER))}, as a policy has it"
            )
        if self.carrier != ANY_CARRIER:
            taken["carrier"] = Carrier(self.carrier)
        if isinstance(self.suites, str | bytes) or not isinstance(self.suites, Iterable):
            raise ParameterError(f"suites = {self.suites!r}: must be a set of Suite")
        taken["suites"] = frozenset(map(as_suite, self.suites))
        if self.context is not None:
            taken["context"] = raw_bytes("context", self.context, MAX_CONTEXT_BYTES)
        for name, value in taken.items():
            object.__setattr__(self, name, value)
        if not isinstance(self.require_chain, bool):
            raise ParameterError(f"require_chain = {self.require_chain!r}: must be True or False")
        if self.gamma != "default":
            exact_rate("gamma", self.gamma)

    def _colluders(self, clients: int) -> int:
        return default_colluders(clients) if self.gamma == "default" else count_of(clients, "gamma", self.gamma)

    def check(self, config: RoundConfig, *, identified: bool = False) -> None:
        """R-CONFIG-11, R-ENV-9: raises PeerError(CONFIG_BELOW_POLICY), naming the value met and the value allowed.

        ``identified`` says that the client brings an identity or a directory.
        """
        asked = self.threat_model or default_threat_model(identified=identified)
        rules.within_policy(config.threat_model.covers(asked), "threat_model", config.threat_model, asked)
        suites = " or ".join(suite.name for suite in sorted(self.suites))
        rules.within_policy(config.suite in self.suites, "suite", config.suite.name, suites)
        floors = [
            ("version", config.version, self.min_version),
            ("clients", config.clients, self.min_clients),
            ("colluders", config.colluders, self._colluders(config.clients)),
            ("sigma", config.sigma, self.min_sigma),
            ("neighbours", config.neighbours, self.min_neighbours),
            ("threshold", config.threshold, self.min_threshold),
            ("quorum", config.quorum, self.min_quorum),
            ("min_survivors" if config.groups == 1 else "min_group", config.smallest_sum, self.min_survivors),
            ("modulus bits", config.modulus.bits, self.min_modulus_bits),
            ("input bits", config.input_max.bit_length(), self.min_input_bits),
            ("length", config.length, self.min_length),
        ]
        if config.threat_model.adversarial_drops:
            floors.append(("grinding_bits", config.grinding_bits, self.min_grinding_bits))
        for name, met, allowed in floors:
            rules.within_policy(met >= allowed, name, met, f"at least {allowed}")
        for name, met, allowed in (
            ("clients", config.clients, self.max_clients),
            ("length", config.length, self.max_length),
            ("neighbours", config.neighbours, self.max_neighbours),
            ("attachment_bytes", config.attachment_bytes, self.max_attachment_bytes),
        ):
            rules.within_policy(met <= allowed, name, met, f"at most {allowed}")
        if self.max_groups is not None:
            rules.within_policy(config.groups <= self.max_groups, "groups", config.groups, f"at most {self.max_groups}")
        if self.carrier != ANY_CARRIER:
            rules.within_policy(config.carrier is self.carrier, "carrier", config.carrier, self.carrier)
        if self.max_complaints is not None:
            rules.within_policy(
                config.complaints <= self.max_complaints,
                "complaints",
                config.complaints,
                f"at most {self.max_complaints}",
            )
        if self.require_chain:
            rules.within_policy(bool(config.chain), "chain", "nothing", "the digest of the cohort's last certificate")
        if self.context is not None:
            met_context = config.context.hex() or "nothing"
            rules.within_policy(config.context == self.context, "context", met_context, self.context.hex())
