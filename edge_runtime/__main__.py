"""`python -m edge_runtime` is `edgeemo`."""

from edge_runtime.cli import main

if __name__ == "__main__":
    main(prog_name="edgeemo")
