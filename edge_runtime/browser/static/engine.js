// The bundle's graph in onnxruntime-web, on the CPU (WebAssembly with SIMD, one thread).

import * as ort from "../onnxruntime-web/ort.wasm.min.mjs";

// As edge_runtime/engines/chunks.py, in samples.
const LEAD = 240;
const REST = 800;

/** The end of each chunk from a sample on, and the chunk with the samples before it. */
function* pieces(pcm, chunk, start) {
  for (let at = start; at < pcm.length; at += chunk) {
    const end = Math.min(at + chunk, pcm.length);
    if (end - at < REST && at) return;
    const piece = new Float32Array(LEAD + end - at);
    const from = Math.max(0, at - LEAD);
    piece.set(pcm.subarray(from, end), LEAD - (at - from));
    yield [end, piece];
  }
}

/** Open a graph, by its address or its bytes. */
export const sessionOf = (graph) =>
  ort.InferenceSession.create(graph, { executionProviders: ["wasm"], enableMemPattern: false, logSeverityLevel: 3 });

export class Engine {
  #session;
  #reference;
  #chunk;
  #past;

  /** Open the graph of the page at `base`, and test it with the known answers of its bundle. */
  static async open(page, base) {
    ort.env.wasm.numThreads = 1;
    ort.env.wasm.wasmPaths = new URL("onnxruntime-web/", base).href;
    const began = performance.now();
    const engine = new Engine();
    engine.#session = await sessionOf(new URL(page.graph, base).href);
    engine.#reference = new ort.Tensor("float32", Float32Array.from(page.reference), [1, page.reference.length]);
    engine.#chunk = Math.round((page.window.chunk_seconds ?? 0) * page.sample_rate);
    engine.#past = page.past_size;
    engine.backend = `onnxruntime-web ${page.onnxruntime_web} ${page.precision}`;
    engine.openMs = performance.now() - began;
    engine.knownAnswersError = page.known_answers ? await engine.#test(page, base) : null;
    return engine;
  }

  /**
   * Score one window, a Float32Array at 16 kHz; `dimensions` is empty for a graph without.
   *
   * A graph in chunks extends `begun`, what it has of other windows that begin with the same sample.
   */
  async score(pcm, begun = {}) {
    const began = performance.now();
    const { logits, dimensions } = this.#chunk ? await this.#inChunks(pcm, begun) : await this.#run(pcm, {});
    return { logits, dimensions, ms: performance.now() - began };
  }

  async #inChunks(pcm, begun) {
    const none = { end: 0, next: new ort.Tensor("float32", new Float32Array(this.#past), [1, this.#past]) };
    begun.chunks ??= [];
    // The window may be shorter than one before: speech ends some time before its end is certain.
    let scores = begun.chunks.findLast(({ end }) => end <= pcm.length) ?? none;
    for (const [end, piece] of pieces(pcm, this.#chunk, scores.end)) {
      scores = { end, ...(await this.#run(piece, { past: scores.next })) };
      if (end % this.#chunk === 0) begun.chunks.push(scores);
    }
    return scores;
  }

  async #run(pcm, past) {
    const feeds = { pcm: new ort.Tensor("float32", pcm, [1, pcm.length]), reference: this.#reference, ...past };
    const found = await this.#session.run(feeds);
    const [logits, dimensions] = [Array.from(found.logits.data), Array.from(found.dimensions?.data ?? [])];
    if (![...logits, ...dimensions].every(Number.isFinite)) throw new Error("the graph gives values that are not numbers");
    return { logits, dimensions, next: found.next };
  }

  /** Return the root mean square error of the logits; throw an error where it is above the bundle's tolerance. */
  async #test({ known_answers: known }, base) {
    const signal = new Float32Array(await (await fetch(new URL("known-answers.f32", base))).arrayBuffer());
    const squares = [];
    let start = 0;
    for (const { samples, logits } of known.stretches) {
      const scores = await this.score(signal.slice(start, (start += samples)));
      squares.push(...logits.map((value, i) => (value - scores.logits[i]) ** 2));
    }
    const error = Math.sqrt(squares.reduce((sum, value) => sum + value, 0) / squares.length);
    if (error > known.tolerance) {
      const [found, allowed] = [error.toPrecision(3), known.tolerance.toPrecision(3)];
      throw new Error(`the graph fails its known-answer test in this browser (error ${found}, allowed ${allowed})`);
    }
    return error;
  }
}
