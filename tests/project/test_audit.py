"""`make audit` with pip-audit itself: a database that does not answer, one without entries, and one that finds.

The real databases cannot be relied on here, so a server here speaks OSV's protocol (https://google.github.io/osv.dev).
"""

import json
import re
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pydantic
import pytest

from tests.audit import KNOWN_BAD
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
    done = subprocess.run([sys.executable, "-m", "tests.audit", *options], capture_output=True, text=True, check=False)
    return done.returncode, done.stdout, done.stderr


def test_a_finding_fails():
    with Database(KNOWN_BAD, f"pydantic=={pydantic.VERSION}") as database:
        code, output, _ = audit(database.options)
        assert database.asked > 20
    assert code == 1
    assert "audit: pydantic " in output
    assert "EDGEEMO-TEST-1, fixed in 99.1" in output
    assert "1 known vulnerabilities" in output


def test_nothing_found():
    with Database(KNOWN_BAD) as database:
        code, output, _ = audit(database.options)
    assert code == 0
    assert re.search("audit: [0-9]+ packages looked up, 0 known vulnerabilities", output)


@pytest.mark.parametrize("there", [True, False])
def test_no_database_skips(there):
    with Database() as database:
        options = database.options
        if there:
            code, output, _ = audit(options)
    if not there:
        code, output, _ = audit(options)
    assert code == 0
    assert output == "audit: skipped, since the database of vulnerabilities cannot be reached from here\n"
