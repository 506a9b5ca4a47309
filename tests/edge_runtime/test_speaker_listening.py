"""Speaker normalisation while listening: updates, their order, and profiles."""

import json
import shutil
import signal
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile

from edge_runtime.api import listen, load, score_file
from edge_runtime.bundles.bundle import load_bundle
from edge_runtime.bundles.manifest import SPEAKER_MODEL
from edge_runtime.bundles.speaker_model import SpeakerModel
from edge_runtime.config import ListenSettings, SpeakerSettings, VadSettings, parse_settings
from edge_runtime.decision import softmax
from edge_runtime.engines.engine import OnnxEngine
from edge_runtime.errors import EdgeemoError, WrongUseError
from edge_runtime.events import StatusEvent
from edge_runtime.listen_command import merged
from edge_runtime.loop.listener import Listener
from edge_runtime.speakers.profile import Profile
from edge_runtime.speakers.profile_keeper import SAVE_SECONDS, SAVE_UTTERANCES, ProfileKeeper
from edge_runtime.speakers.profile_store import load_profile, profile_names, profile_path, remove_profile, save_profile
from edge_runtime.speakers.speaker import Speaker, open_speaker
from edge_runtime.speakers.speaker_adaptation import SpeakerAdaptation, Utterance
from edge_runtime.windows import clip_windows
from tests.conftest import edgeemo, need
from tests.edge_runtime.test_listening import events_of, finals_of, without_clock
from tests.laid_out import LaidOut, in_blocks

need("onnx")

from tests.plain_bundles import LABELS, SIZE, add_file, change, save_plain_bundle, save_speaker_bundle  # noqa: E402

RATE = 16_000
DIRECTIONS = 2
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


def learnt(name):
    """Return the number of utterances of a profile on disk."""
    return len(load_profile(name).utterances)


def utterance(value=1.0):
    return Utterance(np.full(DIRECTIONS, value), np.zeros(0))


class TestLearning:
    def test_classified_first_then_learnt(self, bundle, engine, sound):
        """Every number follows from what came before the segment alone."""
        manifest, model = bundle.manifest, bundle.speaker_model
        rows = np.zeros((0, DIRECTIONS))
        finals = finals_of(events_from(bundle, engine, SESSION, sound))
        assert len(finals) == 6
        for number, final in enumerate(finals):
            pcm = sound[number * SEGMENT : (number + 1) * SEGMENT]
            spans = clip_windows(len(pcm), manifest.window)
            statistics = np.stack([engine.score(pcm[first:last]).statistics for first, last in spans])
            known = model.adapted(rows)
            wanted = softmax(known.logits(model.reduced(statistics)), manifest.temperature).mean(axis=0)
            assert final.speaker_known == round(known.known, 3)
            assert list(final.probabilities.values()) == [round(float(each), 4) for each in wanted]
            rows = np.concatenate([rows, model.reduced(statistics.mean(axis=0, dtype=np.float64))[None]])
        assert finals[0].speaker_known == 0
        assert finals[-1].speaker_known > 0.4

    def test_one_state_within_a_segment_and_another_in_the_next(self, bundle, engine, sound):
        events = [event for event in events_from(bundle, engine, SESSION, sound) if event.type != "status"]
        by_segment = [[event.speaker_known for event in events if event.start // 2 == index] for index in range(6)]
        assert all(len(known) > 1 and len(set(known)) == 1 for known in by_segment)
        firsts = [known[0] for known in by_segment]
        assert firsts == sorted(set(firsts))

    def test_the_graph_is_scored_with_the_training_mean(self, bundle, engine, sound):
        """What is known of a speaker needs no other run of the graph."""
        on, off = [], []
        for settings, used in ((SESSION, on), (OFF, off)):

            class Watched:
                backend = engine.backend
                history = engine.history

                def score(self, pcm, reference=None, used=used):
                    used.append((len(pcm), reference))
                    return engine.score(pcm, reference)

            events_from(bundle, Watched(), settings, sound)
        assert on == off
        assert {reference for _, reference in on} == {None}

    def test_it_makes_a_difference(self, bundle, engine, sound):
        on, off = (finals_of(events_from(bundle, engine, settings, sound)) for settings in (SESSION, OFF))
        # Of an unknown speaker, the model says what the graph says.
        assert on[0].probabilities == pytest.approx(off[0].probabilities, abs=2e-4)
        assert all(one.probabilities != other.probabilities for one, other in zip(on[1:], off[1:], strict=True))

    def test_too_little_speech_is_not_learnt(self, bundle, engine, sound):
        short = sound[: SEGMENT + 6_000]
        finals = finals_of(events_from(bundle, engine, with_profile(), short))
        assert [final.uncertain for final in finals][-1]
        assert len(finals) == 2
        assert learnt("anna") == 1

    @pytest.mark.parametrize("bad", [np.nan, np.inf, 1e7])
    def test_statistics_that_are_none_are_not_believed(self, bundle, bad):
        speaker = Speaker(LABELS, SpeakerAdaptation(bundle.speaker_model))
        speaker.update(np.array([[1.0] * SIZE, [bad, *[0.0] * (SIZE - 1)]]))
        assert speaker.state().known == 0
        speaker.update(np.ones((2, SIZE)))
        assert speaker.state().known > 0

    def test_statistics_that_no_profile_could_hold_are_not_believed(self, bundle):
        """Plausible by themselves, and beyond what a profile may have when they are reduced: it could not be read."""
        speaker = open_speaker(bundle, SpeakerSettings(profile="anna"))
        speaker.update(np.full((1, SIZE), 9e5))
        assert speaker.state().known == 0
        speaker.update(np.ones((1, SIZE)))
        speaker.close()
        assert learnt("anna") == 1

    def test_statistics_that_are_not_numbers_give_no_result(self, bundle, engine, sound):
        class Broken:
            backend = engine.backend
            history = engine.history

            def score(self, pcm):
                scores = engine.score(pcm)
                return scores._replace(statistics=np.full_like(scores.statistics, np.nan))

        events = events_from(bundle, Broken(), SESSION, sound[:SEGMENT])
        assert {event.type for event in events} == {"status"}
        assert [event.detail for event in events if event.status == "engine"] == [
            "a window could not be scored (the graph returned values that are not numbers); trying again"
        ]

    def test_without_speaker_normalisation_a_session_changes_nothing(self, tmp_path, sound):
        plain = load_bundle(save_plain_bundle(tmp_path / "plain"))
        on, off = (events_from(plain, OnnxEngine.of(plain), settings, sound) for settings in (SESSION, OFF))
        assert without_clock(on) == without_clock(off)


class TestOff:
    def test_it_is_off_unless_asked_for(self, bundle, engine, sound):
        events = events_from(bundle, engine, OFF, sound)
        assert {event.speaker_known for event in events if event.type != "status"} == {0.0}
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
        assert len({final.speaker_known for final in finals}) == 3
        assert {final.profile for final in finals} == {"anna"}

    def test_a_profile_survives_a_restart(self, folder, file):
        first, second = (finals_of(events_of(listened(folder, file, "--no-vad").stdout)) for _ in range(2))
        assert first[0].speaker_known == 0
        assert second[0].speaker_known > first[-1].speaker_known
        assert learnt("anna") == len(first) + len(second)

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
        assert learnt("anna") >= 1

    def test_a_student_without_speaker_normalisation(self, tmp_path, file):
        done = listened(save_plain_bundle(tmp_path / "plain"), file, code=2)
        assert "has no speaker model" in done.stderr
        assert done.stdout == ""

    def test_another_bundle_and_a_poisoned_file(self, folder, bundle, engine, sound, file, tmp_path):
        events_from(bundle, engine, with_profile(), sound)
        other = save_speaker_bundle(tmp_path / "other", softness=9.0)
        before = profile_path("anna").read_bytes()
        done = listened(other, file, code=1)
        assert done.stdout == ""
        assert "is for the bundle" in done.stderr
        assert profile_path("anna").read_bytes() == before
        profile_path("anna").write_bytes(before.replace(b'"directions"', b'"dirextions"'))
        done = listened(folder, file, code=1)
        assert done.stdout == ""
        assert "'directions'" in done.stderr

    def test_where_nothing_can_be_written_listening_goes_on(self, folder, file, data):
        (data / "edgeemo").mkdir(parents=True)
        (data / "edgeemo" / "profiles").write_text("a file in the way")
        done = listened(folder, file, "--no-vad", code=1)
        events = events_of(done.stdout)
        assert len(finals_of(events)) == 6
        (reported,) = profile_news(events)
        assert done.stderr.endswith(f"Error: {reported}\n")
        assert "'anna' could not be saved" in reported
        assert [event.status for event in events if event.type == "status"][-2:] == ["profile", "stopped"]


class TestAddedLabels:
    """A profile with labelled clips of an emotion that the bundle does not have."""

    @pytest.fixture
    def loud(self, bundle, engine):
        """Clips that are as loud as the first segment."""
        pcm = np.random.default_rng(5).uniform(-0.9, 0.9, RATE).astype(np.float32)
        return tuple([bundle.speaker_model.reduced(engine.score(pcm).statistics)] * 20)

    def test_they_are_in_the_events(self, bundle, engine, sound, loud):
        save_profile(Profile.new("anna", bundle).taught(loud, ("calm",) * 20))
        events = [event for event in events_from(bundle, engine, with_profile(), sound) if event.type != "status"]
        assert {event.type for event in events} == {"provisional", "final"}
        assert all(list(event.probabilities) == [*LABELS, "calm"] for event in events)
        finals = finals_of(events)
        assert all(sum(final.probabilities.values()) == pytest.approx(1, abs=1e-3) for final in finals)
        assert all(0 < final.speaker_known < 1 for final in finals)
        # The second segment is quiet.
        assert finals[0].label == "calm"
        assert finals[1].label != "calm"
        held = load_profile("anna")
        assert (len(held.utterances), len(held.clips), held.added) == (6, 20, ("calm",))

    def test_clips_of_a_label_of_the_bundle_count_too(self, bundle, engine, sound, loud):
        save_profile(Profile.new("anna", bundle).taught(loud, (LABELS[0],) * 20))
        taught, plain = (finals_of(events_from(bundle, engine, each, sound)) for each in (with_profile(), SESSION))
        assert list(taught[0].probabilities) == list(LABELS)
        assert taught[0].probabilities[LABELS[0]] > 0.5 > plain[0].probabilities[LABELS[0]]

    def test_a_session_and_nothing_do_not_have_them(self, bundle, engine, sound, loud):
        save_profile(Profile.new("anna", bundle).taught(loud, ("calm",) * 20))
        for settings in (SESSION, OFF):
            finals = finals_of(events_from(bundle, engine, settings, sound))
            assert all(list(final.probabilities) == list(LABELS) for final in finals)

    def test_a_model_names_them(self, folder, bundle, loud):
        save_profile(Profile.new("anna", bundle).taught(loud, ("calm",) * 20))
        for settings, labels in ((with_profile(), (*LABELS, "calm")), (SESSION, LABELS)):
            with load(folder, settings=settings) as model:
                assert model.labels == labels

    @pytest.mark.parametrize("later", [(), ("calm", "proud"), ("proud",)])
    def test_another_program_may_change_them_while_listening(self, bundle, engine, loud, later):
        save_profile(Profile.new("anna", bundle).taught(loud[:1], ("calm",)))
        speaker = open_speaker(bundle, SpeakerSettings(profile="anna"))
        assert speaker.state().labels == (*LABELS, "calm")
        save_profile(load_profile("anna").cleared().taught(loud[: len(later)], later))
        speaker.update(np.ones((1, SIZE)))
        speaker.close()
        assert "changed by another program" in speaker.notices()[0]
        state = speaker.state()
        assert state.labels == speaker.labels == (*LABELS, *later)
        scores = engine.score(np.full(RATE, 0.5, np.float32))
        assert state.logits(scores).shape == (len(state.labels),)

    def test_removed_while_listening_they_are_gone(self, bundle, engine, loud):
        save_profile(Profile.new("anna", bundle).taught(loud[:1], ("calm",)))
        speaker = open_speaker(bundle, SpeakerSettings(profile="anna"))
        remove_profile("anna")
        speaker.update(np.ones((1, SIZE)))
        speaker.close()
        state = speaker.state()
        assert (state.labels, state.profile, state.known) == (LABELS, None, 0.0)
        assert state.logits(engine.score(np.full(RATE, 0.5, np.float32))).shape == (len(LABELS),)


class TestApi:
    def test_settings_work_through_listen(self, folder, file):
        finals = finals_of(listen(folder, str(file), with_profile()))
        assert [final.profile for final in finals] == ["anna"] * 6
        assert learnt("anna") == 6
        again = score_file(file, folder, SESSION)
        assert [final.probabilities for final in again] == [final.probabilities for final in finals]
        assert {final.profile for final in again} == {None}

    def test_leaving_early_loses_nothing(self, folder, file):
        events = listen(folder, str(file), with_profile())
        for event in events:
            if event.type == "final" and event.start >= 4:
                break
        events.close()
        assert learnt("anna") == 2

    def test_a_listener_opens_the_profile_itself(self, tmp_path):
        plain = load_bundle(save_plain_bundle(tmp_path / "plain"))
        with pytest.raises(WrongUseError, match="has no speaker model"):
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
        """What is known of the speaker of a profile that was saved, at SAVE_SECONDS."""
        known = self.teach(keeper, keeper.adaptation())
        clock.now = SAVE_SECONDS
        return self.teach(keeper, known, 1)

    @staticmethod
    def teach(keeper, known, times=SAVE_UTTERANCES):
        for _ in range(times):
            known.update(utterance())
            known = keeper.updated(known)
            if known is None:
                return None
        return known

    def test_saved_now_and_then_and_at_the_end(self, keeper, clock):
        known = self.teach(keeper, keeper.adaptation(), 2 * SAVE_UTTERANCES)
        assert profile_names() == []
        clock.now = SAVE_SECONDS
        known = self.teach(keeper, known, 1)
        assert learnt("anna") == 2 * SAVE_UTTERANCES + 1
        clock.now = 2 * SAVE_SECONDS
        known = self.teach(keeper, known, SAVE_UTTERANCES - 1)
        assert learnt("anna") == 2 * SAVE_UTTERANCES + 1
        keeper.close(known)
        assert learnt("anna") == 3 * SAVE_UTTERANCES
        assert keeper.notices() == []

    def test_nothing_learnt_writes_nothing(self, keeper):
        keeper.close(keeper.adaptation())
        assert profile_names() == []

    def test_a_disk_that_fails_and_comes_back(self, keeper, clock, data):
        data.mkdir()
        (data / "edgeemo").write_text("a file in the way")
        known = keeper.adaptation()
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
        assert learnt("anna") == 2 * SAVE_UTTERANCES + 1

    def test_what_is_lost_at_the_end_stays_lost(self, keeper, data):
        """Also where the disk has room again a moment later: the end has been reported."""
        data.mkdir()
        (data / "edgeemo").write_text("a file in the way")
        known = self.teach(keeper, keeper.adaptation(), 1)
        keeper.close(known)
        (data / "edgeemo").unlink()
        keeper.close(known)
        assert keeper.notices() == [keeper.lost]
        assert profile_names() == []

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
        assert learnt("anna") == SAVE_UTTERANCES

    def test_damaged_by_another_program_is_left_alone(self, keeper, clock, saved):
        profile_path("anna").write_text("{")
        clock.now = 2 * SAVE_SECONDS
        assert self.teach(keeper, saved) is None
        assert "not updated" in keeper.notices()[0]
        assert profile_path("anna").read_text() == "{"

    def test_what_is_saved_is_what_was_known(self, bundle, keeper):
        known = keeper.adaptation()
        for value in (0.5, -1.0, 2.0):
            known.update(utterance(value))
            known = keeper.updated(known)
        keeper.close(known)
        again = ProfileKeeper(bundle, "anna").adaptation()
        assert [float(each.reduced[0]) for each in again.utterances] == [0.5, -1.0, 2.0]
        assert again.posterior.known == pytest.approx(known.posterior.known)

    def test_clips_stay_while_utterances_are_added(self, bundle):
        save_profile(Profile.new("anna", bundle).taught((np.zeros(DIRECTIONS),), ("calm",)))
        keeper = ProfileKeeper(bundle, "anna")
        assert keeper.added == ("calm",)
        keeper.close(self.teach(keeper, keeper.adaptation(), 2))
        held = load_profile("anna")
        assert (len(held.utterances), held.clip_labels, held.added) == (2, ("calm",), ("calm",))

    def test_a_profile_that_cannot_be_used_is_refused_at_the_start(self, bundle, keeper):
        keeper.close(self.teach(keeper, keeper.adaptation()))
        profile_path("anna").write_text("{}")
        with pytest.raises(EdgeemoError, match="schema version"):
            ProfileKeeper(bundle, "anna")


def test_a_real_student_s_statistics_are_adapted_to(untrained_bundle, tmp_path, sound):
    """Its graphs are what `edgeemo export` makes; only the speaker model is added."""
    shutil.copytree(untrained_bundle, tmp_path / "bundle")
    plain = load_bundle(untrained_bundle)
    random, size, classes = np.random.default_rng(0), plain.manifest.statistics_size, len(plain.manifest.labels)
    model = SpeakerModel(
        projection=random.normal(size=(3, size)).astype(np.float32) / size,
        origin=plain.reference()[0].astype(np.float64),
        class_means=random.normal(size=(classes, 3)),
        between=2.0 * np.eye(3),
        interaction=np.full((classes, 3), 0.5),
        softness=8.0,
    )
    change(tmp_path / "bundle", lambda content: content.update(speaker={"directions": 3, "softness": 8.0}))
    add_file(tmp_path / "bundle", SPEAKER_MODEL, model.dump())
    bundle = load_bundle(tmp_path / "bundle")
    long = np.tile(sound, 2)
    for precision in ("fp32", "int8-cpu"):
        engine = OnnxEngine.of(bundle, precision)
        both = (with_profile(precision), OFF)
        on, off = (finals_of(events_from(bundle, engine, settings, long)) for settings in both)
        assert off[0].speaker_known == off[-1].speaker_known == on[0].speaker_known == 0.0
        assert on[-1].speaker_known > 0.3
        assert learnt(precision) == len(on)
        # The statistics are those of the graph.
        first, last = round(on[0].start * RATE), round(on[0].end * RATE)
        pcm = long[first:last]
        spans = clip_windows(len(pcm), bundle.manifest.window)
        statistics = np.stack([engine.score(pcm[start:end]).statistics for start, end in spans])
        saved = load_profile(precision).utterances[0]
        assert saved.reduced == pytest.approx(model.reduced(statistics.mean(axis=0)), rel=1e-3, abs=1e-3)
        engine.close()
