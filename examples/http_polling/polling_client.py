"""A member of a round over plain HTTP: it polls, and may be stopped and started again at any moment."""

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import httpx
import msgspec
import numpy as np
import typer

from secagg import Client, Contribution, DurableTokens, Encoder, PeerError, Policy


class Saved(NamedTuple):
    """What is kept between two messages: the last phase seen, the client's state, and what has not been sent yet."""

    phase: str = ""
    state: bytes = b""
    answers: tuple[bytes, ...] = ()


@dataclass
class Member:
    """One member in one round.  ``key`` seals the state in the folder."""

    index: int
    contribution: Contribution
    policy: Policy
    folder: Path
    used: DurableTokens
    key: bytes

    def step(self, http: httpx.Client) -> bool:
        """Answer the next message, if there is one; whether there is more to come."""
        path = self.folder / "state"
        saved = msgspec.msgpack.decode(path.read_bytes(), type=Saved) if path.exists() else Saved()
        if not saved.answers:
            response = http.get("/message", params={"after": saved.phase}).raise_for_status()
            if response.status_code == 204:
                return True
            saved = self._answer(saved, response.headers["Round-Phase"], response.content)
            self._save(saved)  # before an answer leaves: one that did not arrive leaves again
        for answer in saved.answers:
            http.post("/message", content=answer).raise_for_status()
        self._save(saved._replace(answers=()))
        return bool(saved.state)

    def _answer(self, saved: Saved, phase: str, data: bytes) -> Saved:
        try:
            if saved.state:
                client = Client.resume(saved.state, self.used, key=self.key)
                answers = self.contribution.answer(client, data)
            else:
                self.contribution.check_unreleased()
                client = Client.join(data, self.index, policy=self.policy, consume=self.used)
                answers = (self.contribution.start(client),)
        except PeerError as refused:
            print(f"leaving the round: {refused}")  # noqa: T201
            return Saved(phase, b"", (refused.reply,) if refused.reply else ())
        return Saved(phase, b"" if client.done else client.suspend(self.key), answers)

    def _save(self, saved: Saved) -> None:
        self.folder.mkdir(exist_ok=True)
        (self.folder / "new").write_bytes(msgspec.msgpack.encode(saved))
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
                if not member.step(http):
                    return
            except httpx.HTTPError as trouble:  # a server that is down, or cannot store, comes back with what it had
                if isinstance(trouble, httpx.HTTPStatusError) and trouble.response.is_client_error:
                    raise
            time.sleep(0.5)
    raise SystemExit(f"the round did not end in {give_up_after} seconds")


if __name__ == "__main__":
    typer.run(main)
