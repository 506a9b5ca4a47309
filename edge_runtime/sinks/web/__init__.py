"""The web sink: a page with the live timeline, its WebSocket, `/healthz` and `/metrics`.

`sink.py` starts and stops it, `server.py` runs uvicorn in a thread and limits its connections, `access.py` checks
tokens, host names and origins, `pages.py` answers requests, `live.py` keeps recent events and sends them to the open
pages, `state.py` writes the state as JSON and for Prometheus. The page itself is in ``static``.
"""
