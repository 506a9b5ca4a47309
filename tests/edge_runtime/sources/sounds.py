"""Audio in every format that the tests read, made here: by libsndfile, by PyAV, and header by header."""

import io
import struct

import numpy as np
import soundfile

from edge_runtime.errors import EdgeemoError
from edge_runtime.sources.audio import SAMPLE_RATE
from edge_runtime.sources.conversion import converted
from edge_runtime.sources.decoding.byte_stream import ByteStream
from edge_runtime.sources.decoding.decode import Decoder


def sound(seconds=3.0, rate=SAMPLE_RATE, channels=1, pitch=220.0):
    """Return a tone whose level changes, with some noise: ``[S]``, or ``[S, C]`` with equal channels."""
    at = np.arange(round(seconds * rate)) / rate
    noise = np.random.default_rng(7).normal(size=len(at))
    mono = (0.3 * np.sin(2 * np.pi * pitch * at) * (0.6 + 0.4 * np.sin(6 * np.pi * at)) + 0.005 * noise).astype("f4")
    return mono if channels == 1 else np.repeat(mono[:, None], channels, axis=1)


def encoded(samples, rate=SAMPLE_RATE, form="WAV", subtype=None, endian=None):
    """Return a file that libsndfile writes."""
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, rate, format=form, subtype=subtype, endian=endian)
    return buffer.getvalue()


def encoded_by_pyav(container, codec, rate=SAMPLE_RATE, options=None, seconds=3.0):
    """Return `sound` as PyAV writes it."""
    import av

    buffer = io.BytesIO()
    with av.open(buffer, "w", format=container, options=options or {}) as file:
        stream = file.add_stream(codec, rate=rate)
        stream.layout = "mono"
        frame = av.AudioFrame.from_ndarray(sound(seconds, rate)[None], format="fltp", layout="mono")
        frame.sample_rate = rate
        resampler = av.AudioResampler(format=stream.format.name, layout="mono", rate=rate)
        for each in (*resampler.resample(frame), *resampler.resample(None)):
            file.mux(stream.encode(each))
        file.mux(stream.encode(None))
    return buffer.getvalue()


def with_size(wav, size, riff=None):
    """Return a WAV file that claims another size of its audio, and of the whole."""
    at = wav.index(b"data") + 4
    riff = (size + 36) & 0xFFFFFFFF if riff is None else riff
    return wav[:4] + struct.pack("<I", riff) + wav[8:at] + struct.pack("<I", size) + wav[at + 4 :]


def size_of(wav):
    """Return the bytes of audio of a WAV file."""
    return len(wav) - wav.index(b"data") - 8


class Pipe:
    """A stream that cannot seek and returns few bytes at a time."""

    def __init__(self, content, piece=1000):
        self._file = io.BytesIO(content)
        self._piece = piece

    def read(self, size):
        return self._file.read(min(size, self._piece))


class Heard:
    """What came of some bytes.

    Attributes:
        pcm: 16 kHz mono.
        notices: sentences of status events on bad audio.
        choices: sentences of status events on channels.
        error: the message of the error; empty without one.
        blocks: all of them.
        ledger: the account.
    """

    def __init__(self, content, *, pipe=True, piece=1000, raw=None, channels="auto"):
        file = Pipe(content, piece) if pipe else io.BytesIO(content)
        decoder = Decoder(ByteStream(file), "x", raw=raw, bare=pipe)
        parts, self.notices, self.error, self.code = [np.zeros(0, np.float32)], [], "", 0
        self.choices, self.blocks = [], []
        self.ledger = decoder.ledger
        try:
            for block in converted(decoder.frames(), decoder.ledger, "x", channels):
                parts.append(block.pcm)
                self.blocks.append(block)
                if block.notice:
                    kind, what = block.notice
                    (self.choices if kind == "channels" else self.notices).append(what)
            decoder.ledger.check("x")
        except EdgeemoError as error:
            self.error, self.code = error.message, error.exit_code
        self.pcm = np.concatenate(parts)

    @property
    def seconds(self):
        return len(self.pcm) / SAMPLE_RATE


def likeness(pcm, original, at=0):
    """Return the largest correlation of a second of ``pcm`` with the original, over the delay of a codec."""
    want = original[at + SAMPLE_RATE : at + 2 * SAMPLE_RATE]
    best = 0.0
    for delay in range(0, 2_200, 1):
        have = pcm[at + SAMPLE_RATE + delay : at + 2 * SAMPLE_RATE + delay]
        if len(have) < len(want):
            break
        best = max(best, float(have @ want / np.sqrt((have @ have) * (want @ want) + 1e-9)))
        if best > 0.99:
            break
    return best
