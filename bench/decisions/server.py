"""Which server carries the gateway: the same Litestar mount and upstream client under each (docs/decisions/0001-server.md).

python -m bench.decisions.server        needs: pip install granian hypercorn
"""

import sys
from pathlib import Path

from bench.decisions.compare import Candidate, python, run, uvicorn

MOUNT = "bench.decisions.proxy_app:own"
GRANIAN = (
    "--interface asginl --workers 1 --runtime-threads 1 --loop uvloop --no-ws --factory --log-level warning"
)

CANDIDATES = (
    Candidate("uvicorn, Litestar mount", uvicorn(MOUNT)),
    Candidate("uvicorn, plain ASGI", uvicorn("bench.decisions.proxy_app:plain")),
    Candidate(
        "granian, Litestar mount",
        lambda port: [
            str(Path(sys.executable).with_name("granian")),
            *GRANIAN.split(),
            "--port",
            str(port),
            MOUNT,
        ],
    ),
    Candidate(
        "hypercorn, Litestar mount",
        lambda port: python("-m", "hypercorn", "-k", "uvloop", "-b", f"127.0.0.1:{port}", f"{MOUNT}()"),
    ),
    Candidate(
        "own protocol, no server",
        lambda port: python("-m", "bench.decisions.bare_protocol", "--port", str(port)),
    ),
)

if __name__ == "__main__":
    run("Servers under the same proxy", CANDIDATES)
