"""Energy by the machine's own meter: recorded lines of tegrastats, RAPL's counters, and why there is none."""

import os
import stat
import sys
from types import SimpleNamespace

import pytest

from benchmarks.bench.device.energy import (
    IDLE_SECONDS,
    MeterError,
    RaplMeter,
    Spent,
    TegrastatsMeter,
    count,
    count_idle,
    find_meter,
    integrate,
    parse_line,
    per_window,
    total_rails,
)
from edge_runtime.doctor.system import System
from tests.laid_out_systems import laid_out

# Lines as users of these boards posted them.
ORIN_NANO = (  # JetPack 6
    "08-12-2026 15:28:04 RAM 2390/7486MB (lfb 4x4MB) CPU [6%@729,4%@729,1%@729,13%@883,3%@729,5%@729] GR3D_FREQ 0% "
    "cpu@45.687C/45.687C soc2@45.156C/45.156C soc0@45.468C/45.468C gpu@46.843C/46.843C tj@46.843C/46.843C "
    "soc1@46.156C/46.156C VDD_IN 3848mW/3848mW/3848mW VDD_CPU_GPU_CV 606mW/606mW/606mW VDD_SOC 1174mW/1174mW/1174mW"
)
AGX_ORIN = (  # JetPack 7.2, L4T R39.2
    "07-25-2026 09:08:28 RAM 20642/62817MB (lfb 1x2MB) CPU [23%@2201,10%@2201,4%@2201,14%@2201] EMC_FREQ 3%@3199 "
    "GR3D_FREQ 12%@[1300,1300] NVENC0 off NVDLA0 off PVA0_FREQ off APE 174 cpu@52.968C/52.968C soc2@48.406C/48.406C "
    "VDD_GPU_SOC 5139mW/5139mW/5139mW VDD_CPU_CV 3268mW/3268mW/3268mW VIN_SYS_5V0 5500mW/5500mW/5500mW"
)
THOR = (  # L4T R38.4
    "04-21-2026 15:50:52 RAM 105265/125772MB (lfb 34x4MB) CPU [0%@972,0%@972,8%@972,0%@972] EMC_FREQ 0%@2750 "
    "GR3D_FREQ @[314,314,314] NVENC0_FREQ @314 VIC off OFA_FREQ @315 APE 300 cpu@37.343C tj@38.875C soc012@37.468C "
    "gpu@38.875C soc345@37.406C VDD_GPU 1962mW/1962mW VDD_CPU_SOC_MSS 5887mW/5887mW VIN_SYS_5V0 5635mW/5635mW "
    "VIN 19780mW/19780mW"
)
IDLE_GPU = "VDD_GPU -392mW/-392mW VDD_CPU_SOC_MSS 3924mW/3835mW VIN_SYS_5V0 5064mW/5055mW VIN 15004mW/15096mW"
XAVIER_NX = (  # JetPack 5.1.2
    "07-09-2024 13:31:31 RAM 3168/6851MB (lfb 2x4MB) SWAP 161/3426MB (cached 0MB) CPU [23%@1397,17%@1192] "
    "EMC_FREQ 2%@204 GR3D_FREQ 0%@[114] VIC_FREQ 115 APE 150 AUX@45C CPU@46.5C thermal@45.6C AO@45C GPU@45.5C PMIC@50C "
    "VDD_IN 2763mW/2846mW VDD_CPU_GPU_CV 650mW/670mW VDD_SOC 650mW/711mW"
)
NANO = "RAM 1409/3964MB IRAM 0/252kB(lfb 252kB) CPU [22%@518,off] CPU@32C POM_5V_IN 4286/4286 POM_5V_GPU 0/0"


@pytest.mark.parametrize(
    ("line", "rails", "total", "milliwatts"),
    [
        (ORIN_NANO, {"VDD_IN": 3848, "VDD_CPU_GPU_CV": 606, "VDD_SOC": 1174}, ("VDD_IN",), 3848),
        (AGX_ORIN, {"VDD_GPU_SOC": 5139, "VDD_CPU_CV": 3268, "VIN_SYS_5V0": 5500}, (), 13907),
        (THOR, {"VDD_GPU": 1962, "VDD_CPU_SOC_MSS": 5887, "VIN_SYS_5V0": 5635, "VIN": 19780}, ("VIN",), 19780),
        (IDLE_GPU, {"VDD_GPU": -392, "VDD_CPU_SOC_MSS": 3924, "VIN_SYS_5V0": 5064, "VIN": 15004}, ("VIN",), 15004),
        (XAVIER_NX, {"VDD_IN": 2763, "VDD_CPU_GPU_CV": 650, "VDD_SOC": 650}, ("VDD_IN",), 2763),
        (NANO, {"POM_5V_IN": 4286, "POM_5V_GPU": 0}, ("POM_5V_IN",), 4286),
    ],
)
def test_rails_of_a_recorded_line(line, rails, total, milliwatts):
    """``total`` are the rails that add up to the board's; all of them if none are named."""
    found, total = parse_line(line).milliwatts, total or tuple(rails)
    assert found == rails
    assert total_rails(list(found)) == total
    assert sum(found[name] for name in total) == milliwatts


def test_temperatures_of_a_recorded_line():
    assert sorted(parse_line(THOR).temperatures.values()) == [37.343, 37.406, 37.468, 38.875, 38.875]
    assert parse_line(ORIN_NANO).temperatures["tj"] == 46.843
    assert parse_line(XAVIER_NX).temperatures["gpu"] == 45.5


def test_power_is_integrated_and_idle_is_taken_off():
    # 2 W for one second, then a straight line up to 4 W for two seconds: 2 + 6 J.
    lines = [(10.0, "VDD_IN 2000mW/2000mW"), (11.0, "VDD_IN 2000mW/2000mW"), (13.0, "VDD_IN 4000mW/2600mW")]
    spent, rails = integrate(lines)
    assert (spent.joules, spent.seconds, rails) == (pytest.approx(8.0), 3.0, "VDD_IN")
    found = per_window("student", 40, Spent(joules=30.0, seconds=10.0), Spent(joules=50.0, seconds=20.0))
    assert (found.idle_joules, found.per_window_mj) == (25.0, pytest.approx(125.0))


@pytest.mark.parametrize(
    ("lines", "why"),
    [
        ([], "no power rails"),
        ([(0.0, "VDD_IN 1mW/1mW")], "no power rails"),
        ([(0.0, "RAM 1/2MB"), (1.0, "RAM 1/2MB")], "no power rails"),
        ([(0.0, "VDD_NEW 1mW/1mW"), (1.0, "VDD_NEW 1mW/1mW")], "VDD_NEW are unknown"),
    ],
)
def test_no_power_is_a_reason(lines, why):
    with pytest.raises(MeterError, match=why):
        integrate(lines)


def test_tegrastats_is_started_read_and_stopped(tmp_path):
    """A program in its place that prints a recorded line every 10 ms."""
    program = tmp_path / "tegrastats"
    program.write_text(
        f"#!{sys.executable}\nimport time\nwhile True:\n    print({THOR!r}, flush=True); time.sleep(0.01)\n"
    )
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    meter = TegrastatsMeter((str(program),))
    assert meter.source == "tegrastats: VIN"
    spent = count(meter, lambda: None)
    assert spent.seconds > 0.05
    assert spent.joules == pytest.approx(19.78 * spent.seconds)
    program = tmp_path / "tegrastats"
    program.write_text("#!/bin/sh\necho RAM 1/2MB\n")
    program.chmod(0o755)
    with pytest.raises(MeterError, match="no power rails"):
        TegrastatsMeter((str(program),))
    with pytest.raises(MeterError, match="cannot be started"):
        TegrastatsMeter((str(tmp_path / "none"),))


RAPL = "/sys/class/powercap"
FILES = {
    "name": ("package-0", "core", "dram"),
    "energy_uj": ("1000000", "500000", "65000000"),
    "max_energy_range_uj": ("262143328850", "262143328850", "65712999613"),
}
ZONES = {
    f"{RAPL}/intel-rapl:{zone}/{name}": value
    for name, values in FILES.items()
    for zone, value in zip(("0", "0:0", "0:1"), values, strict=True)
}


def test_rapl_adds_packages_and_memory_and_counts_over_a_turn_of_the_counter(tmp_path):
    system = laid_out(tmp_path, files=ZONES)
    meter = RaplMeter(system)
    assert meter.source == "RAPL: package-0 + dram"

    def work():
        system.path(f"{RAPL}/intel-rapl:0/energy_uj").write_text("3500000")
        # Parts of the package are in it already.
        system.path(f"{RAPL}/intel-rapl:0:0/energy_uj").write_text("900000000")
        system.path(f"{RAPL}/intel-rapl:0:1/energy_uj").write_text("4999999")

    spent = count(meter, work)
    # 2.5 J, and from 65.0 J over 65712.999613 J to 5 J: the last step to 0 counts too.
    assert spent.joules == pytest.approx(2.5 + (65712.999613 - 65.0 + 5.0))
    assert spent.seconds >= 0


def test_no_meter_is_a_reason_and_no_figure(tmp_path):
    with pytest.raises(MeterError, match="no RAPL counters"):
        find_meter(System(tmp_path))
    jetson = laid_out(tmp_path / "jetson", files={"/proc/device-tree/model": "NVIDIA Jetson Orin Nano"})
    with pytest.raises(MeterError, match="tegrastats is not at"):
        find_meter(jetson)
    uncore = laid_out(tmp_path / "uncore", files={f"{RAPL}/intel-rapl:0/name": "psys"})
    with pytest.raises(MeterError, match="no zone of a package here, only psys"):
        RaplMeter(uncore)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_counters_that_only_root_may_read_are_a_reason(tmp_path):
    system = laid_out(tmp_path, files=ZONES)
    system.path(f"{RAPL}/intel-rapl:0/energy_uj").chmod(0)
    with pytest.raises(MeterError, match="only root may read"):
        RaplMeter(system)


def test_the_idle_machine_begins_the_section(tmp_path, monkeypatch):
    system, messages = laid_out(tmp_path, files=ZONES), []

    def sleep(seconds):
        assert seconds == IDLE_SECONDS == 20.0
        system.path(f"{RAPL}/intel-rapl:0/energy_uj").write_text("9000000")

    monkeypatch.setattr(
        "benchmarks.bench.device.energy.time", SimpleNamespace(sleep=sleep, monotonic=iter((100.0, 104.0)).__next__)
    )
    meter = RaplMeter(system)
    before = meter._counted()[0]
    idle, section = count_idle(meter, messages.append)
    assert messages == ["energy: the idle machine, 20 s"]
    assert idle.seconds == section.idle_seconds == 4.0
    assert idle.joules == pytest.approx(9.0 - before / 1e6)
    assert section.idle_watts == pytest.approx(idle.joules / 4.0, abs=1e-3)
    assert section.source == meter.source
    assert section.systems == []
