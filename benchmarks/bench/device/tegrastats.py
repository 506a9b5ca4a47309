"""Parse power rails and temperatures of NVIDIA's `tegrastats` on a Jetson; runs on the device.

A line has, among others, rails as ``VDD_IN 4236mW/4240mW``: now, and the mean since it was started; newer releases add
the maximum (``/5500mW``), older ones leave the unit out. Rails by module (NVIDIA's Jetson Linux guide, "Power
monitoring"): Orin NX and Nano have ``VDD_IN``, the whole module; AGX Orin has ``VDD_GPU_SOC``, ``VDD_CPU_CV`` and
``VIN_SYS_5V0``, of which the sum is the module; Thor has ``VIN``, the whole board, beside its parts.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

_RAIL = re.compile(r"\b(?P<name>(?:VDD|VIN|VDDQ|POM|GPU|CPU|SOC|CV|SYS)[A-Z0-9_]*) (?P<now>-?\d+)(?:mW)?/-?\d+(?:mW)?")
_TEMPERATURE = re.compile(r"\b(?P<name>[A-Za-z][A-Za-z0-9]*)@(?P<degrees>-?\d+(?:\.\d+)?)C\b")
_TOTALS = (
    ("VIN",),
    ("VDD_IN",),
    ("POM_5V_IN",),
    ("VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0"),
    ("VDD_GPU", "VDD_CPU_SOC_MSS", "VIN_SYS_5V0"),
)
"""Rails whose sum is the total consumption, the widest scope first."""


class PowerSample(NamedTuple):
    """Power and temperatures of one line.

    Attributes:
        milliwatts: by rail; Thor's GPU rail may be slightly negative.
        temperatures: °C by sensor.
    """

    milliwatts: dict[str, int]
    temperatures: dict[str, float]


def parse_line(line: str) -> PowerSample:
    """Return the power and temperatures in a line.

    >>> parse_line("RAM 1/2MB tj@47.1C VDD_IN 4236mW/4240mW VDD_SOC 1340mW/1341mW").milliwatts
    {'VDD_IN': 4236, 'VDD_SOC': 1340}
    """
    return PowerSample(
        {found["name"]: int(found["now"]) for found in _RAIL.finditer(line)},
        {found["name"].lower(): float(found["degrees"]) for found in _TEMPERATURE.finditer(line)},
    )


def total_rails(names: Sequence[str]) -> tuple[str, ...] | None:
    """Return the rails whose sum is the total consumption that the sensors cover; None for unknown rails.

    >>> total_rails(["VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0", "VDDQ_VDD2_1V8AO"])
    ('VDD_GPU_SOC', 'VDD_CPU_CV', 'VIN_SYS_5V0')
    """
    return next((rails for rails in _TOTALS if set(rails) <= set(names)), None)
