"""The one decoding path: a stream of bytes to frames of samples, file after file until the stream ends."""

from __future__ import annotations

import io
import shlex
from collections.abc import Iterator

import numpy as np

from edge_runtime.errors import EdgeemoError
from edge_runtime.sources.decoding import pyav
from edge_runtime.sources.decoding.byte_stream import ByteStream, seekable_part
from edge_runtime.sources.decoding.extent import extent
from edge_runtime.sources.decoding.formats import HEAD, LONGEST_MARK, MARKS, Format, find_mark, next_file, recognise
from edge_runtime.sources.decoding.headers import PcmHeader, read_header
from edge_runtime.sources.decoding.ledger import Frames, Ledger
from edge_runtime.sources.decoding.library import DecoderError, Section, decode_file, decode_forward, decode_pieces
from edge_runtime.sources.decoding.mpeg import MpegSection
from edge_runtime.sources.decoding.ogg import OggSection
from edge_runtime.sources.decoding.pcm import pcm_frames, raw_frames
from edge_runtime.sources.decoding.plausible import check_format, sane
from edge_runtime.sources.decoding.raw import RAW_ENCODINGS, SEEN, RawPcm, contradiction
from edge_runtime.sources.decoding.tags import only_zeros, skip_tags

_SEARCHED = 1 << 16
_STREAMED_CODES = ("encoding 2", "encoding 17")
"""Compressed encodings of WAV (MS and IMA ADPCM) that libsndfile decodes as they come."""
ASK = "give its rate and encoding if it is raw PCM: --raw-rate 16000 --raw-format s16le"


class Decoder:
    """Decodes a stream: formats by their content, one file after another, whatever their rates.

    Args:
        stream: the bytes.
        name: of the source, for messages.
        raw: how to read bytes without a header; no format is recognised then.
        bare: whether a stream of no known format is taken for 16-bit PCM at 16 kHz where nothing contradicts it.

    Attributes:
        ledger: the account of what was decoded and what was not.
    """

    def __init__(self, stream: ByteStream, name: str, *, raw: RawPcm | None = None, bare: bool = False) -> None:
        self._stream = stream
        self._name = name
        self._raw = raw
        self._bare = bare
        self._rate = 0
        self.ledger = Ledger()

    def frames(self) -> Iterator[Frames]:
        """Yield frames of up to a few hundred milliseconds; at the end, `Ledger.check` finds missing audio.

        Raises:
            EdgeemoError: the stream is empty, of no known format, or its first file cannot be decoded.
            MissingPartError: its format needs an extra that is not installed.
        """
        if self._stream.ended:
            raise self._nothing()
        if self._raw is not None:
            check_format(self._name, self._raw.rate, self._raw.channels)
            form = recognise(self._stream.peek(HEAD)) if MARKS.match(self._stream.peek(LONGEST_MARK)) else None
            if form is not None:
                self.ledger.notices.append(f"begins like {form.name}, and is read as raw PCM, as --raw-... asks for")
            encoding = RAW_ENCODINGS[self._raw.format]
            section = raw_frames(self._stream, self._raw.rate, self._raw.channels, encoding, self.ledger)
            yield from self._counted(sane(section, self.ledger))
        else:
            yield from self._files()
        if self._stream.failure:
            self.ledger.failed(f"reading it failed: {self._stream.failure}")
        if not self.ledger.decoded:
            self.ledger.check(self._name)
            raise EdgeemoError(f"{self._name}: holds no samples")

    def _files(self) -> Iterator[Frames]:
        number = 0
        while True:
            skip_tags(self._stream)
            head = self._stream.peek(HEAD)
            if not head or (number and not any(head) and only_zeros(self._stream)):
                return
            at = self._stream.position
            form = recognise(head)
            try:
                if number and (form is None or form.reader == "refused"):
                    what = form.name if form else "something of no known format"
                    raise EdgeemoError(f"{self._name}: {what} follows the audio")
                yield from self._counted(sane(self._section(form), self.ledger))
            except EdgeemoError as error:
                if not self.ledger.decoded:
                    raise
                yield from self._failed(error, known=form is not None and form.reader != "refused")
            if self._stream.position == at:
                self._skip_to_next()
            number += 1

    def _failed(self, error: EdgeemoError, *, known: bool) -> Iterator[Frames]:
        """Enter a failure into the account, report it, and skip to the next file that is recognised."""
        why = error.why if isinstance(error, DecoderError) else error.message.removeprefix(f"{self._name}: ")
        self.ledger.notices.append(f"decoding stopped after {self.ledger.decoded:.1f} s ({why})")
        # No samples, but the notice: of a live stream, the next file may be long in coming.
        yield Frames(np.zeros((0, 1), np.float32), self._rate)
        before = self._stream.position
        skipped = self._skip_to_next()
        if known:
            self.ledger.failed(why)
            return
        # By the bytes that a second took until here.
        self.ledger.lost(skipped * self.ledger.decoded / max(1, before), why)

    def _counted(self, frames: Iterator[Frames]) -> Iterator[Frames]:
        form = (0, 0)
        for each in frames:
            if form != (found := (each.rate, each.samples.shape[1])):
                check_format(self._name, *found)
                form = found
            self.ledger.decoded += len(each.samples) / each.rate
            self._rate = each.rate
            yield each

    def _section(self, form: Format | None) -> Iterator[Frames]:
        if form is None:
            return self._unknown()
        if form.reader == "refused":
            raise EdgeemoError(f"{self._name}: is {form.name}; {form.advice}")
        readers = {
            "pcm": self._pcm,
            "flac": self._flac,
            "ogg": self._ogg,
            "mpeg": self._mpeg,
            "library": self._library,
            "pyav": self._pyav,
        }
        return readers[form.reader](form)

    def _unknown(self) -> Iterator[Frames]:
        """Skip to a file that begins a little later; else decode raw PCM, until the bytes of a second contradict it."""
        reach = HEAD if self._bare else _SEARCHED
        at = next_file(self._stream.peek(reach + HEAD))
        if at is not None and at < reach:
            self.ledger.notices.append(f"{at} bytes before the first header of a file are skipped")
            self._stream.skip(at)
            return
        if not self._bare:
            raise EdgeemoError(f"{self._name}: has no header of a known audio format; {ASK}")
        self._refuse(contradiction(self._stream.peek(SEEN)))
        passed, before = b"", ""
        for each in raw_frames(self._stream, 16_000, 1, RAW_ENCODINGS["s16le"], self.ledger):
            yield each
            passed += (each.samples[:, 0] * 32768).astype("<i2").tobytes()
            if len(passed) >= SEEN:
                why = contradiction(passed)
                self._refuse(why if before else "")
                passed, before = b"", why

    def _refuse(self, why: str) -> None:
        if why:
            raise EdgeemoError(
                f"{self._name}: has no header of a known audio format, and {why} instead of 16-bit PCM; {ASK}, or pipe "
                "it through ffmpeg -i - -f wav -"
            )

    def _pcm(self, form: Format) -> Iterator[Frames]:
        at = self._stream.position
        try:
            header, taken = read_header(self._stream, self._name)
        except EdgeemoError as error:
            yield from self._in_another_order(form, at, error)
            return
        if header.encoding is None:
            self._stream.put_back(taken)
            yield from self._compressed(header, len(taken))
            return
        check_format(self._name, header.rate, header.channels)
        yield from pcm_frames(self._stream, header, header.encoding, self.ledger)

    def _in_another_order(self, form: Format, at: int, error: EdgeemoError) -> Iterator[Frames]:
        """Decode a file whose header stands behind its audio, which AIFF allows; else raise the error of its header."""
        if self._stream.seekable is None:
            raise error
        self._stream.move_to(at)
        try:
            yield from decode_file(seekable_part(self._stream, None, self._name, form.name), self._name, form.name)
        except DecoderError:
            raise error from None

    def _compressed(self, header: PcmHeader, before_samples: int) -> Iterator[Frames]:
        form = f"{header.name} with compressed samples ({header.code})"
        if header.name == "WAV" and header.code in _STREAMED_CODES:
            yield from self._adpcm(header, before_samples, form)
        else:
            yield from self._library(Format(form, "library"))

    def _adpcm(self, header: PcmHeader, before_samples: int, form: str) -> Iterator[Frames]:
        """Decode blocks as they come, and no more of them than are there: libsndfile repeats the last one."""
        end = None if header.size is None else before_samples + header.size
        begin = self._stream.position + before_samples
        block, samples = header.block
        decoded, closed = 0, [False]
        for each in decode_pieces(self._pieces(end, closed), self._name, form):
            most = len(each.samples)
            if closed[0] and block and samples:
                most = max(0, (self._stream.position - begin) * samples // block - decoded)
            decoded += len(each.samples[:most])
            if most:
                yield each._replace(samples=each.samples[:most])
        if header.size is not None and block and samples:
            seconds = header.size / block * samples / header.rate
            self.ledger.promised(seconds, decoded / header.rate, "the WAV header")

    def _flac(self, form: Format) -> Iterator[Frames]:
        head = self._stream.peek(26)
        fields = int.from_bytes(head[18:26], "big")
        total, rate = fields & ((1 << 36) - 1), fields >> 44
        before = self.ledger.decoded
        section = Section(self._stream)
        yield from decode_forward(section, self._name, form.name)
        section.rewind()
        if total and rate:
            self.ledger.promised(total / rate, self.ledger.decoded - before, "the FLAC header", exact=True)

    def _ogg(self, form: Format) -> Iterator[Frames]:
        section = OggSection(self._stream)
        if not section.codec:
            yield from self._pyav(Format("Ogg without Opus or Vorbis", "pyav"))
            return
        before = self.ledger.decoded
        try:
            yield from decode_pieces(section.pages(), self._name, form.name)
        finally:
            self.ledger.promised(section.seconds, self.ledger.decoded - before, "the last Ogg page")
        if not section.ended:
            self.ledger.notices.append("the Ogg stream ends without its last page; it may have been cut off")

    def _mpeg(self, form: Format) -> Iterator[Frames]:
        section = MpegSection(self._stream)
        before = self.ledger.decoded
        try:
            yield from decode_pieces(section.frames(), self._name, form.name)
        except DecoderError:
            if self.ledger.decoded == before:
                raise
            # mpg123 fails at a last frame that is cut off, and where it finds fewer frames than the header counts.
        promised = max(section.seconds, section.promised)
        self.ledger.promised(promised, self.ledger.decoded - before, "the MP3 header")
        if section.skipped_seconds:
            self.ledger.lost(section.skipped_seconds, "bytes between MP3 frames are no audio")

    def _library(self, form: Format) -> Iterator[Frames]:
        """Decode what takes a file that can seek: libsndfile's other formats, and what it leaves to PyAV."""
        size = extent(self._stream)
        file = seekable_part(self._stream, size, self._name, form.name)
        there = file.seek(0, io.SEEK_END)
        file.seek(0)
        missing, before = self.ledger.missing, self.ledger.decoded
        try:
            yield from decode_file(file, self._name, form.name)
        except DecoderError:
            if self.ledger.decoded > before:
                raise
        if self.ledger.decoded == before:
            pyav.require(self._name, form.name, self._pipe())
            file.seek(0)
            yield from pyav.decode_container(file, self._name, form.name, self.ledger)
        self._compare(form, size, there, missing, self.ledger.decoded - before)

    def _pyav(self, form: Format) -> Iterator[Frames]:
        pyav.require(self._name, form.name, self._pipe())
        size = extent(self._stream)
        at, missing, before = self._stream.position, self.ledger.missing, self.ledger.decoded
        yield from pyav.decode_stream(self._stream, self._name, form.name, self.ledger, size)
        self._compare(form, size, self._stream.position - at, missing, self.ledger.decoded - before)

    def _compare(self, form: Format, size: int | None, there: int, missing: float, decoded: float) -> None:
        """Enter the bytes that a file lacks by its own lengths, if nothing else has been entered as missing."""
        if size is not None and there < size and self.ledger.missing == missing:
            problem = f"{form.name} of {size} bytes by its header, of which {there} are there"
            self.ledger.lost((size - there) * decoded / max(1, there), problem)

    def _pipe(self) -> str:
        place = "-" if self._stream.seekable is None else shlex.quote(self._name)
        return f"ffmpeg -i {place} -f wav - | edgeemo listen --source -"

    def _pieces(self, size: int | None, closed: list[bool]) -> Iterator[bytes]:
        """Yield ``size`` bytes, all for None, up to the beginning of another file; ``closed`` becomes true behind them.

        The header of ADPCM states a length that libsndfile believes: no more than that are of use.
        """
        first, left = 1, size
        while (left is None or left > 0) and (ahead := self._stream.peek(4096 + LONGEST_MARK)):
            mark = find_mark(ahead, first)
            wanted = min(4096, 4096 if mark is None else mark, 4096 if left is None else left)
            data = self._stream.read(wanted)
            left = None if left is None else left - len(data)
            if mark == wanted or left == 0 or self._stream.ended:
                closed[0] = True
            yield data
            if mark == wanted:
                return
            first = 0

    def _skip_to_next(self) -> int:
        """Skip at least a byte, to the beginning of the next file; return the number of bytes."""
        skipped = self._stream.skip(1)
        while ahead := self._stream.peek(_SEARCHED):
            at = next_file(ahead)
            if at is not None:
                return skipped + self._stream.skip(at)
            # What could be a beginning is looked at once more with all that it needs.
            skipped += self._stream.skip(max(1, len(ahead) - HEAD) if len(ahead) == _SEARCHED else len(ahead))
        return skipped

    def _nothing(self) -> EdgeemoError:
        if self._stream.failure:
            return EdgeemoError(f"{self._name}: cannot be read ({self._stream.failure})")
        if not self._bare:
            return EdgeemoError(f"{self._name}: is an empty file")
        return EdgeemoError(f"{self._name}: holds no audio; pipe an audio file or raw 16-bit 16 kHz mono PCM into it")
