"""Which client asks the engines: the same Litestar mount under uvicorn with each (docs/decisions/0002-upstream-client.md).

python -m bench.decisions.upstream_client        needs: pip install aiohttp httpx httpx2
"""

from bench.decisions.compare import Candidate, run, uvicorn

CANDIDATES = (
    Candidate("own client", uvicorn("bench.decisions.proxy_app:own")),
    Candidate("aiohttp", uvicorn("bench.decisions.proxy_aiohttp:app")),
    Candidate("httpx", uvicorn("bench.decisions.proxy_httpx:app")),
    Candidate("httpx2", uvicorn("bench.decisions.proxy_httpx2:app")),
)

if __name__ == "__main__":
    run("Upstream clients in the same proxy", CANDIDATES)
