"""Speaker normalisation while listening: updates, their order, and profiles."""

import itertools
import json
import shutil
import signal
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
from edge_runtime.speakers.speaker_mean import SpeakerMean

from edge_runtime.api import listen, score_file
from edge_runtime.bundles.bundle import load_bundle
from edge_runtime.config import ListenSettings, SpeakerSettings, VadSettings, parse_settings
from edge_runtime.decision import softmax
from edge_runtime.engines.engine import OnnxEngine
from edge_runtime.errors import EdgeemoError, WrongUseError
from edge_runtime.events import StatusEvent
from edge_runtime.listen_command import merged
from edge_runtime.loop.listener import Listener
from edge_runtime.speakers.profile_keeper import SAVE_SECONDS, SAVE_UTTERANCES, ProfileKeeper
from edge_runtime.speakers.profile_store import load_profile, profile_names, profile_path, remove_profile, save_profile
from edge_runtime.speakers.speaker import Speaker
from edge_runtime.windows import clip_windows
from tests.conftest import edgeemo, need
from tests.edge_runtime.test_listening import events_of, finals_of, without_clock
from tests.laid_out import LaidOut, in_blocks

need("onnx")

from tests.plain_bundles import SIZE, change, save_plain_bundle, save_speaker_bundle  # noqa: E402

RATE = 16_000
SEGMENT = 2 * RATE
SESSION = ListenSettings(vad=VadSettings(enabled=False), speaker=SpeakerSettings(session=True))
OFF = ListenSettings(vad=VadSettings(enabled=False))


def with_profile(name="anna"):
    return ListenSettings(vad=VadSettings(enabled=False), speaker=SpeakerSettings(profile=name))


@pytest.fixture(autouse=True)
def data(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    return tmp_path / "data"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_speaker_bundle(tmp_path_factory.mktemp("speaker") / "bundle")


@pytest.fixture(scope="module")
def bundle(folder):
    return load_bundle(folder)


@pytest.fixture(scope="module")
def engine(bundle):
    return OnnxEngine.of(bundle)


@pytest.fixture(scope="module")
def sound():
    """Five segments and a bit, each of another loudness, which is all that the graph measures."""
    noise = np.random.default_rng(0).uniform(-1, 1, 5 * SEGMENT + RATE).astype(np.float32)
    return noise * np.repeat(np.array([0.9, 0.1, 0.5, 0.2, 0.7, 0.3], np.float32), SEGMENT)[: len(noise)]


@pytest.fixture(scope="module")
def file(sound, tmp_path_factory):
    path = tmp_path_factory.mktemp("sound") / "noise.wav"
    soundfile.write(path, sound, RATE)
    return path


def events_from(bundle, engine, settings, sound):
    return list(Listener(bundle, engine, settings).listen(LaidOut(*in_blocks(sound))))


def profile_news(events):
    return [event.detail for event in events if isinstance(event, StatusEvent) and event.status == "profile"]


def listened(bundle, source, *options, code=0):
    """Run the command with a profile."""
    done = edgeemo("listen", bundle, "--source", source, "--json", "--profile", "anna", *options)
    assert done.returncode == code, done.stderr
    return done


class TestLearning:
    def test_classified_first_then_learnt(self, bundle, engine, sound):
        """Every number follows from what came before the segment alone."""
        manifest = bundle.manifest
        known = SpeakerMean(bundle.reference(), manifest.speaker.trust)
        finals = finals_of(events_from(bundle, engine, SESSION, sound))
        assert len(finals) == 6
        for number, final in enumerate(finals):
            pcm = sound[number * SEGMENT : (number + 1) * SEGMENT]
            spans = clip_windows(len(pcm), manifest.window)
            scores = [engine.score(pcm[first:last], known.reference()) for first, last in spans]
            wanted = softmax(np.stack([each.logits for each in scores]), manifest.temperature).mean(axis=0)
            assert final.reference_weight == round(known.weight, 3)
            assert list(final.probabilities.values()) == [round(float(each), 4) for each in wanted]
            known.update(np.mean([each.statistics for each in scores], axis=0), wanted)
        assert finals[0].reference_weight == 0
        assert finals[-1].reference_weight > 0.4

    def test_one_reference_within_a_segment_and_another_in_the_next(self, bundle, engine, sound):
        used = []
        real = engine.score

        class Watched:
            backend = engine.backend
            history = engine.history

            def score(self, pcm, reference=None):
                used.append(None if reference is None else reference.tobytes())
                return real(pcm, reference)

        events = [event for event in events_from(bundle, Watched(), SESSION, sound) if event.type != "status"]
        by_segment = [{event.reference_weight for event in events if event.start // 2 == index} for index in range(6)]
        assert all(len(weights) == 1 for weights in by_segment)
        assert len(set.union(*by_segment)) == 6
        # The same object of numbers for as long as a segment lasts: it changes five times.
        assert used[0] is None
        assert sum(one != other for one, other in itertools.pairwise(used)) == 5

    def test_it_makes_a_difference(self, bundle, engine, sound):
        on, off = (finals_of(events_from(bundle, engine, settings, sound)) for settings in (SESSION, OFF))
        assert on[0].probabilities == off[0].probabilities
        assert all(one.probabilities != other.probabilities for one, other in zip(on[1:], off[1:], strict=True))

    def test_too_little_speech_is_not_learnt(self, bundle, engine, sound):
        short = sound[: SEGMENT + 6_000]
        finals = finals_of(events_from(bundle, engine, with_profile(), short))
        assert [final.uncertain for final in finals][-1]
        assert len(finals) == 2
        assert load_profile("anna").count == 1

    @pytest.mark.parametrize("bad", [np.nan, np.inf, 1e7])
    def test_statistics_that_are_none_are_not_believed(self, bundle, bad):
        speaker = Speaker(SpeakerMean(bundle.reference(), 3.0))
        speaker.update(np.array([[1.0, 2.0], [bad, 0.0]]), np.array([0.5, 0.5, 0.0]))
        assert speaker.state().weight == 0
        speaker.update(np.ones((2, SIZE)), np.array([0.5, np.nan, 0.0]))
        assert speaker.state().weight == 0
        speaker.update(np.ones((2, SIZE)), np.array([0.5, 0.5, 0.0]))
        assert speaker.state().weight > 0

    def test_without_speaker_normalisation_a_session_changes_nothing(self, tmp_path, sound):
        plain = load_bundle(save_plain_bundle(tmp_path / "plain"))
        on, off = (events_from(plain, OnnxEngine.of(plain), settings, sound) for settings in (SESSION, OFF))
        assert without_clock(on) == without_clock(off)


class TestOff:
    def test_it_is_off_unless_asked_for(self, bundle, engine, sound):
        events = events_from(bundle, engine, OFF, sound)
        assert {event.reference_weight for event in events if event.type != "status"} == {0.0}
        assert profile_names() == []
        default = ListenSettings()
        assert (default.speaker.session, default.speaker.profile) == (None, None)

    def test_no_normalisation_is_as_if_nothing_were_set(self, folder, file, tmp_path, data):
        config = tmp_path / "edge.toml"
        config.write_text('[speaker]\nsession = true\nprofile = "anna"\n')
        usual = ("listen", folder, "--source", file, "--no-vad", "--json")
        plain = edgeemo(*usual)
        off = edgeemo(*usual, "--config", config, "--no-speaker-normalisation")
        assert off.returncode == plain.returncode == 0, off.stderr
        assert without_clock(events_of(off.stdout)) == without_clock(events_of(plain.stdout))
        assert not data.exists()

    def test_it_is_one_or_the_other(self):
        with pytest.raises(WrongUseError, match="not both"):
            merged(ListenSettings(), {"profile": "anna", "no_speaker_normalisation": True})

    def test_a_wrong_name_is_named(self):
        with pytest.raises(WrongUseError, match=r"^the command line: --profile: must be of letters"):
            merged(ListenSettings(), {"profile": "../anna"})
        with pytest.raises(WrongUseError, match=r"'speaker\.profile': must be of letters"):
            parse_settings({"speaker": {"profile": ".anna"}}, "edge.toml")


class TestCommand:
    def test_paced_and_fast_give_the_same_events(self, folder, sound, tmp_path, monkeypatch):
        soundfile.write(tmp_path / "short.wav", sound[: 2 * SEGMENT + RATE], RATE)
        reported = []
        for how in ([], ["--paced"]):
            monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / f"data{len(how)}"))
            reported.append(events_of(listened(folder, tmp_path / "short.wav", "--no-vad", *how).stdout))
        assert without_clock(reported[0]) == without_clock(reported[1])
        finals = finals_of(reported[0])
        assert len({final.reference_weight for final in finals}) == 3
        assert {final.profile for final in finals} == {"anna"}

    def test_a_profile_survives_a_restart(self, folder, file):
        first, second = (finals_of(events_of(listened(folder, file, "--no-vad").stdout)) for _ in range(2))
        assert first[0].reference_weight == 0
        assert second[0].reference_weight > first[-1].reference_weight
        assert load_profile("anna").count == len(first) + len(second)

    def test_sigterm_saves(self, folder, file):
        options = ("--no-vad", "--json", "--paced", "--profile", "anna")
        process = subprocess.Popen(
            [sys.executable, "-m", "edge_runtime", "listen", folder, "--source", file, *options],
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            assert process.stdout is not None
            assert any(json.loads(line)["type"] == "final" for line in process.stdout)
            assert profile_names() == []
            process.send_signal(signal.SIGTERM)
            rest, _ = process.communicate(timeout=20)
        finally:
            process.kill()
        assert process.returncode == 0
        assert events_of(rest)[-1].status == "stopped"
        assert load_profile("anna").count >= 1

    def test_a_student_without_speaker_normalisation(self, tmp_path, file):
        done = listened(save_plain_bundle(tmp_path / "plain"), file, code=2)
        assert "has no speaker normalisation" in done.stderr
        assert done.stdout == ""

    def test_another_bundle_and_a_poisoned_file(self, folder, bundle, engine, sound, file, tmp_path):
        events_from(bundle, engine, with_profile(), sound)
        other = save_speaker_bundle(tmp_path / "other", trust=9.0)
        before = profile_path("anna").read_bytes()
        done = listened(other, file, code=1)
        assert done.stdout == ""
        assert "is for the bundle" in done.stderr
        assert profile_path("anna").read_bytes() == before
        profile_path("anna").write_bytes(before.replace(b'"count"', b'"kount"'))
        done = listened(folder, file, code=1)
        assert done.stdout == ""
        assert "'count'" in done.stderr

    def test_where_nothing_can_be_written_listening_goes_on(self, folder, file, data):
        (data / "edgeemo").mkdir(parents=True)
        (data / "edgeemo" / "profiles").write_text("a file in the way")
        events = events_of(listened(folder, file, "--no-vad").stdout)
        assert len(finals_of(events)) == 6
        (reported,) = profile_news(events)
        assert "'anna' could not be saved" in reported
        assert [event.status for event in events if event.type == "status"][-2:] == ["profile", "stopped"]


class TestApi:
    def test_settings_work_through_listen(self, folder, file):
        finals = finals_of(listen(folder, str(file), with_profile()))
        assert [final.profile for final in finals] == ["anna"] * 6
        assert load_profile("anna").count == 6
        again = score_file(file, folder, SESSION)
        assert [final.probabilities for final in again] == [final.probabilities for final in finals]
        assert {final.profile for final in again} == {None}

    def test_leaving_early_loses_nothing(self, folder, file):
        events = listen(folder, str(file), with_profile())
        for event in events:
            if event.type == "final" and event.start >= 4:
                break
        events.close()
        assert load_profile("anna").count == 2

    def test_a_listener_opens_the_profile_itself(self, tmp_path):
        plain = load_bundle(save_plain_bundle(tmp_path / "plain"))
        with pytest.raises(WrongUseError, match="has no speaker normalisation"):
            Listener(plain, OnnxEngine.of(plain), with_profile())


class TestKeeper:
    @pytest.fixture
    def clock(self):
        return SimpleNamespace(now=0.0)

    @pytest.fixture
    def keeper(self, bundle, clock):
        return ProfileKeeper(bundle, "anna", lambda: clock.now)

    @pytest.fixture
    def saved(self, keeper, clock):
        """The speaker mean of a profile that was saved, at SAVE_SECONDS."""
        known = self.teach(keeper, keeper.speaker_mean())
        clock.now = SAVE_SECONDS
        return self.teach(keeper, known, 1)

    @staticmethod
    def teach(keeper, known, times=SAVE_UTTERANCES):
        for _ in range(times):
            known.update(np.ones(SIZE), np.array([0.5, 0.3, 0.2]))
            known = keeper.updated(known)
            if known is None:
                return None
        return known

    def test_saved_now_and_then_and_at_the_end(self, keeper, clock):
        known = self.teach(keeper, keeper.speaker_mean(), 2 * SAVE_UTTERANCES)
        assert profile_names() == []
        clock.now = SAVE_SECONDS
        known = self.teach(keeper, known, 1)
        assert load_profile("anna").count == 2 * SAVE_UTTERANCES + 1
        clock.now = 2 * SAVE_SECONDS
        known = self.teach(keeper, known, SAVE_UTTERANCES - 1)
        assert load_profile("anna").count == 2 * SAVE_UTTERANCES + 1
        keeper.close(known)
        assert load_profile("anna").count == 3 * SAVE_UTTERANCES
        assert keeper.notices() == []

    def test_nothing_learnt_writes_nothing(self, keeper):
        keeper.close(keeper.speaker_mean())
        assert profile_names() == []

    def test_a_disk_that_fails_and_comes_back(self, keeper, clock, data):
        data.mkdir()
        (data / "edgeemo").write_text("a file in the way")
        known = keeper.speaker_mean()
        for turn in (1, 2):
            clock.now = turn * SAVE_SECONDS
            known = self.teach(keeper, known)
        (told,) = keeper.notices()
        assert "could not be saved" in told
        assert told.endswith("trying again")
        (data / "edgeemo").unlink()
        clock.now = 3 * SAVE_SECONDS
        known = self.teach(keeper, known, 1)
        assert keeper.notices() == ["the profile 'anna' is saved again"]
        assert load_profile("anna").count == 2 * SAVE_UTTERANCES + 1

    def test_removed_means_forgotten(self, keeper, clock, saved):
        assert remove_profile("anna")
        clock.now = 2 * SAVE_SECONDS
        assert self.teach(keeper, saved) is None
        assert "was removed: it is not used" in keeper.notices()[0]
        assert profile_names() == []

    def test_removed_before_the_end_does_not_come_back(self, bundle, engine, sound):
        events_from(bundle, engine, with_profile(), sound)
        events = Listener(bundle, engine, with_profile()).listen(LaidOut(*in_blocks(sound)))
        next(events)
        remove_profile("anna")
        (reported,) = profile_news(list(events))
        assert "was removed" in reported
        assert profile_names() == []

    def test_changed_by_another_program_is_taken_over(self, keeper, clock, saved):
        save_profile(load_profile("anna").cleared())
        clock.now = 2 * SAVE_SECONDS
        known = self.teach(keeper, saved)
        assert known.count == 0
        assert "changed by another program" in keeper.notices()[0]
        clock.now = 3 * SAVE_SECONDS
        self.teach(keeper, known)
        assert load_profile("anna").count == SAVE_UTTERANCES

    def test_damaged_by_another_program_is_left_alone(self, keeper, clock, saved):
        profile_path("anna").write_text("{")
        clock.now = 2 * SAVE_SECONDS
        assert self.teach(keeper, saved) is None
        assert "not updated" in keeper.notices()[0]
        assert profile_path("anna").read_text() == "{"

    def test_how_far_it_is_trusted_is_the_bundle_s_to_say(self, bundle, keeper):
        known = self.teach(keeper, keeper.speaker_mean())
        keeper.close(known)
        path = profile_path("anna")
        content = json.loads(path.read_text()) | {"trust": 0.1}
        path.write_text(json.dumps(content))
        assert ProfileKeeper(bundle, "anna").speaker_mean().weight == pytest.approx(known.weight)

    def test_a_profile_that_cannot_be_used_is_refused_at_the_start(self, bundle, keeper):
        keeper.close(self.teach(keeper, keeper.speaker_mean()))
        profile_path("anna").write_text("{}")
        with pytest.raises(EdgeemoError, match="schema version"):
            ProfileKeeper(bundle, "anna")


def test_a_real_student_s_graph_takes_the_reference(untrained_bundle, tmp_path, sound):
    """Its graphs are what `edgeemo export` makes; only the speaker entry is added."""
    shutil.copytree(untrained_bundle, tmp_path / "bundle")
    change(tmp_path / "bundle", lambda content: content.update(speaker={"trust": 1.0}))
    bundle = load_bundle(tmp_path / "bundle")
    long = np.tile(sound, 2)
    for precision in ("fp32", "int8-cpu"):
        engine = OnnxEngine.of(bundle, precision)
        both = (with_profile(precision), OFF)
        on, off = (finals_of(events_from(bundle, engine, settings, long)) for settings in both)
        assert on[0].probabilities == off[0].probabilities
        assert on[-1].reference_weight > 0.3
        assert load_profile(precision).mean.any()
        engine.close()
