"""The server of a round in a shared folder.  It looks once and ends: run it every minute, until it prints the mean."""

import fcntl
import json
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np
import typer
from sealed_files import Box, replace

from secagg import Coordinator, Encoder, Outgoing, RoundConfig, Server


def look_once(private: Path, boxes: Sequence[Box], config: RoundConfig, seconds: float, now: float) -> Server:
    """Take what members have put into the folder, close the phase if it is time, and publish what comes of it."""
    file = private / "round"
    began, snapshot = msgspec.msgpack.decode(file.read_bytes()) if file.exists() else (now, None)
    server = Server.restore(snapshot) if snapshot else Server(config)

    def store(snapshot: bytes) -> None:
        replace(file, msgspec.msgpack.encode((began, snapshot)))

    coordinator = Coordinator(server, seconds, store=store)
    publish(boxes, server, coordinator.open(began))  # again, if the last run was stopped before all of it was out
    for index in list(server.missing):  # the members' files are the record: they stay until the phase is closed
        if data := boxes[index].get("up", server.phase.value, max(1024, coordinator.max_message_bytes)):
            coordinator.receive(index, data)
    began = now  # of the next phase: ``store`` keeps it with the snapshot
    publish(boxes, server, coordinator.advance(now))
    return server


def publish(boxes: Sequence[Box], server: Server, outgoing: Outgoing) -> None:
    """Put the messages of the present phase where the members look."""
    for index, data in outgoing:
        boxes[index].put("down", server.phase.value, data)


def main(folder: Path, private: Path, length: int, seconds: float = 3600.0) -> None:
    """Sum LENGTH values of each member in PRIVATE's keys.json.  No backup may bring PRIVATE back."""
    keys = json.loads((private / "keys.json").read_text())
    boxes = [Box(folder, index, bytes.fromhex(key)) for index, key in enumerate(keys)]
    encoder = Encoder(np.zeros(length), clip=1.0, max_weight=100)
    shape = {"length": encoder.length, "input_max": encoder.input_max, "context": encoder.layout_digest()}
    with (private / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # one run at a time
        server = look_once(private, boxes, RoundConfig.for_cohort(len(keys), **shape), seconds, time.time())
        if server.ready_to_compute or server.done:
            print(server.failure or encoder.decode(server.compute()))  # noqa: T201


if __name__ == "__main__":
    typer.run(main)
