"""What `edgeemo doctor` finds of the machine: sound, accelerators, board, storage.

The layouts hold the files that the doctor reads, with the content that a Jetson gives them; no Jetson runs here.
"""

import os
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path

import pytest

from edge_runtime.doctor import accelerators, board, probes, sound, storage
from edge_runtime.doctor.finding import Finding
from edge_runtime.doctor.system import System
from tests.edge_runtime.test_virtual_microphone import sound as virtual_microphone  # noqa: F401
from tests.laid_out_systems import ORIN, by_name, command, laid_out


@contextmanager
def another_user():
    """Run as the user nobody for a while, if the tests run as root, who may read everything."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


class TestSound:
    def test_a_virtual_microphone(self, virtual_microphone, monkeypatch):  # noqa: F811
        for name, value in virtual_microphone.items():
            monkeypatch.setenv(name, value)
        result = probes.probe("sound")
        found = by_name(sound.sound(result, System()))
        assert found["PortAudio"].state == "ok"
        inputs = [each for what, each in found.items() if what.startswith("input ")]
        assert any(", default, " in each.found and "accepts 16 kHz mono" in each.found for each in inputs), inputs
        assert all("ALSA" in each.found and " Hz; " in each.found for each in inputs)

    def test_formats_of_an_input(self):
        entry = {
            "index": 3,
            "name": "USB [mic]",
            "host_api": "ALSA",
            "channels": 2,
            "sample_rate": 48000,
            "default": False,
            "mono_16k": "Invalid sample rate [PaErrorCode -9997]",
            "native": None,
        }
        result = {"version": "PortAudio V19.7.0, revision 1", "inputs": [entry, entry | {"index": 4, "native": "busy"}]}
        found = by_name(sound.sound(result, System()))
        assert found["PortAudio"].found == "PortAudio V19.7.0"
        assert found["input 3: USB [mic]"].found.startswith("ALSA, 2 channels, 48000 Hz; refuses 16 kHz mono: ")
        assert found["input 3: USB [mic]"].state == "ok"
        assert found["input 4: USB [mic]"].state == "can be better"

    def test_no_library(self, tmp_path):
        found = by_name(sound.sound({"missing": "PortAudio library not found"}, System(tmp_path)))
        assert found["PortAudio"].remedy.endswith(("libportaudio2", "portaudio"))

    @pytest.mark.parametrize(
        ("files", "reason", "remedy"),
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
    def test_why_there_is_no_input(self, tmp_path, monkeypatch, files, reason, remedy):
        monkeypatch.setenv("XDG_RUNTIME_DIR", "/run/user/77")
        monkeypatch.delenv("PULSE_RUNTIME_PATH", raising=False)
        found = by_name(sound.sound({"version": "PortAudio V19", "inputs": []}, laid_out(tmp_path, files=files)))
        assert reason in found["microphone"].found
        assert remedy in found["microphone"].remedy

    def test_a_user_without_the_group_audio(self):
        with tempfile.TemporaryDirectory() as name:
            root = Path(name)
            root.chmod(0o755)
            device = root / "dev/snd/pcmC0D0c"
            device.parent.mkdir(parents=True)
            device.touch()
            result = {"version": "PortAudio V19", "inputs": []}
            assert "rights to the sound devices" not in by_name(sound.sound(result, System(root)))
            device.chmod(0o000)
            with another_user():
                finding = by_name(sound.sound(result, System(root)))["rights to the sound devices"]
        assert "pcmC0D0c" in finding.found
        assert "usermod -aG audio" in finding.remedy


class SimulatedDriver:
    """Stands in the place of libcuda, which is not on this machine; its answers are made up."""

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
    def test_version_and_devices_of_the_driver(self):
        result = probes.cuda(lambda name: SimulatedDriver())
        device = {"name": "Orin", "compute_capability": "8.7", "memory_mb": 7990}
        assert result == {"driver": "12.6", "devices": [device]}
        found = by_name(accelerators.cuda(result, jetson=True))
        assert found["CUDA driver"].found == "for CUDA up to 12.6"
        assert found["CUDA device 0"].found == "Orin, compute capability 8.7, 7990 MB"

    @pytest.mark.parametrize("refuses", ["cuInit", "cuDriverGetVersion", "cuDeviceGetCount", "cuDeviceGetName"])
    def test_a_driver_that_does_not_start(self, refuses):
        result = probes.cuda(lambda name: SimulatedDriver(refuses))
        finding = by_name(accelerators.cuda(result, jetson=False))["CUDA driver"]
        assert finding.state == "can be better"
        assert f"{refuses} gave error 100" in finding.found

    def test_no_driver(self):
        def load(name):
            raise OSError(f"{name}: cannot open shared object file")

        result = probes.cuda(load)
        assert by_name(accelerators.cuda(result, jetson=False))["CUDA driver"].state == "ok"
        finding = by_name(accelerators.cuda(result, jetson=True))["CUDA driver"]
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
            ("not result", "unknown"),
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
        ("cpuinfo", "state", "kernels"),
        [
            (ORIN["/proc/cpuinfo"], "ok", "NEON dot products"),
            ("model name\t: Some CPU\nflags\t\t: fpu avx2 avx512_vnni\n", "ok", "AVX512-VNNI"),
            ("model name\t: Old CPU\nflags\t\t: fpu avx2\n", "ok", "AVX2 without VNNI"),
            ("model name\t: New CPU\nflags\t\t: fpu avx2 avx_vnni\n", "ok", "AVX-VNNI"),
            ("Features\t: fp asimd\n", "ok", "NEON without dot products"),
            (None, "unknown", "does not list its instructions"),
        ],
    )
    def test_the_int8_kernels_of_the_processor(self, tmp_path, cpuinfo, state, kernels):
        (finding,) = by_name(accelerators.int8(laid_out(tmp_path, files={"/proc/cpuinfo": cpuinfo}))).values()
        assert finding.state == state
        assert kernels in finding.found


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
        assert "free space, bundle" not in by_name(storage.free_space(tmp_path / "not/there"))
        found = by_name(storage.free_space(tmp_path, least_mb=1e12))
        assert found["free space, bundle"].state == "can be better"
        assert str(tmp_path) in found["free space, bundle"].remedy
        (finding,) = by_name(storage.memory(laid_out(tmp_path), least_mb=6000)).values()
        assert finding.state == "can be better"

    @pytest.mark.parametrize(("reason", "state"), [("yes", "ok"), ("no", "can be better"), ("", "unknown")])
    def test_the_clock(self, tmp_path, reason, state):
        system = laid_out(tmp_path, files={"/run/systemd/timesync/synchronized": None})
        command(tmp_path, "timedatectl", f'[ "$2" = --property=NTPSynchronized ] && echo "{reason}"')
        (finding,) = storage.clock(system)
        assert finding.state == state

    def test_a_cache_of_another_user(self, monkeypatch):
        """A directory without search permission becomes a finding, not an exception."""
        with tempfile.TemporaryDirectory() as name:
            monkeypatch.setenv("XDG_CACHE_HOME", f"{name}/cache")
            Path(name).chmod(0o000)
            with another_user():
                (finding,) = storage.engine_cache()
            Path(name).chmod(0o700)
        assert "cannot be written to (Permission denied)" in finding.found

    def test_a_clock_that_timesyncd_set(self, tmp_path):
        (finding,) = storage.clock(laid_out(tmp_path))
        assert finding.state == "ok"
