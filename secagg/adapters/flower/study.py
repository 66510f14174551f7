"""A study of ``secagg.statistics`` over Flower's messages: a node that answers for a site, and the analyst on a grid.

    app = ClientApp()                                                                      # client
    app.query(STUDY_ACTION)(StudyNode(lambda context: Site(study, dataset)))
    result = run_study(study, grid)                                                        # server

Nothing is trained, and no model travels: what is announced with the invitation is the round's question, from which each
site works out by itself what is summed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final, final

from flwr.app import Context, Error, Message, MessageType, RecordDict
from flwr.common.constant import ErrorCode as FlowerError
from flwr.serverapp import Grid

from secagg.adapters.flower import records
from secagg.adapters.flower.grid_round import GridRound
from secagg.adapters.flower.memory import Memory
from secagg.adapters.flower.node import Node, NodeOptions, PathOf
from secagg.adapters.flower.records import log
from secagg.adapters.membership import RefusedMessageError
from secagg.adapters.node import Suspended
from secagg.adapters.own_config import FilePath
from secagg.credentials import load_directory
from secagg.encoding import LayoutPolicy
from secagg.errors import DisclosureError, ErrorCode, InputError, ParameterError, PeerError
from secagg.events import Finished, InputNeeded, RoundAborted
from secagg.identity import MemoryDirectory
from secagg.outcome import Result
from secagg.pairwise.client.machine import Client
from secagg.pairwise.config import Policy, RoundConfig
from secagg.pairwise.phases import Phase, ThreatModel
from secagg.pairwise.server.machine import Server
from secagg.privacy.budget_errors import BudgetExceededError, BudgetFileError
from secagg.privacy.noisy_sum import NoisySum
from secagg.statistics import Analyst, Entry, Ledger, Question, Site, Study, StudyLayout, StudyResult
from secagg.statistics.noise import check_covered, check_room
from secagg.wording import counted

if TYPE_CHECKING:
    from secagg.privacy.budget import Budget

STUDY_ACTION: Final = "secagg_study"
"""What the function of a ClientApp that answers the messages of a study is registered for."""
_MESSAGE_TYPE: Final = f"{MessageType.QUERY}.{STUDY_ACTION}"
_STAYS_AWAY: Final = "this site does not take part in the study"
"""All that a server learns of the reason."""
_TIMEOUT_S: Final = 600.0


@final
class StudyNode:
    """What a ClientApp answers for its site: the function of ``app.query(STUDY_ACTION)``.

    The site reads its data before it joins a round, and does not join when they do not fit the study: its own log says
    why, and the server learns that this node did not join.  After that nothing that it does depends on its data, which
    must not change while a round runs; each message may reach another process, so that they are read once more then.
    """

    def __init__(
        self,
        site: Callable[[Context], Site],
        *,
        policy: Policy | None = None,
        identity: PathOf = None,
        directory: PathOf = None,
        tokens: PathOf = None,
        ledger: Callable[[Context], Ledger] | None = None,
        budget: PathOf = None,
    ) -> None:
        """Options.

        Args:
            site: the node's site, from its context: its study is the one that its owner approved.
            policy, identity, directory, tokens: as ``SecAggMod`` has them, with the node's config before them.
            ledger: the node's ledger, from its context, opened for one message.  It is asked before the node helps to
                open a sum.  It needs ``active``: otherwise nothing says which organisation is which.
            budget: the file of the node's privacy budget, over all studies with noise, with ``secagg-budget`` in the
                node's config before it; it is charged before the node joins a round.  A study with noise needs one, for
                a node remembers nothing else of what it answered; with one, the node stays away from other studies.
                A new file is made with ``secagg-max-epsilon`` and ``secagg-max-delta`` of the node's config.
        """
        self._site, self._ledger = site, ledger
        self._options = NodeOptions(
            policy=policy,
            layout_policy=LayoutPolicy(),
            evaluate=None,
            paths={"identity": identity, "directory": directory, "tokens": tokens, "budget": budget},
        )

    def __call__(self, message: Message, context: Context) -> Message:
        """Answer one message.

        Raises OSError or ParameterError for files and a node config that cannot be used.
        """
        with ExitStack() as cleanup:
            memory = Memory(context)
            node = Node(self._options, context, memory, cleanup)
            try:
                reply = self._answer(message, context, node, memory)
            except RefusedMessageError as refusal:
                log.error("secagg: %s", refusal)
                return Message(Error(FlowerError.MOD_FAILED_PRECONDITION, str(refusal)), reply_to=message)
            except PeerError as refused:
                log.error("secagg: this site leaves the round (%s): %s", refused.code, refused)
                return Message(records.content({records.PROTOCOL: refused.reply}), reply_to=message)
        return Message(reply, reply_to=message)

    def _site_of(self, context: Context) -> Site:
        """Raises RefusedMessageError: Flower would send the text of another exception, and what it says of the data."""
        try:
            return self._site(context)
        except (InputError, ParameterError, DisclosureError, OSError) as unfit:
            log.error("secagg: this site does not take part: %s", unfit)
            raise RefusedMessageError(_STAYS_AWAY) from None

    def _answer(self, message: Message, context: Context, node: Node, memory: Memory) -> RecordDict:
        site = self._site_of(context)
        record = message.content.config_records.get(records.RECORD)
        invitation, data = (records.bytes_of(record, key) for key in (records.INVITATION, records.PROTOCOL))
        suspended = memory.take()
        if self._ledger is not None and (node.identity is None or not node.names):
            raise ParameterError(
                "this node has a ledger, and no identity and directory: it cannot tell organisations apart; give both, "
                "or leave the ledger out"
            )
        if invitation is not None:
            announced = records.bytes_of(record, records.ANNOUNCEMENT) or b""
            return _join(site, node, memory, invitation, announced, records.index_of(record))
        if data is None or suspended is None:
            raise RefusedMessageError("a message of a study's round that this node is not in")
        with node.resume(suspended.state) as client:
            step = client.receive(data)
            if isinstance(step.event, InputNeeded):
                layout, question = _asked(site, suspended.announcement)
                try:
                    site.check()
                except (InputError, DisclosureError) as unfit:
                    log.error("secagg: this site leaves the round, because its data have changed: %s", unfit)
                    return records.content({records.PROTOCOL: client.abort()})
                step = client.submit(layout.encode(site.sums(question)))
            if isinstance(step.event, Finished):
                survivors = [node.names[index] for index in step.event.survivors] if node.names else []
                try:
                    self._record(context, site, suspended.announcement, survivors)
                except DisclosureError as withheld:
                    log.error("secagg: this site does not help to open this sum: %s", withheld)
                    return records.content({records.PROTOCOL: client.abort()})
            if isinstance(step.event, RoundAborted):
                log.info("secagg: the server ended the round (%s)", step.event.code.name)
            if not client.done:
                memory.keep(Suspended(client.suspend(), suspended.announcement))
            return records.content({records.PROTOCOL: step.outgoing[0] if step.outgoing else b""})

    def _record(self, context: Context, site: Site, announcement: bytes, survivors: Sequence[str]) -> None:
        """Enter the sum that is about to be opened into the ledger, if there is one.  Raises DisclosureError."""
        if self._ledger is None:
            return
        with closing(self._ledger(context)) as ledger:
            ledger.record(Entry.of(Question.from_bytes(announcement), survivors), site.min_difference)

    def __repr__(self) -> str:
        return f"StudyNode(policy={self._options.policy!r})"


def _asked(site: Site, announcement: bytes) -> tuple[StudyLayout, Question]:
    """What is summed, as the site works it out from the question.  Raises PeerError."""
    question = Question.from_bytes(announcement)
    return site.check_question(question).layout(question), question


def _join(
    site: Site, node: Node, memory: Memory, invitation: bytes, announcement: bytes, index: int | None
) -> RecordDict:
    """Raises PeerError and RefusedMessageError."""
    layout, question = _asked(site, announcement)
    try:
        site.check()
    except (InputError, DisclosureError) as unfit:
        log.error("secagg: this site does not join, because its data do not fit the study or its policy: %s", unfit)
        raise RefusedMessageError(_STAYS_AWAY) from None
    if (layout.noisy_sum is None) is node.has_budget:
        log.error(
            "secagg: this site does not join: %s",
            "it has a budget, and the study has no noise: have [noise] in the study, or leave the budget out"
            if node.has_budget
            else "the study has noise, and this node has no budget: give the path of a file as secagg-budget, and its "
            "secagg-max-epsilon and secagg-max-delta",
        )
        raise RefusedMessageError(_STAYS_AWAY)
    extra: dict[str, bytes | int] = {}
    if node.identity is not None:
        extra[records.INDEX] = index = node.own_index()
    if index is None:
        raise RefusedMessageError("an invitation without an index: the server is in active, and this node has no key")
    try:
        client = Client.join(
            invitation,
            index,
            approve=partial(_approve, site.study, layout),
            policy=node.policy,
            identity=node.identity,
            directory=node.directory,
            consume=node.joins,
        )
    except ParameterError as refused:  # an active round and no identity, an index beyond the cohort
        raise RefusedMessageError(str(refused)) from None
    log.info("secagg: this site answers question %d of the study %r", question.number, site.study.name)
    with client:
        if (cost := layout.noisy_sum) is not None:
            _pay(node, invitation, cost)
        advertisement = client.start()
        memory.keep(Suspended(client.suspend(), announcement))
    return records.content({records.PROTOCOL: advertisement, **extra})


def _pay(node: Node, invitation: bytes, cost: NoisySum) -> None:
    """Charge the round, by the digest of its invitation, before anything of it is made that can leave.

    Raises RefusedMessageError for what the budget does not allow, and for an invitation that was charged already:
    whether the first answer to it has left is not known.
    """
    try:
        node.charge(hashlib.sha256(invitation).digest(), cost)
    except (BudgetExceededError, BudgetFileError, ParameterError) as refused:
        log.error("secagg: this site does not join: %s", refused)
        raise RefusedMessageError(_STAYS_AWAY) from None


def _approve(study: Study, layout: StudyLayout, config: RoundConfig) -> bool:
    """Raises PeerError for a round that does not sum what the question asks for, or sums fewer sites than it may."""
    least = study.release.min_organisations
    wrong = ""
    try:
        layout.check_round(config)
    except ParameterError as unfit:
        wrong = str(unfit)
    if config.context != layout.digest():
        wrong = "its context is not the digest of what the question asks for"
    elif config.min_survivors < least:
        wrong = f"it may sum {config.min_survivors} organisations, and the study asks for {least}"
    if wrong:
        raise PeerError(ErrorCode.CONFIG_NOT_APPROVED, f"the round is refused: {wrong}", phase=Phase.ADVERTISE)
    return True


def run_study(
    study: Study,
    grid: Grid,
    *,
    nodes: Sequence[int] | None = None,
    threat_model: str | ThreatModel = ThreatModel.SEMI_HONEST,
    directory: FilePath | None = None,
    timeout: float | None = _TIMEOUT_S,
    budget: Budget | None = None,
    **options: Any,
) -> StudyResult:
    """Run a study over a grid, to its end or until three rounds in a row have failed.

    It ends as well when too few nodes are left, or when they may not be summed after those of earlier rounds, as with
    one that is missing alone; methods that have not finished then say why.

    Organisations are called as the directory calls them, without one by the numbers of their nodes.

    Args:
        study: what all nodes have approved.
        grid: Flower's.
        nodes: who is asked; None: every node that the grid has when a round begins.
        threat_model, directory: ``semi_honest``, or ``active`` with the file of the members' keys.
        timeout: seconds to wait for the answers in each phase.
        budget: the server's own, over all studies with noise: it is charged before anybody is invited to a round.
        options: of ``RoundConfig.for_cohort``, such as ``gamma`` and ``delta``.

    Raises ParameterError for options, or a number of nodes, of which no first round can be made; DisclosureError for a
    study without noise where there is a budget; BudgetExceededError, before the first round, for one that has no room
    for all rounds of the study, and BudgetFileError for one that cannot be written.
    """
    members = _Members()
    if directory is not None:
        known, names, digest = load_directory(directory)
        members = _Members(known, tuple(known.cohort(digest) or ()), names)
        options["cohort"] = digest
    options["threat_model"] = ThreatModel(threat_model)
    analyst = Analyst(study)
    check_covered(budget, study.noise)
    if budget is not None and study.noise is not None:
        check_room(budget, study.noise, study.noisy_rounds)
    while (question := analyst.question()) is not None:
        asked = list(grid.get_node_ids() if nodes is None else nodes)
        config = analyst.config(question, len(members.keys) or len(asked), **options)
        if config is None:
            break
        addressed = [Message(RecordDict(), dst_node_id=node, message_type=_MESSAGE_TYPE) for node in asked]
        server = Server(config, directory=members.directory)
        if budget is not None and (cost := analyst.layout(question).noisy_sum) is not None:
            budget.charge(hashlib.sha256(server.invitation()).digest(), cost)
        round_ = GridRound(server, grid, addressed, lambda phase: timeout, members.keys)
        result = _sum_over(grid, round_, question, timeout)
        if result is None:
            analyst.failed(server.failure.reason if server.failure else "it was aborted")
            continue
        sites = [members.names[index] if members.names else str(round_.node_of[index]) for index in result.included]
        if why := analyst.take_vector(question, result.sum, sites):
            log.error("secagg: nothing of the study's round is released: %s", why)
        else:
            log.info("secagg: %s summed, the last over %d sites", counted(analyst.rounds, "round"), len(sites))
    if analyst.stopped:
        log.error("secagg: the study ends early: %s", analyst.stopped)
    return analyst.result()


def _sum_over(grid: Grid, round_: GridRound, question: Question, timeout: float | None) -> Result | None:
    """What a round comes to; None, and the log says why, when it has failed."""
    server = round_.server
    pending = round_.exchange_keys(question.to_bytes())
    if server.failure is None:
        round_.unmask(grid.send_and_receive(round_.training_messages(pending), timeout=timeout))
    try:
        return server.compute() if server.failure is None else None
    except PeerError:
        return None  # somebody dealt bad shares: the failure names it
    finally:
        if server.failure is not None:
            log.error("secagg: the study's round failed in %s: %s", server.failure.phase, server.failure.reason)
        if not round_.heard:
            log.error("secagg: no node answers for a study: does its app have a query(%r)?", STUDY_ACTION)


@final
@dataclass(frozen=True)
class _Members:
    """Of a directory, by cohort index; nothing without one."""

    directory: MemoryDirectory | None = None
    keys: tuple[bytes, ...] = ()
    names: tuple[str, ...] = ()
