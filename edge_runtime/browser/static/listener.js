// From blocks of audio to events: the part of edge_runtime/loop/listener.py that a page needs.

import { LabelHysteresis, argmax, mean, softmax } from "./decision.js";
import { SpeechSegmenter, WindowPolicy } from "./segments.js";
import { VadIterator } from "./vad.js";

const round = (value, digits) => Number(value.toFixed(digits));

export class Listener {
  /** What was scored: `{samples, ms}` of each window. */
  windows = [];
  dropped = 0;
  failures = 0;
  #page;
  #engine;
  #emit;
  #policy;
  #vad;
  #segmenter;
  #segment;
  #scored;
  #begun;
  #hysteresis;
  #failing = false;

  /** Events go to `emit`, each as one of `edgeemo listen` (edge_runtime/events.py). */
  constructor(page, engine, detector, emit) {
    this.#page = page;
    this.#engine = engine;
    this.#emit = emit;
    this.#policy = new WindowPolicy(page.window, page.sample_rate);
    this.#vad = new VadIterator(page.vad, page.sample_rate, detector);
    this.#segmenter = new SpeechSegmenter(this.#policy, this.#vad);
    this.#begin(-1);
  }

  /** Seconds on the sample clock, gaps included. */
  get position() {
    return this.#segmenter.position / this.#page.sample_rate;
  }

  get speaking() {
    return this.#segmenter.speaking;
  }

  get speech() {
    return this.#vad.probability;
  }

  get failing() {
    return this.#failing;
  }

  /** Process the next samples, 16 kHz mono, whose last one arrived at `arrived` (milliseconds since 1970). */
  async feed(pcm, arrived) {
    await this.#process(this.#segmenter.feed(pcm), arrived);
  }

  /** Process a gap of so many samples. */
  async skip(samples) {
    await this.#process(this.#segmenter.skip(samples), now());
    this.dropped += samples;
    this.status("gap", `${samples} samples were lost in capture`);
  }

  /** End the last segment. */
  async close() {
    await this.#process(this.#segmenter.close(), now());
  }

  status(status, detail) {
    const position = this.position;
    this.#send({ type: "status", start: position, end: position, status, detail });
  }

  async #process(outputs, arrived) {
    for await (const output of outputs) {
      if (output.kind === "window") await this.#window(output, arrived);
      else await this.#end(output, arrived);
    }
  }

  #begin(segment) {
    this.#segment = segment;
    this.#scored = new Map();
    // What the engine has of the windows that begin with the segment.
    this.#begun = {};
    this.#hysteresis = new LabelHysteresis(this.#page.decision);
  }

  async #window(window, arrived) {
    if (window.segmentStart !== this.#segment) this.#begin(window.segmentStart);
    const scores = await this.#score(window.pcm, window.start === window.segmentStart ? this.#begun : {});
    if (!scores) return;
    this.#scored.set(`${window.start} ${window.end}`, scores);
    const [label, probabilities] = this.#hysteresis.update(softmax(scores.logits, this.#page.temperature));
    this.#emotion("provisional", window, label, probabilities, 1, arrived, [...this.#scored.values()]);
  }

  async #end(segment, arrived) {
    if (segment.start !== this.#segment) this.#begin(segment.start);
    const found = [];
    for (const [start, end] of segment.windows) {
      const scores =
        this.#scored.get(`${start} ${end}`) ??
        (await this.#score(
          segment.pcm.slice(start - segment.start, end - segment.start),
          start === segment.start ? this.#begun : {},
        ));
      if (scores) found.push(scores);
    }
    this.#begin(-1);
    if (!found.length) return;
    const probabilities = mean(found.map(({ logits }) => softmax(logits, this.#page.temperature)));
    this.#emotion("final", segment, argmax(probabilities), probabilities, found.length, arrived, found);
  }

  async #score(pcm, begun) {
    try {
      const scores = await this.#engine.score(pcm, begun);
      this.windows.push({ samples: pcm.length, ms: scores.ms });
      if (this.#failing) this.#fail(false, "windows are scored again");
      return scores;
    } catch (error) {
      this.failures += 1;
      // One report when it begins and one when it ends.
      if (!this.#failing) this.#fail(true, `a window could not be scored (${error.message}); trying again`);
      return null;
    }
  }

  #fail(failing, detail) {
    this.#failing = failing;
    this.status("engine", detail);
  }

  #emotion(type, span, best, probabilities, windows, arrived, scores) {
    const { labels, threshold, dimensions, sample_rate: rate } = this.#page;
    const enough = span.speech >= this.#policy.minimum && span.pcm.some((value) => value !== 0);
    const predicted = mean(scores.map((each) => each.dimensions)).map((value) => Math.max(0, Math.min(1, value)));
    this.#send({
      type,
      start: span.start / rate,
      end: span.end / rate,
      label: labels[best],
      probabilities: Object.fromEntries(labels.map((label, i) => [label, round(probabilities[i], 4)])),
      confidence: round(probabilities[best], 4),
      uncertain: !enough || probabilities[best] < threshold,
      latency_ms: round(now() - arrived, 2),
      windows,
      speech_ratio: round(span.speech / span.pcm.length, 3),
      profile: null,
      speaker_known: 0,
      ...(dimensions.length && {
        dimensions: Object.fromEntries(dimensions.map((name, i) => [name, round(predicted[i], 4)])),
      }),
    });
  }

  #send(fields) {
    this.#emit({
      schema_version: this.#page.schema_version,
      time: new Date().toISOString(),
      ...fields,
      dropped_samples: this.dropped,
      model: this.#page.model,
      backend: this.#engine.backend,
    });
  }
}

/** Milliseconds since 1970 by a clock that pages and their workers share. */
export const now = () => performance.timeOrigin + performance.now();
