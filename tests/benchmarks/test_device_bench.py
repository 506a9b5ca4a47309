"""Latency paced and in turns, stages, operators, the machine's limit, cold start, the state of the machine."""

import json

import numpy as np
import pytest

from benchmarks.bench.device.cold_start import measure_cold_start, measure_engine_build
from benchmarks.bench.device.device_sections import MachineLimit, MachineMoment
from benchmarks.bench.device.latency import Latency, sample_floor, time_in_turns, time_paced
from benchmarks.bench.device.machine_limit import graph_rate, measure_limit, window_macs
from benchmarks.bench.device.machine_state import machine_moment, machine_state
from benchmarks.bench.device.operators import CONVERSIONS, FUSED, add_up, profile_operators
from benchmarks.bench.device.stages import measure_stages
from benchmarks.bench.device.sweep import measure_sweep, thread_counts
from distill.recipe import RandomEncoder, Schedule
from distill.recipe import Student as StudentRecipe
from edge_runtime.bundles.bundle import load_bundle
from edge_runtime.bundles.manifest import Manifest
from edge_runtime.errors import EdgeemoError
from tests.conftest import need, tone
from tests.laid_out_systems import laid_out
from tests.plain_bundles import plain_manifest, save_plain_bundle

WINDOWS = [tone(2.0, frequency=200.0 + 50 * index) for index in range(3)]


@pytest.mark.parametrize(("percentile", "floor"), [(90, 64), (95, 130), (99, 662)])
def test_floors_are_those_of_early_stopping(percentile, floor):
    """At most one of so many beyond the percentile is an accident of less than one in a hundred; of fewer it is not."""
    from scipy.stats import binom

    assert sample_floor(percentile) == floor
    beyond = 1 - percentile / 100
    assert binom.cdf(1, floor, beyond) <= 0.01 < binom.cdf(1, floor - 1, beyond)


def test_warm_up_is_separate():
    found = time_in_turns({"a": lambda pcm: None}, WINDOWS, rounds=10, warm_up=3)["a"].timing("a", 2)
    assert (found.calls, found.warm_up_calls, found.threads, found.way) == (10, 3, 2, "back to back")
    assert found.warm_up_first_ms is not None
    assert len(found.samples_ms) == 10
    assert found.p90_ms is None
    assert found.max_ms == max(found.samples_ms)


def test_paced_calls_keep_the_grid_of_the_hop():
    moved, starts, slept = [], [], []

    def call(_pcm):
        starts.append(sum(moved))
        # The fourth call takes longer than two hops.
        moved.append(1.2 if len(starts) == 4 else 0.1)

    def sleep(seconds):
        slept.append(seconds)
        moved.append(seconds)

    found = time_paced(call, WINDOWS, rounds=6, hop_seconds=0.5, warm_up=2, sleep=sleep, clock=lambda: sum(moved))
    assert starts == pytest.approx([0.0, 0.5, 1.0, 1.5, 2.7, 2.8, 3.0, 3.5])
    assert slept[:3] == pytest.approx([0.4] * 3)
    assert (found.late, found.warm_up, len(found.milliseconds)) == (2, 2, 6)
    timing = found.timing("a", 1)
    assert (timing.way, timing.hop_seconds, timing.late) == ("paced", 0.5, 2)


def test_every_stage_is_timed():
    manifest = Manifest(**plain_manifest(), files=[{"name": "a", "size": 1, "sha256": "0" * 64}])
    stages = measure_stages(manifest, WINDOWS, Latency((4.0,) * 64, 5, 2.0), "x", calls=20)
    found = {each.stage: each for each in stages}
    assert list(found) == ["capture", "resample", "voice activity detection", "engine", "decision"]
    assert found["capture"].per_hop_ms is None
    assert found["resample"].calls_per_hop == 5
    # Three frames of 32 ms a call.
    assert found["voice activity detection"].calls_per_hop == pytest.approx(15.625 / 3, abs=0.001)
    assert found["engine"].per_hop_ms == 4.0
    for name in ("resample", "voice activity detection", "decision"):
        assert 0 < found[name].p50_ms <= found[name].max_ms
        assert found[name].p90_ms is None


def node(name, operator, ts, duration, index=0):
    return {
        "cat": "Node", "name": f"{name}_kernel_time", "ts": ts, "dur": duration,
        "args": {"op_name": operator, "node_index": str(index)},
    }  # fmt: skip


def test_operators_are_added_up_by_type_and_by_module():
    events = [{"cat": "Session", "name": "session_initialization", "ts": 0, "dur": 5}]
    for run in range(4):
        # The first run is warm-up; in the last one a node was interrupted.
        slow = 900 if run in (0, 3) else 0
        at = 1000 * (run + 1)
        events += [
            node("encoder.fc1/MatMul_1", "MatMul", at + 1, 30 + slow),
            node("encoder.fc1/Add_2", "Add", at + 2, 10),
            node("encoder.fc2/MatMul_3", "MatMul", at + 3, 50),
            node("x_QuantizeLinear", "QuantizeLinear", at + 4, 4, 4),
            node("BiasGelu", "BiasGelu", at + 5, 6, 5),
            {"cat": "Session", "name": "model_run", "ts": at, "dur": 120 + slow},
        ]
    found = add_up(events, "int8-cpu", 3, 2.0)
    assert (found.nodes_ms, found.run_ms) == (pytest.approx(0.1), pytest.approx(0.12))
    assert [(each.name, each.nodes, each.ms) for each in found.by_type[:2]] == [("MatMul", 2, 0.08), ("Add", 1, 0.01)]
    assert {each.name: each.ms for each in found.by_module} == {
        "encoder.fc2": 0.05, "encoder.fc1": 0.04, FUSED: 0.006, CONVERSIONS: 0.004,
    }  # fmt: skip
    assert sum(each.share for each in found.by_module) == pytest.approx(1.0)
    with pytest.raises(ValueError, match="holds 4 runs, not 5"):
        add_up(events, "int8-cpu", 5, 2.0)


def test_a_real_graph_is_profiled(tmp_path):
    bundle = load_bundle(save_plain_bundle(tmp_path / "bundle"))
    found = profile_operators(bundle, "fp32", WINDOWS, runs=4)
    assert {each.name for each in found.by_type} == {"ReduceMean", "MatMul", "Add"}
    assert sum(each.ms for each in found.by_type) == pytest.approx(found.nodes_ms, abs=0.001)
    assert found.windows == 4


def test_the_limit_is_the_best_product_of_each_kind(monkeypatch):
    need("onnx")
    found = measure_limit(1, sizes=((64, 64, 64), (128, 256, 256)))
    assert len(found.products) == 6
    for kind, best in (("fp32", found.best_fp32_gmacs), ("int8", found.best_int8_gmacs)):
        own = [each for each in found.products if each.kind == kind]
        assert best == max(each.gmacs_per_second for each in own) > 0
        for each in own:
            assert each.gmacs_per_second == pytest.approx(each.m * each.k * each.n / each.best_ms / 1e6, rel=0.02)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    found = measure_limit(1)
    assert found.best_int8_gmacs is None
    assert 'pip install "edgeemo[export]"' in found.not_measured


def counted(macs):
    content = plain_manifest() | {"macs": macs, "files": [{"name": "a", "size": 1, "sha256": "0" * 64}]}
    content["encoder"] = content["encoder"] | {"d_model": 100}
    return Manifest(**content)


def test_share_of_the_limit():
    manifest = counted({"log-mel": 3_000_000, "branches and head": 1_000_000})
    limit = MachineLimit(threads=1, best_fp32_gmacs=10.0, best_int8_gmacs=40.0)
    found = graph_rate(limit, manifest, "int8-cpu", 2.0, 0.5, 0.4)
    assert (found.macs, found.gmacs_per_second, found.limit, found.share) == (4_000_000, 8.0, "int8", 0.2)
    assert (found.best_ms, found.best_share) == (0.4, 0.25)
    assert graph_rate(limit, manifest, "fp32", 2.0, 0.5, 0.5).share == 0.8
    assert graph_rate(MachineLimit(not_measured="why"), manifest, "fp32", 2.0, 0.5, 0.5) is None
    assert graph_rate(limit, counted({}), "fp32", 2.0, 0.5, 0.5) is None


def test_multiply_accumulates_of_another_window_are_those_of_the_encoder():
    need("torch", "transformers")
    from distill.distillation.build_student import build_student
    from distill.pruning.macs import count_macs

    encoder = RandomEncoder(d_model=100, layers=2, heads=2, feed_forward=64, mel_bins=40)
    schedule = Schedule(epochs=1, learning_rate=1e-3)
    student = build_student(StudentRecipe(random=encoder, hidden_size=32, training=schedule), ("a", "b"))
    manifest = counted(count_macs(student, 32_000))
    assert window_macs(manifest, 2.0) == sum(manifest.macs.values())
    for seconds in (1.0, 5.0, 10.0):
        exact = sum(count_macs(student, round(seconds * 16_000)).values())
        assert window_macs(manifest, seconds) == pytest.approx(exact, rel=0.015)


def test_cold_start_adds_up_or_is_one_sentence(tmp_path):
    found = measure_cold_start(save_plain_bundle(tmp_path / "bundle"), "fp32", 1, starts=1)
    parts = ("interpreter_ms", "imports_ms", "bundle_ms", "load_ms", "first_window_ms")
    assert sum(getattr(found, name) for name in parts) == pytest.approx(found.total_ms, abs=0.1)
    assert min(getattr(found, name) for name in parts) > 0
    assert 10 < found.resident_before_mb < found.resident_scoring_mb < 500
    assert found.process_threads >= 1
    with pytest.raises(EdgeemoError, match="the process that measures the cold start failed"):
        measure_cold_start(tmp_path / "none", "fp32", 1, starts=1)


def test_no_tensorrt_is_a_reason(tmp_path, monkeypatch):
    monkeypatch.setattr("edge_runtime.backends.tensorrt_here", lambda: None)
    found = measure_engine_build(load_bundle(save_plain_bundle(tmp_path / "bundle")))
    assert found.seconds is None
    assert found.not_measured.startswith("not available")


def test_lengths_and_threads_are_swept(tmp_path):
    bundle = load_bundle(save_plain_bundle(tmp_path / "bundle"))
    asked = []

    def speech(seconds, count):
        asked.append(seconds)
        return [np.zeros(round(seconds * 16_000), np.float32)] * count

    found = measure_sweep(bundle, speech, ("fp32",), lengths=(1.0, 4.0), threads=(1, 2))
    # Its own window is added; a graph without positions takes longer ones too.
    assert asked == [1.0, 2.0, 4.0] * 2
    assert [(each.threads, each.window_seconds) for each in found.points] == [
        (threads, seconds) for threads in (1, 2) for seconds in (1.0, 2.0, 4.0)
    ]
    assert found.too_long == []
    assert thread_counts(6) == (1, 2, 3, 4, 6)


ZONE, POLICY = "/sys/class/thermal/thermal_zone0", "/sys/devices/system/cpu/cpufreq/policy0"
COUNTER = "/sys/devices/system/cpu/cpu0/thermal_throttle/core_throttle_count"
MACHINE = {
    f"{ZONE}/type": "cpu-thermal",
    f"{ZONE}/temp": "52400",
    f"{ZONE}/trip_point_0_type": "passive",
    f"{ZONE}/trip_point_0_temp": "99000",
    f"{POLICY}/scaling_cur_freq": "1510400",
    COUNTER: "7",
    "/sys/class/hwmon/hwmon3/oc1_event_cnt": "0",
    "/sys/class/thermal/cooling_device0/type": "cpufreq-cpu0",
    "/sys/class/thermal/cooling_device0/cur_state": "0",
    "/sys/class/thermal/cooling_device1/type": "pwm-fan",
    "/sys/class/thermal/cooling_device1/cur_state": "2",
    "/proc/loadavg": "0.52 0.58 0.59 1/467 12345",
    "/proc/meminfo": "MemTotal: 8000000 kB\nMemAvailable:    6000000 kB\n",
}


def test_state_of_the_machine(tmp_path):
    system = laid_out(tmp_path, files=MACHINE)
    before = machine_moment(system)
    assert before.temperatures == {"cpu-thermal": 52.4}
    assert before.clocks_mhz == {"policy0": 1510.4}
    assert (before.load_average, before.free_memory_mb) == (0.52, 6144.0)
    assert before.throttle_events == {
        "cpu0 core_throttle_count": 7, "hwmon3 oc1_event_cnt": 0, "cooling_device0 (cpufreq-cpu0) state": 0,
    }  # fmt: skip
    assert machine_state(before, machine_moment(system)).throttling == "none: 3 throttling counters did not grow"
    system.path(COUNTER).write_text("9")
    system.path(f"{ZONE}/temp").write_text("99500")
    system.path("/sys/class/thermal/cooling_device0/cur_state").write_text("1")
    throttling = machine_state(before, machine_moment(system)).throttling
    assert "cpu-thermal was at its throttling point" in throttling
    assert "cpu0 core_throttle_count grew by 2" in throttling
    assert "cooling_device0 (cpufreq-cpu0) state is 1" in throttling
    throttling = machine_state(MachineMoment(), MachineMoment()).throttling
    assert throttling.startswith("unknown")
    assert json.loads(MachineMoment().model_dump_json(exclude_none=True))["temperatures"] == {}
