"""llama.cpp's own HTTP server, in a process of its own.

    python -m tests.llama._server MODEL

prints its port, alone on a line, and serves until its standard input ends.
"""

from __future__ import annotations

import os
import sys
from urllib.parse import urlsplit

import xllamacpp


def main() -> None:
    """Serve the model that the first argument names."""
    params = xllamacpp.CommonParams()
    params.model.path = sys.argv[1]
    params.model_alias = {"tiny"}
    params.hostnames = ["127.0.0.1"]
    params.port = 0
    params.n_ctx = 2048
    params.n_parallel = 2
    params.n_threads_http = 4
    params.cpuparams.n_threads = 1
    params.cpuparams_batch.n_threads = 1
    params.warmup = False
    params.ui = False
    params.verbosity = -1
    server = xllamacpp.Server(params)
    print(urlsplit(server.listening_address).port, flush=True)
    sys.stdin.read()
    # The library joins its threads at exit, and those wait for connections that are kept open.
    os._exit(0)


if __name__ == "__main__":
    main()
