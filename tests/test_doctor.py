"""`edgeemo doctor`: on this machine, on directories laid out like a Jetson, and with parts that fail.

The layouts hold the files that the doctor reads, with the content that a Jetson gives them; no Jetson runs here.
"""

import json
import os
import shutil
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path

import pytest

from edge_runtime.backends import open_engine
from edge_runtime.bundle import load_bundle
from edge_runtime.config import EngineSettings, parse_settings, read_settings
from edge_runtime.doctor import accelerators, board, packages, sound, storage
from edge_runtime.doctor import system as system_module
from edge_runtime.doctor.bundle import bundle
from edge_runtime.doctor.cuda_probe import look
from edge_runtime.doctor.examine import Examination
from edge_runtime.doctor.finding import Finding, looked_at
from edge_runtime.doctor.settings import settings
from edge_runtime.doctor.system import ProbeError, System, probe
from edge_runtime.errors import EdgeemoError
from tests.conftest import edgeemo
from tests.test_virtual_microphone import sound as virtual_microphone  # noqa: F401

STATES = {"ok", "can be better", "missing", "unknown"}

ORIN = {
    "/etc/nv_tegra_release": "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, EABI: aarch64, "
    "DATE: Wed Jan  8 01:49:37 UTC 2025\n# KERNEL_VARIANT: oot\n",
    "/proc/device-tree/model": "NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super\0",
    "/var/lib/dpkg/status": "Package: nvidia-jetpack-runtime\nStatus: install ok installed\nVersion: 6.2\n\n"
    "Package: nvidia-jetpack\nStatus: install ok installed\nVersion: 6.2+b77\nDescription: NVIDIA\n more: of it\n",
    "/etc/nvpmodel.conf": "< PARAM TYPE=FILE NAME=CPU_ONLINE >\nCORE_0 /sys/devices/system/cpu/cpu0/online\n"
    "< POWER_MODEL ID=0 NAME=15W >\nCPU_ONLINE CORE_0 1\n< POWER_MODEL ID=1 NAME=25W >\n"
    "< POWER_MODEL ID=2 NAME=MAXN_SUPER >\n< PM_CONFIG DEFAULT=1 >\n",
    "/var/lib/nvpmodel/status": "pmode:0001",
    "/sys/devices/system/cpu/online": "0-3,5\n",
    "/sys/devices/system/cpu/present": "0-5\n",
    "/sys/devices/system/cpu/cpufreq/policy0/scaling_governor": "schedutil\n",
    "/sys/devices/system/cpu/cpufreq/policy0/scaling_driver": "cppc_cpufreq\n",
    "/sys/class/thermal/thermal_zone0/type": "cpu-thermal\n",
    "/sys/class/thermal/thermal_zone0/temp": "51500\n",
    "/sys/class/thermal/thermal_zone1/type": "cv0-thermal\n",
    "/sys/class/thermal/thermal_zone1/temp": "",
    "/proc/meminfo": "MemTotal:        7802000 kB\nMemFree:          201000 kB\nMemAvailable:    5200000 kB\n"
    "HugePages_Total:       0\n",
    "/proc/cpuinfo": "processor\t: 0\nFeatures\t: fp asimd evtstrm aes crc32 atomics asimdhp asimddp\n",
    "/proc/asound/cards": " 0 [HDA            ]: tegra-hda - NVIDIA Jetson Orin Nano HDA\n",
    "/run/systemd/timesync/synchronized": "",
}


def laid_out(root, **changes):
    """Lay a system's files out below a root; a change with None leaves one out."""
    for name, content in (ORIN | changes.pop("files", {})).items():
        if content is not None:
            path = root / name.lstrip("/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)
    return System(root)


def command(root, name, script):
    path = root / "usr/sbin" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def by_name(findings):
    findings = list(findings)
    assert all(each.state in STATES and each.found for each in findings)
    assert all(each.remedy for each in findings if each.state in ("missing", "can be better"))
    return {each.what: each for each in findings}


class TestCommand:
    def test_everything_is_a_line(self):
        done = edgeemo("doctor", "--json")
        assert done.returncode == 0, done.stderr
        told = json.loads(done.stdout)
        assert all(set(entry) == {"what", "state", "found", "remedy"} for entry in told)
        found = by_name(Finding(**entry) for entry in told)
        assert found["ONNX Runtime"].state == "ok"
        assert "CPUExecutionProvider" in found["ONNX Runtime"].found
        assert {"Python", "edgeemo", "packages", "board", "processor", "memory", "clock", "CUDA driver"} <= set(found)

    def test_the_table_goes_to_the_error_stream(self):
        done = edgeemo("doctor")
        assert (done.returncode, done.stdout) == (0, "")
        assert "ONNX Runtime" in done.stderr

    def test_a_bundle_is_verified_and_scored(self, untrained_bundle):
        done = edgeemo("doctor", untrained_bundle, "--json")
        assert done.returncode == 0, done.stderr
        found = by_name(Finding(**entry) for entry in json.loads(done.stdout))
        assert found["bundle's graphs"].found == "fp32, fp16, int8-cpu, int8-trt"
        assert found["bundle's backend"].found.startswith("ONNX Runtime: ")
        assert " ms, by onnxruntime" in found["one window"].found

    def test_a_refused_bundle_ends_with_its_error_after_the_whole_table(self, untrained_bundle, tmp_path):
        shutil.copytree(untrained_bundle, tmp_path / "bundle")
        with (tmp_path / "bundle" / "model.fp32.onnx").open("ab") as graph:
            graph.write(b"more")
        done = edgeemo("doctor", tmp_path / "bundle", "--json")
        assert done.returncode == 1
        assert done.stderr.splitlines()[-1].startswith("Error: ")
        found = by_name(Finding(**entry) for entry in json.loads(done.stdout))
        assert "model.fp32.onnx: is not the file that the bundle was made with" in found["bundle"].found
        assert found["ONNX Runtime"].state == "ok"

    def test_a_refused_configuration(self, tmp_path):
        (tmp_path / "edge.toml").write_text("[engine]\nthreads = 0\n")
        done = edgeemo("doctor", "--config", tmp_path / "edge.toml", "--json")
        assert done.returncode == 2
        assert "'engine.threads'" in done.stderr
        assert by_name(Finding(**entry) for entry in json.loads(done.stdout))["settings"].state == "missing"

    def test_the_bundle_of_the_configuration_is_taken(self, untrained_bundle, tmp_path):
        (tmp_path / "edge.toml").write_text(f'bundle = "{untrained_bundle}"\n[engine]\nprecision = "fp32"\n')
        done = edgeemo("doctor", "--config", tmp_path / "edge.toml", "--json")
        assert done.returncode == 0, done.stderr
        found = by_name(Finding(**entry) for entry in json.loads(done.stdout))
        assert found["one window"].found.endswith("fp32")


class TestFailures:
    def test_a_look_that_raises_is_a_line(self):
        def check():
            yield Finding("first", "ok", "there")
            raise ValueError("broken")

        first, second = looked_at("thing", check)
        assert first.found == "there"
        assert second == Finding("thing", "unknown", "could not be looked at (ValueError: broken)")

    def test_the_rest_still_runs(self, monkeypatch):
        monkeypatch.setattr(storage, "memory", lambda system: 1 / 0)
        found = by_name(Examination(System()).findings())
        assert found["memory"].found == "could not be looked at (ZeroDivisionError: division by zero)"
        assert found["ONNX Runtime"].state == "ok"

    def test_an_empty_system_is_unknown_not_guessed(self, tmp_path):
        found = by_name(Examination(System(tmp_path)).findings())
        for what in ("processor", "cores", "CPU governor", "temperature", "memory", "clock"):
            assert found[what].state == "unknown", what
        assert found["board"].found == "not a Jetson"

    def test_a_probe_that_hangs_crashes_or_babbles(self, tmp_path, monkeypatch):
        for name, code in (
            ("hanging_probe", "import time; time.sleep(60)"),
            ("crashing_probe", "import os; os.abort()"),
            ("babbling_probe", "print('hello')"),
        ):
            (tmp_path / f"{name}.py").write_text(code)
        monkeypatch.setenv("PYTHONPATH", str(tmp_path))
        for name, says in (("hanging", "no answer within"), ("crashing", "code -6"), ("babbling", "gave no answer")):
            with pytest.raises(ProbeError, match=says):
                probe(f"{name}_probe", seconds=0.5 if name == "hanging" else 20)
        monkeypatch.setattr(sound, "PROBE", "crashing_probe")
        monkeypatch.setattr(accelerators, "PROBE", "crashing_probe")
        found = by_name(Examination(System()).findings())
        assert found["PortAudio"].state == "unknown"
        assert found["CUDA driver"].state == "can be better"

    def test_a_command_that_hangs(self, tmp_path, monkeypatch):
        monkeypatch.setattr(system_module, "COMMAND_SECONDS", 0.2)
        system = laid_out(tmp_path, files={"/run/systemd/timesync/synchronized": None})
        command(tmp_path, "timedatectl", "exec sleep 60")
        (finding,) = storage.clock(system)
        assert finding.state == "unknown"


class TestPackages:
    def test_an_old_version_and_a_missing_package(self, tmp_path, monkeypatch):
        """A distribution on the path before ours, with requirements that this environment does not meet."""
        info = tmp_path / "edgeemo-9.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(
            "Metadata-Version: 2.1\nName: edgeemo\nVersion: 9\nRequires-Dist: numpy>=99\nRequires-Dist: click>=8\n"
            "Requires-Dist: tomli; python_version < '3'\nRequires-Dist: no-such-thing>=1; extra == 'mqtt'\n"
            "Requires-Dist: edgeemo[mqtt]; extra == 'web'\n"
            "Requires-Dist: tensorrt-rtx; python_version < '3' and extra == 'rtx'\n"
        )
        monkeypatch.syspath_prepend(tmp_path)
        (finding,) = packages.base()
        assert finding.state == "missing"
        assert "numpy" in finding.found
        assert "is not >=99" in finding.found
        assert "click" not in finding.found
        found = by_name(packages.extras(nvidia=False))
        assert found["extra mqtt"] == Finding(
            "extra mqtt", "missing", "lacks no-such-thing", 'pip install "edgeemo[mqtt]"'
        )
        assert found["extra web"].found == "lacks no-such-thing"
        assert found["extra rtx"].found.startswith("not for ")

    def test_tensorrt_is_no_want_without_a_device(self):
        found = {nvidia: by_name(packages.extras(nvidia=nvidia))["extra tensorrt"] for nvidia in (False, True)}
        if found[True].state == "ok":
            pytest.skip("tensorrt and pycuda are installed")
        assert found[False].state == "ok"
        assert found[True].remedy == 'pip install "edgeemo[tensorrt]"'


class TestSound:
    def test_a_virtual_microphone(self, virtual_microphone, monkeypatch):  # noqa: F811
        for name, value in virtual_microphone.items():
            monkeypatch.setenv(name, value)
        told = sound.probe_sound()
        found = by_name(sound.sound(told, System()))
        assert found["PortAudio"].state == "ok"
        inputs = [each for what, each in found.items() if what.startswith("input ")]
        assert any(", default, " in each.found and "takes 16 kHz mono" in each.found for each in inputs), inputs
        assert all("ALSA" in each.found and " Hz; " in each.found for each in inputs)

    def test_what_an_input_may_say(self):
        entry = {
            "index": 3,
            "name": "USB [mic]",
            "host_api": "ALSA",
            "channels": 2,
            "sample_rate": 48000,
            "default": False,
            "mono_16k": "Invalid sample rate [PaErrorCode -9997]",
            "own": None,
        }
        told = {"version": "PortAudio V19.7.0, revision 1", "inputs": [entry, entry | {"index": 4, "own": "busy"}]}
        found = by_name(sound.sound(told, System()))
        assert found["PortAudio"].found == "PortAudio V19.7.0"
        assert found["input 3: USB [mic]"].found.startswith("ALSA, 2 channels, 48000 Hz; refuses 16 kHz mono: ")
        assert found["input 3: USB [mic]"].state == "ok"
        assert found["input 4: USB [mic]"].state == "can be better"

    def test_no_library(self, tmp_path):
        found = by_name(sound.sound({"missing": "PortAudio library not found"}, System(tmp_path)))
        assert found["PortAudio"].remedy.endswith(("libportaudio2", "portaudio"))

    @pytest.mark.parametrize(
        ("files", "says", "remedy"),
        [
            ({}, "there is no /dev/snd", "--device /dev/snd"),
            ({"/dev/snd/timer": ""}, "no device that records (0 [HDA", "plug one in"),
            ({"/dev/snd/pcmC0D0c": ""}, "though the kernel has capture devices", "arecord -l"),
            ({"/run/user/77/pulse/native": ""}, "bridge to PulseAudio is not installed", "libasound2-plugins"),
            ({"/run/user/77/pipewire-0": ""}, "bridge to PipeWire is not installed", "pipewire-alsa"),
            (
                {
                    "/run/user/77/pulse/native": "",
                    "/usr/lib/aarch64-linux-gnu/alsa-lib/libasound_module_pcm_pulse.so": "",
                },
                "though PulseAudio runs and ALSA's bridge is there",
                "pactl list short sources",
            ),
        ],
    )
    def test_why_there_is_no_input(self, tmp_path, monkeypatch, files, says, remedy):
        monkeypatch.setenv("XDG_RUNTIME_DIR", "/run/user/77")
        monkeypatch.delenv("PULSE_RUNTIME_PATH", raising=False)
        found = by_name(sound.sound({"version": "PortAudio V19", "inputs": []}, laid_out(tmp_path, files=files)))
        assert says in found["microphone"].found
        assert remedy in found["microphone"].remedy

    def test_a_user_without_the_group_audio(self):
        with tempfile.TemporaryDirectory() as name:
            root = Path(name)
            root.chmod(0o755)
            device = root / "dev/snd/pcmC0D0c"
            device.parent.mkdir(parents=True)
            device.touch()
            told = {"version": "PortAudio V19", "inputs": []}
            assert "rights to the sound devices" not in by_name(sound.sound(told, System(root)))
            device.chmod(0o000)
            with another_user():
                finding = by_name(sound.sound(told, System(root)))["rights to the sound devices"]
        assert "pcmC0D0c" in finding.found
        assert "usermod -aG audio" in finding.remedy


@contextmanager
def another_user():
    """Be nobody for a while, where the tests run as root, who may read everything."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


class SimulatedDriver:
    """Stands in the place of libcuda, which is not on this machine; what it says is made up."""

    def __init__(self, refuses=""):
        self.refuses = refuses

    def __getattr__(self, name):
        def call(*arguments):
            if name == self.refuses:
                return 100
            answers = {
                "cuDriverGetVersion": lambda version: setattr(version._obj, "value", 12060),
                "cuInit": lambda flags: None,
                "cuDeviceGetCount": lambda count: setattr(count._obj, "value", 1),
                "cuDeviceGet": lambda device, ordinal: None,
                "cuDeviceGetName": lambda buffer, size, device: setattr(buffer, "value", b"Orin"),
                "cuDeviceGetAttribute": lambda value, which, device: setattr(
                    value._obj, "value", {75: 8, 76: 7}[which]
                ),
                "cuDeviceTotalMem_v2": lambda size, device: setattr(size._obj, "value", 7_990_000_000),
            }
            answers[name](*arguments)
            return 0

        return call


class TestAccelerators:
    def test_what_the_driver_says(self):
        told = look(lambda name: SimulatedDriver())
        assert told == {
            "driver": "12.6",
            "devices": [{"name": "Orin", "compute_capability": "8.7", "memory_mb": 7990}],
        }
        found = by_name(accelerators.cuda(told, jetson=True))
        assert found["CUDA driver"].found == "for CUDA up to 12.6"
        assert found["CUDA device 0"].found == "Orin, compute capability 8.7, 7990 MB"

    @pytest.mark.parametrize("refuses", ["cuInit", "cuDriverGetVersion", "cuDeviceGetCount", "cuDeviceGetName"])
    def test_a_driver_that_does_not_start(self, refuses):
        told = look(lambda name: SimulatedDriver(refuses))
        finding = by_name(accelerators.cuda(told, jetson=False))["CUDA driver"]
        assert finding.state == "can be better"
        assert f"{refuses} gave error 100" in finding.found

    def test_no_driver(self):
        def load(name):
            raise OSError(f"{name}: cannot open shared object file")

        told = look(load)
        assert by_name(accelerators.cuda(told, jetson=False))["CUDA driver"].state == "ok"
        finding = by_name(accelerators.cuda(told, jetson=True))["CUDA driver"]
        assert (finding.state, "libcuda.so.1" in finding.found) == ("missing", True)

    @pytest.mark.parametrize(
        ("version", "state"),
        [
            ("10.3.0.30", "ok"),
            ("10.16.1.11", "ok"),
            ("11.4.1", "ok"),
            ("8.6.2.3", "can be better"),
            ("10.2.0", "can be better"),
            ("12.0.0", "can be better"),
            ("not told", "unknown"),
        ],
    )
    def test_supported_versions_of_tensorrt(self, tmp_path, monkeypatch, version, state):
        """A module that has a version and nothing else: JetPack's has no distribution of that name."""
        (tmp_path / "tensorrt.py").write_text(f"__version__ = {version!r}\n")
        monkeypatch.syspath_prepend(tmp_path)
        monkeypatch.delitem(sys.modules, "tensorrt", raising=False)
        try:
            found = by_name(accelerators.tensorrt(nvidia=True, jetson=True))
        finally:
            sys.modules.pop("tensorrt", None)
        assert found["TensorRT"].state == state
        assert version in found["TensorRT"].found

    @pytest.mark.parametrize(
        ("cpuinfo", "state"),
        [
            (ORIN["/proc/cpuinfo"], "ok"),
            ("model name\t: Some CPU\nflags\t\t: fpu avx2 avx512_vnni\n", "ok"),
            ("model name\t: Old CPU\nflags\t\t: fpu avx2\n", "can be better"),
            ("Features\t: fp asimd\n", "can be better"),
        ],
    )
    def test_instructions_for_int8(self, tmp_path, cpuinfo, state):
        (finding,) = by_name(accelerators.int8(laid_out(tmp_path, files={"/proc/cpuinfo": cpuinfo}))).values()
        assert finding.state == state


class TestJetson:
    def test_one_that_is_well(self, tmp_path):
        system = laid_out(tmp_path)
        found = by_name([*board.board(system), *board.temperature(system), *storage.memory(system)])
        assert found["board"].found == "NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super"
        assert found["Jetson Linux (L4T)"] == Finding("Jetson Linux (L4T)", "ok", "R36.4.3")
        assert found["JetPack"] == Finding("JetPack", "ok", "6.2+b77")
        assert found["temperature"].found == "warmest: cpu-thermal 52 °C"
        assert found["memory"].found == "5325 of 7989 MB available"

    def test_an_older_one(self, tmp_path):
        files = {
            "/etc/nv_tegra_release": "# R35 (release), REVISION: 4.1, GCID: 33958178, BOARD: t186ref",
            "/var/lib/dpkg/status": "Package: nvidia-jetpack\nStatus: deinstall ok config-files\nVersion: 5.1\n",
        }
        found = by_name(board.board(laid_out(tmp_path, files=files)))
        assert found["Jetson Linux (L4T)"].state == "can be better"
        assert "JetPack 6.1" in found["Jetson Linux (L4T)"].remedy
        assert found["JetPack"].state == "can be better"

    def test_within_a_container(self, tmp_path):
        files = {"/etc/nv_tegra_release": None, "/var/lib/dpkg/status": None, "/var/lib/nvpmodel/status": None}
        found = by_name(board.board(laid_out(tmp_path, files=files)))
        assert {found[what].state for what in ("Jetson Linux (L4T)", "JetPack", "power mode")} == {"unknown"}

    def test_the_power_mode_by_the_command_first(self, tmp_path):
        system = laid_out(tmp_path)
        finding = by_name(board.board(system))["power mode"]
        assert finding.found == "25W (1); the fastest is MAXN_SUPER (2)"
        assert finding.remedy == "faster, at more power: sudo nvpmodel -m 2"
        command(tmp_path, "nvpmodel", '[ "$1" = -q ] && printf "NV Power Mode: MAXN_SUPER\\n2\\n"')
        finding = by_name(board.board(system))["power mode"]
        assert (finding.state, finding.found) == ("ok", "MAXN_SUPER (2); others: 15W (0), 25W (1)")
        command(tmp_path, "nvpmodel", "echo NVPM ERROR: optMask is 2, no request for power mode >&2; exit 1")
        assert by_name(board.board(system))["power mode"].found.startswith("25W (1)")

    def test_a_board_without_a_mode_called_fastest(self, tmp_path):
        conf = "< POWER_MODEL ID=0 NAME=15W >\n< POWER_MODEL ID=1 NAME=7W >\n"
        finding = by_name(board.board(laid_out(tmp_path, files={"/etc/nvpmodel.conf": conf})))["power mode"]
        assert (finding.state, finding.found) == ("ok", "7W (1); others: 15W (0)")
        other = tmp_path / "other"
        finding = by_name(board.board(laid_out(other, files={"/etc/nvpmodel.conf": None})))["power mode"]
        assert finding.state == "unknown"

    @pytest.mark.parametrize(
        ("governor", "driver", "state"),
        [
            ("schedutil", "cppc_cpufreq", "ok"),
            ("powersave", "intel_pstate", "ok"),
            ("powersave", "tegra194", "can be better"),
        ],
    )
    def test_cores_and_their_clock(self, tmp_path, governor, driver, state):
        policy = "/sys/devices/system/cpu/cpufreq/policy0"
        files = {f"{policy}/scaling_governor": governor, f"{policy}/scaling_driver": driver}
        found = by_name(board.cores(laid_out(tmp_path, files=files)))
        assert (found["cores"].state, found["cores"].found) == ("can be better", "5 of 6 online")
        assert found["CPU governor"].state == state

    @pytest.mark.parametrize(
        ("degrees", "trip", "state"), [(86, None, "can be better"), (86, 99, "ok"), (70, 65, "can be better")]
    )
    def test_a_hot_zone(self, tmp_path, degrees, trip, state):
        zone = "/sys/class/thermal/thermal_zone0"
        files = {f"{zone}/temp": f"{degrees}000", f"{zone}/trip_point_0_type": "critical"}
        files[f"{zone}/trip_point_0_temp"] = "104500"
        if trip:
            files |= {f"{zone}/trip_point_1_type": "passive", f"{zone}/trip_point_1_temp": f"{trip}000"}
        (finding,) = by_name(board.temperature(laid_out(tmp_path, files=files))).values()
        assert finding.state == state
        assert f"cpu-thermal {degrees} °C" in finding.found

    def test_a_list_of_cores_that_is_none(self, tmp_path):
        files = {"/sys/devices/system/cpu/online": "all"}
        assert by_name(board.cores(laid_out(tmp_path, files=files)))["cores"].state == "unknown"


class TestStorage:
    def test_little_room_and_little_memory(self, tmp_path):
        assert {each.state for each in storage.free_space(tmp_path, least_mb=0)} == {"ok"}
        found = by_name(storage.free_space(tmp_path / "not/there", least_mb=1e12))
        assert found["free space, bundle"].state == "can be better"
        assert str(tmp_path) in found["free space, bundle"].remedy
        (finding,) = by_name(storage.memory(laid_out(tmp_path), least_mb=6000)).values()
        assert finding.state == "can be better"

    @pytest.mark.parametrize(("says", "state"), [("yes", "ok"), ("no", "can be better"), ("", "unknown")])
    def test_the_clock(self, tmp_path, says, state):
        system = laid_out(tmp_path, files={"/run/systemd/timesync/synchronized": None})
        command(tmp_path, "timedatectl", f'[ "$2" = --property=NTPSynchronized ] && echo "{says}"')
        (finding,) = storage.clock(system)
        assert finding.state == state

    def test_a_clock_that_timesyncd_set(self, tmp_path):
        (finding,) = storage.clock(laid_out(tmp_path))
        assert finding.state == "ok"


class TestBundle:
    def test_each_choice_of_a_backend(self, untrained_bundle):
        for chosen, why in (
            (EngineSettings(backend="onnxruntime"), "asked for by name"),
            (EngineSettings(precision="int8-cpu"), "int8-cpu is its form"),
        ):
            found = by_name(bundle(untrained_bundle, chosen))
            assert found["bundle's backend"].found == f"ONNX Runtime: {why}"
            assert found["one window"].found.startswith("2 s in ")

    def test_what_listen_refuses_is_refused(self, untrained_bundle, tmp_path):
        (tmp_path / "edge.toml").write_text('[engine]\nbackend = "tensorrt"\nprecision = "int8-cpu"\n')
        examined = Examination(System(tmp_path), untrained_bundle, tmp_path / "edge.toml")
        assert by_name(examined.findings())["bundle"].found.startswith("refused: ")
        assert examined.refused is not None
        assert examined.refused.exit_code == 2

    def test_tensorrt_by_name_where_it_is_not(self, untrained_bundle):
        if accelerators.installed("tensorrt"):
            pytest.skip("TensorRT is installed")
        with pytest.raises(EdgeemoError, match="asked for by name, and cannot run here"):
            list(bundle(untrained_bundle, EngineSettings(backend="tensorrt")))

    def test_engines_of_a_simulated_gpu(self, simulated_gpu, untrained_bundle):
        assert simulated_gpu.devices
        found = by_name(bundle(untrained_bundle, EngineSettings()))
        assert found["bundle's backend"].found.startswith("TensorRT: tensorrt 10.3.0.30 and Orin (simulated) are here")
        assert found["bundle's engine"].state == "missing"
        assert f"edgeemo build {untrained_bundle} --precision int8-trt" in found["bundle's engine"].remedy
        assert not list(storage.engines_directory().glob("*.engine"))
        open_engine(load_bundle(untrained_bundle)).close()
        found = by_name(bundle(untrained_bundle, EngineSettings()))
        assert found["bundle's engine"].state == "ok"
        assert found["one window"].found.endswith("tensorrt 10.3.0.30 int8-trt")
        (engine,) = storage.engines_directory().glob("*.engine")
        engine.write_bytes(b"no engine")
        found = by_name(bundle(untrained_bundle, EngineSettings()))
        assert found["bundle's engine"].state == "can be better"
        assert engine.read_bytes() == b"no engine"


class TestSettings:
    def findings(self, path, text, inputs=None):
        path.write_text(text)
        return list(settings(path, read_settings(path), inputs))

    def test_secrets_that_others_may_read(self, tmp_path):
        (tmp_path / "password").write_text("secret\n")
        (tmp_path / "password").chmod(0o644)
        text = '[[sinks]]\nkind = "mqtt"\nhost = "broker"\nusername = "me"\ntls = true\npassword_file = "password"\n'
        (finding,) = [each for each in self.findings(tmp_path / "edge.toml", text) if "mqtt" in each.what]
        assert (finding.state, finding.remedy) == ("can be better", f"chmod 600 {tmp_path}/password")
        for mode in (0o600, 0o640):
            (tmp_path / "password").chmod(mode)
            (finding,) = [each for each in self.findings(tmp_path / "edge.toml", text) if "mqtt" in each.what]
            assert finding.state == "ok"
        (tmp_path / "password").write_text("")
        (finding,) = [each for each in self.findings(tmp_path / "edge.toml", text) if "mqtt" in each.what]
        assert finding.state == "missing"

    def test_a_secret_in_the_file_itself(self, tmp_path):
        text = '[[sinks]]\nkind = "web"\ntoken = "hush"\n'
        (tmp_path / "edge.toml").touch(mode=0o644)
        found = by_name(self.findings(tmp_path / "edge.toml", text))
        assert found["settings: a secret in the file itself"].state == "can be better"
        assert "hush" not in repr(found)

    def test_what_is_not_there(self, tmp_path):
        text = (
            'source = "gone.wav"\nrecord = "/proc/recordings"\n[[sinks]]\nkind = "file"\npath = "/proc/x/events"\n'
            '[[sinks]]\nkind = "mqtt"\nhost = "broker"\nusername = "me"\npassword_file = "gone"\nca_file = "ca"\n'
            '[[sinks]]\nkind = "web"\nhost = "0.0.0.0"\n'
        )
        findings = self.findings(tmp_path / "edge.toml", text)
        by_name(findings)
        bad = [(each.what, each.state) for each in findings if each.state != "ok"]
        assert bad == [
            ("settings: bundle", "can be better"),
            ("settings: source", "missing"),
            ("settings: record", "missing"),
            ("settings: sink 1 (file)", "missing"),
            ("settings: sink 2 (mqtt)", "missing"),
            ("settings: sink 2 (mqtt)", "missing"),
            ("settings: sink 3 (web)", "can be better"),
        ]

    def test_a_password_without_encryption(self, tmp_path):
        text = '[[sinks]]\nkind = "mqtt"\nhost = "{}"\nusername = "me"\n'
        away = by_name(self.findings(tmp_path / "edge.toml", text.format("broker")))
        assert "without encryption" in away["settings: sink 1 (mqtt)"].found
        assert "settings: sink 1 (mqtt)" not in by_name(self.findings(tmp_path / "edge.toml", text.format("localhost")))

    @pytest.mark.parametrize(
        ("wanted", "says"),
        [("usb", "is input 1: USB mic"), ("1", "is input 1"), ("mic", "fits 2 inputs"), ("none", "fits no input")],
    )
    def test_the_microphone_that_is_named(self, tmp_path, wanted, says):
        inputs = [{"index": 0, "name": "Built-in mic"}, {"index": 1, "name": "USB mic"}]
        found = by_name(self.findings(tmp_path / "edge.toml", f'source = "mic://{wanted}"\n', inputs))
        assert says in found["settings: source"].found


class TestExample:
    """The example configuration: it parses as it is, and so does all that it leaves off."""

    TEXT = (Path(storage.__file__).parents[1] / "edge.example.toml").read_text(encoding="utf-8")

    def parsed(self, text, tmp_path):
        (tmp_path / "edge.toml").write_text(text)
        return read_settings(tmp_path / "edge.toml")

    def test_as_it_is_it_says_the_defaults(self, tmp_path):
        given = self.parsed(self.TEXT, tmp_path)
        assert [sink.kind for sink in given.sinks] == ["stdout"]
        assert given.bundle == tmp_path / "bundle"
        assert given.model_copy(update={"bundle": None, "sinks": ()}) == parse_settings({}, "nothing")

    def test_every_setting_is_in_it(self, tmp_path):
        lines = [
            line[1:] if line[:1] == "#" and line[1:2] not in ("", " ") else line for line in self.TEXT.splitlines()
        ]
        given = self.parsed("\n".join(lines), tmp_path)
        assert [sink.kind for sink in given.sinks] == ["stdout", "terminal", "file", "mqtt", "web"]
        # Secrets stand in files of their own, and the comments say so.
        unsaid = {"password", "token"}
        parts = [given, given.engine, given.gate, given.decision, given.watch, given.service, *given.sinks]
        for part in parts:
            assert set(type(part).model_fields) - part.model_fields_set <= unsaid, type(part).__name__
