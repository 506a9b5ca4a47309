"""`edgeemo doctor`: the command, parts that fail, packages, a bundle, a configuration and the example of one."""

import importlib.metadata
import json
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from edge_runtime.backends import open_engine
from edge_runtime.bundles.bundle import DEFAULT_BUNDLE, load_bundle
from edge_runtime.config import EngineSettings, parse_settings, read_settings
from edge_runtime.doctor import accelerators, packages, probes, storage
from edge_runtime.doctor import system as system_module
from edge_runtime.doctor.bundle import bundle
from edge_runtime.doctor.examine import examine
from edge_runtime.doctor.finding import Finding
from edge_runtime.doctor.settings import settings
from edge_runtime.doctor.system import System
from edge_runtime.errors import EdgeemoError
from edge_runtime.extras import EXTRAS, PURPOSES
from tests.conftest import invoke, need, tone
from tests.laid_out_systems import by_name, command, laid_out
from tests.plain_bundles import change, save_dimension_bundle, save_plain_bundle


def changed(untrained, folder, edit):
    shutil.copytree(untrained, folder)
    change(folder, edit)
    return folder


def findings_of(done):
    return by_name(Finding(**entry) for entry in json.loads(done.stdout)["findings"])


class TestCommand:
    def test_everything_is_a_line(self):
        done = invoke("doctor", "--json")
        assert done.returncode == 0, done.stderr
        content = json.loads(done.stdout)
        assert set(content) == {"ok", "findings"}
        assert content["ok"]
        assert all(set(entry) == {"what", "state", "found", "remedy", "exit_code"} for entry in content["findings"])
        found = findings_of(done)
        assert found["ONNX Runtime"].state == "ok"
        assert "CPUExecutionProvider" in found["ONNX Runtime"].found
        assert str(DEFAULT_BUNDLE) in found["bundle"].found
        assert found["one window"].state in ("ok", "can be better")
        assert {"Python", "edgeemo", "packages", "board", "processor", "memory", "clock", "CUDA driver"} <= set(found)

    def test_the_table_of_a_narrow_terminal_cuts_nothing(self, tmp_path, monkeypatch):
        monkeypatch.setenv("COLUMNS", "80")
        missing = tmp_path / ("a-very-long-name-of-a-directory-" * 3) / "events.jsonl"
        (tmp_path / "edge.toml").write_text(f'[[sinks]]\nkind = "file"\npath = "{missing}"\n')
        done = invoke("doctor", "--config", tmp_path / "edge.toml")
        assert done.returncode == 1
        assert "…" not in done.stdout
        table = [line.split("│")[3] for line in done.stdout.splitlines() if line.startswith("│")]
        assert all(len(line) <= 80 for line in done.stdout.splitlines() if line.startswith("│"))
        found = re.sub(r"\s", "", "".join(table))
        assert f"{missing.parent}:thereisnosuchdirectory" in found
        assert f"remedy:mkdir-p{missing.parent}" in found

    def test_a_terminal_too_narrow_for_columns_gets_paragraphs(self, tmp_path, monkeypatch):
        monkeypatch.setenv("COLUMNS", "20")
        done = invoke("doctor", tmp_path / "nosuch")
        assert done.returncode == 1
        lines = done.stdout.splitlines()
        assert all(len(line) <= 20 for line in lines)
        assert "│" not in done.stdout
        assert "ok: Python" in lines
        assert "thereisnosuchbundledirectory" in re.sub(r"\s", "", done.stdout)

    def test_a_missing_bundle_is_reported_once(self, tmp_path, monkeypatch):
        monkeypatch.setenv("COLUMNS", "500")
        done = invoke("doctor", tmp_path / "nosuch")
        assert done.returncode == 1
        assert (done.stdout + done.stderr).count("there is no such bundle directory") == 1
        assert "free space, bundle" not in done.stderr
        assert done.stderr.splitlines()[-1] == "Error: listen would not run with this; see the table on bundle"

    def test_a_refused_bundle_ends_with_its_error_after_the_whole_table(self, untrained_bundle, tmp_path):
        shutil.copytree(untrained_bundle, tmp_path / "bundle")
        with (tmp_path / "bundle" / "model.fp32.onnx").open("ab") as graph:
            graph.write(b"more")
        done = invoke("doctor", tmp_path / "bundle", "--json")
        assert done.returncode == 1
        assert done.stderr.splitlines()[-1].startswith("Error: ")
        assert not json.loads(done.stdout)["ok"]
        found = findings_of(done)
        assert "model.fp32.onnx: differs from the file in the manifest" in found["bundle"].found
        assert found["ONNX Runtime"].state == "ok"

    @pytest.mark.parametrize(
        ("text", "code"),
        [
            ('source = "mic://typo"', 2),
            ('source = "gone.wav"', 1),
            ('source = "/"', 1),
            ('source = "-"\npaced = true', 2),
            ('source = "edge.toml"', 1),
            ('[[sinks]]\nkind = "mqtt"\nhost = "localhost"\nusername = "me"\npassword_file = "gone"', 1),
            ('[[sinks]]\nkind = "mqtt"\nhost = "localhost"\nca_file = "edge.toml"', 1),
            ('[[sinks]]\nkind = "web"\nport = 0\ntoken_file = "gone"', 1),
            ("[decision]\nhop_seconds = 9.0", 2),
        ],
    )
    def test_the_exit_code_is_that_of_listen(self, tmp_path, monkeypatch, text, code):
        need("paho.mqtt", "starlette")
        monkeypatch.chdir(tmp_path)
        bundle = save_plain_bundle(tmp_path / "bundle")
        soundfile.write("call.wav", tone(1.0), 16_000)
        lines = text.splitlines()
        if not text.startswith("source"):
            lines.insert(0, 'source = "call.wav"')
        Path("edge.toml").write_text("\n".join(lines) + "\n")
        listened = invoke("listen", bundle, "--config", "edge.toml")
        done = invoke("doctor", bundle, "--config", "edge.toml", "--json")
        assert (done.returncode, listened.returncode) == (code, code), done.stderr + listened.stderr
        assert "Traceback" not in done.stderr
        assert not json.loads(done.stdout)["ok"]

    def test_the_bundle_of_the_configuration_is_taken(self, untrained_bundle, tmp_path):
        (tmp_path / "edge.toml").write_text(f'bundle = "{untrained_bundle}"\n[engine]\nprecision = "fp32"\n')
        done = invoke("doctor", "--config", tmp_path / "edge.toml", "--json")
        assert done.returncode == 0, done.stderr
        found = findings_of(done)
        assert found["one window"].found.endswith("fp32")


class TestFailures:
    def test_the_rest_still_runs(self, monkeypatch):
        monkeypatch.setattr(storage, "memory", lambda system: 1 / 0)
        found = by_name(examine(System()))
        assert found["memory"].found == "could not be checked (ZeroDivisionError: division by zero)"
        assert found["ONNX Runtime"].state == "ok"

    def test_an_empty_system_is_unknown_not_guessed(self, tmp_path):
        found = by_name(examine(System(tmp_path)))
        for what in ("processor", "cores", "CPU governor", "temperature", "memory", "clock"):
            assert found[what].state == "unknown", what
        assert found["board"].found == "not a Jetson"

    @pytest.mark.parametrize(
        ("code", "seconds", "failed"),
        [
            ("import time; time.sleep(60)", 0.5, "no answer within"),
            ("import os; os.abort()", 20, "code -6"),
            ("print('hello')", 20, "gave no answer"),
        ],
    )
    def test_a_probe_that_hangs_crashes_or_prints_text(self, monkeypatch, code, seconds, failed):
        monkeypatch.setattr(probes, "COMMAND", (sys.executable, "-c", code))
        assert failed in probes.probe("sound", seconds=seconds)["failed"]

    def test_libraries_that_crash(self, monkeypatch):
        monkeypatch.setattr(probes, "COMMAND", (sys.executable, "-c", "import os; os.abort()"))
        found = by_name(examine(System()))
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
        """Another distribution, earlier on the path, with requirements that this environment does not meet."""
        info = tmp_path / "edgeemo-9.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(
            "Metadata-Version: 2.1\nName: edgeemo\nVersion: 9\nRequires-Dist: numpy>=99\nRequires-Dist: click>=8\n"
            "Requires-Dist: tomli; python_version < '3'\nRequires-Dist: no-such-thing>=1; extra == 'mqtt'\n"
            "Requires-Dist: edgeemo[mqtt]; extra == 'web'\nRequires-Dist: click>=99; extra == 'web'\n"
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
            "extra mqtt", "optional", "not installed: edgeemo listen --sink mqtt://HOST", 'pip install "edgeemo[mqtt]"'
        )
        assert found["extra web"].state == "missing", "a version that does not fit is no choice"
        assert found["extra web"].found.startswith("lacks no-such-thing; click ")
        assert found["extra rtx"].found.startswith("not for ")

    def test_tensorrt_is_no_want_without_a_device(self):
        found = {nvidia: by_name(packages.extras(nvidia=nvidia))["extra tensorrt"] for nvidia in (False, True)}
        if found[True].state == "ok":
            pytest.skip("tensorrt and pycuda are installed")
        assert found[False].state == "ok"
        assert found[True].state == "missing"
        assert found[True].remedy == 'pip install "edgeemo[tensorrt]"'

    def test_every_extra_has_its_modules_and_its_purpose(self):
        content = importlib.metadata.metadata("edgeemo").get_all("Provides-Extra")
        assert set(EXTRAS) == set(PURPOSES) == set(content) - {"all", "dev"}


class TestBundle:
    def test_each_choice_of_a_backend(self, untrained_bundle):
        for chosen, why in (
            (EngineSettings(backend="onnxruntime"), "selected by name"),
            (EngineSettings(precision="int8-cpu"), "int8-cpu is the graph for it"),
        ):
            found = by_name(bundle(untrained_bundle, chosen))
            assert found["bundle's graphs"].found == "fp32, fp16, int8-cpu, int8-trt"
            assert found["bundle's backend"].found == f"ONNX Runtime: {why}"
            assert found["one window"].found.startswith("2 s in ")

    def test_known_answers_of_onnx_runtime(self, untrained_bundle, tmp_path):
        found = by_name(bundle(untrained_bundle, EngineSettings(backend="onnxruntime")))["known answers"]
        assert (found.state, "int8-cpu passes: logits off by" in found.found) == ("ok", True)

        def edit(content):
            logits = content["known_answers"]["logits"]
            logits["int8-cpu"] = [[value + 9 for value in row] for row in logits["int8-cpu"]]

        wrong = changed(untrained_bundle, tmp_path / "wrong", edit)
        found = by_name(bundle(wrong, EngineSettings(backend="onnxruntime")))
        assert "int8-cpu fails the known-answer test" in found["bundle's engine"].found
        assert "fp32 passes" in found["known answers"].found
        assert found["one window"].found.endswith("fp32")

    def test_known_answers_of_an_older_bundle(self, untrained_bundle, tmp_path):
        older = changed(untrained_bundle, tmp_path / "older", lambda content: content.pop("known_answers"))
        found = by_name(bundle(older, EngineSettings(backend="onnxruntime")))["known answers"]
        assert found.state == "ok"
        assert found.found.endswith("the bundle carries none, so its graph was computed in float")

    def test_settings_that_listen_refuses_are_refused(self, untrained_bundle, tmp_path):
        (tmp_path / "edge.toml").write_text('[engine]\nbackend = "tensorrt"\nprecision = "int8-cpu"\n')
        found = by_name(examine(System(tmp_path), untrained_bundle, tmp_path / "edge.toml"))
        assert found["bundle"].found.startswith("refused: ")
        assert found["bundle"].exit_code == 2

    @pytest.mark.skipif(accelerators.installed("tensorrt"), reason="TensorRT is installed")
    def test_tensorrt_by_name_where_it_is_not(self, untrained_bundle):
        with pytest.raises(EdgeemoError, match="selected by name, and cannot run here"):
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
        assert found["known answers"].state == "ok"
        assert "tensorrt 10.3.0.30 int8-trt passes" in found["known answers"].found
        for noise in (50.0, np.nan):
            simulated_gpu.noise = noise
            found = by_name(bundle(untrained_bundle, EngineSettings()))
            assert found["known answers"].state == "can be better"
            assert "tensorrt 10.3.0.30 int8-trt fails" in found["known answers"].found
            assert found["known answers"].remedy.startswith("edgeemo build ")
            # What listen runs then.
            assert found["one window"].found.endswith("int8-cpu")
        simulated_gpu.noise = 0.0
        (engine,) = storage.engines_directory().glob("*.engine")
        engine.write_bytes(b"no engine")
        found = by_name(bundle(untrained_bundle, EngineSettings()))
        assert found["bundle's engine"].state == "can be better"
        assert engine.read_bytes() == b"no engine"


class TestSettings:
    def findings(self, path, text, inputs=None):
        path.write_text(text)
        return list(settings(path, read_settings(path), inputs))

    def test_secrets_that_other_users_can_read(self, tmp_path):
        text = '[[sinks]]\nkind = "mqtt"\nhost = "localhost"\nport = 1\nusername = "me"\npassword_file = "password"\n'
        modes = (("secret\n", 0o644, "can be better"), ("secret\n", 0o600, "ok"), ("secret\n", 0o640, "ok"))
        for content, mode, state in (*modes, ("", 0o640, "missing")):
            (tmp_path / "password").write_text(content)
            (tmp_path / "password").chmod(mode)
            findings = self.findings(tmp_path / "edge.toml", text)
            (finding,) = [each for each in findings if each.what == "settings: sink 1 (mqtt)"]
            assert finding.state == state
            if state == "can be better":
                assert finding.remedy == f"chmod 600 {tmp_path}/password"

    def test_a_secret_in_the_file_itself(self, tmp_path):
        text = '[[sinks]]\nkind = "web"\ntoken = "hush"\n'
        (tmp_path / "edge.toml").touch(mode=0o644)
        found = by_name(self.findings(tmp_path / "edge.toml", text))
        assert found["settings: a secret in the file itself"].state == "can be better"
        assert "hush" not in repr(found)

    def test_each_of_several_sources(self, tmp_path):
        soundfile.write(tmp_path / "call.wav", tone(1.0), 16_000)
        text = '[sources]\nhall = "call.wav"\ndoor = "gone.wav"\n'
        found = by_name(self.findings(tmp_path / "edge.toml", text))
        assert f"sources hall={tmp_path / 'call.wav'}, door={tmp_path / 'gone.wav'}" in found["settings"].found
        assert found["settings: source hall"].state == "ok"
        assert (found["settings: source door"].state, found["settings: source door"].exit_code) == ("missing", 1)

    def test_missing_files(self, tmp_path):
        text = (
            'source = "gone.wav"\nrecord = "/proc/recordings"\n[[sinks]]\nkind = "file"\npath = "/proc/x/events"\n'
            '[[sinks]]\nkind = "mqtt"\nhost = "broker"\nusername = "me"\npassword_file = "gone"\nca_file = "ca"\n'
            '[[sinks]]\nkind = "web"\nhost = "0.0.0.0"\n'
        )
        findings = self.findings(tmp_path / "edge.toml", text)
        assert by_name(findings)["settings: bundle"].found.startswith("names none: the default one")
        missing = [each.what.removeprefix("settings: ") for each in findings if each.state == "missing"]
        assert missing == ["source", "record", "sink 1 (file)", "sink 2 (mqtt)", "sink 2 (mqtt)"]
        assert [each.what for each in findings if each.state == "can be better"] == ["settings: sink 3 (web)"]
        assert [each.exit_code for each in findings if each.state == "missing"] == [1] * 5
        (file,) = [each for each in findings if each.what == "settings: sink 1 (file)"]
        assert file.remedy == "mkdir -p /proc/x"

    def test_a_file_as_source_is_tried(self, tmp_path):
        soundfile.write(tmp_path / "a b.wav", tone(0.5), 16_000)
        for source in (tmp_path / "a b.wav", (tmp_path / "a b.wav").as_uri()):
            found = by_name(self.findings(tmp_path / "edge.toml", f'source = "{source}"\n'))
            assert found["settings: source"].found == f"{tmp_path}/a b.wav: is audio"

    def test_no_microphone_for_a_source_that_is_named(self, tmp_path):
        found = by_name(self.findings(tmp_path / "edge.toml", 'source = "mic://"\n', []))
        assert found["settings: source"].exit_code == 2
        # Who names none may name a file on the command line.
        assert "settings: source" not in by_name(self.findings(tmp_path / "edge.toml", "", []))
        assert "settings: source" not in by_name(self.findings(tmp_path / "edge.toml", 'source = "mic://"\n', None))

    def test_a_password_without_encryption(self, tmp_path):
        text = '[[sinks]]\nkind = "mqtt"\nhost = "{}"\nusername = "me"\n'
        away = by_name(self.findings(tmp_path / "edge.toml", text.format("broker")))
        assert "without encryption" in away["settings: sink 1 (mqtt)"].found
        assert "settings: sink 1 (mqtt)" not in by_name(self.findings(tmp_path / "edge.toml", text.format("localhost")))

    @pytest.mark.parametrize(
        ("wanted", "part"),
        [("usb", "is input 1: USB mic"), ("1", "is input 1"), ("mic", "fits 2 inputs"), ("none", "fits no input")],
    )
    def test_the_microphone_that_is_named(self, tmp_path, wanted, part):
        inputs = [{"index": 0, "name": "Built-in mic"}, {"index": 1, "name": "USB mic"}]
        found = by_name(self.findings(tmp_path / "edge.toml", f'source = "mic://{wanted}"\n', inputs))
        assert part in found["settings: source"].found


class TestGate:
    def test_a_graph_that_the_gate_refused(self, tmp_path):
        root = save_plain_bundle(tmp_path / "bundle")
        drop = {"ua": 0.031, "low": 0.012, "high": 0.052}
        gate = {"max_drop": 0.01, "failed": ["fp32"], "overridden": True, "drops": {"fp32": drop}}
        change(root, lambda content: content.update(gate=gate))
        finding = by_name(bundle(root, EngineSettings()))["bundle's graph fp32"]
        assert finding.state == "can be better"
        assert finding.found == (
            "fp32 failed the accuracy gate: it loses +3.1 points of unweighted accuracy (95 % interval +1.2 to +5.2; "
            "allowed: 1.0); it was exported with --allow-drop"
        )
        assert finding.remedy == "export it again without --allow-drop"

    def test_another_graph_is_named(self, untrained_bundle, tmp_path):
        folder = changed(
            untrained_bundle, tmp_path / "b", lambda content: content.update(gate={"failed": ["int8-cpu"]})
        )
        found = by_name(bundle(folder, EngineSettings()))
        assert f"edgeemo listen {folder} --precision fp32, or " in found["bundle's graph int8-cpu"].remedy
        assert "bundle's graph fp32" not in found

    def test_a_gate_that_refused_nothing_and_losses_that_are_no_numbers(self, tmp_path):
        root = save_plain_bundle(tmp_path / "bundle")
        for gate in ({}, {"failed": []}, {"failed": "fp32"}, {"failed": None, "drops": 3}):
            change(root, lambda content, gate=gate: content.update(gate=gate))
            assert load_bundle(root).refused_by_gate("fp32") is None
        for drops in (None, 3, {}, {"fp32": 3}, {"fp32": {"ua": None, "low": "x"}}):
            change(root, lambda content, drops=drops: content.update(gate={"failed": ["fp32"], "drops": drops}))
            assert "it loses ? points" in load_bundle(root).refused_by_gate("fp32")

    def test_a_limit_of_a_dimension_that_is_no_number(self, tmp_path):
        root = save_dimension_bundle(tmp_path / "bundle")
        gate = {"failed": ["fp32"], "max_drop": "0.1\nremedy: reboot"}
        change(root, lambda content: content["dimensions"].update(gate=gate))
        assert "may lose more than ?; it was exported" in load_bundle(root).refused_by_gate("fp32")


class TestExample:
    TEXT = (Path(storage.__file__).parents[1] / "edge.example.toml").read_text(encoding="utf-8")

    def parsed(self, text, tmp_path):
        (tmp_path / "edge.toml").write_text(text)
        return read_settings(tmp_path / "edge.toml")

    def test_unchanged_it_holds_the_defaults(self, tmp_path):
        given = self.parsed(self.TEXT, tmp_path)
        assert [sink.kind for sink in given.sinks] == ["stdout"]
        assert given.model_copy(update={"sinks": ()}) == parse_settings({}, "nothing")

    def test_every_setting_is_in_it(self, tmp_path):
        text = re.sub(r"(?m)^#(?=[^ \n])", "", self.TEXT)
        # Several sources are in the place of one, and have profiles of their own.
        one, block, rest = re.fullmatch(r"(.*)(\[sources\].*?\n)(\n\[engine\].*)", text, re.DOTALL).groups()
        several = self.parsed(block, tmp_path)
        assert list(several.sources) == ["desk", "door"]
        assert several.sources["door"].model_fields_set == set(type(several.sources["door"]).model_fields)
        given = self.parsed(one + rest, tmp_path)
        assert [sink.kind for sink in given.sinks] == ["stdout", "terminal", "file", "mqtt", "web"]
        # Secrets belong in separate files.
        unsaid = {"password", "token", "sources"}
        parts = (given.engine, given.vad, given.decision, given.speaker, given.watch, given.service)
        for part in (given, *parts, *given.sinks):
            assert set(type(part).model_fields) - part.model_fields_set <= unsaid, type(part).__name__
