"""MASK on threads, processes and a Dask cluster, killed workers included: nothing counts twice, and nothing is lost
without notice.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import Any

import pytest

from secagg import Admitted, Misbehaved, PartialSum
from secagg.pairwise import messages
from secagg.pairwise.messages import MaskedInput
from tests.support.sharded import shared_out
from tests.support.staging import Stage, semi_honest

CLIENTS, LOST = 12, 11
Batch = list[tuple[int, bytes]]


@pytest.fixture
def stage() -> Stage:
    """In MASK; the last client will send nothing."""
    return Stage(semi_honest(CLIENTS, 1000)).play("MASK")


def batches(stage: Stage) -> list[Batch]:
    """The others' messages, in three batches."""
    answers = stage.answers(range(LOST))
    return [list(part.items()) for part in shared_out(answers, lambda sender: sender % 3, 3)]


def admit(stage: Stage, batch: Batch) -> PartialSum:
    """A partial sum that all of a batch is admitted to."""
    partial = stage.server.open_partial()
    for sender, message in batch:
        header = partial.header(sender, message)
        assert isinstance(header, bytes)
        assert stage.server.admit(sender, header, partial.name).event == Admitted(sender, partial.name)
    return partial


def submit(executor: Executor, stage: Stage, batch: Batch) -> tuple[str, Future[Any]]:
    partial = admit(stage, batch)
    return partial.name, executor.submit(partial.add_all, batch)


def finish(stage: Stage, included: tuple[int, ...] = tuple(range(LOST))) -> None:
    """The round has the plain sum of exactly these."""
    assert not stage.server.in_hand
    stage.close()
    result = stage.finish()
    assert result.included == included
    assert result.dropped["MASK"] == tuple(sorted(set(range(CLIENTS)) - set(included)))
    assert result.sum.tolist() == stage.plain_sum(included)


@contextmanager
def processes() -> Iterator[ProcessPoolExecutor]:
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
        yield pool


@contextmanager
def dask() -> Iterator[Any]:
    """A client of a cluster of two worker processes."""
    from distributed import Client, LocalCluster

    with (
        LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None) as cluster,
        Client(cluster) as client,
    ):
        yield client


def test_each_thread_fills_a_partial_sum_of_its_own(stage: Stage) -> None:
    work = [(admit(stage, batch), batch) for batch in batches(stage)]
    with ThreadPoolExecutor(3) as threads:
        filled = [future.result() for future in [threads.submit(partial.add_all, batch) for partial, batch in work]]
    for (partial, refused), (own, _) in zip(filled, work, strict=True):
        assert partial is own
        assert not refused
        stage.server.merge(partial)
    finish(stage)


def test_a_worker_process_that_is_killed_takes_its_clients_with_it_until_they_are_taken_again(stage: Stage) -> None:
    first, second, third = batches(stage)
    bad = messages.encode(MaskedInput(1, stage.server.open_partial().session, memoryview(b"short")))
    with processes() as pool:
        _, future = submit(pool, stage, [*first, (LOST, bad)])
        partial, (refused,) = future.result(60)
        assert isinstance(refused, Misbehaved)
        stage.server.refuse(refused, partial.name)
        assert stage.server.merge(partial).counted == tuple(sender for sender, _ in first)
        pool.submit(os.kill, next(iter(pool._processes)), signal.SIGKILL)
        broken = [(*submit_if_alive(pool, stage, batch), batch) for batch in (second, third)]
        for name, future, _ in broken:
            with pytest.raises(BrokenProcessPool):
                raise future if isinstance(future, BaseException) else future.exception(60) or AssertionError
            stage.server.drop_partial(name)
    assert set(stage.server.missing) == {sender for sender, _ in (*second, *third)} | {LOST}
    with processes() as pool:
        _, future = submit(pool, stage, second)  # the host still has these bytes, and not the others
        stage.server.merge(future.result(60)[0])
    finish(stage, tuple(sorted(sender for sender, _ in (*first, *second))))


def submit_if_alive(pool: Executor, stage: Stage, batch: Batch) -> tuple[str, Future[Any] | BrokenProcessPool]:
    partial = admit(stage, batch)
    try:
        return partial.name, pool.submit(partial.add_all, batch)
    except BrokenProcessPool as broken:
        return partial.name, broken


def test_on_dask_a_killed_worker_s_jobs_are_run_again_and_an_actor_s_clients_are_taken_again(stage: Stage) -> None:
    first, second, third = batches(stage)
    with dask() as client:
        one, other = client.scheduler_info(n_workers=-1)["workers"]
        pids = client.run(os.getpid)

        # A future's result is lost with its worker, and made again from what the job was given.
        partial = admit(stage, first)
        future = client.submit(partial.add_all, first, pure=False, workers=[one], allow_other_workers=True)
        future.exception()  # it is done
        kept = admit(stage, second)
        actor = client.submit(Worker, kept.to_bytes(), actor=True, workers=[other], pure=False).result()
        assert [actor.add(sender, message).result() for sender, message in second] == ["Accepted"] * len(second)

        os.kill(pids[one], signal.SIGKILL)
        filled, refused = future.result(timeout=120)
        assert not refused
        stage.server.merge(filled)

        # An actor's state is lost for good: its clients are awaited again, and their messages taken by another one.
        os.kill(pids[other], signal.SIGKILL)
        with pytest.raises((ValueError, OSError)):  # the second one while Dask has not noticed yet
            actor.to_bytes().result(timeout=60)
        assert stage.server.drop_partial(kept.name) == tuple(sender for sender, _ in second)
        again = admit(stage, [*second, *third])
        actor = client.submit(Worker, again.to_bytes(), actor=True, pure=False).result()
        for sender, message in (*second, *third):
            assert actor.add(sender, message).result() == "Accepted"
        stage.server.merge(actor.to_bytes().result())
    finish(stage)


class Worker:
    """A Dask actor around a partial sum."""

    def __init__(self, data: bytes) -> None:
        self.partial = PartialSum.from_bytes(data)

    def add(self, sender: int, message: bytes) -> str:
        return type(self.partial.add(sender, message)).__name__

    def to_bytes(self) -> bytes:
        return bytes(self.partial.to_bytes())
