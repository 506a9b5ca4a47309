"""A bundle of an untrained student: all of it real but the accuracy, made in seconds."""

from pathlib import Path

import numpy as np
import torch

from distill.distillation.build_student import build_student
from distill.recipe import RandomEncoder, Schedule
from distill.recipe import Student as StudentRecipe
from edge_runtime.bundles.manifest import GRAPHS, SCHEMA_VERSION, CorpusEntry, EncoderEntry, Manifest, WindowEntry
from edge_runtime.bundles.speaker_model import SpeakerModel
from edge_runtime.engines.engine import OnnxEngine
from edge_runtime.windows import WindowPolicy
from export.bundle.known_answers import write_known_answers
from export.bundle.manifest import speaker_entry, write_speaker_files
from export.bundle.write_bundle import file_entries, write_manifest
from export.graphs.float_graph import export_graph
from export.graphs.half import write_half
from tests.conftest import tone
from tests.quantise import quantise

POLICY = WindowPolicy(seconds=2.0, hop_seconds=0.5, minimum_seconds=0.5, segment_seconds=6.0)


def save_bundle(
    folder: Path,
    *,
    pruning: dict[str, object] | None = None,
    policy: WindowPolicy = POLICY,
    macs: dict[str, int] | None = None,
    speaker: bool = False,
    corpora: tuple[CorpusEntry, ...] = (),
) -> Path:
    """Save a bundle with every graph that `edgeemo export --int8` makes; with a speaker model on request."""
    torch.manual_seed(0)
    recipe = StudentRecipe(
        random=RandomEncoder(d_model=32, layers=1, heads=2, feed_forward=64, mel_bins=40),
        hidden_size=32,
        training=Schedule(epochs=1, learning_rate=1e-3),
        pooled_frames=("all", "loud") if policy.chunk else ("all",),
        pooled_deviation=not policy.chunk,
    )
    student = build_student(recipe, ("angry", "happy", "neutral", "sad"), chunk=policy.chunk).eval()
    if speaker:
        student.set_speaker_model(speaker_model(student.reference.shape[1]))
    folder.mkdir(parents=True)
    export_graph(student, policy, folder / "model.fp32.onnx")
    reference = student.reference.numpy()
    noise = np.random.default_rng(0)
    windows = [
        tone(2.0, frequency=110 + 40 * index) + noise.normal(0, 0.02, POLICY.samples).astype(np.float32)
        for index in range(6)
    ]
    for name, precision in GRAPHS.items():
        if precision.startswith("int8"):
            quantise(folder / "model.fp32.onnx", folder / name, precision, windows, reference)
    write_half(folder / "model.fp32.onnx", folder / "model.fp16.onnx")
    (folder / "README.md").write_text("A bundle of an untrained student, for tests.\n")
    float_logits = OnnxEngine(folder / "model.fp32.onnx", reference, "fp32").score_windows(windows)
    known = write_known_answers(folder, reference, policy, float_logits, 1.0)
    write_speaker_files(student, folder)
    encoder = student.encoder
    write_manifest(
        folder,
        Manifest(
            schema_version=SCHEMA_VERSION,
            created="2026-01-01T00:00:00+00:00",
            labels=tuple(student.config.labels),
            sample_rate=16_000,
            window=WindowEntry(**policy.model_dump()),
            level_db=encoder.level_db,
            statistics_size=reference.shape[1],
            reference=tuple(map(float, reference[0])),
            encoder=EncoderEntry(
                family=encoder.family,
                layers=encoder.depth,
                d_model=encoder.hidden_size,
                heads=encoder.heads,
                feed_forward=encoder.feed_forward,
                mel_bins=encoder.mel_bins,
                parameters=sum(weight.numel() for weight in student.parameters()),
            ),
            recipe={},
            teachers=(),
            corpora=corpora,
            speaker=speaker_entry(student),
            metrics={},
            temperature=1.0,
            threshold=0.4,
            quantisation={},
            pruning=pruning or {},
            macs=macs or {},
            parity=[],
            known_answers=known,
            provenance={},
            files=file_entries(folder),
        ),
    )
    return folder


def speaker_model(size: int) -> SpeakerModel:
    """Return a speaker model of random directions."""
    random = np.random.default_rng(0)
    return SpeakerModel(
        projection=random.normal(0.0, size**-0.5, (5, size)).astype(np.float32),
        origin=np.zeros(size),
        class_means=random.normal(0.0, 1.0, (4, 5)),
        between=np.diag(np.linspace(1.0, 3.0, 5)),
        interaction=np.full((4, 5), 0.3),
        softness=16.0,
    )
