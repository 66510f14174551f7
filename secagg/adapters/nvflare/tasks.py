"""One phase over NVFlare's tasks: what each site is sent, and what comes back in time."""

from __future__ import annotations

import math
import queue
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Final, Protocol, TypeAlias, final

from nvflare.apis.controller_spec import ClientTask, Task, TaskCompletionStatus
from nvflare.apis.fl_constant import ReturnCode
from nvflare.apis.fl_context import FLContext
from nvflare.apis.shareable import Shareable
from nvflare.apis.signal import Signal

from secagg.adapters.nvflare.payload import ToServer, for_server
from secagg.errors import SecAggError

_LOOK_S: Final = 0.2
"""How often it is looked whether the job was aborted."""
_LONGEST_REASON: Final = 300
"""Characters of what a site says in the server's log."""
Reply: TypeAlias = ToServer | str
"""What a site answered, or why it is lost."""


class JobAbortedError(SecAggError):
    """The job was aborted while a round ran."""


class TaskSender(Protocol):
    """What is needed of a controller."""

    def send(self, task: Task, fl_ctx: FLContext, targets: list[str]) -> None:
        """Hand out a task."""

    def cancel_task(self, task: Task) -> None:
        """Hand it out no more."""


@final
class Exchange:
    """Sends each site a task of its own, since each is sent something else, and waits for their answers.

    A task that is not answered in time is taken back: an answer that comes later is dropped by NVFlare.
    """

    def __init__(self, sender: TaskSender, fl_ctx: FLContext, abort: Signal) -> None:
        self._sender, self._fl_ctx, self._abort = sender, fl_ctx, abort

    def __call__(
        self,
        name: str,
        data: Mapping[str, Shareable],
        timeout: float | None,
        before_sent: Callable[[ClientTask, FLContext], None] | None = None,
    ) -> Iterator[tuple[str, Reply]]:
        """The answer of each site, as they come; those of whom nothing came are left out.

        ``timeout`` is in seconds; None waits for ever.  Raises JobAbortedError.
        """
        answers: queue.SimpleQueue[tuple[str, Reply | None]] = queue.SimpleQueue()

        def received(client_task: ClientTask, fl_ctx: FLContext) -> None:
            answers.put((client_task.client.name, _reply(client_task.result)))
            client_task.result = None

        def done(site: str) -> Callable[[Task, FLContext], None]:
            def tell(task: Task, fl_ctx: FLContext) -> None:
                if task.completion_status is not TaskCompletionStatus.OK:
                    answers.put((site, None))

            return tell

        tasks = {
            site: Task(
                name,
                shareable,
                timeout=0 if timeout is None else math.ceil(timeout),
                before_task_sent_cb=before_sent,
                result_received_cb=received,
                task_done_cb=done(site),
            )
            for site, shareable in data.items()
        }
        try:
            for site, task in tasks.items():
                self._sender.send(task, self._fl_ctx, targets=[site])
            yield from self._answers(answers, set(tasks), timeout)
        finally:
            for task in tasks.values():
                self._sender.cancel_task(task)

    def _answers(
        self, answers: queue.SimpleQueue[tuple[str, Reply | None]], awaited: set[str], timeout: float | None
    ) -> Iterator[tuple[str, Reply]]:
        end = math.inf if timeout is None else time.monotonic() + timeout
        while awaited and (left := end - time.monotonic()) > 0:
            if self._abort.triggered:
                raise JobAbortedError("the job was aborted while a round of secure aggregation ran")
            try:
                site, reply = answers.get(timeout=min(_LOOK_S, left))
            except queue.Empty:
                continue
            if site in awaited:
                awaited.discard(site)
                if reply is not None:
                    yield site, reply


def _reply(result: object) -> Reply:
    """Of whatever a site answered."""
    payload = for_server(result)
    if payload is not None and payload.message:
        return payload
    if payload is not None:
        # A site may say anything, several lines included: it must not look like lines of the server's own.
        said = repr(payload.refused[:_LONGEST_REASON])
        return said if payload.refused else "it had answered this task before, and that answer got lost"
    code = result.get_return_code() if isinstance(result, Shareable) else None
    if code in (None, ReturnCode.OK):
        return "it sent no message of this protocol: is the job secured, and SecAggResultFilter in its client app?"
    return f"it answered {str(code)[:_LONGEST_REASON]!r}"
