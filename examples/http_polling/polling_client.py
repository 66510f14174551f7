"""A member of a round over plain HTTP: it polls, and may be stopped and started again at any moment."""

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import httpx
import msgspec
import numpy as np
import typer

from secagg import Client, Contribution, DurableTokens, Encoder, PeerError, Policy


class Member(NamedTuple):
    """One member in one round.  ``key`` seals the state in the folder."""

    index: int
    contribution: Contribution
    policy: Policy
    folder: Path
    used: DurableTokens
    key: bytes

    def step(self, http: httpx.Client) -> None:
        """Answer the next message, if there is one, or keep the mean."""
        path = self.folder / "state"  # the last phase seen, the client's state, and what has not been sent yet
        phase, state, answers = msgspec.msgpack.decode(path.read_bytes()) if path.exists() else ("", b"", ())
        if not answers:
            response = http.get("/message", params={"after": phase}).raise_for_status()
            if response.headers["Round-Phase"] == "MEAN":
                np.save(self.folder / "new.npy", np.frombuffer(response.content))
                (self.folder / "new.npy").replace(self.folder / "mean.npy")
            elif response.content and (state or not phase):  # it is new, and this member has more to answer
                phase = response.headers["Round-Phase"]
                state, answers = self._answer(http, state, response.content)
                self._save(phase, state, answers)  # before an answer leaves: one that did not arrive leaves again
        for answer in answers:
            http.post("/message", content=answer).raise_for_status()
        if answers:
            self._save(phase, state, ())

    def _answer(self, http: httpx.Client, state: bytes, data: bytes) -> tuple[bytes, Sequence[bytes]]:
        try:
            if state:
                client = Client.resume(state, self.used, key=self.key)
                answers = self.contribution.answer(client, data)
            else:
                self.contribution.check_unreleased()
                client = Client.join(data, self.index, policy=self.policy, consume=self.used)
                answers = (self.contribution.start(client),)
        except PeerError as refused:
            if refused.reply:
                http.post("/message", content=refused.reply)
            raise SystemExit(f"leaving the round: {refused}") from None
        return b"" if client.done else client.suspend(self.key), answers

    def _save(self, phase: str, state: bytes, answers: Sequence[bytes]) -> None:
        self.folder.mkdir(exist_ok=True)
        (self.folder / "new").write_bytes(msgspec.msgpack.encode((phase, state, answers)))
        (self.folder / "new").replace(self.folder / "state")  # an older state is not resumed: its token is used


def main(url: str, index: int, values: Path, folder: Path, give_up_after: float = 600.0) -> None:
    """Add the VALUES of an .npy file to the sum, as the member with this INDEX; FOLDER is new for each round."""
    if not url.startswith(("https://", "http://127.0.0.1:")):
        raise SystemExit(f"{url}: a masked vector must not be changed on its way; give an https URL")
    update = np.load(values)
    encoder = Encoder(np.zeros(len(update)), clip=1.0, max_weight=100)
    used = DurableTokens("used.sqlite")  # of all rounds
    policy = Policy(gamma=0.1, min_survivors=3, context=encoder.layout_digest())
    contribution = Contribution(encoder, update, released=used.released)
    member = Member(index, contribution, policy, folder, used, bytes.fromhex(os.environ["MEMBER_KEY"]))
    with httpx.Client(base_url=url, headers={"Authorization": f"Bearer {os.environ['MEMBER_TOKEN']}"}) as http:
        for _ in range(int(2 * give_up_after)):
            try:
                member.step(http)
            except httpx.HTTPError as trouble:  # a server that is down, or cannot store, comes back with what it had
                if isinstance(trouble, httpx.HTTPStatusError) and trouble.response.is_client_error:
                    raise SystemExit(f"the server has no mean for this member ({trouble})") from None
            if (folder / "mean.npy").exists():
                return
            time.sleep(0.5)
    raise SystemExit(f"the round did not end in {give_up_after} seconds")


if __name__ == "__main__":
    typer.run(main)
