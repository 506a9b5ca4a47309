// Silero VAD (github.com/snakers4/silero-vad): the probability of speech in frames of 32 ms, by the graph of the runtime.

import * as ort from "../onnxruntime-web/ort.wasm.min.mjs";
import { FRAME } from "./vad.js";

const HIDDEN = 128;

export class Silero {
  #session;
  #state;

  /** Takes a session with `silero-vad.onnx`. */
  constructor(session) {
    this.#session = session;
    this.reset();
  }

  /** Forget the frames so far, as after a gap. */
  reset() {
    const zeros = () => new ort.Tensor("float32", new Float32Array(HIDDEN), [1, 1, HIDDEN]);
    this.#state = { hidden: zeros(), cell: zeros() };
  }

  /** The probabilities of speech in the next frames, of a Float32Array of a multiple of `FRAME` samples. */
  async probabilities(pcm) {
    if (!pcm.length) return [];
    const frames = new ort.Tensor("float32", pcm, [pcm.length / FRAME, FRAME]);
    const found = await this.#session.run({ pcm: frames, ...this.#state });
    this.#state = { hidden: found.next_hidden, cell: found.next_cell };
    return Array.from(found.probability.data);
  }
}
