"""Named pipes, /dev/stdin, process substitution and network addresses, as the command and Python read them."""

import contextlib
import functools
import http.server
import io
import os
import shlex
import socket
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from edge_runtime.errors import EdgeemoError, MissingPartError, WrongUseError
from edge_runtime.sources.decoding.raw import RawPcm
from edge_runtime.sources.network import NetworkSource, without_password
from edge_runtime.sources.pipe import PipeSource
from edge_runtime.sources.source_uri import open_source, parse_sources
from tests.command import run
from tests.conftest import need
from tests.edge_runtime.sources.sounds import encoded, encoded_by_pyav, sound


def collected(source):
    return np.concatenate([np.zeros(0, "f4"), *(block.pcm for block in source.blocks())])


LISTEN = f"{sys.executable} -m edge_runtime listen --no-vad --json --source"


def shell(command, code=0):
    done = run("bash", "-c", command, timeout=120)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    return done


def seconds_heard(done):
    last = done.stdout.splitlines()[-1]
    assert '"stopped"' in last
    return float(last.partition('"end":')[2].partition(",")[0])


@pytest.fixture
def wav(tmp_path):
    path = tmp_path / "a b.wav"
    path.write_bytes(encoded(sound()))
    return path


@pytest.mark.parametrize(
    "command",
    [
        "{listen} <(cat {wav} {wav})",
        "cat {wav} {wav} | {listen} -",
        "cat {wav} {wav} | {listen} /dev/stdin",
        "cat {wav} {wav} > {wav}.2; {listen} - < {wav}.2",
        "mkfifo {wav}.p; cat {wav} {wav} > {wav}.p & {listen} {wav}.p",
    ],
    ids=["process substitution", "standard input", "/dev/stdin", "file on standard input", "named pipe"],
)
def test_the_command_hears_both_files(command, wav):
    done = shell(command.format(listen=LISTEN, wav=shlex.quote(str(wav))))
    assert seconds_heard(done) == pytest.approx(6.0, abs=0.01)


def test_a_file_that_was_cut_off_gives_its_events_and_exit_code_1(wav):
    wav.write_bytes(wav.read_bytes()[:-40_000])
    done = shell(f"{LISTEN} {shlex.quote(str(wav))}", code=1)
    assert '"final"' in done.stdout
    assert "the WAV header gives 3.0 s, and 1.8 s are there" in " ".join(done.stderr.split())


def test_raw_by_options(tmp_path):
    (tmp_path / "a.raw").write_bytes((sound(2.0, 8_000) * 32_767).astype(">i2").tobytes())
    done = shell(f"{LISTEN} {tmp_path}/a.raw --raw-rate 8000 --raw-format s16be")
    assert seconds_heard(done) == pytest.approx(2.0, abs=0.01)


def test_a_named_pipe_without_a_writer_gives_empty_blocks(tmp_path):
    os.mkfifo(tmp_path / "p")
    source = open_source(str(tmp_path / "p"))
    blocks = source.blocks()
    assert len(next(blocks).pcm) == 0
    source.close()
    assert list(blocks) == []
    # Ends the thread that waits for a writer.
    (tmp_path / "p").open("wb").close()


def test_a_live_pipe_is_heard_before_it_ends():
    reader, writer = os.pipe()
    with os.fdopen(reader, "rb", buffering=0) as end:
        blocks = PipeSource(end).blocks()
        os.write(writer, encoded(sound())[: 44 + 32_000])
        began, heard = time.monotonic(), 0
        while heard < 14_000 and time.monotonic() < began + 10:
            heard += len(next(blocks).pcm)
        assert heard >= 14_000
        os.close(writer)
        with pytest.raises(EdgeemoError, match=r"gives 3\.0 s, and 1\.0 s are there"):
            list(blocks)


def test_a_path_as_bytes_and_what_is_no_path(tmp_path):
    place = tmp_path / "caf\udce9.wav"
    place.write_bytes(encoded(sound()))
    assert len(collected(open_source(os.fsencode(place)))) == 48_000
    for wrong in (3, np.zeros(10), io.BytesIO(b"")):
        with pytest.raises(WrongUseError, match="a source is text or a path, not"):
            open_source(wrong)


def test_raw_is_for_files_and_pipes():
    for uri in ("mic://", "http://host/a.wav"):
        with pytest.raises(WrongUseError, match="are for files and pipes"):
            open_source(uri, raw=RawPcm())


class Server(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def do_GET(self):
        if self.path == "/no-length":
            self.send_response(200)
            self.end_headers()
            self.wfile.write(encoded(sound(), form="FLAC"))
            return
        if not self.path.startswith("/half"):
            super().do_GET()
            return
        content = encoded(sound(10.0), form=self.path[6:])
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content[: len(content) // 2])


@pytest.fixture
def served(tmp_path):
    handler = functools.partial(Server, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.parametrize("form", ["WAV", "FLAC", "OGG", "MP3", "M4A"])
def test_an_address_is_heard(served, tmp_path, form):
    need("av")
    (tmp_path / "a").write_bytes(encoded_by_pyav("ipod", "aac") if form == "M4A" else encoded(sound(), form=form))
    source = open_source(f"{served}/a")
    assert not source.live
    pcm = collected(source)
    assert abs(len(pcm) - 48_000) < 2_500
    assert np.abs(pcm).max() > 0.2


def test_an_answer_without_a_length_ends_where_the_audio_states_its_own(served):
    need("av")
    assert abs(len(collected(open_source(f"{served}/no-length"))) - 48_000) < 10


@pytest.mark.parametrize("form", ["WAV", "MP3", "FLAC"])
def test_a_connection_that_is_lost_is_told(served, form):
    need("av")
    with pytest.raises(EdgeemoError, match="cannot be read to its end"):
        collected(open_source(f"{served}/half/{form}"))


PLAYLIST = "#EXTM3U\n#EXT-X-TARGETDURATION:3\n#EXT-X-MEDIA-SEQUENCE:0\n#EXTINF:3,\n{}\n#EXT-X-ENDLIST\n"


def test_a_playlist_is_followed_to_addresses_only(served, tmp_path):
    need("av")
    (tmp_path / "radio.aac").write_bytes(encoded_by_pyav("adts", "aac"))
    (tmp_path / "list.m3u8").write_text(PLAYLIST.format(f"{served}/radio.aac"))
    assert len(collected(open_source(f"{served}/list.m3u8"))) > 40_000
    path = tmp_path / "radio.aac"
    for place in (f"file://{path}", f"file:{path}", f"crypto+file://{path}", f"crypto:file:{path}", f"concat:{path}"):
        (tmp_path / "list.m3u8").write_text(PLAYLIST.format(place))
        with pytest.raises(EdgeemoError):
            collected(open_source(f"{served}/list.m3u8"))


@pytest.mark.parametrize("pipe", [False, True])
def test_a_file_reaches_no_address(tmp_path, pipe):
    need("av")
    with socket.socket(type=socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    # It begins like AC-3, and is a description of a session (RFC 8866) for FFmpeg.
    session = f"\x0b\x77\nv=0\nc=IN IP4 127.0.0.1\nt=0 0\nm=audio {port} RTP/AVP 0\n"
    (tmp_path / "a.ac3").write_bytes(session.encode() + b"a=tool:x\n" * 200)
    began = time.monotonic()
    with pytest.raises(EdgeemoError, match="AC-3 that cannot be decoded"), (tmp_path / "a.ac3").open("rb") as stream:
        collected(PipeSource(stream) if pipe else open_source(tmp_path / "a.ac3"))
    # It did not listen at the port.
    assert time.monotonic() - began < 3


def test_an_address_without_audio_is_one_sentence(served, tmp_path):
    need("av")
    (tmp_path / "a.txt").write_text("no audio")
    for place in ("missing.wav", "a.txt"):
        with pytest.raises(EdgeemoError, match="cannot be opened") as refused:
            collected(open_source(f"{served}/{place}"))
        assert "\n" not in refused.value.message


@pytest.mark.parametrize("scheme", ["http", "rtsp"])
def test_nobody_answers(scheme):
    need("av")
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    with pytest.raises(EdgeemoError, match=r"cannot be opened .*; check the address"):
        collected(open_source(f"{scheme}://127.0.0.1:{port}/a"))


def test_a_silent_server_does_not_hang(monkeypatch):
    need("av")
    monkeypatch.setattr("edge_runtime.sources.decoding.pyav.CONNECT_SECONDS", 1.0)
    with socket.create_server(("127.0.0.1", 0)) as server:
        began = time.monotonic()
        with pytest.raises(EdgeemoError, match="cannot be opened"):
            collected(open_source(f"http://127.0.0.1:{server.getsockname()[1]}/a"))
        assert time.monotonic() - began < 8


def test_a_camera_is_live_and_its_password_is_not_shown():
    need("av")
    source = NetworkSource("rtsp://user:secret@camera.invalid:554/stream?token=secret")
    assert source.live
    assert source.name == "rtsp://camera.invalid:554/stream"
    assert without_password("mic://a@b") == "mic://a@b"


@pytest.mark.parametrize(
    "sources",
    [
        ["rtsp://user:secret@camera/a", "rtsp://user:secret@camera/b?key=secret"],
        ["rtsps://user:secret@camera/a?key=secret"],
        ["rtsp://user:secret#more@camera/a"],
        ["rtsp://user:secret/more@camera/a"],
        ["http:/user:secret@camera/a"],
    ],
)
def test_a_password_of_an_address_that_is_refused_is_not_shown(sources):
    with pytest.raises(WrongUseError) as refused:
        open_source(parse_sources(sources)["source"])
    assert "secret" not in refused.value.message


def test_an_address_without_the_extra_names_it_and_a_pipe(monkeypatch):
    # Stands for an environment without PyAV.
    monkeypatch.setattr("edge_runtime.sources.network.missing_modules", lambda extra: ["av"])
    with pytest.raises(MissingPartError, match=r'pip install "edgeemo\[decode\]".* ffmpeg -i ADDRESS -f wav - \| edge'):
        open_source("https://host/radio")


@pytest.mark.parametrize("uri", ["http://", "rtsp:///x", "http://[::1/x"])
def test_an_address_without_a_host(uri):
    with pytest.raises(WrongUseError, match="--source: the address"):
        open_source(uri)


def test_a_name_that_is_no_utf8(tmp_path):
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.wav"))
    with contextlib.suppress(OSError):
        path.write_bytes(encoded(sound()))
    if not path.exists():
        pytest.skip("this file system takes UTF-8 only")
    assert len(collected(open_source(str(path)))) == 48_000
    assert len(collected(open_source(path.as_uri()))) == 48_000
