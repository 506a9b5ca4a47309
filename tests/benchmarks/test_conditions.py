"""Accuracy under conditions: paired with clean, reproducible, without the tested speaker in the babble."""

import dataclasses

import numpy as np
import pytest
import soundfile
from onnx import numpy_helper

import benchmarks.bench.accuracy.conditions
from benchmarks.bench.accuracy.conditions import (
    CLEAN,
    CONDITIONS,
    AcousticScene,
    Condition,
    conditions_with,
    evaluate_conditions,
    measure_conditions,
    score_conditions,
)
from benchmarks.bench.accuracy.graphs import TestPart, evaluate_bundle
from benchmarks.bench.accuracy.recordings import SIMULATED, TestRecordings, held_out_recordings
from benchmarks.bench.accuracy.sections import balanced_sample
from distill.corpus import Utterance
from distill.evaluation.metrics import mean_difference
from edge_runtime.bundles.bundle import load_bundle
from edge_runtime.engines.engine import OnnxEngine
from edge_runtime.errors import EdgeemoError, WrongUseError
from edge_runtime.sources.audio import SAMPLE_RATE, read_audio
from tests.conftest import tone
from tests.plain_bundles import LABELS, change, hearing_graph, save_plain_bundle

SIZES = (0.3, 0.6, 0.9)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    """Utterances at three levels, one per emotion, which the bundle classifies by level."""
    graph = hearing_graph()
    weights = np.array([[-1.0, 0.0, 1.0], [0.3, -0.2, 0.5], [0.0, 1.0, 0.0], [0.5, 0.1, -0.4]])
    named = {each.name: each for each in graph.graph.initializer}
    named["weights"].CopyFrom(numpy_helper.from_array(weights.astype(np.float32), "weights"))
    spread = numpy_helper.to_array(named["spread"])
    slopes = (spread @ weights)[0]
    loudness = [size * np.abs(tone(1.0)).mean() for size in SIZES]
    soft, middle, loud = np.argsort(slopes)
    # Lines that cross half-way between two loudnesses.
    heights = np.zeros(3)
    heights[middle] = (slopes[soft] - slopes[middle]) * (loudness[0] + loudness[1]) / 2
    heights[loud] = heights[middle] + (slopes[middle] - slopes[loud]) * (loudness[1] + loudness[2]) / 2
    reference = np.linalg.lstsq(weights.T, -heights, rcond=None)[0]
    folder = save_plain_bundle(tmp_path_factory.mktemp("conditions") / "bundle", graph)
    change(folder, lambda content: content.update(reference=reference.tolist(), temperature=0.02, threshold=0.5))
    return load_bundle(folder)


@pytest.fixture(scope="module")
def utterances(bundle, tmp_path_factory):
    """Three speakers, each at a pitch of their own, who say each emotion as loud as the bundle expects it."""
    engine = OnnxEngine.of(bundle, "fp32")
    folder = tmp_path_factory.mktemp("speech")
    found = []
    for number in range(3):
        for size in SIZES:
            path = folder / f"s{number}-{size}.wav"
            soundfile.write(path, size * tone(1.0, frequency=200.0 + 70 * number), SAMPLE_RATE)
            label = LABELS[int(engine.score(read_audio(path)).logits.argmax())]
            found.append(Utterance(path, path.name, f"s{number}", label))
    assert len({each.emotion for each in found}) == 3
    return tuple(found)


def test_clean_is_what_the_clip_is_and_differences_are_paired(bundle, utterances):
    some = tuple(each for each in CONDITIONS if each.group == "channel" or each.ratio_db == 20.0)
    section = measure_conditions(bundle, utterances, utterances, ("fp32",), conditions=some, seed=3)
    clean, *others = section.graphs["fp32"]
    plain = evaluate_bundle(bundle, TestPart(utterances, "", None), ("fp32",))["fp32"]
    assert clean.name == CLEAN
    assert clean.difference is None
    assert clean.ua.value == pytest.approx(plain.accuracy.ua, abs=1e-6)
    assert clean.coverage == pytest.approx((plain.probabilities.max(axis=1) >= 0.5).mean(), abs=1e-6)
    assert [each.name for each in others] == [each.name for each in some]
    assert section.left_out == []
    for each in others:
        assert each.difference.value == pytest.approx(each.ua.value - clean.ua.value, abs=2e-6)
    # The bundle classifies by level only: without differences in level, all is one emotion.
    by_name = {each.name: each for each in others}
    assert clean.ua.value == 1
    assert by_name["gain -40 dB, 16 bits"].ua.value == pytest.approx(1 / 3, abs=1e-6)
    assert by_name["gain -40 dB, 16 bits"].difference.high < 0
    assert by_name["white noise, 20 dB"].difference.value == 0


def test_the_interval_of_a_difference_is_that_of_pairs(bundle, utterances):
    quieter = Condition("quieter", "gain", lambda pcm, where: pcm * (0.5 if where.item.speaker == "s0" else 1.0))
    evaluations = evaluate_conditions(bundle, utterances, (), ("fp32",), conditions=(quieter,))["fp32"]
    (_, score) = score_conditions(evaluations, 0.5, (quieter,))
    clean, found = evaluations[CLEAN], evaluations["quieter"]
    lost = mean_difference(clean.truth, [clean.decided], [found.decided], clean.speakers)
    expected = (lost.ua, lost.ua_interval.low, lost.ua_interval.high)
    assert (score.difference.value, score.difference.low, score.difference.high) == pytest.approx(expected, abs=1e-6)
    # Two of three speakers are as before: a sample of them alone shows no difference at all.
    assert score.difference.value < 0
    assert score.difference.high == 0


def test_the_same_seed_draws_the_same_noise(bundle, utterances):
    few = tuple(each for each in CONDITIONS if each.name in ("babble, 5 dB", "room, 0.6 s, direct sound 0 dB"))

    def probabilities(some, seed):
        found = evaluate_conditions(bundle, some, utterances, ("fp32",), conditions=few, seed=seed)["fp32"]
        return np.stack([found[each.name].probabilities for each in few])

    whole = probabilities(utterances, 1)
    np.testing.assert_array_equal(whole, probabilities(utterances, 1))
    assert not np.array_equal(whole, probabilities(utterances, 2))
    # The noise of an utterance does not depend on the others.
    np.testing.assert_array_equal(whole[:, 4:], probabilities(utterances[4:], 1))


def test_babble_is_of_other_speakers(bundle, utterances, monkeypatch):
    read = []
    monkeypatch.setattr(
        benchmarks.bench.accuracy.conditions, "read_audio", lambda path: read.append(path.name) or read_audio(path)
    )
    some = tuple(each for each in CONDITIONS if each.babble)
    evaluate_conditions(bundle, utterances[:1], utterances, ("fp32",), conditions=some)
    own, *talkers = read
    assert own == "s0-0.3.wav"
    # Read once for all ratios.
    assert len(talkers) == len(set(talkers)) == 6
    assert not [name for name in talkers if name.startswith("s0")]


def test_conditions_share_the_noise_and_leave_the_recording_as_it_is(utterances):
    where = AcousticScene(utterances[0], utterances[3:], seed=0)
    speech = tone(1.0)
    loud, soft = (
        next(each for each in CONDITIONS if each.group == "babble" and each.ratio_db == ratio).apply(speech, where)
        for ratio in (0.0, 20.0)
    )
    np.testing.assert_allclose((loud - speech) / 10, soft - speech, atol=1e-6)
    speech, before = tone(1.0), tone(1.0)
    for each in CONDITIONS:
        scene = AcousticScene(utterances[0], utterances[3:], seed=0, neutral=utterances[1:2])
        changed = each.apply(speech, scene)
        assert len(changed) == len(speech) + each.neutral * SAMPLE_RATE, each.name
        assert np.isfinite(changed).all(), each.name
        assert not np.array_equal(changed, speech), each.name
        np.testing.assert_array_equal(speech, before, each.name)


def test_a_corpus_of_one_speaker_has_no_babble(bundle, utterances):
    alone = utterances[:3]
    section = measure_conditions(bundle, alone, alone, ("fp32",), conditions=CONDITIONS[:12])
    names = [each.name for each in section.graphs["fp32"]]
    assert len(names) == 9
    assert len(section.left_out) == 4
    assert all(reason.startswith("babble") for reason in section.left_out)
    with pytest.raises(ValueError, match="other than 's0'"):
        evaluate_conditions(bundle, alone, alone, ("fp32",))
    with pytest.raises(ValueError, match="different names"):
        evaluate_conditions(bundle, utterances, (), ("fp32",), conditions=(CONDITIONS[0], CONDITIONS[0]))


def test_every_speaker_and_emotion_is_sampled_before_repetitions(utterances):
    more = [
        dataclasses.replace(each, name=f"{turn}-{each.name}")
        for each in utterances
        for turn in range(5 if each.emotion == LABELS[0] else 2)
    ]
    chosen = balanced_sample(more, 12, seed=0)
    cells = [(each.speaker, each.emotion) for each in chosen]
    assert (len(chosen), len(set(cells)), max(map(cells.count, cells))) == (12, 9, 2)
    assert list(chosen) == [each for each in more if each in chosen]
    assert chosen == balanced_sample(more, 12, seed=0) != balanced_sample(more, 12, seed=1)
    assert balanced_sample(utterances, 9, 0) == utterances


@pytest.fixture
def recorded(tmp_path):
    """Two rooms, a hum, and music: sounds of one frequency each."""
    for name in ("rooms", "noise/music"):
        (tmp_path / name).mkdir(parents=True)
    for delay in (800, 1600):
        echo = np.zeros(4000, np.float32)
        echo[0], echo[delay] = 0.5, 0.25
        soundfile.write(tmp_path / "rooms" / f"{delay}.flac", echo, SAMPLE_RATE)
    soundfile.write(tmp_path / "noise" / "hum.flac", tone(0.7, frequency=3000.0), SAMPLE_RATE)
    soundfile.write(tmp_path / "noise" / "music" / "song.flac", tone(3.0, frequency=2000.0), SAMPLE_RATE)
    return tmp_path


def test_recordings_add_conditions(recorded, utterances):
    sounds = held_out_recordings([recorded / "rooms"], [recorded / "noise"], {})
    assert [len(each) for each in (sounds.rooms, sounds.noises, sounds.music)] == [2, 1, 1]
    added = {each.name: each for each in conditions_with(sounds)[len(CONDITIONS) :]}
    assert list(added) == [
        "recorded room",
        "far microphone in babble: recorded room, babble 10 dB, gain -20 dB",
        "recorded noise, 10 dB",
        "music, 10 dB",
    ]
    assert conditions_with(TestRecordings()) == CONDITIONS
    speech = tone(1.0)
    scene = AcousticScene(utterances[0], utterances[3:], seed=0, recordings=sounds)
    for name, hertz in (("recorded noise, 10 dB", 3000), ("music, 10 dB", 2000)):
        noise = added[name].apply(speech, scene) - speech
        # Where the repetition of a short recording begins, other frequencies enter.
        assert np.abs(np.fft.rfft(noise)).argmax() == pytest.approx(hertz, abs=3)
        assert 10 * np.log10(np.square(speech).mean() / np.square(noise).mean()) == pytest.approx(10, abs=0.3)
    click = np.zeros(SAMPLE_RATE, np.float32)
    click[100] = 1.0
    heard = {
        int(np.sort(np.abs(added["recorded room"].apply(click, scene_of)).argsort()[-2:])[1]) - 100
        for scene_of in (AcousticScene(item, (), seed=0, recordings=sounds) for item in utterances)
    }
    assert heard == {800, 1600}


def test_conditions_are_measured_with_recordings_and_the_report_names_them(bundle, recorded, utterances):
    sounds = held_out_recordings([recorded / "rooms"], [recorded / "noise"], {})
    chosen = [each for each in conditions_with(sounds) if each.name.startswith(("recorded", "music"))]
    section = measure_conditions(bundle, utterances, utterances, ("fp32",), conditions=chosen, recordings=sounds)
    assert [each.name for each in section.graphs["fp32"]] == [CLEAN, *(each.name for each in chosen)]
    assert section.recordings == ["recorded rooms in 'rooms' (files: 2)", "recorded noise in 'noise' (files: 2)"]
    assert measure_conditions(bundle, utterances, utterances, ("fp32",), conditions=()).recordings == [SIMULATED]


def test_recordings_of_the_training_are_left_out_by_content(recorded):
    (recorded / "trained").mkdir()
    (recorded / "rooms" / "800.flac").rename(recorded / "trained" / "another-name.flac")
    soundfile.write(recorded / "rooms" / "800.flac", *soundfile.read(recorded / "trained" / "another-name.flac"))
    recipe = {"student": {"augmentation": {"rooms": [str(recorded / "trained")], "noises": ["nowhere/street"]}}}
    sounds = held_out_recordings([recorded / "rooms"], [], recipe)
    assert [path.name for path in sounds.rooms] == ["1600.flac"]
    notes = "; ".join(sounds.notes)
    assert "left out of 'rooms', since used in training (files: 1)" in notes
    assert "'street', which is not on this machine" in notes
    assert "noise only simulated" in notes
    with pytest.raises(WrongUseError, match="trained with all of these"):
        held_out_recordings([recorded / "trained"], [], recipe)
    with pytest.raises(WrongUseError, match="no such directory"):
        held_out_recordings([], [recorded / "silence"], {})
    (recorded / "noise" / "broken.wav").write_bytes(b"no audio")
    with pytest.raises(EdgeemoError, match=r"broken\.wav: is a text; give a recording"):
        held_out_recordings([], [recorded / "noise"], {})


def test_speech_before_is_neutral_and_of_the_same_speaker(bundle, utterances, tmp_path):
    """What is scored begins with the last second of another neutral utterance, without the silence behind it."""
    after = next(each for each in CONDITIONS if each.neutral)
    calm = tone(2.0, frequency=500.0)
    soundfile.write(tmp_path / "calm.wav", np.concatenate([calm, np.zeros(8000, np.float32)]), SAMPLE_RATE)
    neutral = Utterance(tmp_path / "calm.wav", "calm.wav", "s0", "neutral")
    speech = tone(0.5)
    whole = after.apply(speech, AcousticScene(utterances[0], (), seed=0, neutral=(neutral,)))
    np.testing.assert_array_equal(whole[-len(speech) :], speech)
    lead = whole[: -len(speech)]
    assert len(lead) == SAMPLE_RATE
    # The sine's own zero crossing counts as silence for some samples.
    shift = next(number for number in range(9) if np.abs(lead - calm[16_000 - number : 32_000 - number]).max() < 1e-4)
    assert shift < 9
    stranger = dataclasses.replace(neutral, speaker="s9")
    some = utterances[:4]
    measured = measure_conditions(bundle, some, (neutral, stranger), ("fp32",), conditions=(after,))
    assert [each.name for each in measured.graphs["fp32"]] == [CLEAN, after.name]
    assert measured.left_out == [f"{after.name}: 1 of 4 utterances, whose speakers have no other neutral one"]
    found = evaluate_conditions(bundle, some, (neutral,), ("fp32",), conditions=(after,))["fp32"]
    assert found[after.name].utterances == utterances[:3], "paired with clean on the same ones"
    score = measured.graphs["fp32"][1]
    right = [(each.decided == each.truth)[:3].mean() for each in (found[CLEAN], found[after.name])]
    assert score.difference.value == pytest.approx(right[1] - right[0], abs=1e-6)
    alone = measure_conditions(bundle, some[:1], (stranger,), ("fp32",), conditions=(after,))
    assert [each.name for each in alone.graphs["fp32"]] == [CLEAN]
    assert alone.left_out == [f"{after.name}: 1 of 1 utterances, whose speakers have no other neutral one"]
