"""Metrics for Prometheus, and a small live page for a person, on a port of their own."""

from __future__ import annotations

import json
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

from secagg.adapters.net.hosted import PHASES

_PAGE: Final = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>secagg</title>
<style>
body { font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 60rem; color: #222 }
table { border-collapse: collapse; width: 100% } th, td { text-align: left; padding: .3rem .8rem .3rem 0 }
th { border-bottom: 1px solid #999 } progress { width: 8rem }
</style>
<h1>secagg</h1><p id="service">...</p>
<table><thead><tr><th>round<th>phase<th>arrived<th><th>seconds left<th>connected<th>refused<th>outcome</tr></thead>
<tbody id="rounds"></tbody></table>
<script>
function cell(row, content) {
  const made = row.insertCell();
  if (content instanceof Node) made.append(content); else made.textContent = content;
}
async function update() {
  const body = document.getElementById("rounds"), service = document.getElementById("service");
  try {
    const status = await (await fetch("status.json")).json();
    service.textContent = `${status.logged_in} clients connected, ${status.journal_commits} journal commits, ` +
      `refused: ${Object.entries(status.refused).map(([code, count]) => code + " " + count).join(", ") || "none"}`;
    body.replaceChildren();
    for (const round of status.rounds) {
      const row = body.insertRow(), bar = document.createElement("progress");
      bar.max = round.expected || 1; bar.value = round.arrived;
      const outcome = round.failure || (round.included ? `sum over ${round.included} clients` : "");
      const refused = Object.values(round.refused).reduce((one, other) => one + other, 0);
      for (const content of [round.name, round.phase, `${round.arrived} of ${round.expected}`, bar,
        round.seconds_left, `${round.connected} of ${round.clients}`, refused, outcome]) cell(row, content);
    }
  } catch (failure) { service.textContent = "the service does not answer"; }
}
update(); setInterval(update, 1000);
</script></html>
"""

Status = Callable[[], dict[str, Any]]

_STATES: Final = ("OPENING", *PHASES, "COMPUTE", "DONE", "ABORTED")


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

    def _of_rounds(self, rounds: list[dict[str, Any]]) -> Iterator[Metric]:
        phase = GaugeMetricFamily(
            "secagg_round_phase", "1 for the phase that a round is in.", labels=["round", "phase"]
        )
        seconds = GaugeMetricFamily("secagg_phase_seconds", "How long a phase took.", labels=["round", "phase"])
        refused = CounterMetricFamily("secagg_misbehaved", "Messages that broke a rule.", labels=["round", "code"])
        counts = {
            name: GaugeMetricFamily(f"secagg_round_{name}", what, labels=["round"])
            for name, what in (
                ("clients", "Clients invited."),
                ("seated", "Seats taken."),
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
            for key, gauge in counts.items():
                gauge.add_metric([name], found[key])
        yield from (phase, seconds, refused, *counts.values())


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
