"""One round unmasked on every kind of executor: this thread, threads, processes, and a Dask cluster."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partialmethod
from typing import Any

import pytest

from secagg import ErrorCode, ParameterError, Server
from secagg.pairwise.server.opening import open_secrets
from secagg.testing.adversary import Coalition, WrongSecret
from tests.support.staging import Stage, semi_honest

LOST = (1, 4)
# So long that the vector is split among jobs; and so short that the keys are.
LENGTHS = (3_000_000, 1_000)

Closed = tuple[bytes, list[int]]


@pytest.fixture(scope="module", params=LENGTHS)
def closed(request: pytest.FixtureRequest) -> Closed:
    """The snapshot of a server that has all it needs, two clients lost with their masks; and the plain sum."""
    stage = Stage(semi_honest(8, request.param)).play(silent={"MASK": LOST})
    return stage.server.snapshot(), stage.plain_sum(set(range(8)) - set(LOST))


@contextmanager
def dask_cluster() -> Iterator[Executor]:
    from distributed import Client, LocalCluster

    with (
        LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None) as cluster,
        Client(cluster) as client,
    ):
        processes = set(client.run(os.getpid).values())
        assert len(processes - {os.getpid()}) == 2
        yield client.get_executor(pure=False)


def processes() -> ProcessPoolExecutor:
    return ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn"))


@pytest.mark.parametrize(
    "open_executor",
    [nullcontext, lambda: ThreadPoolExecutor(2), processes, dask_cluster],
    ids=["none", "threads", "processes", "dask"],
)
def test_the_sum_is_the_same_on_every_executor(
    open_executor: Callable[[], AbstractContextManager[Executor | None]], closed: Closed
) -> None:
    snapshot, plain = closed
    server = Server.restore(snapshot)
    with open_executor() as executor:
        result = server.compute(executor, workers=2)
    assert result.sum.tolist() == plain
    assert result.dropped == {"MASK": LOST}


class Recording(Executor):
    """Keeps what each job was given and what it gave back."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1)
        self.jobs: list[tuple[Any, tuple[Any, ...], Future[Any]]] = []

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        future = self._thread.submit(fn, *args, **kwargs)
        self.jobs.append((fn, args, future))
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        self._thread.shutdown(wait, cancel_futures=cancel_futures)


@pytest.mark.parametrize("workers", [1, 3, 8])
def test_workers_say_how_finely_the_work_is_split(closed: Closed, workers: int) -> None:
    snapshot, plain = closed
    with Recording() as executor:
        assert Server.restore(snapshot).compute(executor, workers=workers).sum.tolist() == plain
    opened = [(args, future) for fn, args, future in executor.jobs if fn is open_secrets]
    masks = [(args, future) for fn, args, future in executor.jobs if fn is not open_secrets]
    assert workers <= len(masks) <= 4 * workers
    # Seeds travel: what a job is sent grows with the keys, not with the vector.
    keys = 6 + len(LOST) * 6
    assert all(sum(len(part) for part in job if isinstance(part, bytes)) <= keys * 32 for job, _ in masks)
    assert all(len(future.result()) <= len(plain) for _, future in masks)
    # The secrets are reconstructed there, too: each once, and no executor that logs its jobs shows any of it.
    assert [len(job.owners) for (job,), _ in opened] == [8]
    assert sum(len(part) for _, future in opened for part in future.result()) == keys * 16
    assert {repr(job) + repr(job.shares) + repr(future.result()) for (job,), future in opened} == {
        "<Job of 8><Part of 8>MaskKeys()"
    }


@pytest.mark.parametrize("open_executor", [lambda: ThreadPoolExecutor(2), processes], ids=["threads", "processes"])
def test_a_bad_dealer_is_named_from_wherever_its_shares_are_opened(
    open_executor: Callable[[], AbstractContextManager[Executor]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The executor's job does not fail: it would be logged, and its arguments with it."""
    with open_executor() as executor:
        monkeypatch.setattr(Server, "compute", partialmethod(Server.compute, executor))
        outcome = Coalition(semi_honest(6), liars={3: (WrongSecret(),)}).run()
    assert outcome.result is None
    assert outcome.failure is not None
    assert outcome.failure.culprit == (3,)
    assert [(entry.sender, entry.code) for entry in outcome.blame] == [(3, ErrorCode.BAD_DEALER)]


@pytest.mark.parametrize("workers", [0, -1, 2.5, "2", True])
def test_other_numbers_of_workers_are_refused(closed: Closed, workers: Any) -> None:
    server = Server.restore(closed[0])
    with ThreadPoolExecutor(1) as executor, pytest.raises(ParameterError, match="workers = "):
        server.compute(executor, workers=workers)
    assert server.compute().sum.tolist() == closed[1]
