"""Metrics for Prometheus, and a small live page for a person, on a port of their own."""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Final, cast
from wsgiref.simple_server import WSGIRequestHandler, make_server
from wsgiref.types import StartResponse, WSGIEnvironment

from prometheus_client import CollectorRegistry, make_wsgi_app
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import ThreadingWSGIServer
from prometheus_client.registry import Collector

from secagg.pairwise.phases import ServerState

_PAGE: Final = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>secagg</title>
<style>
body { font: 16px/1.5 system-ui, sans-serif; margin: 1rem auto; padding: 0 1rem; max-width: 48rem; color: #222 }
section { border-top: 1px solid #999; padding: .5rem 0 }
h1, h2 { margin: .3rem 0; font-size: 1.25rem } progress { width: 100%; max-width: 24rem }
dl { display: grid; grid-template-columns: minmax(7rem, max-content) minmax(0, 1fr); gap: .1rem .8rem; margin: .3rem 0 }
dt { color: #555 } dd { margin: 0; overflow-wrap: anywhere }
</style>
<h1>secagg</h1><p id="service">...</p><div id="rounds"></div>
<script>
const SHOWN = 20;
function listed(words) {
  const more = words.length > SHOWN ? `, and ${words.length - SHOWN} more` : "";
  return words.slice(0, SHOWN).join(", ") + more;
}
function far(distance) { return distance === null ? "infinitely many" : distance.toPrecision(3); }
function scored(scores) {
  const section = document.createElement("section"), note = document.createElement("p");
  section.appendChild(document.createElement("h2")).textContent = "Scores of clients";
  note.textContent = `The highest of ${scores.clients} clients over ${scores.rounds} rounds, with their standard ` +
    "errors. A score is a hint for a person, and no proof: a client whose data differ from all others' scores high " +
    "without doing anything wrong.";
  section.append(note);
  const list = section.appendChild(document.createElement("dl"));
  for (const one of scores.highest) {
    list.appendChild(document.createElement("dt")).textContent = one.client;
    list.appendChild(document.createElement("dd")).textContent =
      `${one.score.toFixed(2)} \u00b1 ${one.error.toFixed(2)} in ${one.rounds} rounds`;
  }
  return section;
}
function refusal(one) {
  return one.by_client ? `${one.client} left in ${one.phase} (${one.code})`
    : `${one.client}: ${one.phase} refused (${one.code})`;
}
function show(round) {
  const section = document.createElement("section"), list = document.createElement("dl");
  const title = section.appendChild(document.createElement("h2"));
  title.textContent = `${round.name}: ${round.phase}`;
  if (round.expected) {
    const bar = section.appendChild(document.createElement("progress"));
    bar.max = round.expected; bar.value = round.arrived;
  }
  const seats = round.open ? `${round.seated} of ${round.clients} taken, ${round.offered} offered` : round.clients;
  const facts = {
    "arrived": round.expected ? `${round.arrived} of ${round.expected}` : "",
    "seconds left": round.expected ? round.seconds_left : "",
    "waits for": listed(round.awaited),
    "connected": round.connected,
    "seats": seats,
    "threat model": round.threat_model,
    "may be lost": `${round.may_be_lost}; a sum needs ${round.min_survivors}`,
    "lost": Object.entries(round.lost).map(([phase, names]) => `${phase}: ${listed(names)}`).join("; "),
    "refused": listed(round.refusals.map(refusal)),
    "groups that stand out": listed(round.group_anomalies.filter(group => group.stands_out).map(
      group => `group ${group.number} (${far(group.distance)} median distances)`)),
    "ballot": round.ballot && round.ballot.verdict ? `${round.ballot.verdict}: ${round.ballot.objections} of ` +
      `${round.ballot.voters} voters object, of ${round.ballot.counted_clients} clients` : "",
    "outcome": round.failure || (round.included ? `sum of ${round.included} clients` : ""),
  };
  for (const [name, fact] of Object.entries(facts)) {
    if (fact === "") continue;
    list.appendChild(document.createElement("dt")).textContent = name;
    list.appendChild(document.createElement("dd")).textContent = fact;
  }
  section.append(list);
  return section;
}
async function update() {
  const service = document.getElementById("service");
  try {
    const status = await (await fetch("status.json")).json();
    const codes = Object.entries(status.refused).map(([code, count]) => `${code} ${count}`).join(", ") || "none";
    const strangers = status.strangers.map(one => `${one.key.slice(0, 16)}... from ${one.address}`);
    const connected = status.logged_in === 1 ? "1 client" : `${status.logged_in} clients`;
    service.textContent = `${connected} connected. Connections refused: ${codes}.` +
      (strangers.length ? ` Keys that no directory lists: ${listed(strangers)}.` : "");
    const scores = status.scores ? [scored(status.scores)] : [];
    document.getElementById("rounds").replaceChildren(...status.rounds.map(show), ...scores);
  } catch (failure) { service.textContent = "The service does not answer."; }
}
update(); setInterval(update, 1000);
</script></html>
"""

Status = Callable[[], dict[str, Any]]

_STATES: Final = ("OPENING", *ServerState)


class _ServiceCollector(Collector):
    """Reads the service's status when Prometheus asks."""

    def __init__(self, status: Status) -> None:
        self._status = status

    def collect(self) -> Iterable[Metric]:
        status = self._status()
        for name, what in (
            ("connections", "Open connections."),
            ("logging_in", "Connections that have not logged in."),
            ("logged_in", "Clients that are connected."),
        ):
            yield GaugeMetricFamily(f"secagg_{name}", what, value=status[name])
        for name, what in (
            ("logins", "Logins so far."),
            ("received_bytes", "Bytes of frames on connections that have ended."),
            ("journal_commits", "Transactions of the journal."),
        ):
            yield CounterMetricFamily(f"secagg_{name}", what, value=status[name])
        refused = CounterMetricFamily("secagg_refused", "Refused connections and clients.", labels=["code"])
        for code, count in status["refused"].items():
            refused.add_metric([code], count)
        yield refused
        yield from self._of_rounds(status["rounds"])
        if (workers := status["workers"]) is not None:
            yield GaugeMetricFamily("secagg_tls_workers", "Processes that end TLS now.", value=workers["ready"])
            yield CounterMetricFamily(
                "secagg_tls_worker_restarts",
                "Worker processes that ended and were started again.",
                value=workers["restarts"],
            )
        if status["scores"] is not None:
            yield from _of_scores(status["scores"])

    def _of_rounds(self, rounds: list[dict[str, Any]]) -> Iterator[Metric]:
        phase = GaugeMetricFamily(
            "secagg_round_phase", "1 for the phase that a round is in.", labels=["round", "phase"]
        )
        seconds = GaugeMetricFamily("secagg_phase_seconds", "How long a phase took.", labels=["round", "phase"])
        refused = CounterMetricFamily("secagg_misbehaved", "Messages that broke a rule.", labels=["round", "code"])
        awaited = GaugeMetricFamily(
            "secagg_client_awaited", "1 for a client that the phase waits for.", labels=["round", "client"]
        )
        turned_away = GaugeMetricFamily(
            "secagg_client_refused",
            "1 for a client whose message was refused, or that left, by the rule's or its ABORT's code.",
            labels=["round", "client", "phase", "code"],
        )
        groups = {
            key: GaugeMetricFamily(f"secagg_group_{key}", what, labels=["round", "group"])
            for key, what in (
                ("distance", "Distance of a group's mean to the robust centre, in median distances of the groups."),
                ("cosine", "Cosine of the angle between a group's mean and the robust centre."),
                ("norm", "L2 norm of a group's mean."),
                ("stands_out", "1 for a group that stands out: a hint for a person, and no proof."),
            )
        }
        counts = {
            name: GaugeMetricFamily(f"secagg_round_{name}", what, labels=["round"])
            for name, what in (
                ("clients", "Clients invited."),
                ("seated", "Seats that belong to somebody for good."),
                ("offered", "Seats of an open round that somebody was offered and has not taken yet."),
                ("may_be_lost", "Clients that may be lost from first to last."),
                ("connected", "Clients connected."),
                ("arrived", "Messages of the phase that have arrived."),
                ("expected", "Messages of the phase that are expected."),
                ("included", "Clients in the sum."),
            )
        }
        for found in rounds:
            name = found["name"]
            for state in _STATES:
                phase.add_metric([name, state], float(found["phase"] == state))
            for state, value in found["phase_seconds"].items():
                seconds.add_metric([name, state], value)
            for code, count in found["refused"].items():
                refused.add_metric([name, code], count)
            for client in found["awaited"]:
                awaited.add_metric([name, client], 1)
            for one in found["refusals"]:
                turned_away.add_metric([name, one["client"], one["phase"], one["code"]], 1)
            for group in found["group_anomalies"]:
                for key, gauge in groups.items():
                    value = math.inf if group[key] is None else float(group[key])
                    gauge.add_metric([name, str(group["number"])], value)
            for key, gauge in counts.items():
                gauge.add_metric([name], found[key])
        yield from (phase, seconds, refused, awaited, turned_away, *groups.values(), *counts.values())


def _of_scores(scores: dict[str, Any]) -> Iterator[Metric]:
    """Of the highest scores alone: a label for every client of every round would be a series for each of them."""
    yield GaugeMetricFamily("secagg_scored_rounds", "Rounds that the scores of clients are from.", scores["rounds"])
    hint = "for the highest scores: a hint for a person, and no proof; unusual data score high as well."
    score = GaugeMetricFamily(
        "secagg_client_score", f"Mean distance of a client's groups to the robust centre, {hint}", labels=["client"]
    )
    excess = GaugeMetricFamily(
        "secagg_client_score_excess", f"Standard errors that a score is above the mean score, {hint}", labels=["client"]
    )
    for one in scores["highest"]:
        score.add_metric([one["client"]], one["score"])
        excess.add_metric([one["client"]], one["excess"])
    yield from (score, excess)


class _Silent(WSGIRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def monitor(status: Status, host: str, port: int) -> Iterator[int]:
    """Serve ``/metrics``, ``/status`` and ``/status.json`` from a thread; yields the port."""
    registry = CollectorRegistry()
    registry.register(_ServiceCollector(status))
    metrics = make_wsgi_app(registry)

    def application(environment: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
        match environment.get("PATH_INFO"):
            case "/metrics":
                return cast("Iterable[bytes]", metrics(environment, start))
            case "/status.json":
                return _answer(start, "200 OK", "application/json", json.dumps(status(), indent=2))
            case "/" | "/status":
                return _answer(start, "200 OK", "text/html; charset=utf-8", _PAGE)
        return _answer(start, "404 Not Found", "text/plain", "/metrics, /status or /status.json\n")

    server = make_server(host, port, application, ThreadingWSGIServer, _Silent)
    thread = threading.Thread(target=server.serve_forever, name="secagg-monitor", daemon=True)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _answer(start: StartResponse, status: str, kind: str, body: str) -> list[bytes]:
    encoded = body.encode()
    policy = "default-src 'none'; connect-src 'self'; script-src 'unsafe-inline'; style-src 'unsafe-inline'"
    headers = [("Content-Type", kind), ("Content-Length", str(len(encoded))), ("Cache-Control", "no-store")]
    start(status, [*headers, ("Content-Security-Policy", policy), ("X-Content-Type-Options", "nosniff")])
    return [encoded]
