// Stretches of speech as segments, and the windows of each: a port of edge_runtime/loop/segments.py and windows.py.

import { FRAME } from "./vad.js";

export function joined(...parts) {
  const all = new Float32Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return all;
}

/** The window policy of the bundle, in samples. */
export class WindowPolicy {
  constructor({ seconds, hop_seconds: hop, minimum_seconds: minimum, segment_seconds: segment, chunk_seconds: chunk }, rate) {
    this.samples = Math.round(seconds * rate);
    this.hop = Math.round(hop * rate);
    this.minimum = Math.round(minimum * rate);
    this.segment = Math.round(segment * rate);
    this.inChunks = Boolean(chunk);
    /** The shortest stretch that is scored. */
    this.shortest = rate / 4;
  }

  /** The windows `[start, end]` whose mean result is that of a clip of so many samples. */
  clipWindows(samples) {
    const width = this.samples;
    if (samples <= width) return [[0, samples]];
    if (this.inChunks) {
      const spans = [];
      for (let start = 0; start < samples; start += width) spans.push([start, Math.min(start + width, samples)]);
      return samples - spans.at(-1)[0] >= this.minimum ? spans : spans.slice(0, -1);
    }
    const starts = [];
    for (let start = 0; start <= samples - width; start += this.hop) starts.push(start);
    if (starts.at(-1) !== samples - width) starts.push(samples - width);
    return starts.map((start) => [start, start + width]);
  }
}

class Segment {
  #policy;
  #scored = 0;

  constructor(start, policy, pcm) {
    this.start = start;
    this.pcm = pcm;
    this.#policy = policy;
  }

  get end() {
    return this.start + this.pcm.length;
  }

  add(pcm) {
    this.pcm = joined(this.pcm, pcm);
  }

  /** Windows that end at every hop while the first one fills, then at every hop after its end. */
  due() {
    const { hop, samples: width, segment } = this.#policy;
    const spans = [];
    for (;;) {
      const end = this.#scored >= width ? this.#scored + hop : Math.min(this.#scored + hop, width);
      // The window that ends with the longest segment belongs to its end.
      if (end > this.pcm.length || end >= segment) return spans;
      this.#scored = end;
      spans.push([this.start + Math.max(0, end - width), this.start + end]);
    }
  }
}

/**
 * Yields windows `{kind: "window", start, end, pcm, segmentStart, speech}` and ends of segments
 * `{kind: "end", start, end, pcm, windows, speech}`; positions in samples since the start of the stream.
 */
export class SpeechSegmenter {
  #policy;
  #vad;
  #position = 0;
  #rest = new Float32Array(0);
  /** Recent audio, as far back as the start of speech may lie. */
  #past = new Float32Array(0);
  #segment = null;

  constructor(policy, vad) {
    this.#policy = policy;
    this.#vad = vad;
  }

  get position() {
    return this.#position + this.#rest.length;
  }

  get speaking() {
    return this.#segment !== null;
  }

  async *feed(block) {
    const audio = joined(this.#rest, block);
    const whole = Math.floor(audio.length / FRAME) * FRAME;
    this.#rest = audio.slice(whole);
    const probabilities = await this.#vad.probabilities(audio.slice(0, whole));
    for (const [i, probability] of probabilities.entries()) {
      yield* this.#frame(audio.slice(i * FRAME, (i + 1) * FRAME), probability);
    }
  }

  /** Add a gap: end the speech before it, and advance the clock. */
  *skip(samples) {
    yield* this.close();
    this.#vad.skip(samples);
    this.#position += samples;
  }

  *close() {
    const rest = this.#rest;
    this.#rest = new Float32Array(0);
    this.#append(rest);
    const boundary = this.#vad.close(rest.length);
    this.#past = new Float32Array(0);
    if (boundary) yield* this.#end(boundary.sample);
  }

  *#frame(frame, probability) {
    this.#append(frame);
    const boundary = this.#vad.process(probability);
    if (boundary?.starts) this.#begin(boundary.sample);
    else if (boundary) yield* this.#end(boundary.sample);
    yield* this.#windows();
    // More than once: speech that is confirmed late may reach back over several of the longest segments.
    while (this.#segment && this.#segment.pcm.length >= this.#policy.segment) {
      const end = this.#segment.start + this.#policy.segment;
      const rest = this.#segment.pcm.slice(this.#policy.segment);
      yield* this.#end(end);
      this.#vad.dropBefore(end);
      this.#segment = new Segment(end, this.#policy, rest);
      yield* this.#windows();
    }
    this.#past = this.#past.slice(-Math.max(FRAME, this.#vad.lookback));
  }

  #append(pcm) {
    this.#position += pcm.length;
    this.#past = joined(this.#past, pcm);
    this.#segment?.add(pcm);
  }

  #begin(sample) {
    this.#segment = new Segment(sample, this.#policy, this.#past.slice(this.#past.length - (this.#position - sample)));
  }

  *#windows() {
    const segment = this.#segment;
    for (const [start, end] of segment?.due() ?? []) {
      // What speech ends with is scored when it ends; until the first window is full, its result needs no other.
      if (this.#vad.pausing && end - start < this.#policy.samples) continue;
      const pcm = segment.pcm.slice(start - segment.start, end - segment.start);
      const speech = this.#vad.speechBetween(start, end);
      yield { kind: "window", start, end, pcm, segmentStart: segment.start, speech };
    }
  }

  /** End the segment at a sample; nothing if it is too short to score. */
  *#end(sample) {
    const segment = this.#segment;
    this.#segment = null;
    const pcm = segment?.pcm.slice(0, Math.max(0, sample - segment.start));
    if (!pcm || pcm.length < this.#policy.shortest) return;
    const { start } = segment;
    const end = start + pcm.length;
    const windows = this.#policy.clipWindows(pcm.length).map(([first, last]) => [start + first, start + last]);
    yield { kind: "end", start, end, pcm, windows, speech: this.#vad.speechBetween(start, end) };
  }
}
