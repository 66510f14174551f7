"""What a host's own parts must do, as tests that you run over yours.  They need pytest, and nothing else.

Subclass a contract in a test module, say how to make the part, and pytest runs the contract's tests over it:

    class TestMyTokens(TokensContract):
        def open_tokens(self, folder):
            return MyTokens(folder / "tokens.db")

``TokensContract``, ``ReleasedContract`` and ``DirectoryContract`` are for the parts that ``Client.join`` is given,
``TransportContract`` for what carries messages, and ``HostContract`` for a whole host.  A transport can also be run
under ``secagg.testing.stateful.RoundMachine``, which loses, repeats and reorders messages.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from secagg.errors import AbortCode
from secagg.hosting import Released
from secagg.identity import Directory, Identity
from secagg.outcome import Failure, Result
from secagg.pairwise.config import RoundConfig
from secagg.pairwise.phases import Phase, phases
from secagg.pairwise.transcript import cohort_digest

if TYPE_CHECKING:
    from collections.abc import Mapping

    from secagg.encoding import Encoder

_THREADS: Final = 8
_MEMBERS: Final = 5
_WEIGHTS: Final = (3, 1, 4, 1, 5)

Consume: TypeAlias = Callable[[bytes], bool]


class TokensContract:
    """Used tokens that outlive a restart (R-EXTERNAL-4): what a host gives to ``Client.join`` as ``consume``."""

    def open_tokens(self, folder: Path) -> Consume:
        """Open the tokens that are kept in this folder, which is empty the first time."""
        raise NotImplementedError("say how to open your tokens")

    def test_a_token_is_new_once(self, tmp_path: Path) -> None:
        """True the first time, False ever after; one token says nothing about another."""
        consume = self.open_tokens(tmp_path)
        _equal([consume(token) for token in (b"a", b"a", b"b", b"a", b"b")], [True, False, True, False, False])

    def test_tokens_outlive_a_restart(self, tmp_path: Path) -> None:
        """Whoever opens them next finds what was used; a client that is resumed twice loses every guarantee."""
        self.open_tokens(tmp_path)(b"used")
        again = self.open_tokens(tmp_path)
        _equal([again(b"used"), again(b"new")], [False, True])

    def test_one_of_many_gets_a_token(self, tmp_path: Path) -> None:
        """Of several that use a token at the same time, each with tokens of its own opening, one is told True."""
        opened = [self.open_tokens(tmp_path) for _ in range(_THREADS)]
        with ThreadPoolExecutor(_THREADS) as threads:
            told = list(threads.map(lambda consume: consume(b"contested"), opened))
        _equal(told.count(True), 1)


class ReleasedContract:
    """Released inputs that outlive a restart (R-JOIN-5): what a host gives to a ``Contribution``."""

    def open_released(self, folder: Path) -> Released:
        """Open the released inputs that are kept in this folder, which is empty the first time."""
        raise NotImplementedError("say how to open your released inputs")

    def test_what_is_added_is_there(self, tmp_path: Path) -> None:
        """``add`` says whether it was new, and nothing is there that was not added."""
        released = self.open_released(tmp_path)
        _equal(b"input" in released, False)
        _equal([released.add(b"input"), released.add(b"input")], [True, False])
        _equal([b"input" in released, b"other" in released], [True, False])

    def test_released_inputs_outlive_a_restart(self, tmp_path: Path) -> None:
        """A client that forgets them gives the same input away twice."""
        self.open_released(tmp_path).add(b"input")
        _equal(b"input" in self.open_released(tmp_path), True)

    def test_one_of_many_rounds_releases_an_input(self, tmp_path: Path) -> None:
        """Of several rounds that come to their last message at the same time, one is told True."""
        opened = [self.open_released(tmp_path) for _ in range(_THREADS)]
        with ThreadPoolExecutor(_THREADS) as threads:
            told = list(threads.map(lambda released: released.add(b"input"), opened))
        _equal(told.count(True), 1)


class DirectoryContract:
    """A directory that vouches for a cohort (R-EXTERNAL-1)."""

    def make_directory(self, keys: Sequence[bytes]) -> Directory:
        """A directory that vouches for the cohort of these identity keys, by index, and for no other."""
        raise NotImplementedError("say how to make your directory")

    def test_a_cohort_is_found_by_its_digest(self) -> None:
        """All keys, in the order of the indices."""
        keys = [Identity.generate().public_key for _ in range(_MEMBERS)]
        found = self.make_directory(keys).cohort(cohort_digest(keys))
        _equal(None if found is None else list(found), keys)

    def test_another_cohort_is_not_vouched_for(self) -> None:
        """The same members in another order, or without one of them, are another cohort."""
        keys = [Identity.generate().public_key for _ in range(_MEMBERS)]
        directory = self.make_directory(keys)
        for others in (keys[::-1], keys[1:], [*keys, Identity.generate().public_key]):
            _equal(directory.cohort(cohort_digest(others)), None)


class Link(Protocol):
    """A transport between one server and its clients, as the tests use it."""

    def up(self, client: int, data: bytes) -> tuple[int, bytes] | None:
        """Let a client send: the index and bytes that the server's host then hands to ``Server.receive``."""

    def down(self, client: int, data: bytes) -> bytes | None:
        """Let the server's host send: the bytes that the client gets."""

    def forged(self, client: int, victim: int, data: bytes) -> tuple[int, bytes] | None:
        """Let a client send as if it were another, with all that it has; None when the transport refuses."""

    def overheard(self, client: int, victim: int, data: bytes) -> bytes | None:
        """Let the server's host send to another client, and this one ask for it; None when it gets nothing."""


class TransportContract:
    """What carries messages: whole, to whom they are for, and from whom they say they are (R-EXTERNAL-2)."""

    def connect(self, clients: int, folder: Path) -> AbstractContextManager[Link]:
        """A link between a server and this many clients; the folder is empty and for the transport's own use."""
        raise NotImplementedError("say how to connect your transport")

    def test_messages_arrive_whole(self, tmp_path: Path) -> None:
        """In both directions, whatever is in them, from one byte to a megabyte."""
        with self.connect(2, tmp_path) as link:
            for size in (1, 255, 256, 65_537, 1 << 20):
                data = bytes(np.arange(size, dtype=np.uint32).astype(np.uint8))
                _equal(link.up(1, data), (1, data))
                _equal(link.down(0, data), data)

    def test_the_server_is_told_who_sent(self, tmp_path: Path) -> None:
        """Each client at its own index."""
        with self.connect(3, tmp_path) as link:
            _equal([link.up(client, bytes([client])) for client in range(3)], [(i, bytes([i])) for i in range(3)])

    def test_nobody_sends_as_another(self, tmp_path: Path) -> None:
        """A message under another client's index would be that client's input."""
        with self.connect(2, tmp_path) as link:
            arrived = link.forged(0, 1, b"forged")
            _equal(arrived is None or arrived[0] == 0, True)
            _equal(link.up(1, b"genuine"), (1, b"genuine"))

    def test_nobody_gets_what_is_for_another(self, tmp_path: Path) -> None:
        """The channel is confidential: who else reads the messages learns what the server alone may know."""
        with self.connect(2, tmp_path) as link:
            _equal(link.overheard(0, 1, b"for client 1"), None)


@dataclass(frozen=True)
class Trial:
    """A round that a host is to play.

    Attributes:
        config: the round's config, in ``semi_honest`` and without groups.
        encoder: of every client.
        updates: by client, its input, which ``encoder`` takes.
        weights: by client.
        fates: by client, the phase whose message is the last that it sends, or NONE; whoever is not named stays.
        restarts: whether the server and the clients are stopped and restored between any two phases.
    """

    config: RoundConfig
    encoder: Encoder
    updates: Sequence[npt.NDArray[np.floating[Any]]]
    weights: Sequence[int]
    fates: Mapping[int, str] = field(default_factory=lambda: MappingProxyType({}))
    restarts: bool = False


class HostContract:
    """Whole rounds over a host: clients lost in each phase, restarts, and the duties of a client's host."""

    def play(self, trial: Trial, folder: Path) -> Result | Failure:
        """Play a round over your host, and return what it came to.  The folder is there, and is kept between trials.

        A client that has vanished says nothing, so that the host must let the phase end in time.
        """
        raise NotImplementedError("say how to play a round over your host")

    def test_everybody_stays(self, tmp_path: Path) -> None:
        """The weighted mean of all."""
        self._check(_trial(), tmp_path, included=range(_MEMBERS))

    def test_a_client_is_lost_in_each_phase(self, tmp_path: Path) -> None:
        """Its vector is in the sum if it arrived, and is missing if it did not."""
        for number, fate in enumerate(("NONE", *phases(_trial().config.threat_model)[:-1])):
            lost = number % _MEMBERS
            included = set(range(_MEMBERS)) - (set() if fate == Phase.MASK else {lost})
            folder = tmp_path / fate
            folder.mkdir()
            self._check(_trial({lost: fate}), folder, included=included)

    def test_server_and_clients_are_restarted(self, tmp_path: Path) -> None:
        """They go on from what they stored, and nobody is lost by it."""
        self._check(_trial(restarts=True), tmp_path, included=range(_MEMBERS))

    def test_too_few_stay(self, tmp_path: Path) -> None:
        """The round ends without a sum, and says so."""
        trial = _trial(dict.fromkeys(range(2, _MEMBERS), Phase.SHARE))
        outcome = self.play(trial, tmp_path)
        _equal(outcome.code if isinstance(outcome, Failure) else outcome, AbortCode.TOO_FEW_CLIENTS)

    def test_an_input_is_given_away_once(self, tmp_path: Path) -> None:
        """Clients whose input may be in a sum bring it to no other round (R-JOIN-5), so that it has too few members."""
        self._check(_trial(), tmp_path, included=range(_MEMBERS))
        outcome = self.play(_trial(), tmp_path)
        _equal(outcome.code if isinstance(outcome, Failure) else outcome, AbortCode.TOO_FEW_CLIENTS)

    def test_a_round_that_does_not_fit_is_left_before_it_begins(self, tmp_path: Path) -> None:
        """Clients compare the config with their encoder before they send anything (R-JOIN-3)."""
        trial = _trial()
        longer = trial.config.replace(length=trial.config.length + 1)
        outcome = self.play(Trial(longer, trial.encoder, trial.updates, trial.weights), tmp_path)
        _equal(outcome.code if isinstance(outcome, Failure) else outcome, AbortCode.TOO_FEW_CLIENTS)
        _equal(outcome.phase if isinstance(outcome, Failure) else outcome, Phase.ADVERTISE)

    def _check(self, trial: Trial, folder: Path, included: Sequence[int] | set[int] | range) -> None:
        outcome = self.play(trial, folder)
        if isinstance(outcome, Failure):
            raise AssertionError(f"the round was aborted in {outcome.phase}: {outcome.reason}")
        _equal(outcome.included, tuple(sorted(included)))
        weights = [trial.weights[index] for index in outcome.included]
        expected = np.average([trial.updates[index] for index in outcome.included], axis=0, weights=weights)
        mean = trial.encoder.decode(outcome)
        _equal((mean.count, mean.weight), (len(weights), sum(weights)))
        error = np.abs(np.asarray(mean.mean) - expected).max()
        bound = trial.encoder.error_bound(len(weights), sum(weights))
        if error > bound:
            raise AssertionError(f"the mean is off by {error}, and an honest one by {bound} at most")


def _trial(fates: Mapping[int, str] | None = None, *, restarts: bool = False) -> Trial:
    from secagg.encoding import Encoder

    encoder = Encoder(np.zeros(6), clip=1.0, max_weight=10)
    config = RoundConfig.for_cohort(
        _MEMBERS,
        encoder.length,
        gamma=0.2,
        delta=0.2,
        input_max=encoder.input_max,
        context=encoder.layout_digest(),
    )
    updates = [np.linspace(-1, 1, 6) * (index + 1) / _MEMBERS for index in range(_MEMBERS)]
    return Trial(config, encoder, updates, _WEIGHTS, MappingProxyType(dict(fates or {})), restarts)


def _equal(met: object, wanted: object) -> None:
    if met != wanted:
        raise AssertionError(f"met {met!r}, and wanted {wanted!r}")
