// From logits to a calibrated decision: a port of edge_runtime/decision.py and loop/hysteresis.py.

export function softmax(logits, temperature) {
  const scaled = Array.from(logits, (value) => value / temperature);
  const most = Math.max(...scaled);
  const raised = scaled.map((value) => Math.exp(value - most));
  const sum = raised.reduce((total, value) => total + value, 0);
  return raised.map((value) => value / sum);
}

export const argmax = (values) => values.indexOf(Math.max(...values));

/** The mean of rows of numbers. */
export function mean(rows) {
  return Array.from(rows[0], (_, i) => rows.reduce((sum, row) => sum + row[i], 0) / rows.length);
}

/** Smooths the probabilities of one stretch of speech, and delays changes of its provisional label. */
export class LabelHysteresis {
  #settings;
  #mean = null;
  #label = 0;
  #ahead = 0;

  constructor(settings) {
    this.#settings = settings;
  }

  /** Add the probabilities of the next window; return `[label index, smoothed probabilities]`. */
  update(probabilities) {
    if (!this.#mean) {
      this.#mean = probabilities;
      this.#label = argmax(probabilities);
      return [this.#label, this.#mean];
    }
    const { smoothing, margin, patience } = this.#settings;
    this.#mean = this.#mean.map((value, i) => smoothing * value + (1 - smoothing) * probabilities[i]);
    const best = argmax(this.#mean);
    const leads = this.#mean[best] - this.#mean[this.#label] >= margin;
    this.#ahead = best !== this.#label && leads ? this.#ahead + 1 : 0;
    if (this.#ahead >= patience) {
      this.#label = best;
      this.#ahead = 0;
    }
    return [this.#label, this.#mean];
  }
}
