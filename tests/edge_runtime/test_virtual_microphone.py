"""A real microphone path with no sound card: PulseAudio's null sink, PortAudio through ALSA's bridge to it."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from subprocess import PIPE

import numpy as np
import pytest
import soundfile
import soxr

from benchmarks.lab.virtual_microphone import PROGRAMS, plug_in, pull_out, virtual_microphone
from edge_runtime import score_file
from tests.command import python
from tests.conftest import absent
from tests.sounds import hum, music


def need_portaudio():
    try:
        import sounddevice  # noqa: F401
    except OSError:
        absent("PortAudio (apt-get install libportaudio2)")


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """Return the environment in which the virtual microphone is the default input."""
    if sys.platform != "linux":
        pytest.skip("PulseAudio's virtual microphone is a Linux matter")
    if not all(map(shutil.which, PROGRAMS)):
        absent("PulseAudio (apt-get install pulseaudio pulseaudio-utils libasound2-plugins)")
    need_portaudio()
    with virtual_microphone(tmp_path_factory.mktemp("pulse")) as environment:
        yield environment


def edgeemo(environment, *arguments):
    return python("-m", "edge_runtime", *arguments, env=environment, timeout=60)


def test_the_microphone_is_listed(sound):
    done = edgeemo(sound, "listen", "--list-devices")
    assert done.returncode == 0, done.stderr
    assert any(line.startswith("*") for line in done.stdout.splitlines()), done.stdout


def test_an_unknown_device_names_those_that_are_there(sound, bundle_dir):
    done = edgeemo(sound, "listen", bundle_dir, "--source", "mic://no such thing")
    assert done.returncode == 2
    assert "no input is called 'no such thing'; the inputs are" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("device", ["", "pulse"])
def test_played_audio_is_recorded(sound, bundle_dir, clip, device):
    """Play rendered speech into the sink: provisional and final events come, none of it lost."""
    words = ["-m", "edge_runtime", "listen", bundle_dir, "--source", f"mic://{device}", "--json"]
    process = subprocess.Popen([sys.executable, *words], env=sound, stdout=PIPE, stderr=PIPE, text=True)
    try:
        started = json.loads(process.stdout.readline())
        assert started["status"] == "started"
        # The event comes before the device is open, which takes time on a busy machine.
        time.sleep(1.5)
        subprocess.run(["paplay", str(clip)], env=sound, check=True, timeout=30)
        time.sleep(0.5)
        process.terminate()
        out, err = process.communicate(timeout=20)
    finally:
        process.kill()
    assert process.returncode == 0, err
    events = [json.loads(line) for line in out.splitlines()]
    kinds = [event["type"] for event in events]
    assert "provisional" in kinds
    assert kinds[-1] == "status"
    assert events[-1]["status"] == "stopped"
    assert kinds[-2] == "final"
    assert all(event["dropped_samples"] == 0 for event in events)
    # Nine seconds were played; the recording is as long, except for the start of the player.
    assert 8 <= events[-1]["end"] <= 14
    # One look at the content: sound came through, not silence. Silence gives one and the same window every time.
    shapes = {tuple(event["probabilities"].values()) for event in events if event["type"] == "provisional"}
    assert len(shapes) > 3


def test_no_microphone(bundle_dir, tmp_path):
    """Without any server or card, PortAudio has no input: say so, exit 2."""
    need_portaudio()
    if list(Path("/dev/snd").glob("pcm*c")):
        pytest.skip("this machine has a microphone")
    nothing = os.environ | {"HOME": str(tmp_path), "XDG_RUNTIME_DIR": str(tmp_path)}
    done = edgeemo(nothing, "listen", bundle_dir)
    assert done.returncode == 2
    assert done.stderr.strip().endswith("there is no microphone; plug one in, or read a file with --source FILE")
    done = edgeemo(nothing, "teach", "anna")
    assert done.returncode == 2
    assert done.stderr.strip().endswith("there is no microphone; plug one in, or give clips with --clip angry=FILE")


def test_what_the_microphone_gives_is_what_was_played(sound, tmp_path):
    """The capture path keeps frequency and time: a 440 Hz tone comes back as one."""
    time_axis = np.arange(8 * 48_000) / 48_000
    soundfile.write(tmp_path / "tone.wav", 0.3 * np.sin(2 * np.pi * 440 * time_axis), 48_000)
    code = (
        "import threading, time, numpy as np\n"
        "from edge_runtime.sources.microphone import MicrophoneSource\n"
        "source = MicrophoneSource()\n"
        "threading.Timer(6, source.close).start()\n"
        "pcm = np.concatenate([block.pcm for block in source.blocks()])[24000:32000]\n"
        "spectrum = np.abs(np.fft.rfft(pcm * np.hanning(len(pcm))))\n"
        "print(spectrum.argmax() * 16000 / len(pcm), np.abs(pcm).max())"
    )
    player = subprocess.Popen(["paplay", str(tmp_path / "tone.wav")], env=sound)
    time.sleep(0.3)
    done = python("-c", code, env=sound, timeout=30, check=True)
    player.terminate()
    player.wait(timeout=20)
    frequency, peak = map(float, done.stdout.split())
    assert frequency == pytest.approx(440, abs=4)
    assert peak > 0.05


HOTPLUG = """
import sys, threading, time
from edge_runtime.sources.microphone import MicrophoneSource
source = MicrophoneSource(sys.argv[1])
threading.Timer(60, source.close).start()
samples = 0
for block in source.blocks():
    if block.notice and block.notice[0] != "channels":
        print(block.notice[0], block.lost, flush=True)
    if len(block.pcm) and not samples:
        print("sound", flush=True)
    samples += len(block.pcm) + block.lost
    if block.notice and block.notice[0] == "device-back":
        back = samples
    if "back" in dir() and samples > back + 16000:
        source.close()
print(samples / 16000, flush=True)
import os
os._exit(0)
"""


@pytest.mark.parametrize("name", ["", "pulse"])
def test_a_microphone_that_is_pulled_out_and_put_back(sound, name):
    """PulseAudio's modules are unloaded and loaded again while it listens."""
    process = subprocess.Popen([sys.executable, "-c", HOTPLUG, name], env=sound, stdout=PIPE, stderr=PIPE, text=True)
    try:
        lines = iter(process.stdout.readline, "")
        assert next(lines).strip() == "sound"
        began = time.monotonic()
        time.sleep(1)
        pull_out(sound)
        assert next(lines).split()[0] == "device-lost"
        plug_in(sound)
        what, lost = next(lines).split()
        assert what == "device-back"
        assert int(lost) > 16_000
        seconds = float(next(lines))
        assert seconds == pytest.approx(time.monotonic() - began, abs=2.5)
    finally:
        process.kill()
        process.communicate(timeout=20)


ARRAY = "front-left,front-right,rear-left,rear-right,front-center,lfe"
APART = ",".join(f"aux{number}" for number in range(6))


def load_module(sound, *arguments):
    done = subprocess.run(["pactl", "load-module", *arguments], env=sound, check=True, stdout=PIPE, text=True)
    return done.stdout.strip()


@pytest.fixture
def array(sound):
    """A source with six channels at 48 kHz, as of an array of microphones; one whose channels cannot be told apart."""
    modules = []
    for name, names in (("array", ARRAY), ("apart", APART)):
        shape = ("rate=48000", "channels=6", f"channel_map={names}")
        modules.append(load_module(sound, "module-null-sink", f"sink_name={name}", *shape))
        source = (
            "module-remap-source",
            f"master={name}.monitor",
            f"source_name={name}_mic",
            f"master_channel_map={names}",
        )
        modules.append(load_module(sound, *source, *shape[1:], "remix=no"))
    yield
    for module in reversed(modules):
        subprocess.run(["pactl", "unload-module", module], env=sound, check=True)


def recorded(sound, bundle, source, player, *options):
    """Return the events of a microphone into which a file is played."""
    words = ["-m", "edge_runtime", "listen", bundle, "--source", source, "--json", *options]
    process = subprocess.Popen([sys.executable, *words], env=sound, stdout=PIPE, stderr=PIPE, text=True)
    try:
        assert json.loads(process.stdout.readline())["status"] == "started"
        time.sleep(1.5)
        subprocess.run(["paplay", *player], env=sound, check=True, timeout=30)
        time.sleep(0.5)
        process.terminate()
        out, err = process.communicate(timeout=20)
    finally:
        process.kill()
    assert process.returncode == 0, err
    return [json.loads(line) for line in out.splitlines()]


def details(events):
    return [event["detail"] for event in events if event.get("status") == "channels"]


@pytest.mark.usefixtures("array")
@pytest.mark.parametrize("channels", ["auto", "2"])
def test_the_speech_on_one_channel_of_an_array(sound, bundle_dir, clip, tmp_path, channels):
    """Hum and music on the others: the final events are those of the speech."""
    speech = soxr.resample(soundfile.read(clip, dtype="float32")[0], 16_000, 48_000)
    hums = [hum(len(speech), mains, 48_000) for mains in (50, 60, 50)]
    played = music(len(speech), 48_000)
    columns = [hums[0], hums[1], speech, hums[2], played, played]
    soundfile.write(tmp_path / "array.wav", np.stack(columns, axis=1), 48_000)
    player = ["--device=array", f"--channel-map={ARRAY}", str(tmp_path / "array.wav")]
    events = recorded(sound, bundle_dir, "array_mic", player, "--channels", channels)
    reports = details(events)
    if channels == "auto":
        assert reports[-1].startswith("channel 2 of 6 is used: ")
    else:
        assert reports == ["channel 2 of 6 is used, as set"]
    finals = [event for event in events if event["type"] == "final"]
    wanted = score_file(clip, bundle_dir)
    assert [event["label"] for event in finals][-len(wanted) + 1 :] == [event.label for event in wanted][1:]
    assert all(event["dropped_samples"] == 0 for event in events)


@pytest.mark.usefixtures("array")
def test_channels_that_the_server_mixes(sound, bundle_dir, clip):
    """Recorded as one channel, with a report that says so; a channel of them cannot be named."""
    events = recorded(sound, bundle_dir, "mic://apart_mic", ["--device=apart", str(clip)])
    mixed = "microphone apart_mic: its 6 channels are mixed by the sound server, which calls them"
    assert details(events) == [f"{mixed} {APART.replace(',', ', ')}"]
    done = edgeemo(sound, "listen", bundle_dir, "--source", "mic://apart_mic", "--channels", "2")
    assert done.returncode == 2
    assert "its 6 channels are mixed by the sound server" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.usefixtures("array")
def test_sources_of_the_server_are_listed_as_they_are_typed(sound):
    done = edgeemo(sound, "listen", "--list-devices")
    lines = done.stdout.splitlines()
    assert "  array_mic (6 channels, 48000 Hz)  --source mic://array_mic" in lines
    assert any(line.startswith("* ") and line.endswith("--source mic://default") for line in lines)
    assert "monitor" not in done.stdout
    found = json.loads(edgeemo(sound, "listen", "--list-devices", "--json").stdout)
    assert [each["channels"] for each in found if each["source"] == "mic://array_mic"] == [6]


@pytest.mark.usefixtures("array")
@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("aray_mic", "--source aray_mic: did you mean array_mic? There is no file of that name"),
        ("mic://aray_mic", "no input is called 'aray_mic' (did you mean 'array_mic'?); the inputs are "),
        ("hw:7,0", "no input is called 'hw:7,0'; the inputs are "),
        ("plughw:CARD=Nothing,DEV=0", "no input is called 'plughw:CARD=Nothing,DEV=0'; the inputs are "),
    ],
)
def test_names_of_no_device(sound, bundle_dir, source, message):
    done = edgeemo(sound, "listen", bundle_dir, "--source", source)
    assert done.returncode == 2
    assert message in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.usefixtures("array")
def test_a_channel_that_a_microphone_does_not_have(sound, bundle_dir):
    done = edgeemo(sound, "listen", bundle_dir, "--source", "array_mic", "--channels", "7")
    assert done.returncode == 2
    assert done.stderr == (
        "Error: microphone array_mic: has 6 channels, numbers 0 to 5; channel 7 cannot be chosen, so correct channels "
        "(option --channels)\n"
    )


def test_the_default_of_the_server_with_its_channels(sound, bundle_dir, clip):
    events = recorded(sound, bundle_dir, "mic://", [str(clip)])
    assert details(events)[0].startswith("channels 0-1 of 2 are used: ")
