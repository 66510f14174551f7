"""The same round through secagg: floats through an Encoder, and the decoded mean out of the sum."""

from __future__ import annotations

import time
from statistics import median

import numpy as np
import numpy.typing as npt

from secagg import Encoder, Policy, RoundConfig
from secagg.cli.rounds import warm_up, warm_up_for
from secagg.encoding import Template
from secagg.pairwise.phases import Phase
from secagg.simulation import PHASES, Faults, simulate
from secagg.simulation.carriers import with_carrier

from .measured import BITS, CLIP, MAX_WEIGHT, Cell, Figures, Memory, Meter, Sum, mean_of, vector_of


def run(cell: Cell) -> Figures:
    """One round, after a small one that compiles the kernels."""
    encoder = Encoder(Template.from_shapes((cell.dim,)), clip=CLIP, bits=BITS, max_weight=MAX_WEIGHT)
    config = config_for(cell, encoder)
    warm_up(config.modulus, config.suite, config.threat_model)
    encoder.encode(cell.update_of(0), weight=1)
    meter = Meter()

    def vector_of(client: int) -> npt.NDArray[np.unsignedinteger]:
        with meter.leave_out():
            update = cell.update_of(client)
        with meter.client(client):
            return encoder.encode(update, weight=cell.weight_of(client))

    memory = Memory()
    started = time.process_time()
    outcome = simulate(vector_of, config, faults=Faults(fates=dict.fromkeys(cell.lost, Phase.SHARE)))
    if outcome.result is None:
        raise SystemExit(f"{cell}: {outcome.failure}")
    decoding = time.thread_time()
    mean = encoder.decode(outcome.result).mean
    decode_s, round_s = time.thread_time() - decoding, time.process_time() - started
    peak = memory.peak()
    costs = [outcome.costs[phase] for phase in PHASES]
    for client in outcome.included:
        meter.client_s[client] += sum(cost.client_cpu_s.get(client, 0.0) for cost in costs)
        meter.sent[client] = sum(cost.bytes_up.get(client, 0) for cost in costs)
    return Figures(
        round_cpu_s=round_s - meter.left_out_s,
        client_cpu_s=meter.median_of(meter.client_s, outcome.included),
        server_cpu_s=sum(cost.server_cpu_s for cost in costs) + decode_s,
        upload_bytes=meter.median_of(meter.sent, outcome.included),
        peak_bytes=peak,
        imported_bytes=memory.imported,
        max_error=float(np.abs(mean - cell.expected_mean(outcome.included)).max()),
    )


def run_sum(clients: int, dim: int, carrier: str) -> Sum:
    """The mean of ``clients`` vectors of ``dim`` elements, in a whole round with the finder's degree."""
    encoder = Encoder(Template.from_shapes((dim,)), clip=CLIP, bits=BITS)
    plain = RoundConfig.for_cohort(clients, encoder.length, input_max=encoder.input_max)
    config = with_carrier(plain, carrier)
    warm_up_for(config)
    encoder.encode(vector_of(dim, 0))
    meter = Meter()

    def encoded(client: int) -> npt.NDArray[np.unsignedinteger]:
        vector = vector_of(dim, client)
        with meter.client(client):
            return encoder.encode(vector)

    policy = Policy(carrier=config.carrier)
    outcome = simulate(encoded, config, policy=policy)
    if outcome.result is None:
        raise SystemExit(f"secagg, {carrier}: {outcome.failure}")
    decoding = time.thread_time()
    mean = encoder.for_round(config).decode(outcome.result).mean
    decode_s = time.thread_time() - decoding
    costs = list(outcome.costs.values())

    def over_clients(name: str) -> float:
        return median(sum(getattr(cost, name).get(client, 0) for cost in costs) for client in outcome.included)

    return Sum(
        client_s=meter.median_of(meter.client_s, outcome.included) + over_clients("client_cpu_s"),
        server_s=sum(cost.server_cpu_s for cost in costs) + decode_s,
        sent_bytes=over_clients("bytes_up"),
        received_bytes=over_clients("bytes_down") + mean.astype(np.float32).nbytes,
        max_error=float(np.abs(mean - mean_of(dim, clients)).max()),
    )


def config_for(cell: Cell, encoder: Encoder) -> RoundConfig:
    """The cell's degree and threshold; what the dropouts leave of them decides how many may collude."""
    return RoundConfig.for_cohort(
        cell.clients,
        encoder.length,
        gamma=0.05,
        delta=cell.dropout,
        neighbours="complete" if cell.neighbours == cell.clients - 1 else cell.neighbours,
        threshold=cell.threshold,
        input_max=encoder.input_max,
        context=encoder.layout_digest(),
    )
