"""NVIDIA FLARE's homomorphic encryption: its own filters and aggregator, with TenSEAL below, in one process.

    client   HEModelEncryptor on the change of the model, and FOBS to bytes
    server   FOBS from bytes, HEInTimeAccumulateWeightedAggregator, and FOBS to bytes
    client   FOBS from bytes, and HEModelDecryptor

Keys and settings are those that ``nvflare provision`` deals out: HEBuilder with its defaults, which are CKKS of degree
8,192 with primes of 60, 40 and 40 bits and a scale of 2^40.  Every client holds the same secret key; the server has
none, so that it hands out a mean that it cannot read.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import numpy as np
from nvflare.apis.dxo import DXO, DataKind, MetaKey, from_shareable
from nvflare.apis.event_type import EventType
from nvflare.apis.fl_constant import FLContextKey, ReservedKey
from nvflare.apis.fl_context import FLContext
from nvflare.apis.shareable import Shareable
from nvflare.app_common.app_constant import AppConstants
from nvflare.app_opt.he.intime_accumulate_model_aggregator import HEInTimeAccumulateWeightedAggregator
from nvflare.app_opt.he.model_decryptor import HEModelDecryptor
from nvflare.app_opt.he.model_encryptor import HEModelEncryptor
from nvflare.fuel.sec.security_content_service import SecurityContentService
from nvflare.fuel.utils import fobs
from nvflare.lighter.impl.he import HEBuilder

from .measured import Sum, mean_of, vector_of

_ROUND = 0
_MODEL = "update"


def run_sum(clients: int, dim: int) -> Sum:
    """The mean of ``clients`` vectors of ``dim`` elements."""
    logging.disable(logging.ERROR)  # the filters miss an engine that writes an audit log; what fails raises
    with TemporaryDirectory() as folder, _quiet():
        _deal_keys(Path(folder))
        server, encrypt = _server(), HEModelEncryptor()
        encrypt.handle_event(EventType.START_RUN, _context())
        encrypting, sent, server_s = [], 0, 0.0
        for client in range(clients):
            update = vector_of(dim, client)
            started = time.process_time()
            message = _encrypted(encrypt, update)
            encrypting.append(time.process_time() - started)
            sent = max(sent, len(message))
            started = time.process_time()
            _accept(server, message, client)
            server_s += time.process_time() - started
        started = time.process_time()
        answer = fobs.dumps(server.aggregate(_context()))
        server_s += time.process_time() - started
        started = time.process_time()
        mean = _decrypted(answer)
        decrypting = time.process_time() - started
    return Sum(
        client_s=median(encrypting) + decrypting,
        server_s=server_s,
        sent_bytes=sent,
        received_bytes=len(answer),
        max_error=float(np.abs(mean - mean_of(dim, clients)).max()),
    )


def _deal_keys(folder: Path) -> None:
    builder = HEBuilder()
    builder.initialize(None, None)
    (folder / "client_context.tenseal").write_bytes(builder.get_serialized_context(is_client=True))
    (folder / "server_context.tenseal").write_bytes(builder.get_serialized_context())
    SecurityContentService.initialize(str(folder))


def _server() -> HEInTimeAccumulateWeightedAggregator:
    server = HEInTimeAccumulateWeightedAggregator()
    server.handle_event(EventType.START_RUN, _context())
    return server


def _context() -> FLContext:
    context = FLContext()
    context.set_prop(FLContextKey.SECURE_MODE, False)  # the contexts in the folder are not signed
    context.set_prop(AppConstants.CURRENT_ROUND, _ROUND)
    context.set_peer_context(FLContext())
    return context


def _encrypted(encrypt: HEModelEncryptor, update: np.ndarray) -> bytes:
    change = DXO(DataKind.WEIGHT_DIFF, data={_MODEL: update}, meta={MetaKey.NUM_STEPS_CURRENT_ROUND: 1})
    message: bytes = fobs.dumps(encrypt.process(change.to_shareable(), _context()))
    return message


def _accept(server: HEInTimeAccumulateWeightedAggregator, message: bytes, client: int) -> None:
    shareable: Shareable = fobs.loads(message)
    shareable.set_peer_props({ReservedKey.IDENTITY_NAME: f"site-{client}"})
    shareable.add_cookie(AppConstants.CONTRIBUTION_ROUND, _ROUND)
    if not server.accept(shareable, _context()):
        raise SystemExit(f"nvflare: the server did not accept the update of client {client}")


def _decrypted(answer: bytes) -> np.ndarray:
    decrypt = HEModelDecryptor()
    decrypt.handle_event(EventType.START_RUN, _context())
    return np.array(from_shareable(decrypt.process(fobs.loads(answer), _context())).data[_MODEL])


@contextmanager
def _quiet() -> Iterator[None]:
    """TenSEAL prints a warning for each long vector, below Python."""
    kept, nowhere = os.dup(1), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    try:
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)
        os.close(nowhere)
