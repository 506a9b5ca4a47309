"""Capture without a sound card: the callback at wall-clock pace, overflow, and a device that goes and comes.

PortAudio's own part is a stand-in here (`Stream`), since what it does when a device is pulled out cannot be ordered;
`test_virtual_microphone.py` has the real one.
"""

import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest

from edge_runtime.config import ListenSettings
from edge_runtime.errors import MissingPartError, WrongUseError
from edge_runtime.inputs import open_inputs
from edge_runtime.loop.monitor import Monitor
from edge_runtime.sources import deadline, microphone
from edge_runtime.sources.deadline import NoAnswerError
from edge_runtime.sources.devices import (
    InputDevice,
    accepted_format,
    find_again,
    is_device,
    matching,
    what_to_type,
)
from edge_runtime.sources.microphone import MicrophoneSource, _Capture
from tests.events_and_takers import until

DEVICE = InputDevice(3, "USB microphone", 2, 48_000, default=True)
BLOCK = 4_800


class Stream:
    """Stands in for PortAudio: calls back with a block at each `give`."""

    def __init__(self, callback, **_options):
        self.callback = callback
        self.active = False

    def start(self):
        self.active = True

    def give(self, level=0.1, *, overflow=False):
        frames = np.full((BLOCK, 2), level, np.float32)
        self.callback(frames, BLOCK, None, SimpleNamespace(input_overflow=overflow))

    def abort(self, ignore_errors):
        self.active = False

    def close(self, ignore_errors):
        self.active = False


class SoundDevice:
    """Stands in for the module `sounddevice`, with one input that may be unplugged."""

    class PortAudioError(Exception):
        pass

    def __init__(self):
        self.streams = []
        self.looked = 0
        self.there = True

    def check_input_settings(self, *, samplerate, channels, **_):
        if (samplerate, channels) != (48_000, 2):
            raise self.PortAudioError

    def InputStream(self, **options):  # noqa: N802
        self.streams.append(Stream(**options))
        return self.streams[-1]

    def find(self, wanted):
        assert wanted in ("USB", DEVICE.name)
        if not self.there:
            raise MissingPartError("there is no microphone")
        return DEVICE

    def refresh_devices(self):
        self.looked += 1


@pytest.fixture
def sound(monkeypatch):
    fake = SoundDevice()
    monkeypatch.setattr(microphone, "portaudio", lambda: fake)
    monkeypatch.setattr("edge_runtime.sources.devices.portaudio", lambda: fake)
    monkeypatch.setattr(microphone, "find_device", fake.find)
    monkeypatch.setattr(microphone, "find_again", lambda device, wanted: fake.find(wanted))
    monkeypatch.setattr(microphone, "refresh_devices", fake.refresh_devices)
    monkeypatch.setattr(microphone, "_captures", set())
    monkeypatch.setattr(microphone, "HEARTBEAT", 0.02)
    monkeypatch.setattr(microphone, "_STALLED_SECONDS", 0.8)
    monkeypatch.setattr(microphone, "_BACK_OFF", (0.02, 0.05))
    return fake


@pytest.fixture
def collected(sound):
    """Collects what a source gives, in a thread of its own."""
    source, blocks = MicrophoneSource("USB"), []
    thread = threading.Thread(target=lambda: blocks.extend(source.blocks()))
    thread.start()
    until(lambda: sound.streams)
    yield blocks
    source.close()
    thread.join(timeout=5)
    assert not thread.is_alive()


def notices(blocks):
    return [block.notice[0] for block in blocks if block.notice and block.notice[0] != "channels"]


def samples(blocks):
    return sum(len(block.pcm) for block in blocks)


def test_the_own_rate_and_channels_where_16_khz_mono_is_refused(sound, collected):
    for _ in range(10):
        sound.streams[0].give()
    until(lambda: samples(collected) > 14_000)
    pcm = np.concatenate([block.pcm for block in collected])
    assert np.allclose(pcm[1_000:14_000], 0.1, atol=1e-3)


def test_overflow_is_counted(sound, collected):
    stream = sound.streams[0]
    stream.give()
    time.sleep(0.3)
    stream.give(overflow=True)
    until(lambda: any(block.lost for block in collected))
    (lost,) = [block.lost for block in collected if block.lost]
    # Three tenths of a second went by, one of which came.
    assert lost == pytest.approx(3_200, abs=1_600)


def test_small_overflows_do_not_push_the_clock(sound, collected):
    """Each is counted by its time, not as a block."""
    stream = sound.streams[0]
    began = time.monotonic()
    for number in range(1, 16):
        time.sleep(max(0, began + number * 0.11 - time.monotonic()))
        stream.give(overflow=number > 1)
    until(lambda: samples(collected) > 14 * 1_600)
    clock = (samples(collected) + sum(block.lost for block in collected)) / 16_000
    assert clock == pytest.approx(time.monotonic() - began, abs=0.25)
    assert all(block.lost for block in collected[-10:] if len(block.pcm))


def test_frames_not_taken_in_time_are_counted_not_kept(sound):
    capture = _Capture(DEVICE)
    stream = sound.streams[-1]
    for _ in range(105):
        stream.give()
    taken = list(iter(lambda: capture.next(0), None))
    assert len(taken) == 100
    stream.give()
    _, lost, _ = capture.next(0)
    assert lost == 5 * BLOCK


def test_the_callback_never_waits(sound):
    """At wall-clock pace, with a reader that does not read: no call takes longer than a block lasts."""
    _Capture(DEVICE)
    stream = sound.streams[-1]
    durations = []
    began = time.monotonic()
    for number in range(12):
        time.sleep(max(0, began + number * 0.1 - time.monotonic()))
        before = time.perf_counter()
        stream.give()
        durations.append(time.perf_counter() - before)
    assert time.monotonic() - began >= 1.1
    assert max(durations) < 0.1
    assert np.median(durations) < 0.005


@pytest.mark.parametrize("how", ["stops", "stalls"])
def test_a_microphone_that_goes_and_comes_back(sound, collected, how):
    first = sound.streams[0]
    first.give()
    until(lambda: samples(collected))
    sound.there = False
    if how == "stops":
        first.active = False
    until(lambda: notices(collected) == ["device-lost"])
    until(lambda: sound.looked >= 3)
    away = time.monotonic()
    sound.there = True
    until(lambda: len(sound.streams) == 2)
    sound.streams[1].give()
    until(lambda: len(notices(collected)) == 2)
    back = next(block for block in collected if block.notice and block.notice[0] == "device-back")
    assert "USB microphone" in back.notice[1]
    # The sample clock moves on by the time that it was away.
    assert 0 < back.lost / 16_000 <= time.monotonic() - away + 2
    assert len(back.pcm)


def test_closing_while_it_is_away_ends_it(sound):
    source = MicrophoneSource("USB")
    blocks = source.blocks()
    sound.there = False
    next(blocks)
    sound.streams[0].active = False
    for block in blocks:
        if block.notice:
            source.close()
    assert sound.looked <= 1


def test_one_that_opens_again_and_gives_nothing_is_lost_once(sound, collected):
    sound.streams[0].give()
    until(lambda: samples(collected))
    gone = time.monotonic()
    sound.streams[0].active = False
    for number in (2, 3, 4):
        until(lambda number=number: len(sound.streams) == number)
        sound.streams[-1].active = False
    until(lambda: len(sound.streams) == 5)
    sound.streams[-1].give()
    until(lambda: "device-back" in notices(collected))
    assert notices(collected) == ["device-lost", "device-back"]
    back = next(block for block in collected if block.notice and block.notice[0] == "device-back")
    assert back.lost / 16_000 == pytest.approx(time.monotonic() - gone, abs=0.4)


def test_one_that_hangs_when_it_is_opened_is_an_error_and_is_closed_when_it_opens_after_all(sound, monkeypatch):
    """As where the sound server hangs after the devices were listed."""
    monkeypatch.setattr(deadline, "SECONDS", 0.2)
    answered, opened = threading.Event(), sound.InputStream
    monkeypatch.setattr(sound, "InputStream", lambda **options: answered.wait(20) and opened(**options))
    with pytest.raises(NoAnswerError, match="has not answered"):
        next(MicrophoneSource("USB").blocks())
    assert sound.streams == []
    answered.set()
    until(lambda: sound.streams)
    until(lambda: not deadline._abandoned and not sound.streams[0].active)


def test_one_that_is_lost_ends_no_other_that_is_open(sound):
    """PortAudio ends all streams where it lists the devices again."""
    one, other = (MicrophoneSource("USB").blocks() for _ in range(2))
    for blocks in (one, other):
        next(blocks)
        sound.streams[-1].give()
    first, second = sound.streams
    first.active = False
    until(lambda: (block := next(one)).notice and block.notice[0] == "device-lost")
    until(lambda: next(one) is not None and len(sound.streams) == 3)
    assert (sound.looked, second.active) == (0, True)
    second.active = False
    other.close()
    sound.streams[-1].active = False
    until(lambda: next(one) is not None and len(sound.streams) == 4)
    assert sound.looked >= 1
    one.close()


@pytest.mark.usefixtures("sound")
def test_the_same_microphone_by_two_names_is_refused():
    model = SimpleNamespace(listener=lambda monitor, settings, name: SimpleNamespace(name=name, monitor=monitor))
    settings = ListenSettings(sources={"hall": "mic://USB", "door": f"mic://{DEVICE.name}"})
    with pytest.raises(WrongUseError, match="sources hall and door are the same microphone USB microphone; leave one"):
        open_inputs(model, settings, Monitor())


def test_leaving_early_closes_the_microphone(sound):
    blocks = MicrophoneSource("USB").blocks()
    next(blocks)
    assert sound.streams[0].active
    blocks.close()
    assert not sound.streams[0].active


def test_a_call_that_hangs_holds_neither_the_loop_nor_the_end(sound, collected, monkeypatch):
    """As of a sound server that was stopped: what hangs is waited for beside the loop."""
    answered = threading.Event()
    monkeypatch.setattr(sound.streams[0], "abort", lambda ignore_errors: answered.wait(20), raising=False)
    sound.streams[0].give()
    until(lambda: samples(collected))
    sound.streams[0].active = False
    until(lambda: "device-lost" in notices(collected))
    count = len(collected)
    until(lambda: len(collected) > count + 10)
    assert sound.looked == 0
    answered.set()
    until(lambda: len(sound.streams) == 2)


@pytest.mark.parametrize(
    ("wanted", "names", "found"),
    [
        ("USB", ["HDA Intel: ALC (hw:0,0)", "USB PnP: Audio (hw:2,0)"], 1),
        ("USB PnP: Audio (hw:1,0)", ["USB PnP: Audio (hw:2,0)"], 0),
        ("1", ["USB PnP: Audio (hw:2,0)", "Other (hw:1,0)"], 0),
        ("USB", ["HDA Intel: ALC (hw:0,0)"], None),
        ("USB", ["USB PnP: Audio (hw:2,0)", "USB PnP: Audio (hw:3,0)"], None),
        ("USB", ["USB PnP: Audio (hw:1,0)", "USB other (hw:3,0)"], 0),
    ],
)
def test_a_microphone_is_found_again_as_another_card(monkeypatch, wanted, names, found):
    was = InputDevice(1, "USB PnP: Audio (hw:1,0)", 1, 48_000, default=False)
    devices = [InputDevice(place + 5, name, 1, 48_000, default=place == 0) for place, name in enumerate(names)]
    monkeypatch.setattr("edge_runtime.sources.devices.input_devices", lambda: devices)
    if found is None:
        with pytest.raises(MissingPartError):
            find_again(was, wanted)
    else:
        assert find_again(was, wanted) is devices[found]


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ("hw:1,0", ["USB PnP: Audio (hw:1,0)"]),
        ("plughw:1,0", ["USB PnP: Audio (hw:1,0)"]),
        ("hw:1", ["USB PnP: Audio (hw:1,0)"]),
        ("hw:11,0", ["Array: - (hw:11,0)"]),
        ("hw:CARD=Nothing", []),
        ("default", ["default"]),
    ],
)
def test_names_of_alsa(wanted, found):
    names = ["USB PnP: Audio (hw:1,0)", "Array: - (hw:11,0)", "HDA: ALC (hw:0,0)", "default"]
    devices = [InputDevice(number, name) for number, name in enumerate(names)]
    assert [device.name for device in matching(devices, wanted)] == found
    if found:
        assert is_device(wanted)


def test_what_is_typed_for_an_input():
    devices = [InputDevice(0, "USB: Audio (hw:1,0)"), InputDevice(1, "Twin"), InputDevice(2, "Twin")]
    assert [what_to_type(device, devices) for device in devices] == ["mic://hw:1,0", "mic://1", "mic://2"]


@pytest.mark.parametrize(
    "text", ["call.wav", "default.wav", "hw", "front.flac", "recordings/hw:1,0.wav", "speaker.monitor"]
)
def test_files_are_no_devices(text):
    assert not is_device(text)


@pytest.mark.usefixtures("sound")
def test_all_channels_are_opened_where_one_has_to_be_chosen():
    assert accepted_format(DEVICE)[:2] == (48_000, 2)
    assert accepted_format(DEVICE, (1,))[:2] == (48_000, 2)
    with pytest.raises(WrongUseError, match="has 2 channels, numbers 0 to 1; channel 2 cannot be chosen"):
        accepted_format(DEVICE, (2,))


def test_a_dead_channel_of_a_microphone_is_left_out(sound, collected):
    generator = np.random.default_rng(0)
    for number in range(20):
        frames = np.zeros((BLOCK, 2), np.float32)
        frames[:, 1] = generator.standard_normal(BLOCK) * (0.2 if number % 4 else 0.001)
        sound.streams[0].callback(frames, BLOCK, None, SimpleNamespace(input_overflow=False))
    until(lambda: samples(collected) > 30_000)
    reports = [block.notice[1] for block in collected if block.notice]
    assert reports[-1] == "channel 1 of 2 is used: 0 is silent"
