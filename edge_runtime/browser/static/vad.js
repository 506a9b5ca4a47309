// Where speech starts and ends: a port of edge_runtime/loop/vad.py, with the same settings.

/** Samples of a frame. */
export const FRAME = 512;

export class VadIterator {
  probability = 0;
  #settings;
  #detector;
  #pad;
  #minSpeech;
  #minSilence;
  #position = 0;
  /** No speech reaches further back than this: the end of the speech before, or of a gap. */
  #earliest = 0;
  #speech = [];
  #confirmed;
  #start;
  #silentSince;
  #speechSamples;

  constructor(settings, rate, detector) {
    this.#settings = settings;
    this.#detector = detector;
    this.#pad = Math.round(settings.speech_pad * rate);
    this.#minSpeech = Math.round(settings.min_speech_duration * rate);
    this.#minSilence = Math.round(settings.min_silence_duration * rate);
    this.#reset();
  }

  #reset() {
    this.#confirmed = false;
    this.#start = null;
    this.#silentSince = null;
    this.#speechSamples = 0;
  }

  /** How many of the most recent samples the next stretch of speech may still include. */
  get lookback() {
    const unconfirmed = this.#start !== null && !this.#confirmed;
    return (unconfirmed ? this.#position - this.#start : 0) + this.#pad;
  }

  /** Whether speech is in progress, and silent for longer than what is scored with it if it ends here. */
  get pausing() {
    return this.#silentSince !== null && this.#position - this.#silentSince > this.#pad;
  }

  /** The probabilities of speech in the next frames, for `process`. */
  probabilities(pcm) {
    return this.#detector.probabilities(pcm);
  }

  /** Process the probability of the next frame; return the start or end of speech `{starts, sample}` it confirms, or null. */
  process(probability) {
    const [start, end] = [this.#position, this.#position + FRAME];
    this.#position = end;
    this.probability = probability;
    const within = this.#start !== null && this.#silentSince === null;
    const { threshold, neg_threshold: lower } = this.#settings;
    if (this.probability >= (within ? lower : threshold)) return this.#addSpeech(start, end);
    if (this.#start === null) return null;
    this.#silentSince ??= start;
    return end - this.#silentSince < this.#minSilence ? null : this.close();
  }

  #addSpeech(start, end) {
    this.#silentSince = null;
    if (this.#start === null) {
      this.#start = start;
      this.#speech = [];
    }
    const last = this.#speech.at(-1);
    if (last?.[1] === start) last[1] = end;
    else this.#speech.push([start, end]);
    this.#speechSamples += end - start;
    if (this.#confirmed || this.#speechSamples < this.#minSpeech) return null;
    this.#confirmed = true;
    return { starts: true, sample: Math.max(this.#earliest, this.#start - this.#pad) };
  }

  /** End the speech in progress, if there is any, with `rest` samples of an incomplete frame. */
  close(rest = 0) {
    this.#position += rest;
    let boundary = null;
    if (this.#confirmed) {
      const end = this.#silentSince === null ? this.#position : this.#silentSince + this.#pad;
      boundary = { starts: false, sample: Math.min(end, this.#position) };
      this.#earliest = boundary.sample;
    }
    this.#reset();
    return boundary;
  }

  /** Advance the sample clock over a gap, after `close`. */
  skip(samples) {
    this.#position += samples;
    this.#earliest = this.#position;
    this.#detector.reset();
  }

  /** How many samples from `start` to `end` are speech; of the last stretch only. */
  speechBetween(start, end) {
    const share = ([first, last]) => Math.max(0, Math.min(end, last) - Math.max(start, first));
    return this.#speech.reduce((sum, span) => sum + share(span), 0);
  }

  /** Drop what `speechBetween` needs for samples before this one. */
  dropBefore(sample) {
    this.#speech = this.#speech.filter(([, end]) => end > sample);
  }
}
