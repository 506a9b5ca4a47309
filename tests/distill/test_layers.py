"""The direction of imports, as `make check` sees it."""

import subprocess
import sys
from pathlib import Path


def test_import_contracts():
    done = subprocess.run(
        [Path(sys.executable).parent / "lint-imports"],
        cwd=Path(__file__).resolve().parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert "0 broken" in done.stdout
