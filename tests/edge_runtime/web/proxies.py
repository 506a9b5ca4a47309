"""nginx in front of the web sink, as the document's examples configure it."""

import shutil
import subprocess
import time
from contextlib import contextmanager

from tests.conftest import absent
from tests.events_and_takers import free_port, until

CONFIGURATION = """
daemon off;
pid {folder}/pid;
error_log {folder}/error.log;
events {{ worker_connections 64; }}
http {{
  access_log off;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  server {{
    listen 127.0.0.1:{port};
    {locations}
  }}
}}
"""


@contextmanager
def nginx(folder, locations):
    """Yield the port of a proxy with these locations."""
    program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if program is None:
        absent("nginx (apt-get install nginx-light)")
    port = free_port()
    # Its worker is another user where the tests run as root.
    folder.chmod(0o777)
    settings = folder / "nginx.conf"
    settings.write_text(CONFIGURATION.format(folder=folder, port=port, locations=locations))
    process = subprocess.Popen([program, "-p", folder, "-c", settings], stderr=subprocess.PIPE, text=True)
    try:
        until(lambda: (folder / "pid").exists() or process.poll() is not None)
        time.sleep(0.1)
        assert process.poll() is None, process.stderr.read()
        yield port
    finally:
        process.terminate()
        process.communicate(timeout=20)
