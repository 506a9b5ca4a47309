"""`make audit` with pip-audit itself: a database that does not answer, one without entries, and one that finds.

The real databases cannot be relied on here, so a server here speaks OSV's protocol (https://google.github.io/osv.dev).
"""

import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pydantic
import pytest

from tests.audit import KNOWN_BAD
from tests.command import python
from tests.conftest import need


class Database(ThreadingHTTPServer):
    """Has a vulnerability of each ``name==version`` that it is made with; answers 404 where it is made with none."""

    def __init__(self, *packages):
        self.packages = packages
        self.asked = 0
        super().__init__(("127.0.0.1", 0), _Answer)

    def __enter__(self):
        threading.Thread(target=self.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.shutdown()
        self.server_close()

    @property
    def options(self):
        return ["--vulnerability-service", "osv", "--osv-url", f"http://127.0.0.1:{self.server_port}/v1/query"]


class _Answer(BaseHTTPRequestHandler):
    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        name = asked["package"]["name"]
        self.server.asked += 1
        ranges = [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "99.1"}]}]
        affected = [{"package": {"name": name, "ecosystem": "PyPI"}, "ranges": ranges}]
        found = {"vulns": [{"id": "EDGEEMO-TEST-1", "summary": "x", "affected": affected}]}
        content = json.dumps(found if f"{name}=={asked['version']}" in self.server.packages else {}).encode()
        self.send_response(200 if self.server.packages else 404)
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_):
        pass


def audit(options):
    need("pip_audit")
    done = python("-m", "tests.audit", *options)
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("vulnerable", [True, False])
def test_a_finding_fails(vulnerable):
    with Database(KNOWN_BAD, *([f"pydantic=={pydantic.VERSION}"] if vulnerable else [])) as database:
        code, output, _ = audit(database.options)
        assert database.asked > 20
    assert code == vulnerable
    assert re.search(f"audit: [0-9]+ packages looked up, {code} known vulnerabilities", output)
    assert re.search(r"audit: pydantic .*EDGEEMO-TEST-1, fixed in 99\.1", output) or not vulnerable


@pytest.mark.parametrize("there", [True, False])
def test_no_database_skips(there):
    with Database() as database:
        found = audit(database.options) if there else None
    code, output, _ = found or audit(database.options)
    assert code == 0
    assert output == "audit: skipped, since the database of vulnerabilities cannot be reached from here\n"
