"""How Hugging Face's libraries behave in our commands."""

from __future__ import annotations

from transformers.utils import logging


def only_errors() -> None:
    """Keep loading bars and advice off the error stream, which shows our own progress."""
    logging.disable_progress_bar()
    logging.set_verbosity_error()
