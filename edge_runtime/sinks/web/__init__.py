"""The web sink: a page with the live timeline, its WebSocket, `/healthz` and `/metrics`.

`sink.py` starts and stops it, `server.py` runs uvicorn in a thread, `connections.py` decides which connections are
kept, `guard.py` who may ask, `pages.py` answers, `hub.py` feeds the pages that are open from what `history.py` keeps,
`metrics.py` writes what Prometheus reads. The page itself is in ``static``.
"""

from edge_runtime.sinks.web.sink import WebSink

__all__ = ["WebSink"]
