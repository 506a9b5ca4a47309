"""`edgeemo teach`: clips to a profile, on the default bundle and rendered speech; and what it refuses."""

import json
from collections import Counter, defaultdict

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner

from distill.corpora import read_corpus
from edge_runtime import teach_command
from edge_runtime.api import load
from edge_runtime.bundles.bundle import DEFAULT_BUNDLE, load_bundle
from edge_runtime.cli import main
from edge_runtime.config import ListenSettings, SpeakerSettings
from edge_runtime.decision import softmax
from edge_runtime.engines.engine import OnnxEngine
from edge_runtime.errors import EdgeemoError
from edge_runtime.sources.audio import read_audio
from edge_runtime.speakers.profile import Profile
from edge_runtime.speakers.profile_store import load_profile, profile_names, profile_path
from edge_runtime.speakers.speaker import utterance_of
from edge_runtime.speakers.speaker_adaptation import Utterance
from edge_runtime.teaching import DOUBTFUL, Benefit, Clip, benefit, clip_of, other_speakers
from tests.conftest import SHARED, absent

RATE = 16_000


@pytest.fixture(autouse=True)
def data(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))


@pytest.fixture(scope="module")
def bundle():
    return load_bundle(DEFAULT_BUNDLE)


@pytest.fixture(scope="module")
def said(corpus_dir, bundle):
    """Files of one rendered speaker by the emotion of the prosody, the fourth part of a file's name."""
    corpus = read_corpus(corpus_dir)
    found = defaultdict(list)
    for item in corpus.utterances:
        prosody = item.path.stem.split("-")[3]
        if item.speaker == corpus.utterances[0].speaker and prosody in bundle.manifest.labels:
            found[prosody].append(item.path)
    assert len(found) >= 3, "the rendered corpus has emotions of the default bundle"
    assert min(map(len, found.values())) >= 4
    return dict(found)


def teach(*arguments, code=0, prints=""):
    done = CliRunner().invoke(main, ["teach", *map(str, arguments)])
    assert done.exit_code == code, (done.output, done.exception)
    assert prints in done.stderr.replace("\n", " ")
    if code:
        assert isinstance(done.exception, SystemExit)
        assert "Error: " in done.stderr
        assert done.stdout == ""
    return done.stdout


def clips(said, first=0, last=2):
    return [
        argument
        for label, files in said.items()
        for file in files[first:last]
        for argument in ("--clip", f"{label}={file}")
    ]


def test_clips_make_a_profile_that_listening_uses(said, bundle):
    shown = json.loads(teach("anna", *clips(said), "--keep", "--json", prints="each clip classified by the others"))
    assert shown["clips"] == dict.fromkeys(said, 2)
    assert 0 <= shown["after"] <= 1
    profile = load_profile("anna")
    assert len(profile.clips) == 2 * len(said)
    assert profile.adaptation(bundle.speaker_model).posterior.known > 0.2
    with load(settings=ListenSettings(speaker=SpeakerSettings(profile="anna"))) as model:
        pcm = read_audio(next(iter(said.values()))[0])
        finals = model(pcm, RATE)
    assert finals[0].profile == "anna"
    assert finals[0].speaker_known > 0.2


def test_a_new_emotion_is_in_the_events(said):
    labels = list(said)
    new = [argument for file in said[labels[0]][:3] for argument in ("--label", f"tired={file}")]
    rest = [argument for label in labels[1:] for file in said[label][:2] for argument in ("--clip", f"{label}={file}")]
    teach("ben", *new, *rest, "--keep")
    assert load_profile("ben").added == ("tired",)
    with load(profile="ben") as model:
        assert model.labels[-1] == "tired"
        (final,) = model(read_audio(said[labels[0]][0]), RATE)[:1]
    assert final.probabilities["tired"] == max(final.probabilities.values())
    with load() as model:
        assert "tired" not in model(read_audio(said[labels[0]][0]), RATE)[0].probabilities


def test_a_clip_given_twice_counts_once(said):
    teach("anna", *clips(said, 0, 1))
    teach("anna", *clips(said, 0, 1), code=2, prints="all clips are in the profile 'anna' already")
    teach("anna", *clips(said, 0, 2), "--keep", prints="is given already, and is left out")
    assert len(load_profile("anna").clips) == 2 * len(said)


def test_a_clip_of_the_profile_with_another_label_is_refused(said):
    """It is not left out in silence: who gives it again wants to correct its label."""
    teach("anna", *clips(said, 0, 1))
    before = profile_path("anna").read_bytes()
    (one, files), (two, _), *_ = said.items()
    message = f"is '{two}' here and '{one}' in the profile 'anna'; to change it, run: edgeemo profile reset anna"
    teach("anna", "--clip", f"{two}={files[0]}", code=2, prints=message)
    assert profile_path("anna").read_bytes() == before


def test_clips_that_another_process_saves_meanwhile_are_kept(said, monkeypatch):
    (one, first), (two, second), (three, third), *_ = said.items()
    check = teach_command._check_speakers

    def other_process(*given):
        monkeypatch.setattr(teach_command, "_check_speakers", check)
        teach("anna", "--clip", f"{one}={first[0]}", "--clip", f"{two}={second[0]}")
        check(*given)

    monkeypatch.setattr(teach_command, "_check_speakers", other_process)
    teach("anna", "--clip", f"{three}={third[0]}", "--clip", f"{one}={first[1]}", prints=f"{one} 2")
    assert Counter(load_profile("anna").clip_labels) == {one: 2, two: 1, three: 1}


def test_a_stretch_of_a_recording_is_a_clip(said, tmp_path):
    label, files = next(iter(said.items()))
    one, two = read_audio(files[0]), read_audio(files[1])
    recording = np.concatenate([one, np.zeros(RATE, np.float32), two])
    soundfile.write(tmp_path / "day.wav", recording, RATE)
    start = len(one) / RATE + 1.0
    other = list(said)[1]
    span = f"{label}={tmp_path / 'day.wav'}@{start:.3f}-{len(recording) / RATE:.3f}"
    teach("anna", "--clip", span, "--clip", f"{other}={said[other][0]}")
    teach("bob", "--clip", f"{label}={files[1]}", "--clip", f"{other}={said[other][0]}")
    assert load_profile("anna").clips[0] == pytest.approx(load_profile("bob").clips[0], abs=1.0)
    teach("anna", "--clip", f"{label}={tmp_path / 'day.wav'}@3-2", code=2, prints="ends before it starts")


@pytest.mark.parametrize(
    ("arguments", "code", "prints"),
    [
        (["--clip", "{one}={file}"], 2, "add clips of another emotion"),
        (["--clip", "tired={file}"], 2, "a new one is given as --label tired=FILE"),
        (["--label", "{one}={file}"], 2, "the bundle has this label already"),
        (["--clip", "{one}={folder}/none.wav"], 1, "there is no such audio file"),
        (["--clip", "{one}"], 2, "is not LABEL=FILE"),
        (["--clip", "a\tb={file}"], 2, "cannot be a label"),
        (["--emotion", "tired"], 2, "--emotion tired: use one of"),
        (["--clip", "{one}={folder}/silence.wav"], 1, "holds no speech"),
        (["--clip", "{one}={folder}/short.wav"], 1, "s of speech, and a clip needs 1 s"),
        (["--clip", "{one}={folder}"], 1, ": is a directory; name an audio file"),
        (["--clip", "{one}={file}@5"], 2, ": a stretch is FILE@START-END in seconds, as clip.wav@2.5-4"),
        (["--clip", "{one}={file}@500-501"], 2, " s; correct the seconds"),
        (["--clip", "{one}={file}", "--clip", "{two}={file}"], 2, "is given as '{one}' and as '{two}'; leave one out"),
        (["--clip", "{one}={file}", "--count", "3"], 2, "--count: is for recording, and only files are given"),
        (["--clip", "{one}={file}", "--source", "mic://"], 2, "--source: is for recording, and only files are given"),
        (
            ["--emotion", "{one}", "--emotion", "{two}", "--count", "1", "--source", "{folder}/mic.wav"],
            1,
            "ended before the clip '{two} 1' was complete",
        ),
    ],
)
def test_it_refuses(said, tmp_path, arguments, code, prints):
    one, two = list(said)[:2]
    files = said[one]
    soundfile.write(tmp_path / "silence.wav", np.zeros(2 * RATE), RATE)
    speech = read_audio(files[0])
    loudest = int(np.abs(speech).argmax())
    soundfile.write(tmp_path / "short.wav", speech[max(0, loudest - RATE // 4) : loudest + RATE // 4], RATE)
    soundfile.write(tmp_path / "mic.wav", np.concatenate([speech, np.zeros(3 * RATE // 2)]), RATE)
    names = {"one": one, "two": two, "file": files[0], "folder": tmp_path}
    teach("anna", *(each.format(**names) for each in arguments), code=code, prints=prints.format(**names))
    assert profile_names() == []


def made(bundle, seed=0, each=3):
    """Clips as the speaker model expects them of a speaker with an offset of a standard deviation."""
    model, random = bundle.speaker_model, np.random.default_rng(seed)
    offset = np.linalg.cholesky(model.between) @ random.normal(size=len(model.between))
    return [
        Clip(label, f"{label} {number}", Utterance(mean + offset + random.normal(size=len(mean)) / 3, np.zeros(0)))
        for label, mean in zip(bundle.manifest.labels, model.class_means, strict=True)
        for number in range(each)
    ]


def test_a_wrong_label_is_found_and_clips_without_benefit_do_not_help(bundle):
    profile, right = Profile.new("anna", bundle), made(bundle)
    worth = benefit(bundle, profile, right)
    assert worth.after == 1.0
    assert worth.helps
    labels = bundle.manifest.labels
    wrong = right[0]._replace(label=labels[1])
    worth = benefit(bundle, profile, [wrong, *right[1:]])
    assert worth.probabilities[0] == min(worth.probabilities) < DOUBTFUL
    assert worth.other_labels[0] == labels[0]
    # Labels at random: the others tell nothing of the one that is left out, which the student classifies well.
    turned = [clip._replace(label=labels[number % len(labels)]) for number, clip in enumerate(right)]
    assert not benefit(bundle, profile, turned).helps or benefit(bundle, profile, turned).before < 0.5
    # Many clips of one emotion and one of another: the one has no estimate of its own.
    worth = benefit(bundle, profile, [*made(bundle, each=20)[:20], right[-1]])
    assert worth.after == 1.0


def test_clips_that_do_not_help_leave_the_profile_as_it_was(said, monkeypatch):
    monkeypatch.setattr(teach_command, "benefit", lambda *_: Benefit(0.9, 0.2, [0.5] * 20, ["sad"] * 20))
    given = clips(said, 0, 1)
    monkeypatch.setattr(teach_command, "_report", lambda *_: None)
    teach("anna", *given, code=3, prints="the clips do not help: 20% of them are right with the others, 90% without")
    assert profile_names() == []
    teach("anna", *given, "--keep")
    assert profile_names() == ["anna"]


def test_clips_help_a_real_speaker(bundle):
    """Five clips of each emotion of speakers of a corpus that the default bundle is not trained on."""
    place = SHARED / "data" / "ased"
    if not place.is_dir():
        absent("the corpus ased")
    corpus = read_corpus(place).labelled({"angry": "angry", "happy": "happy", "neutral": "neutral", "sad": "sad"})
    engine, model, labels = OnnxEngine.of(bundle), bundle.speaker_model, bundle.manifest.labels
    right = {"plain": 0, "taught": 0}
    counts = Counter(item.speaker for item in corpus.utterances)
    for speaker, _ in counts.most_common(3):
        items = [item for item in corpus.utterances if item.speaker == speaker]
        found = [
            Clip(
                item.emotion,
                item.name,
                utterance_of(engine.score(read_audio(item.path)[:80_000]).statistics[None], model, None),
            )
            for item in items
        ]
        taught = [clip for label in labels for clip in [each for each in found if each.label == label][:5]]
        profile = Profile.new("anna", bundle).taught(
            tuple(clip.utterance.reduced for clip in taught), tuple(clip.label for clip in taught)
        )
        names = {clip.name for clip in taught}
        rest = [clip for clip in found if clip.name not in names]
        for name, posterior in (("plain", model.prior()), ("taught", profile.adaptation(model).posterior)):
            rows = np.stack([clip.utterance.reduced for clip in rest])
            decided = posterior.logits(rows).argmax(axis=1)
            right[name] += sum(labels[place] == clip.label for place, clip in zip(decided, rest, strict=True))
    assert right["taught"] > 1.1 * right["plain"]


def test_clips_of_another_speaker_are_reported(bundle):
    if bundle.speaker_projection is None:
        pytest.skip("the default bundle has no speaker projection")
    model, size = bundle.speaker_model, bundle.manifest.statistics_size
    random = np.random.default_rng(0)
    one = random.normal(size=bundle.manifest.speaker.projection.directions)

    def clip(name, embedding):
        return Clip("sad", name, Utterance(np.zeros(len(model.projection)), embedding))

    assert size > 0
    same = [clip(str(number), one + random.normal(0, 0.1, len(one))) for number in range(6)]
    profile = Profile.new("anna", bundle)
    assert other_speakers(bundle, profile, same) == []
    other = clip("other", -one)
    assert other_speakers(bundle, profile, [*same, other]) == [other]


def test_recording_keeps_what_was_complete(said, tmp_path):
    """A file stands for the microphone; it ends in the middle of the clips, as a device that is lost."""
    first, second = list(said)[:2]
    pause = np.zeros(int(1.5 * RATE), np.float32)
    parts = [part for label in (first, second) for part in (read_audio(said[label][0]), pause)]
    soundfile.write(tmp_path / "mic.wav", np.concatenate(parts), RATE)
    wanted = ["--emotion", first, "--emotion", second]
    teach("anna", *wanted, "--count", 1, "--source", tmp_path / "mic.wav", prints=f"{first}, 1 of 1: say a sentence")
    assert set(load_profile("anna").clip_labels) == {first, second}
    teach(
        "ben",
        *wanted,
        "--emotion",
        first,
        "--count",
        1,
        "--source",
        tmp_path / "mic.wav",
        code=1,
        prints="the 2 clips until then are kept",
    )
    assert len(load_profile("ben").clips) == 2


def test_a_probability_is_doubtful_below_that_of_chance():
    assert 0 < DOUBTFUL <= 0.25
    assert softmax(np.zeros(4)).max() > DOUBTFUL


def test_an_engine_that_fails_is_an_error(bundle, said):
    class Broken:
        def score(self, pcm):
            raise EdgeemoError("no")

    label, files = next(iter(said.items()))
    with pytest.raises(EdgeemoError, match="no"):
        clip_of(bundle, Broken(), read_audio(files[0]), label, "x")
