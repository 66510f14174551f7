"""The config and its rules, the choice of degree and threshold, the neighbour graph, the roster's tree."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass
from math import comb
from typing import Any

from . import envelopes, wire
from .arithmetic import FIELD, is_prime, packed_bytes
from .primitives import KEY_BYTES, aes_blocks
from .transcript import V1, Labels
from .wire import Refused, require

Node = Callable[[bytes, bytes], bytes]
LABELS = {version: Labels(version) for version in wire.VERSIONS}
EXTENSIONS: dict[int, tuple[str, int | bytes]] = {  # of version 2: numbers, and defaults
    1: ("attachment_bytes", 0),
    2: ("groups", 1),
    3: ("min_group", 0),
    4: ("chain", b""),
    5: ("complaints", 0),
    6: ("carrier", 0),
}


@dataclass(frozen=True)
class Config:
    """The constants of a round, in the order of the wire; there the version comes first, and extensions last."""

    threat_model: str
    suite: int
    clients: int  # n
    length: int  # m
    ring_bits: int  # 0 for a prime modulus
    prime: int  # 0 for a ring
    input_max: int
    colluders: int  # A
    dropouts: int  # D
    neighbours: int  # k
    threshold: int  # t
    quorum: int  # Q
    min_survivors: int
    sigma: int
    grinding_bits: int
    eta: int
    context: bytes
    cohort: bytes
    version: int = 1
    attachment_bytes: int = 0
    groups: int = 1  # G
    min_group: int = 0
    chain: bytes = b""
    carrier: int = 0
    complaints: int = 0  # r

    @property
    def labels(self) -> Labels:
        return LABELS[self.version]

    @property
    def active(self) -> bool:
        return self.threat_model == "active"

    @property
    def modulus(self) -> int:
        return self.prime or 1 << self.ring_bits

    @property
    def envelope(self) -> envelopes.Parameters | None:
        """R-ENV-2, R-ENV-3: refused when there is none that is large enough; None where masks carry the vectors."""
        clients = -(-self.clients // self.groups)
        bits = (clients * self.input_max).bit_length()
        return envelopes.find(clients, self.length, bits) if self.carrier else None

    @property
    def masked_length(self) -> int:
        return self.envelope.degree if self.envelope else self.length

    @property
    def masked_modulus(self) -> int:
        return self.envelope.key_modulus if self.envelope else self.modulus

    def to_bytes(self) -> bytes:
        values, version = astuple(self)[: len(ELEMENTS)], self.version
        held = [(number, getattr(self, name), default) for number, (name, default) in EXTENSIONS.items()]
        extensions = [part for number, value, default in held if value != default for part in (number, value)]
        return wire.pack([version, *values, *([extensions] if version >= 2 else [])])

    @property
    def digest(self) -> bytes:
        return self.labels.config_digest(self.to_bytes())

    def max_bytes(self, name: str) -> int:
        """The size limit of a message: the most bytes that an honest one has, and a few more."""
        n, k, bitmap = self.clients, self.neighbours, (self.clients + 7) // 8
        keys, sealed = 2 * wire.PUBLIC_KEY[self.suite], wire.CIPHERTEXT[self.suite] + wire.SEALED
        secrets = (k // 2 + 1) * wire.PAIR_SECRET if self.suite == 3 else 0  # R-HYBRID-16
        packed = packed_bytes(self.masked_length, self.masked_modulus)
        packed += self.envelope.envelope_bytes() if self.envelope else 0
        answers = self.complaints * (wire.OPENED[self.suite] + 64)
        roster = 32 + keys + k * (keys + 72) + 32 * min(n, (k + 1) * (n - 1).bit_length())
        up = {
            "Advertise": keys + 64,
            "Share": 32 + k * (sealed + 64) + secrets,
            "MaskedInput": packed,
            "Confirm": 64,
            "Unmask": k * 72 + self.attachment_bytes,
            "Complaint": self.complaints * 68,
            "Answer": answers,
        }
        shares = k * (sealed + 68) + secrets
        down = {"Roster": roster, "Shares": shares, "Survivors": bitmap, "Confirmations": bitmap + n * 64}
        down |= {"Accusations": self.complaints * 68, "Settled": k * 4 + answers}
        return 64 + (up | down)[name]


ELEMENTS = list(Config.__annotations__)[: -1 - len(EXTENSIONS)]  # of the array, after the version


def read_config(data: bytes) -> Config:
    """R-CONFIG-10: a config that keeps every rule; anything else is refused."""
    try:
        version, *values = wire.unpack(data, depth=2)
        kinds: list[type] = [str, *[int] * 15, bytes, bytes, *([list] if version == 2 else [])]
        require(version in wire.VERSIONS and len(values) == len(kinds), "malformed")
        require(all(map(isinstance, values, kinds)), "malformed")
        extensions = read_extensions(values.pop()) if version == 2 else {}
        require(is_sound(config := Config(*values, version, **extensions)), "malformed")
    except (Refused, ValueError):
        raise Refused("config-unsound") from None
    return config


def read_extensions(parts: Sequence[int | bytes]) -> dict[str, Any]:
    """R-EXTENSION-2: number and value in turn, the numbers ascending, and no value that is the default."""
    numbers, values = parts[::2], parts[1::2]
    require(list(numbers) == sorted({*numbers} & {*EXTENSIONS}), "malformed")
    known = [(*EXTENSIONS[number], value) for number, value in zip(numbers, values, strict=True)]  # type: ignore[index]
    require(all(isinstance(value, type(default)) and value != default for _, default, value in known), "malformed")
    return {name: value for name, _, value in known}


def shown_version(data: bytes) -> int | None:
    """The version of a config, as far as its first bytes show it: an array's header, and a byte below 0x80."""
    size = {0xDC: 3, 0xDD: 5}.get(data[0], 1 if 0x90 <= data[0] <= 0x9F else len(data)) if data else 0
    return data[size] if size < len(data) and data[size] < 0x80 else None


def is_sound(c: Config) -> bool:
    """Every rule of a config, R-CONFIG-3 to R-CONFIG-9 in order; with groups, R-GROUP-1 and R-GROUP-3."""
    losses = c.colluders + (2 if c.active else 1) * c.dropouts
    return (
        (c.threat_model in ("semi_honest", "active") and c.suite in KEY_BYTES)
        and (c.suite != 3 or c.version >= 2)  # R-HYBRID-1
        and (3 <= c.clients <= 2**20 and 1 <= c.length <= 2**36)
        and (0 <= c.colluders < c.clients and 0 <= c.dropouts < c.clients)
        and (1 <= c.sigma <= 256 and 0 <= c.grinding_bits <= 256 and 1 <= c.eta <= 256)
        and (len(c.context) <= 1024 and len(c.cohort) == (32 if c.active else 0))
        and 0 <= c.attachment_bytes <= 1024
        and (len(c.chain) == 32 and c.active if c.chain else True)  # R-CHAIN-6
        and (c.active or c.grinding_bits == c.quorum == 0)
        and (c.ring_bits == 0 and 2 < c.prime <= FIELD and is_prime(c.prime) if c.prime else 1 <= c.ring_bits <= 64)
        and 1 <= c.input_max < c.modulus
        and (c.input_max == c.modulus - 1 or c.clients * c.input_max < c.modulus)
        and 10 * losses <= 9 * c.clients
        and (groups_are_sound(c) if c.groups != 1 else graph_is_sound(c))
        and (c.carrier == 0 or (c.carrier == 1 and c.envelope is not None))  # R-ENV-1 to R-ENV-3
        and (c.complaints == 0 or most_colluding(c) <= c.complaints < c.threshold)  # R-COMPLAIN-1
    )


def graph_is_sound(c: Config) -> bool:
    """R-CONFIG-7 to R-CONFIG-9, and no number that belongs to groups."""
    remain = c.clients - c.dropouts
    return (
        (not c.active or (2 * c.quorum > c.clients + c.colluders and c.quorum <= remain))
        and max(c.quorum, c.threshold + 1, c.colluders + 2) <= c.min_survivors <= remain
        and (c.neighbours == c.clients - 1 or (2 <= c.neighbours < c.clients - 1 and c.neighbours % 2 == 0))
        and 2 <= c.threshold <= c.neighbours
        and connects(c)
        and thresholds(c)[0] <= c.threshold <= thresholds(c)[1]
        and c.min_group == 0
    )


def groups_are_sound(c: Config) -> bool:
    """R-GROUP-1 and R-GROUP-3; that a group has three members or more follows from t >= 2 and t < min_group."""
    if not c.groups or c.attachment_bytes:
        return False
    smallest, largest = c.clients // c.groups, -(-c.clients // c.groups)
    colluding = most_colluding(c)
    return (
        c.neighbours == largest - 1
        and (2 * c.threshold > c.neighbours + colluding if c.active else c.threshold > colluding)
        and c.threshold >= 2
        and (not c.active or 2 * c.quorum > largest + colluding)
        and max(c.threshold + 1, c.quorum) <= c.min_group <= smallest  # and A_g + 2, which t + 1 is at least
        and c.min_group <= c.min_survivors <= c.clients - c.dropouts
    )


def connects(c: Config) -> bool:
    """Whether the ring stays in one piece when A + D random clients are taken out of it: in exact integers."""
    n, k, gone = c.clients, c.neighbours, c.colluders + c.dropouts
    if k == n - 1 or k > gone:
        return True
    return (n * (n - k - 1) * comb(n - k, gone - k) << c.sigma + c.grinding_bits) < comb(n, gone)


def thresholds(c: Config) -> tuple[int, int]:
    """The smallest threshold that privacy allows, and the largest that correctness does."""
    n, k, colluding, lost = c.clients, c.neighbours, most_colluding(c), c.dropouts
    if k < n - 1:
        lost = quantile(n - 1, lost, k, n << c.eta)
    return max((k + colluding) // 2 + 1 if c.active else colluding + 1, 2), k - lost


def most_colluding(c: Config) -> int:
    """t1: the most colluders among a client's neighbours; A_g, the most in a group, with groups."""
    n, k, bits = c.clients, c.neighbours, c.sigma + c.grinding_bits + 1
    if c.groups > 1:
        return quantile(n, c.colluders, -(-n // c.groups), c.groups << bits)
    if k == n - 1:
        return c.colluders
    drawn_from, victims = (n - 2, n * (n - 1) // 2) if c.active else (n - 1, n)
    return quantile(drawn_from, c.colluders, k, victims << bits)


def quantile(population: int, marked: int, draws: int, chance: int) -> int:
    """The smallest x with P[X > x] < 1 / chance, X being how many marked ones are among the draws."""
    marked = min(marked, population)
    x, above, total = min(draws, marked), 0, comb(population, draws)
    while x >= max(0, draws + marked - population):
        above += comb(marked, x) * comb(population - marked, draws - x)
        if above * chance >= total:
            break
        x -= 1
    return x


def ring_of(config: Config, roster: bytes, session: bytes) -> list[int]:
    """The cohort in the order of the ids' images under AES-256."""
    images = aes_blocks(config.labels.graph_key(roster, session), range(config.clients))
    return sorted(range(config.clients), key=lambda other: images[16 * other : 16 * other + 16])


def places_of(config: Config, roster: bytes, session: bytes) -> dict[int, int]:
    """R-HYBRID-6: each client's place: on the ring, and its index on the complete graph of the whole cohort."""
    if config.neighbours == config.clients - 1:
        return {member: member for member in range(config.clients)}
    return {member: place for place, member in enumerate(ring_of(config, roster, session))}


def groups_of(config: Config, roster: bytes, session: bytes) -> list[list[int]]:
    """R-GROUP-2: the members of each group, ascending: the ring, cut into pieces; one group of all without groups."""
    n, pieces = config.clients, config.groups
    ring = ring_of(config, roster, session)
    return [sorted(ring[g * n // pieces : (g + 1) * n // pieces]) for g in range(pieces)]


def neighbours_of(member: int, config: Config, roster: bytes, session: bytes) -> list[int]:
    """The k neighbours of a member, ascending: k/2 on either side of the ring, or the others of its group."""
    n, k = config.clients, config.neighbours
    if config.groups > 1:
        (own,) = (group for group in groups_of(config, roster, session) if member in group)
        return [other for other in own if other != member]
    if k == n - 1:
        return [other for other in range(n) if other != member]
    ring = ring_of(config, roster, session)
    place = ring.index(member)
    return sorted(ring[(place + step) % n] for step in range(-(k // 2), k // 2 + 1) if step)


def prove(leaves: Sequence[bytes], indices: Iterable[int], node: Node = V1.node) -> bytes:
    """The hashes that do not follow from some leaves, level by level; a node without a sibling moves up as it is."""
    proof, level, known = b"", list(leaves), set(indices)
    while len(level) > 1:
        siblings = sorted({place ^ 1 for place in known} - known)
        proof += b"".join(level[place] for place in siblings if place < len(level))
        known = {place >> 1 for place in known}
        paired = [node(*level[place : place + 2]) for place in range(0, len(level) - 1, 2)]
        level = paired + level[len(level) // 2 * 2 :]
    return proof


def proved_root(leaves: Mapping[int, bytes], clients: int, proof: bytes, node: Node = V1.node) -> bytes:
    """R-ROSTER-5: the root that some leaves and a proof lead to."""
    level, width = dict(leaves), clients
    while width > 1:
        above = {}
        for place in sorted({place & ~1 for place in level}):
            for side in (place, place + 1):
                if side not in level and side < width:
                    level[side], proof = proof[:32], proof[32:]
                    require(len(level[side]) == 32, "roster-path")
            above[place >> 1] = level[place] if place + 1 == width else node(level[place], level[place + 1])
        level, width = above, (width + 1) // 2
    require(proof == b"", "roster-path")
    return level[0]
