// The worker of the page: takes audio, sends events and levels. One message is processed after the other.

import { Engine, sessionOf } from "./engine.js";
import { Listener, now } from "./listener.js";
import { Resampler } from "./resample.js";
import { Silero } from "./silero.js";

const BASE = new URL("..", import.meta.url);
/** Milliseconds between two levels. */
const LEVEL_MS = 200;
const SILENCE_DB = -120;

let page, engine, detection, stream;
let work = Promise.resolve();

const steps = {
  async open() {
    page = await (await fetched("page.json")).json();
    const vad = await (await fetched("silero-vad.onnx")).arrayBuffer();
    engine = await Engine.open(page, BASE);
    detection = await sessionOf(vad);
    const { labels, model, version } = page;
    const { backend, openMs, knownAnswersError } = engine;
    postMessage({ type: "ready", labels, model, version, backend, openMs, knownAnswersError });
  },

  start({ source, rate }) {
    const listener = new Listener(page, engine, new Silero(detection), (event) => postMessage(event));
    const resampler = rate === page.sample_rate ? null : new Resampler(rate, page.sample_rate);
    stream = { listener, resampler, source, began: now(), levelAt: 0 };
    listener.status("started", `listening to ${source} with ${engine.backend}`);
    postLevel("listening");
  },

  async audio({ pcm, arrived }) {
    await take(stream.resampler ? stream.resampler.process(pcm) : pcm, arrived);
    postMessage({ type: "taken", samples: pcm.length });
  },

  async lost({ samples, rate }) {
    await stream.listener.skip(Math.round((samples * page.sample_rate) / rate));
  },

  async end({ status, detail }) {
    const rest = stream.resampler?.process(new Float32Array(0), true);
    if (rest?.length) await take(rest, now());
    await stream.listener.close();
    if (status) stream.listener.status(status, detail);
    stream.listener.status("stopped", detail);
    postLevel(status ?? "stopped");
    postMessage({ type: "ended", windows: stream.listener.windows });
  },
};

async function fetched(name) {
  const response = await fetch(new URL(name, BASE));
  if (!response.ok) throw new Error(`${name} cannot be loaded (${response.status})`);
  return response;
}

async function take(pcm, arrived) {
  const { listener } = stream;
  await listener.feed(pcm, arrived);
  if (pcm.length && now() - stream.levelAt >= LEVEL_MS) {
    const power = pcm.reduce((sum, value) => sum + value * value, 0) / pcm.length;
    postLevel("listening", Math.max(SILENCE_DB, 10 * Math.log10(power)));
  }
}

/** Post the message that edge_runtime's web page gets five times a second (edge_runtime/sinks/web/state.py). */
function postLevel(state, level = SILENCE_DB) {
  const { listener, source, began } = stream;
  stream.levelAt = now();
  postMessage({
    type: "level",
    state,
    failing: listener.failing,
    stalled: false,
    source,
    backend: engine.backend,
    backend_note: "",
    position: listener.position,
    audio_age: 0,
    level_db: level,
    speech: listener.speech,
    speaking: listener.speaking,
    dropped_samples: listener.dropped,
    failures: listener.failures,
    lost_events: 0,
    uptime: (stream.levelAt - began) / 1000,
  });
}

addEventListener("message", ({ data }) => {
  work = work
    .then(() => steps[data.step](data))
    .catch((error) => postMessage({ type: "failed", detail: error.message }));
});
