"""Noise that is exact although clients vanish: it is added in levels, and those that are not needed are removed.

Noise that suffices when as many clients are lost as may be is too much when fewer are.  So a client's noise is a sum of
components.  The first alone suffices when nobody is lost, the first and the second when up to d_1 are lost, and so on;
all together are the noise of the mechanism.  Once the survivors are known, each of them reveals the key from which the
components that are not needed were drawn, and the server takes those off the sum (Jiang et al. 2024, "Dordis", EuroSys,
section 3.2, "add-then-remove").

One key of 32 bytes opens the components of a level and of all levels behind it: the keys are a chain, and a component
is drawn from a labelled hash of its link.  Nothing opens a component in front of it.  Which link a client reveals
follows from the number of survivors alone, once; it rides as the attachment of UNMASK (version 2 of the wire).

A survivor that is silent in UNMASK leaves its surplus in the sum: more noise than was asked for, never less.  No
statement on privacy counts that surplus.  The mechanism is specified in specs/distributed-dp.md, section 9.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Final, final

import numpy as np
import numpy.typing as npt

from secagg.encoding.limits import integer
from secagg.errors import InputError, ParameterError
from secagg.privacy.cohort import Cohort, honest_contributors
from secagg.privacy.keys import KEY_BYTES, component_key, next_link
from secagg.privacy.noise import Noise
from secagg.privacy.noisy_sum import NoisySum
from secagg.privacy.parameters import Mechanism, NoiseKind, as_noise
from secagg.wording import counted

MOST_LEVELS: Final = 64
"""Each level costs a client as much as its whole noise, and the server as much for each survivor."""
ATTACHMENT_BYTES: Final = KEY_BYTES


@final
@dataclass(frozen=True)
class NoiseLevels:
    """How the noise of one client is cut into components.

    Attributes:
        losses: d_0 = 0 < d_1 < ... < d_L: up to how many clients may be missing from the sum for each level.
        variances: V_0 <= ... <= V_L: of the noise that a client leaves in the sum at each level, in steps squared; the
            last is the mechanism's.  Whatever is lost, the honest clients that are left have together at least the
            noise that the fewest of them have with all components.
    """

    losses: tuple[int, ...]
    variances: tuple[int, ...]

    @classmethod
    def of(cls, mechanism: Mechanism, config: Cohort, levels: int) -> NoiseLevels:
        """The levels of a round: everybody computes the same from the round's config.

        With h = clients - colluders, the fewest honest clients f, and D = h - f losses allowed for, level l is for
        d_l = floor(l D / levels) losses, and V_l = ceil(f V / (h - d_l)).

        Args:
            mechanism: with Skellam noise, for sums of it are such noise again.
            config: the round's config.
            levels: 1 to 64; as many as D, if that is fewer.

        Raises ParameterError for another kind of noise, or a number of levels out of range.
        """
        levels = integer("levels", check_levels(levels, mechanism.noise), 1, MOST_LEVELS)
        fewest = honest_contributors(config)
        honest = config.clients - config.colluders
        allowed = honest - fewest
        count = min(levels, max(allowed, 1))
        losses = sorted({0, *(number * allowed // count for number in range(1, count + 1))})
        variances = [-(-fewest * mechanism.variance // (honest - lost)) for lost in losses]
        return cls(tuple(losses), tuple(variances))

    def level(self, lost: int) -> int:
        """The level for so many clients missing from the sum; the last also for more."""
        return min(bisect_left(self.losses, lost), len(self.losses) - 1)

    def variance_of_sum(self, lost: int, included: int, answered: int) -> int:
        """Of the noise in each coordinate of the sum after the removal, colluders' and all, in steps squared.

        What a decoded mean has as its error; ``left`` is what privacy may count on.
        """
        return answered * self.variances[self.level(lost)] + (included - answered) * self.variances[-1]

    def left(self, mechanism: Mechanism, clients: int, included: int, colluders: int) -> NoisySum:
        """What is left of the noise that nobody can take off, at the least: for ``report_of(remaining=...)``.

        Nobody's surplus counts, for the server may know the key of a client that it did not hear from: an answer that
        comes too late is in no result, and takes the surplus off all the same (DP-LEVEL-8).

        Args:
            mechanism: of the round.
            clients: how many were invited.
            included: how many are in the sum.
            colluders: how many of these may have told the server their noise.

        Raises ParameterError when nobody honest is in the sum.
        """
        if not 0 <= colluders < included <= clients:
            raise ParameterError(
                f"{included} of {counted(clients, 'client')} in the sum, of whom {colluders} may collude: fewer than "
                "the included may collude"
            )
        whole = NoisySum.of_clients(mechanism, 1)
        return NoisySum(
            noise=mechanism.noise,
            honest=included - colluders,
            variance=self.variances[self.level(clients - included)],
            dimension=mechanism.dimension,
            squared_l2=whole.squared_l2,
            l1=whole.l1,
        )

    # What it costs.

    def client_draws(self, mechanism: Mechanism) -> int:
        """How many values of noise a client draws for its vector; without levels it draws ``mechanism.dimension``."""
        return mechanism.dimension * (1 + self._components_behind(0))

    def server_draws(self, mechanism: Mechanism, clients: int, included: int) -> int:
        """How many values of noise the server draws to take them off, when all that are included reveal their key.

        It is most when nobody is lost: ``included`` = ``clients``.
        """
        return included * mechanism.dimension * self._components_behind(self.level(clients - included))

    def _components_behind(self, level: int) -> int:
        return len({*self.variances[level:]}) - 1

    # What a client draws, and what it reveals.

    def attachment(self, first_link: bytes, clients: int) -> list[tuple[int, bytes]]:
        """For ``Client.submit(vector, attachment=...)``: by the most losses, the link that is revealed.

        ``first_link`` is the secret that the component of level 1 is drawn from; the last link opens nothing.
        """
        pairs, link = [], first_link
        for lost in (*self.losses[:-1], clients):
            pairs.append((lost, link))
            link = next_link(link)
        return pairs

    def removable(self, mechanism: Mechanism, link: bytes, level: int) -> list[Noise]:
        """The components behind ``level``, from the link that opens them.

        A client draws those behind level 0; the server those behind the level that the losses ask for.
        """
        found = []
        for number in range(level + 1, len(self.losses)):
            added = self.variances[number] - self.variances[number - 1]
            if added:
                found.append(Noise(mechanism.noise, added, component_key(link)))
            link = next_link(link)
        return found

    def without_surplus(
        self, vector: npt.NDArray[Any], mechanism: Mechanism, lost: int, links: Collection[bytes]
    ) -> npt.NDArray[np.uint64]:
        """The sum modulo 2^b without the components that the losses do not ask for, of all who revealed a link.

        Args:
            vector: shape (d,), unsigned; it is not changed.
            mechanism: of the round.
            lost: how many of the invited clients are missing from the sum.
            links: what the clients in the sum attached to UNMASK.

        Returns:
            uint64, shape (d,), canonical modulo 2^b.

        Raises InputError for a link of another size than 32 bytes.  Work is O(d) for each link and each level that is
        removed, memory O(d).
        """
        total = vector.astype(np.uint64)
        level = self.level(lost)
        for link in links:
            if len(link) != KEY_BYTES:
                raise InputError(
                    f"an attachment of {counted(len(link), 'byte')}: the keys of removable noise have {KEY_BYTES}"
                )
            for component in self.removable(mechanism, link, level):
                start = 0
                for block in component.blocks(len(total)):
                    total[start : start + len(block)] -= block.view(np.uint64)
                    start += len(block)
        np.bitwise_and(total, np.uint64((1 << mechanism.bits) - 1), out=total)
        return total


def check_levels(levels: int, noise: NoiseKind | str) -> int:
    """``levels`` as an int from 0 to 64.  Raises ParameterError, also for noise that cannot be added in levels."""
    number = integer("levels", levels, 0, MOST_LEVELS)
    if number and as_noise(noise) is not NoiseKind.SKELLAM:
        raise ParameterError(
            f"levels is {number} and noise {as_noise(noise).value!r}: only {NoiseKind.SKELLAM.value!r} noise can be "
            "added in levels, for the sum of its components is such noise again"
        )
    return number


def noise_left(mechanism: Mechanism, config: Cohort, levels: int, included: int) -> NoisySum | None:
    """For ``report_of(remaining=...)``: what is left at the least; None without levels, and without anybody honest."""
    if not levels or included <= config.colluders:
        return None
    return NoiseLevels.of(mechanism, config, levels).left(mechanism, config.clients, included, config.colluders)
