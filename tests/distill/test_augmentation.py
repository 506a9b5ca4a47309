"""What augmentation does to the utterances of a session, and what it leaves alone."""

import numpy as np
import pytest
import soundfile

from distill.corpus import Utterance
from distill.speech import acoustics
from distill.speech.audio_data import Windows
from distill.speech.augmentation import Augmentation, Recordings, Session, augment, draw_session
from distill.speech.channels import mp3, opus, telephone
from distill.speech.sessions import Sessions
from edge_runtime.errors import EdgeemoError, WrongUseError
from edge_runtime.sources.audio import SAMPLE_RATE
from edge_runtime.windows import WindowPolicy
from tests.conftest import tone

ALWAYS = {"chance": 1.0}


def random(seed=0):
    return np.random.default_rng(seed)


def changed(pcm, how, seed=0):
    """Return an utterance of a session of its own."""
    return augment(pcm, draw_session(how, Recordings.of(how), random(seed)), random(seed + 1000))


def hiss(seconds, seed=0):
    return (0.1 * random(seed).standard_normal(int(seconds * SAMPLE_RATE))).astype(np.float32)


@pytest.fixture
def places(tmp_path):
    """Directories of a room with an echo after 0.1 s, of a hum of 3 kHz, and of speech of three pitches."""
    for name in ("rooms", "noises/deeper", "babble"):
        (tmp_path / name).mkdir(parents=True)
    echo = np.zeros(4000, np.float32)
    echo[200], echo[1800] = 0.5, 0.25
    soundfile.write(tmp_path / "rooms" / "hall.flac", echo, SAMPLE_RATE)
    soundfile.write(tmp_path / "noises" / "deeper" / "hum.wav", tone(0.7, frequency=3000.0), SAMPLE_RATE)
    (tmp_path / "noises" / "metadata.csv").write_text("file,kind\n")
    for pitch in (1000, 1500, 2000):
        soundfile.write(tmp_path / "babble" / f"{pitch}.wav", tone(1.0, frequency=float(pitch)), SAMPLE_RATE)
    return tmp_path


def test_the_same_draw_gives_the_same():
    how = Augmentation(speed=0.2, equaliser_db=6, room_seconds=0.3, noise_db=5, telephone=0.5, codec=1, **ALWAYS)
    first, again, other = (changed(tone(1.0), how, seed) for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert len(first) != len(other)
    assert first.dtype == np.float32
    assert np.isfinite(first).all()
    pcm = tone(1.0)
    assert np.array_equal(changed(pcm, Augmentation()), pcm)
    assert draw_session(Augmentation(), Recordings(), random()) == Session()


def test_speed_changes_pitch_and_length_within_its_bounds():
    lengths = []
    for seed in range(30):
        pcm = changed(tone(2.0, frequency=400), Augmentation(speed=0.2), seed)
        lengths.append(len(pcm) / 32_000)
        strongest = np.abs(np.fft.rfft(pcm)).argmax() * 16_000 / len(pcm)
        assert strongest * lengths[-1] == pytest.approx(400, rel=0.01)
    assert 1 / 1.2 - 1e-3 < min(lengths) < 0.9
    assert 1.1 < max(lengths) < 1.2 + 1e-3


def test_noise_is_about_as_loud_in_a_session_and_never_louder_than_wanted():
    pcm = tone(2.0)
    how = Augmentation(noise_db=10, **ALWAYS)
    levels = []
    for seed in range(5):
        session = draw_session(how, Recordings(), random(seed))
        noises = [augment(pcm, session, random(number)) - pcm for number in range(5)]
        ratios = [10 * np.log10(np.square(pcm).mean() / np.square(noise).mean()) for noise in noises]
        assert min(ratios) > 10 - 0.2
        assert max(ratios) < 35 + 0.2
        assert 0.5 < np.ptp(ratios) < 6.1
        assert not np.allclose(noises[0] / noises[0].std(), noises[1] / noises[1].std()), "another position"
        levels.append(np.mean(ratios))
    assert np.ptp(levels) > 5


def test_the_equaliser_moves_bands_by_no_more_than_it_may():
    pcm = hiss(1.0)
    for seed in range(5):
        other = changed(pcm, Augmentation(equaliser_db=6, **ALWAYS), seed)
        gain = 20 * np.log10(np.abs(np.fft.rfft(other)) / np.abs(np.fft.rfft(pcm)))
        assert 2 < np.abs(gain).max() < 6.01


def test_a_room_rings_on_after_a_click():
    click = np.zeros(16_000, np.float32)
    click[1000] = 1.0
    reverberant = changed(click, Augmentation(room_seconds=0.5, **ALWAYS), 3)
    assert np.abs(reverberant).argmax() == 1000
    assert not reverberant[:999].any() or np.abs(reverberant[:999]).max() < 1e-6
    early, late = np.square(reverberant[1001:2000]).sum(), np.square(reverberant[9500:]).sum()
    assert early > 1000 * late > 0 or late == 0
    assert np.square(reverberant).sum() == pytest.approx(1, rel=0.05), "the level stays"


def test_a_recorded_room_begins_with_its_direct_sound(places):
    click = np.zeros(16_000, np.float32)
    click[1000] = 1.0
    there = changed(click, Augmentation(rooms=(str(places / "rooms"),), **ALWAYS))
    # The impulse response keeps a millisecond before its strongest sample.
    first, second = np.sort(np.abs(there).argsort()[-2:])
    assert (first, second) == (1016, 2616)
    assert there[second] / there[first] == pytest.approx(0.5, abs=1e-3)
    assert np.square(there).sum() == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize(("key", "hertz"), [("noises", {3000}), ("babble", {1000, 1500, 2000})])
def test_recorded_noise_and_babble_are_of_the_directory(places, key, hertz):
    how = Augmentation(noise_db=0, **{key: (str(places / key),)}, **ALWAYS)
    seen = set()
    for seed in range(12):
        noise = changed(hiss(1.0), how, seed) - hiss(1.0)
        power = np.square(np.abs(np.fft.rfft(noise)))
        if np.sort(power)[-6:].sum() > 0.9 * power.sum():  # otherwise coloured noise, which is drawn as often
            seen |= {round(number, -1) for number in np.flatnonzero(power > 0.2 * power.max()).tolist()}
    assert seen == hertz


@pytest.mark.parametrize("coding", ["g711", "gsm"])
def test_a_telephone_carries_its_band_alone(coding):
    pcm = hiss(3.0)
    there = telephone(pcm, coding)
    assert there.shape == pcm.shape
    before, after = (np.square(np.abs(np.fft.rfft(each))) for each in (pcm, there))
    hertz = np.fft.rfftfreq(len(pcm), 1 / SAMPLE_RATE)
    gain = {
        name: 10
        * np.log10(after[(hertz > low) & (hertz < high)].mean() / before[(hertz > low) & (hertz < high)].mean())
        for name, low, high in (("low", 20, 200), ("carried", 400, 3300), ("high", 4300, 8000))
    }
    assert gain["carried"] == pytest.approx(0, abs=2)
    # GSM synthesises below 300 Hz too; nothing passes above 4 kHz.
    assert gain["low"] < -15 if coding == "g711" else gain["low"] < -5
    assert gain["high"] < -30


CODECS = {
    "g711": lambda pcm: telephone(pcm, "g711"),
    "gsm": lambda pcm: telephone(pcm, "gsm"),
    "opus": lambda pcm: opus(pcm, 8.0),
    "better opus": lambda pcm: opus(pcm, 24.0),
    "mp3": lambda pcm: mp3(pcm, 0.5),
    "worse mp3": lambda pcm: mp3(pcm, 0.95),
}


@pytest.mark.parametrize("name", CODECS)
@pytest.mark.parametrize("loudness", [1.0, 0.001])
def test_codecs_change_speech_in_its_place_and_at_its_level(name, loudness):
    seconds = np.arange(2 * SAMPLE_RATE) / SAMPLE_RATE
    voice = sum(np.sin(2 * np.pi * 150 * number * seconds) / number for number in range(3, 20))
    pcm = (loudness * 0.2 * voice * (np.sin(2 * np.pi * 3 * seconds) > 0)).astype(np.float32)
    there = CODECS[name](pcm)
    assert there.shape == pcm.shape
    assert there.dtype == np.float32
    assert np.array_equal(there, CODECS[name](pcm)), "the same at every call"
    assert np.abs(there - pcm).max() > 0.001 * loudness
    assert there.std() == pytest.approx(pcm.std(), rel=0.25)
    # Of the envelopes: low-rate codecs do not keep phases.
    frames = [np.sqrt(np.convolve(np.square(each), np.ones(64) / 64, "same")) for each in (pcm, there)]
    product = np.fft.irfft(
        np.fft.rfft(frames[1] - frames[1].mean()) * np.conj(np.fft.rfft(frames[0] - frames[0].mean()))
    )
    lag = (int(product.argmax()) + SAMPLE_RATE) % (2 * SAMPLE_RATE) - SAMPLE_RATE
    assert abs(lag) <= 0.003 * SAMPLE_RATE
    silence = np.zeros(SAMPLE_RATE, np.float32)
    assert np.abs(CODECS[name](silence)).max() < 1e-9
    assert len(CODECS[name](pcm[:4000])) == 4000


def test_a_session_has_one_channel_and_every_kind_comes_up():
    how = Augmentation(telephone=0.5, codec=1.0, clipping=0.5)
    sessions = [draw_session(how, Recordings(), random(seed)) for seed in range(40)]
    assert {each.channel.func for each in sessions} == {telephone, opus, mp3}
    assert {each.channel.keywords.get("coding") for each in sessions} == {"g711", "gsm", None}
    shares = [each.clipped for each in sessions if each.clipped]
    assert 10 < len(shares) < 30
    assert 0.001 <= min(shares) < max(shares) <= 0.1
    flat = augment(hiss(1.0), Session(clipped=0.1), random())
    assert np.mean(np.abs(flat) == np.abs(flat).max()) == pytest.approx(0.1, abs=0.01)


@pytest.fixture
def utterances(tmp_path):
    """Three of each of two speakers, all the same but for the last of ``a``."""
    found = []
    for speaker in ("a", "b"):
        for number in range(3):
            path = tmp_path / f"{speaker}{number}.wav"
            soundfile.write(path, hiss(1.0, seed=5 if path.stem == "a2" else 0), SAMPLE_RATE)
            found.append(Utterance(path, path.name, speaker, "x"))
    return found


def test_the_utterances_of_a_speaker_share_a_session_in_an_epoch(utterances, places, monkeypatch):
    how = Augmentation(
        speed=0.2, equaliser_db=6, rooms=(str(places / "rooms"),), noise_db=20, clipping=0.5, telephone=1, **ALWAYS
    )
    used = []
    monkeypatch.setattr(
        "distill.speech.audio_data.augment",
        lambda pcm, session, draw: used.append(session) or augment(pcm, session, draw),
    )

    def items(order, epoch=1, some=utterances):
        windows = Windows(some, ["x"], WindowPolicy(), seed=3, augmentation=how)
        windows.set_epoch(epoch)
        return {index: windows[index].pcm for index in order}

    forwards = items(range(6))
    sessions = list(used)
    assert sessions[0] is sessions[1] is sessions[2]
    assert sessions[3] is sessions[4] is sessions[5] is not sessions[0]
    assert sessions[0].rate != sessions[3].rate
    # Neither the order nor other utterances change what is drawn.
    backwards = items(reversed(range(6)))
    assert all(np.array_equal(forwards[index], backwards[index]) for index in range(6))
    assert np.array_equal(items([0], some=utterances[:1])[0], forwards[0])
    assert not np.array_equal(forwards[0], forwards[1]), "the position in the noise is the utterance's own"
    later = items([0], epoch=2)[0]
    assert used[-1].rate != sessions[0].rate
    assert len(later) != len(forwards[0]) or not np.array_equal(later, forwards[0])


def test_the_voice_speed_is_one_for_all_utterances_of_a_speaker(utterances):
    policy = WindowPolicy()
    windows = Windows(utterances, ["x"], policy, seed=1, augmentation=Augmentation(speed=0.3))
    windows._cut = lambda pcm, draw: pcm
    lengths = [len(windows[index].pcm) for index in range(6)]
    assert len(set(lengths[:3])) == len(set(lengths[3:])) == 1
    assert lengths[0] != lengths[3]


def test_directories_without_audio_and_bad_files_are_one_sentence(places, utterances):
    (places / "empty").mkdir()
    for name, sentence in (("empty", "holds no audio files"), ("nowhere", "no such directory")):
        with pytest.raises(WrongUseError, match=f"{name}: .*{sentence}"):
            Windows(utterances, ["x"], WindowPolicy(), seed=0, augmentation=Augmentation(rooms=(str(places / name),)))
    (places / "noises" / "broken.wav").write_bytes(b"no audio at all")
    how = Augmentation(noise_db=0, noises=(str(places / "noises"),), **ALWAYS)
    with pytest.raises(EdgeemoError, match=r"broken\.wav: is a text"):
        Recordings.of(how)
    # Without a seed nothing is changed, and nothing looked at.
    Windows(utterances, ["x"], WindowPolicy(), augmentation=how)
    soundfile.write(places / "rooms" / "hall.flac", np.zeros(100), SAMPLE_RATE)
    with pytest.raises(EdgeemoError, match=r"hall\.flac: is silent"):
        changed(tone(1.0), Augmentation(rooms=(str(places / "rooms"),), **ALWAYS))


def test_an_excerpt_repeats_what_is_too_short():
    recording = np.arange(10.0)
    got = acoustics.excerpt(recording, 25, random())
    assert len(got) == 25
    assert set(np.diff(got)) == {1.0, -9.0}
    assert {acoustics.excerpt(recording, 1, random(seed))[0] for seed in range(60)} == set(recording)


@pytest.mark.parametrize(
    "wrong", [{"speed": 0.6}, {"noise_db": 99}, {"chance": 2}, {"pitch": 1}, {"noises": ("a",)}, {"babble": ("a",)}]
)
def test_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Augmentation(**wrong)


def test_talkers_are_other_speakers_of_the_same_corpus(tmp_path):
    """Each speaker of two corpora has a pitch: babble behind the first one holds that of the second, and no other."""
    items = []
    for speaker, (corpus, pitch) in enumerate([("a", 500), ("a", 1000), ("b", 2000)]):
        path = tmp_path / f"{speaker}.wav"
        soundfile.write(path, tone(1.0, frequency=float(pitch)), SAMPLE_RATE)
        items.append(Utterance(path, path.name, str(speaker), "x", extra={"corpus": corpus}))
    noises = [
        Sessions(items, Augmentation(noise_db=5.0, talkers=True, **ALWAYS), 0).of(items[0], epoch).noise
        for epoch in range(12)
    ]
    peaks = [np.abs(np.fft.rfft(noise)).argmax() * SAMPLE_RATE / len(noise) for noise in noises]
    babble = [peak for peak in peaks if peak > 400]  # coloured noise is strongest at low frequencies, or flat
    assert any(abs(peak - 1000) < 20 for peak in babble)
    assert not any(abs(peak - other) < 20 for peak in peaks for other in (500, 2000))
    alone = Sessions(items, Augmentation(noise_db=5.0, talkers=True, **ALWAYS), 0)
    assert alone.of(items[2], 0).noise is not None, "a corpus of one speaker has other noise"
