"""What PortAudio knows of this machine, as JSON; run as ``python -m edge_runtime.doctor.sound_probe``."""

from __future__ import annotations

import json
import sys
from typing import Any

from edge_runtime.sources.audio import SAMPLE_RATE


def look() -> dict[str, Any]:
    """Return ``version`` and ``inputs``, or ``missing`` where there is no PortAudio.

    An input has ``index``, ``name``, ``host_api``, ``channels``, ``sample_rate`` (its default, in Hz), ``default``, and
    ``mono_16k`` and ``own``: None where 16 kHz mono, or its own rate and channels, are accepted, else the error.
    """
    try:
        import sounddevice
    except OSError as error:
        return {"missing": str(error)}

    def refusal(index: int, channels: int, rate: float) -> str | None:
        try:
            sounddevice.check_input_settings(device=index, channels=channels, samplerate=rate, dtype="float32")
        except sounddevice.PortAudioError as error:
            return str(error)
        return None

    apis = [str(api["name"]) for api in sounddevice.query_hostapis()]
    inputs = [
        {
            "index": int(entry["index"]),
            "name": str(entry["name"]),
            "host_api": apis[entry["hostapi"]],
            "channels": int(entry["max_input_channels"]),
            "sample_rate": int(entry["default_samplerate"]),
            "default": int(entry["index"]) == sounddevice.default.device[0],
            "mono_16k": refusal(int(entry["index"]), 1, SAMPLE_RATE),
            "own": refusal(int(entry["index"]), int(entry["max_input_channels"]), entry["default_samplerate"]),
        }
        for entry in sounddevice.query_devices()
        if entry["max_input_channels"] > 0
    ]
    return {"version": sounddevice.get_portaudio_version()[1], "inputs": inputs}


if __name__ == "__main__":
    json.dump(look(), sys.stdout)
