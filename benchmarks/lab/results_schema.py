"""Write the JSON schema of results files from their model: ``python -m benchmarks.lab.results_schema``."""

from __future__ import annotations

import json
from pathlib import Path

import click

from benchmarks.bench.results import SCHEMA, Results
from edge_runtime.console import console
from edge_runtime.errors import Tool
from edge_runtime.files import write_text

PATH = Path(__file__).parents[1] / "bench" / "results.schema.json"


def results_schema() -> str:
    """Return the schema, JSON Schema 2020-12, as the text of its file."""
    schema = Results.model_json_schema(by_alias=True)
    # A default for readers' convenience in the model; every file has it.
    schema["properties"]["schema"] = {"const": SCHEMA}
    schema["required"].insert(0, "schema")
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": f"Results of edgeemo ({SCHEMA})"}
    return json.dumps(head | {name: value for name, value in schema.items() if name != "title"}, indent=1) + "\n"


@click.command("results-schema", cls=Tool)
def main() -> None:
    """Write benchmarks/bench/results.schema.json.

    \b
    Example:
      python -m benchmarks.lab.results_schema
    """
    write_text(PATH, results_schema())
    console.print(f"{PATH}")


if __name__ == "__main__":
    main()
