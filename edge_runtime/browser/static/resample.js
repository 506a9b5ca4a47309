// Any sample rate to another one, block by block: a windowed sinc, one set of taps for each phase.

const CROSSINGS = 24;
/** Share of the lower of the two Nyquist frequencies that passes. */
const PASSED = 0.93;

const divisor = (a, b) => (b ? divisor(b, a % b) : a);

export class Resampler {
  #up;
  #down;
  #reach;
  #taps;
  #kept;
  /** Number of outputs so far, and of input samples that were dropped from the front of `#kept`. */
  #done = 0;
  #dropped;

  constructor(from, to) {
    const common = divisor(from, to);
    [this.#up, this.#down] = [to / common, from / common];
    const cutoff = PASSED * Math.min(1, to / from);
    this.#reach = Math.ceil(CROSSINGS / cutoff);
    this.#taps = Array.from({ length: this.#up }, (_, phase) => taps(phase / this.#up, this.#reach, cutoff));
    this.#kept = new Float32Array(this.#reach);
    this.#dropped = -this.#reach;
  }

  /** Return the outputs that the next samples complete; `last` also those that wait for what follows. */
  process(samples, last = false) {
    const tail = last ? this.#reach : 0;
    const input = new Float32Array(this.#kept.length + samples.length + tail);
    input.set(this.#kept);
    input.set(samples, this.#kept.length);
    const end = this.#dropped + input.length;
    const outputs = [];
    for (;;) {
      const at = Math.floor((this.#done * this.#down) / this.#up);
      if (at + this.#reach >= end) break;
      const weights = this.#taps[(this.#done * this.#down) % this.#up];
      const first = at - this.#reach + 1 - this.#dropped;
      let sum = 0;
      for (let i = 0; i < weights.length; i++) sum += weights[i] * input[first + i];
      outputs.push(sum);
      this.#done += 1;
    }
    const next = Math.floor((this.#done * this.#down) / this.#up) - this.#reach + 1 - this.#dropped;
    this.#kept = input.slice(next);
    this.#dropped += next;
    return Float32Array.from(outputs);
  }
}

/** Weights of the samples `1 - reach` to `reach` around a position between two samples, under a Hann window. */
function taps(fraction, reach, cutoff) {
  const weights = Float32Array.from({ length: 2 * reach }, (_, i) => {
    const distance = i + 1 - reach - fraction;
    const angle = Math.PI * cutoff * distance;
    const window = 0.5 + 0.5 * Math.cos((Math.PI * distance) / reach);
    return window * (angle === 0 ? 1 : Math.sin(angle) / angle);
  });
  const sum = weights.reduce((total, value) => total + value, 0);
  return weights.map((value) => value / sum);
}
