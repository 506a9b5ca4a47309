// The page: controls, the worker, and the panels of the runtime's web page. Each event is also dispatched on `document`
// as a CustomEvent "edgeemo", for pages that build on this one.

import { FILE_RATE, Microphone, decoded } from "./capture.js";
import { byId, write } from "./dom.js";
import { now } from "./listener.js";
import { View } from "./view.js";

/** Seconds of audio that may wait for the worker; what comes then is lost. */
const BACKLOG = 10;
const BLOCK = FILE_RATE / 10;
const HISTORY_MINUTES = 10;

const view = new View();
const { store, trace, timeline } = view;
const worker = openWorker();
let ready = null;
/** What is listened to: `{rate, waiting, lost, live, microphone}`, or null. */
let current = null;

/** A worker with this page's Content-Security-Policy, which it would not have with an address of its own. */
function openWorker() {
  const module = JSON.stringify(new URL("worker.js", import.meta.url).href);
  const source = new Blob([`import ${module};`], { type: "text/javascript" });
  return new Worker(URL.createObjectURL(source), { type: "module" });
}

const messages = {
  ready(message) {
    ready = message;
    showStatus("live", "Ready");
    begin("", "stopped");
    showControls();
  },
  level(message) {
    store.level(message);
    trace.add(message);
  },
  taken({ samples }) {
    if (current) current.waiting -= samples;
  },
  ended({ windows }) {
    current = null;
    showLatency(windows);
    showControls();
  },
  failed({ detail }) {
    closeMicrophone();
    current = null;
    if (ready) begin("", "stopped");
    showStatus("denied", detail);
    disable();
    byId("stop").hidden = true;
  },
};

worker.addEventListener("message", ({ data }) => {
  if (data.type in messages) {
    messages[data.type](data);
  } else {
    store.add(data);
    document.dispatchEvent(new CustomEvent("edgeemo", { detail: data }));
  }
  view.draw();
});
worker.addEventListener("error", ({ message }) => messages.failed({ detail: message || "the worker cannot start" }));

/** Begin another sample clock, and so another timeline. */
function begin(source, state) {
  const { labels, model, version, backend } = ready;
  const level = { position: 0, audio_age: 0, level_db: -120, speech: 0, speaking: false, uptime: 0 };
  const faults = { failing: false, stalled: false, failures: 0, dropped_samples: 0, lost_events: 0, backend_note: "" };
  const head = { run: now(), labels, model, version, history_minutes: HISTORY_MINUTES, history: [] };
  store.hello({ ...head, now: { state, source, backend, ...level, ...faults } });
  store.live = true;
  timeline.offer(store.seconds);
}

function start(source, rate, live) {
  current = { rate, live, waiting: 0, lost: 0, microphone: null };
  begin(source, "starting");
  worker.postMessage({ step: "start", source, rate });
  showControls();
}

function send(pcm) {
  if (!current) return;
  if (current.live && current.waiting > BACKLOG * current.rate) {
    current.lost += pcm.length;
    return;
  }
  reportLost();
  current.waiting += pcm.length;
  worker.postMessage({ step: "audio", pcm, arrived: now() }, [pcm.buffer]);
}

function reportLost() {
  if (current.lost) worker.postMessage({ step: "lost", samples: current.lost, rate: current.rate });
  current.lost = 0;
}

/** Close the microphone at once; the worker ends when it has processed what waits. */
function end(detail, status) {
  if (!current) return;
  closeMicrophone();
  reportLost();
  worker.postMessage({ step: "end", detail, status });
}

function closeMicrophone() {
  current?.microphone?.close();
  if (current) current.microphone = null;
  showControls();
}

async function listen() {
  disable();
  showStatus("live", "Ready");
  try {
    const lost = () => end("the microphone was disconnected", "device-lost");
    const microphone = await Microphone.open(send, lost);
    start(microphone.name, microphone.rate, true);
    current.microphone = microphone;
  } catch (error) {
    showStatus("lost", `The microphone cannot be used: ${error.message}`);
  }
  showControls();
}

async function score(file) {
  disable();
  showStatus("live", "Ready");
  try {
    const pcm = await decoded(file);
    start(file.name, FILE_RATE, false);
    for (let at = 0; at < pcm.length; at += BLOCK) send(pcm.slice(at, at + BLOCK));
    end(`the end of ${file.name}`);
  } catch (error) {
    showStatus("lost", `${file.name} cannot be decoded: ${error.message}`);
    showControls();
  }
}

/** Until `showControls`: one source at a time. */
function disable() {
  byId("listen").disabled = byId("file").disabled = true;
}

function showControls() {
  const open = Boolean(current?.microphone);
  byId("listen").disabled = byId("file").disabled = !ready || current !== null;
  byId("stop").hidden = !open;
  byId("listen").hidden = open;
  document.title = open ? "listening – edgeemo" : "edgeemo";
}

function showStatus(state, text) {
  byId("connection").dataset.state = state;
  document.body.dataset.connection = state;
  write(byId("connection-text"), text);
}

/** Show how long the windows took; what was measured is data of the element. */
function showLatency(windows) {
  const shown = byId("latency");
  shown.dataset.windows = JSON.stringify(windows);
  shown.dataset.openMs = ready.openMs;
  shown.dataset.knownAnswersError = ready.knownAnswersError;
  if (!windows.length) return;
  const sorted = windows.map(({ ms }) => ms).sort((a, b) => a - b);
  const [median, longest] = [sorted[Math.floor(sorted.length / 2)], sorted.at(-1)].map((ms) => ms.toFixed(0));
  const opened = (ready.openMs / 1000).toFixed(1);
  write(shown, `${windows.length} windows: median ${median} ms, longest ${longest} ms. The model opened in ${opened} s.`);
}

byId("listen").addEventListener("click", listen);
byId("stop").addEventListener("click", () => end("stopped on the page"));
byId("file").addEventListener("change", ({ target }) => {
  const [file] = target.files;
  // So that the same file can be chosen again.
  target.value = "";
  if (file && !current) score(file);
});
addEventListener("pagehide", closeMicrophone);
showStatus("connecting", "Loading the model …");
worker.postMessage({ step: "open" });
