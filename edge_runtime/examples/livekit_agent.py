"""A LiveKit agent: emotion events of each microphone in a room, as text messages to the room.

    pip install edgeemo livekit-agents
    python -m edge_runtime.examples.livekit_agent dev    # LIVEKIT_URL, LIVEKIT_API_KEY and LIVEKIT_API_SECRET are set

Each event is a text stream on the topic `edgeemo`: JSON, with the speaker's identity in the attribute `participant`.
The last ones follow when a track or the job ends. What cannot be sent, as to a closed room, is logged.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

import numpy as np
from livekit import rtc

from edge_runtime import Event, Model, load
from edge_runtime.examples.callback import Capture

if TYPE_CHECKING:
    from livekit.agents import JobContext


class RoomEmotions:
    """Scores the audio tracks of a room, each with a stream of its own on a worker thread."""

    def __init__(self, room: rtc.Room, model: Model) -> None:
        self._room, self._model = room, model
        self._tracks: dict[str, tuple[rtc.AudioStream, asyncio.Task[None]]] = {}
        room.on("track_subscribed", self._begin)
        room.on("track_unsubscribed", lambda track, *_: asyncio.ensure_future(self.end(track.sid)))

    def _begin(self, track: rtc.Track, _: rtc.TrackPublication, participant: rtc.Participant) -> None:
        if track.kind == rtc.TrackKind.KIND_AUDIO:
            sound = rtc.AudioStream.from_track(track=track, sample_rate=16_000, num_channels=1)
            self._tracks[track.sid] = sound, asyncio.create_task(self._follow(sound, participant.identity))

    async def end(self, *tracks: str) -> None:
        """End the streams of tracks, or of all, and send their last events."""
        for sound, following in [self._tracks.pop(each) for each in tracks or [*self._tracks] if each in self._tracks]:
            await sound.aclose()
            await following

    async def _follow(self, sound: rtc.AudioStream, speaker: str) -> None:
        loop = asyncio.get_running_loop()

        def send(event: Event) -> None:
            text, of = event.model_dump_json(), {"participant": speaker}
            try:
                sending = self._room.local_participant.send_text(text, topic="edgeemo", attributes=of)
                asyncio.run_coroutine_threadsafe(sending, loop).result()
            except Exception as error:  # LiveKit has no type for all of them
                logging.getLogger("edgeemo").warning("not sent (%s): %s: %s", error, speaker, text)

        capture = Capture(self._model, 16_000, send)  # whose queue gives a `gap` where it is full
        async for heard in sound:  # at once, since an AudioStream drops what waits in it when it ends
            capture.take(np.frombuffer(heard.frame.data, np.int16))
        await asyncio.to_thread(capture.close)


async def join(job: JobContext) -> None:
    """Follow the room of a job, from before it is connected, so that no track is missed."""
    job.proc.userdata["emotions"] = RoomEmotions(job.room, await asyncio.to_thread(load))
    await job.connect()


async def leave(job: JobContext) -> None:
    """Send the last events, before the room is disconnected."""
    await job.proc.userdata["emotions"].end()


if __name__ == "__main__":
    from livekit.agents import AgentServer, cli

    server = AgentServer()
    server.rtc_session(join, on_session_end=leave)
    cli.run_app(server)
