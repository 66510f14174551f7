"""Forks ``secagg`` commands off a process that has imported everything and compiled the kernels.

A command in a fresh interpreter takes a second to start; forked, it takes some milliseconds, and it is a process of its
own all the same: own memory, own sockets, own files, killed with SIGKILL.  Lines of JSON on standard input and output.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from typing import Any


def run_command(request: dict[str, Any]) -> None:
    """In the child: become the command.  Never returns."""
    from secagg.cli.app import app

    code = 70
    try:
        os.setsid()
        os.chdir(request["folder"])
        for name, stream in (("out", 1), ("log", 2)):
            descriptor = os.open(request[name], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            os.dup2(descriptor, stream)
            os.close(descriptor)
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, 0)
        sys.argv = ["secagg", *request["arguments"]]
        app(request["arguments"], prog_name="secagg")
        code = 0
    except SystemExit as ends:
        code = ends.code if isinstance(ends.code, int) else 70
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def main() -> None:
    """Serve until standard input ends."""
    import numpy as np

    import secagg.cli.join_run
    import secagg.cli.serve_run  # noqa: F401
    from secagg.arithmetic.modulus import Modulus
    from secagg.cli.rounds import warm_up
    from secagg.pairwise.config import RoundConfig, Suite, ThreatModel
    from secagg.privacy import Privacy, PrivateLayout

    for bits in (18, 19):
        warm_up(Modulus.ring(bits), Suite.AES_128, ThreatModel.SEMI_HONEST)
    cohort = RoundConfig.for_cohort(4, 4, modulus=2**12)
    layout = PrivateLayout.of({"x": (4,)}, Privacy(epsilon=8.0, delta=1e-5, clip=1.0, bits=12).terms(4, cohort))
    encoder = layout.encoder().for_round(cohort)
    encoder.decode_sum(encoder.encode({"x": np.zeros(4)}), 1)
    answers = os.fdopen(os.dup(1), "w")
    answers.write("ready\n")
    answers.flush()
    for line in sys.stdin:
        request = json.loads(line)
        if request["do"] == "start":
            child = os.fork()
            if child == 0:
                run_command(request)
            answer: Any = child
        else:
            done, status = os.waitpid(request["pid"], os.WNOHANG)
            answer = os.waitstatus_to_exitcode(status) if done else None
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
