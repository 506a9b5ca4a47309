"""A Wyoming service, for Home Assistant's voice pipelines: sound in, emotion events out.

    python -m edge_runtime.examples.wyoming_service --uri tcp://0.0.0.0:10700    # needs: pip install wyoming

As speech-to-text, its transcript is the last label. No passwords, no limit on messages: for trusted networks only.
"""

import asyncio

import click
import numpy as np
from wyoming.audio import AudioChunk, AudioStart, AudioStop
from wyoming.event import Event
from wyoming.info import AsrModel, AsrProgram, Attribution, Describe, Info
from wyoming.server import AsyncEventHandler, AsyncServer

import edge_runtime


class EmotionHandler(AsyncEventHandler):
    """One client; each event is printed as JSON, and sent as a Wyoming event of type `emotion`."""

    def __init__(self, model: edge_runtime.Model, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        super().__init__(reader, writer)
        self._model, self._rate, self._label = model, 0, ""
        self._stream: edge_runtime.Stream | None = None

    async def handle_event(self, event: Event) -> bool:
        """Answer a message; False ends the connection. Other types are ignored, as the protocol demands."""
        try:
            if Describe.is_type(event.type):
                about = Attribution("edgeemo", ""), True, "speech emotion recognition", edge_runtime.__version__
                languages = sorted({each.language or "en" for each in self._model.bundle.manifest.corpora})
                program = AsrProgram("edgeemo", *about, [AsrModel("emotion", *about, languages)])
                await self.write_event(Info(asr=[program]).event())
            elif AudioStart.is_type(event.type):
                await self.disconnect()  # in case `audio-stop` was missing
                self._rate, self._label = AudioStart.from_event(event).rate, ""
                self._stream = self._model.stream(self._rate, "wyoming")
            elif AudioChunk.is_type(event.type):
                chunk = AudioChunk.from_event(event)
                if self._stream is None or (chunk.rate, chunk.width) != (self._rate, 2):
                    raise ValueError("send audio-start first, then 16-bit sound of its rate")
                samples = np.frombuffer(chunk.audio, "<i2").reshape(-1, chunk.channels)
                await self._send(await asyncio.to_thread(self._stream.feed, samples))
            elif AudioStop.is_type(event.type) and self._stream is not None:
                await self._send(self._stream.close())
                await self.write_event(Event("transcript", {"text": self._label}))
        except ConnectionError:
            return True  # the client left: what it sent before is read, scored and printed
        except (edge_runtime.EdgeemoError, KeyError, TypeError, ValueError) as error:
            await self.write_event(Event("error", {"text": f"{event.type}: {error}"}))
            return False
        return True

    async def _send(self, events: list[edge_runtime.Event]) -> None:
        click.echo("\n".join(event.model_dump_json() for event in events), nl=bool(events))
        for event in events:
            if isinstance(event, edge_runtime.EmotionEvent) and event.type == "final":
                self._label = "" if event.uncertain else event.label
            await self.write_event(Event("emotion", event.model_dump(mode="json")))

    async def disconnect(self) -> None:
        """Print the last events of a stream that did not end by `audio-stop`."""
        for event in self._stream.close() if self._stream else []:
            click.echo(event.model_dump_json())


@click.command()
@click.option("--uri", default="tcp://127.0.0.1:10700", show_default=True, help="Where to listen.")
@click.option("--bundle", help="Not the default bundle.")
def main(uri: str, bundle: str | None) -> None:
    """Serve the bundle."""
    with edge_runtime.load(bundle) as model:
        asyncio.run(AsyncServer.from_uri(uri).run(lambda reader, writer: EmotionHandler(model, reader, writer)))


if __name__ == "__main__":
    main()
