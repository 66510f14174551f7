"""A network service for rounds: ``websockets`` over TLS, logins by identity keys, a journal that a restart takes up.

The server's side is ``Service``, which hosts ``RoundSpec``s and keeps them in a ``Journal``; a client's side is
``Member``, which keeps itself in a ``ClientStore``.  ``secagg serve`` and ``secagg join`` are thin over these.

    frames          what goes over a connection
    channel         frames over a WebSocket
    policing        what a connection may send, judged while it is parsed
    tls_workers     worker processes that end TLS: started, watched, started again
    tls_relay       what such a process runs
    relayed         a connection that a worker passes on
    shared_intake   MASK on several threads
    budget          the bound on the bytes of messages in memory
    service         connections, logins, limits
    round_spec      what a round is
    hosted          one round: journal first, then act, then answer
    round_thread    the one thread on which it calls its server
    stage           what others are told of where it stands
    reception       how it takes its clients' messages: the journal first, then the server
    concluding      how its result becomes its ending
    charging        what a private round costs the server's privacy budget
    inbox           messages on their way to a round, and their verdicts
    seats           who sits where; seats of open rounds are offered, bound, given back
    reasons         what people are told of a round without a sum, or without them
    standing        what was refused of whom, how often each may still try, what it is told
    group_anomalies which groups of a round stand out
    score_keeping   scores of clients over rounds
    ending          how a round ended
    statements      a server: members' statements after a chained round was aborted in UNMASK
    certifying      a server: it signs each round's certificate
    status          what is shown of a round
    journal         the server's SQLite file
    member          a client: connections and reconnections
    membership      how a client takes part, and how that can end
    steps           a client: what it does with what the server sends, durably
    announced_sizes a client: how many bytes the server may announce
    ballot_layout   what a ballot is about, and by which rules
    ballot_count    how a ballot ended
    voting          how a member of a ballot votes
    brought         a client: its input, of whichever kind, and what a sum of such inputs comes to
    own_statement   a client: it states that it did not answer
    receipts        a client: the certificate that came with a total, and its receipt
    study_answer    what a member of a study brings, and gets
    study_member    a site in a study: it answers round after round
    study_session   a study's rounds on a service, one after another
    own_input       a client's arrays and weight
    patience        how long a client waits
    troubles        why a client has no connection
    closings        what a connection says that is refused or closed
    addresses       the URL of a round
    store           a client's SQLite file
    model_files     .npz and .safetensors
    certificates    TLS
    clock           the time, which tests move
    monitor         metrics and status page
    logs            log lines for machines
"""

from secagg.adapters.net.ballot_layout import BallotLayout
from secagg.adapters.net.certificates import client_context, make_demo_certificate, server_context
from secagg.adapters.net.ending import Ending
from secagg.adapters.net.frames import Progress, Refusal, RefusedError
from secagg.adapters.net.hosted import HostedRound
from secagg.adapters.net.journal import Journal, JournalError
from secagg.adapters.net.member import Member
from secagg.adapters.net.membership import (
    AnotherInputError,
    GaveUpError,
    MaybeSummedError,
    MemberOptions,
    NotTrustedError,
    Total,
)
from secagg.adapters.net.monitor import monitor
from secagg.adapters.net.receipts import CertifiedTotal, ContradictionError
from secagg.adapters.net.round_spec import DEFAULT_DEADLINES, RoundSpec
from secagg.adapters.net.score_keeping import ScoreFileError, ScoreKeeper
from secagg.adapters.net.service import Limits, Service
from secagg.adapters.net.store import ClientStore
from secagg.adapters.net.study_answer import StudyTotal
from secagg.adapters.net.study_member import StudyMember
from secagg.adapters.net.study_session import StudyRounds, StudySession
from secagg.adapters.net.voting import BallotTotal, Judging
from secagg.encoding.layout import Layout, totals

__all__ = [
    "DEFAULT_DEADLINES",
    "AnotherInputError",
    "BallotLayout",
    "BallotTotal",
    "CertifiedTotal",
    "ClientStore",
    "ContradictionError",
    "Ending",
    "GaveUpError",
    "HostedRound",
    "Journal",
    "JournalError",
    "Judging",
    "Layout",
    "Limits",
    "MaybeSummedError",
    "Member",
    "MemberOptions",
    "NotTrustedError",
    "Progress",
    "Refusal",
    "RefusedError",
    "RoundSpec",
    "ScoreFileError",
    "ScoreKeeper",
    "Service",
    "StudyMember",
    "StudyRounds",
    "StudySession",
    "StudyTotal",
    "Total",
    "client_context",
    "make_demo_certificate",
    "monitor",
    "server_context",
    "totals",
]
