"""A member of a round in a shared folder.  It looks once and ends: run it every minute, until it prints "done"."""

import fcntl
import os
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
import typer
from sealed_files import Box, replace

from secagg import Client, Contribution, DurableTokens, Encoder, PeerError, Policy

PHASES = ("ADVERTISE", "SHARE", "MASK", "UNMASK", "COMPUTE", "ABORTED")


class Saved(NamedTuple):
    """What is kept between two messages: the last phase seen, the client's state, and its answers."""

    phase: str = ""
    state: bytes = b""
    answers: tuple[bytes, ...] = ()


@dataclass
class Member:
    """One member in one round.  ``key`` seals the state in its private folder."""

    box: Box
    contribution: Contribution
    policy: Policy
    private: Path
    used: DurableTokens
    key: bytes

    def look_once(self) -> bool:
        """Answer the server's next message, if it is there; whether there is more to come."""
        path = self.private / "state"
        saved = msgspec.msgpack.decode(path.read_bytes(), type=Saved) if path.exists() else Saved()
        for answer in saved.answers:  # once more, if the last run was stopped before they were out
            self.box.put("up", saved.phase, answer)
        for phase in PHASES[PHASES.index(saved.phase) + 1 if saved.phase else 0 :]:
            data = None if saved.phase and not saved.state else self.box.get("down", phase)
            if data is not None:
                saved = self._answer(saved, phase, data)
                replace(path, msgspec.msgpack.encode(saved))  # before an answer is out: one that is not is put again
                for answer in saved.answers:
                    self.box.put("up", phase, answer)
                break
        return bool(saved.state) or not saved.phase

    def _answer(self, saved: Saved, phase: str, data: bytes) -> Saved:
        try:
            if saved.state:
                client = Client.resume(saved.state, self.used, key=self.key)
                answers = self.contribution.answer(client, data)
            else:
                self.contribution.check_unreleased()
                client = Client.join(data, self.box.index, policy=self.policy, consume=self.used)
                answers = (self.contribution.start(client),)
        except PeerError as refused:
            print(f"leaving the round: {refused}")  # noqa: T201
            return Saved(phase, b"", (refused.reply,) if refused.reply else ())
        return Saved(phase, b"" if client.done else client.suspend(self.key), answers)


def main(folder: Path, private: Path, index: int, values: Path) -> None:
    """Add the VALUES of an .npy file to the sum, as the member with this INDEX; PRIVATE is new for each round."""
    update = np.load(values)
    encoder = Encoder(np.zeros(len(update)), clip=1.0, max_weight=100)
    private.mkdir(exist_ok=True)
    used = DurableTokens("used.sqlite")  # of all rounds
    policy = Policy(gamma=0.1, min_survivors=3, context=encoder.layout_digest())
    contribution = Contribution(encoder, update, released=used.released)
    box = Box(folder, index, bytes.fromhex(os.environ["BOX_KEY"]))
    member = Member(box, contribution, policy, private, used, bytes.fromhex(os.environ["MEMBER_KEY"]))
    with (private / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # one run at a time
        print("waiting" if member.look_once() else "done")  # noqa: T201


if __name__ == "__main__":
    typer.run(main)
