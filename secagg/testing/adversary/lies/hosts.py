"""What hosts are talked into: joining again, resuming a state twice, submitting a second vector."""

from __future__ import annotations

from dataclasses import dataclass

from secagg.testing.adversary.lies.lie import Lie, meant
from secagg.testing.adversary.world import Ids


@dataclass(frozen=True, slots=True)
class InviteAgain(Lie):
    """Hosts that lost their client's state join the same round anew; these clients get a roster of their own."""

    to: Ids = ()

    def invites_again(self, index: int) -> bool:
        return meant(self.to, index)


@dataclass(frozen=True, slots=True)
class ResumeTwice(Lie):
    """Some hosts are made to resume a suspended client twice; each clone masks a vector of its own."""

    to: Ids = ()

    def resumes_twice(self, index: int) -> bool:
        """The host does so while the client waits for its input."""
        return meant(self.to, index)


@dataclass(frozen=True, slots=True)
class SubmitAgain(Lie):
    """Some hosts submit a second vector."""

    to: Ids = ()

    def submits_again(self, index: int) -> bool:
        return meant(self.to, index)
