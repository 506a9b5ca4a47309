"""Systems to compare students with, each as a function of a window."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch

from benchmarks.bench.accuracy.graphs import on_this_processor
from benchmarks.bench.device.machine_limit import window_macs
from benchmarks.bench.measure import opensmile_extraction
from benchmarks.lab.encoder_statistics import layer_statistics
from benchmarks.lab.light_sernet.network import SAMPLES, count_macs, mfcc, parameter_count
from benchmarks.lab.light_sernet.training import NETWORK
from benchmarks.lab.options import say
from distill.encoders.interface import SpeechEncoder
from distill.encoders.load import make_encoder
from distill.pruning.macs import total_macs
from distill.student import Student
from edge_runtime.backends import best_precision, open_engine
from edge_runtime.bundles.bundle import Bundle
from edge_runtime.engines.engine import OnnxEngine, session_options
from edge_runtime.errors import EdgeemoError, WrongUseError
from edge_runtime.sources.audio import SAMPLE_RATE, Pcm
from export.graphs.float_graph import DeviceGraph
from export.loaded_run import load_student

WINDOW_SECONDS = SAMPLES / SAMPLE_RATE
"""Length of every timed window, the only one that Light-SERNet supports."""
FUNCTIONALS = 88
WHISPER_BASE: Mapping[str, Any] = {
    "d_model": 512,
    "encoder_attention_heads": 8,
    "encoder_ffn_dim": 2048,
    "num_mel_bins": 80,
}
"""Sizes of openai/whisper-base, by its config.json."""

Call = Callable[[Pcm], object]


@dataclass(frozen=True)
class Peer:
    """One system.

    Attributes:
        system: name in the results.
        precision: of its graph or checkpoint; None without one.
        call: scores a window ``[S]``.
        parameters: number of parameters.
        macs: multiply-accumulates of one window, matrix products and convolutions.
        size_bytes: of the deployed model.
        note: of its row.
        parts: parts of `call` that are timed separately, by name.
    """

    system: str
    precision: str | None
    call: Call
    parameters: int | None = None
    macs: int | None = None
    size_bytes: int | None = None
    note: str = ""
    parts: Mapping[str, Call] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Name among the timings."""
        return f"{self.system} {self.precision}" if self.precision else self.system


def bundle_peers(system: str, bundle: Bundle) -> list[Peer]:
    """Return a bundle's graphs for this processor, in ONNX Runtime on one thread.

    Raises:
        EdgeemoError: a graph cannot be loaded.
        WrongUseError: its window is shorter than the timed ones.
    """
    longest = bundle.manifest.window.seconds
    if longest < WINDOW_SECONDS:
        raise WrongUseError(
            f"{bundle.root}: has windows of {longest:g} s, and Light-SERNet needs {WINDOW_SECONDS:g} s; "
            "give a bundle with a longer window"
        )
    return [
        _graph(system, bundle, precision, OnnxEngine.of(bundle, precision).score, "ONNX Runtime")
        for precision in on_this_processor(bundle)
    ]


def tensorrt_peer(system: str, bundle: Bundle) -> Peer:
    """Return a bundle's best graph in TensorRT; requires `tensorrt_here`.

    Raises:
        EdgeemoError: the bundle has no graph for TensorRT, or the engine cannot be built.
    """
    precision = best_precision(bundle)
    if precision is None:
        raise EdgeemoError(f"{bundle.root}: has no graph for TensorRT; export it with --int8 or --fp16")
    engine = open_engine(bundle, "tensorrt", precision, say=say)
    return _graph(f"{system}-tensorrt", bundle, precision, engine.score, engine.backend)


def _graph(system: str, bundle: Bundle, precision: Any, call: Call, note: str) -> Peer:
    return Peer(
        system=system,
        precision=precision,
        call=call,
        parameters=bundle.manifest.encoder.parameters,
        macs=window_macs(bundle.manifest, WINDOW_SECONDS),
        size_bytes=bundle.graph(precision).stat().st_size,
        note=note,
    )


def pytorch_student(run: Path) -> Peer:
    """Return the student of a run in PyTorch, with the default speaker mean.

    Raises:
        EdgeemoError: it cannot be loaded.
    """
    student: Student = load_student(run / "student")
    graph, reference = DeviceGraph(student).eval(), student.reference

    def call(pcm: Pcm) -> object:
        with torch.inference_mode():
            return graph(torch.from_numpy(pcm)[None], reference)

    return Peer(
        system="student-pytorch",
        precision="fp32",
        call=call,
        parameters=_count(student),
        macs=total_macs(student, SAMPLES),
        size_bytes=(run / "student" / "model.safetensors").stat().st_size,
        note="PyTorch",
    )


def hubert_base() -> Peer:
    """Return HuBERT-base with random weights, for latency only."""
    encoder = make_encoder("hubert", {}).eval()

    def call(pcm: Pcm) -> object:
        with torch.inference_mode():
            return encoder(torch.from_numpy(pcm)[None])

    return _in_pytorch("hubert-base", encoder, call, "PyTorch, random weights of its size, no classifier: latency only")


def probe(layers: tuple[int, ...], classes: int) -> Peer:
    """Return the first blocks of Whisper-base with random weights, for the latency of a probe on them.

    Args:
        layers: blocks, from 1, whose statistics the probe takes.
        classes: number of emotions.
    """
    encoder = make_encoder("whisper", {**WHISPER_BASE, "encoder_layers": max(layers)}).eval()

    def call(pcm: Pcm) -> object:
        with torch.inference_mode():
            return layer_statistics(encoder, torch.from_numpy(pcm))

    inputs = 2 * encoder.hidden_size * len(layers)
    named = f"layer {layers[0]}" if len(layers) == 1 else f"layers {', '.join(map(str, layers))}"
    note = f"Whisper-base up to {named} in PyTorch; latency is that of the statistics, by random weights of its size"
    return _in_pytorch("probe", encoder, call, note, more=(inputs + 1) * classes)


def _in_pytorch(system: str, encoder: SpeechEncoder, call: Call, note: str, *, more: int = 0) -> Peer:
    """Describe an encoder in PyTorch, followed by ``more`` parameters that are multiplied once each."""
    parameters = _count(encoder) + more
    return Peer(
        system=system,
        precision="fp32",
        call=call,
        parameters=parameters,
        macs=sum(encoder.macs(SAMPLES).values()) + more,
        size_bytes=4 * parameters,
        note=note,
    )


def opensmile_logreg(classes: int) -> Peer:
    """Return openSMILE's eGeMAPS functionals; the logistic regression is not timed."""
    return Peer(
        system="opensmile-logreg",
        precision=None,
        call=opensmile_extraction(),
        parameters=(FUNCTIONALS + 1) * classes,
        note="latency is that of openSMILE's eGeMAPS extraction alone",
    )


def light_sernet(folds: Path, fold: int, classes: int) -> Peer:
    """Return Light-SERNet trained on a fold: MFCC in NumPy, the network in ONNX Runtime.

    Raises:
        EdgeemoError: the fold's network is missing.
    """
    path = folds / f"fold-{fold}" / NETWORK
    if not path.is_file():
        raise EdgeemoError(f"{path}: is missing; run python -m benchmarks.lab.baselines light-sernet with a new --out")
    session = onnxruntime.InferenceSession(
        str(path), session_options("fp32", threads=1), providers=["CPUExecutionProvider"]
    )
    prepared = mfcc(np.random.default_rng(0).normal(0, 0.1, SAMPLES).astype(np.float32))[np.newaxis]

    return Peer(
        system="light-sernet",
        precision="fp32",
        call=lambda pcm: session.run(["logits"], {"mfcc": mfcc(pcm)[np.newaxis]}),
        parameters=parameter_count(classes),
        macs=count_macs(classes),
        size_bytes=path.stat().st_size,
        note="our own implementation of the published description; MFCC in NumPy, network in ONNX Runtime",
        parts={
            "light-sernet mfcc": mfcc,
            "light-sernet network": lambda pcm: session.run(["logits"], {"mfcc": prepared}),
        },
    )


def _count(module: torch.nn.Module) -> int:
    return sum(each.numel() for each in module.parameters())
