// The bundle's graph in onnxruntime-web, on the CPU (WebAssembly with SIMD, one thread).

import * as ort from "../onnxruntime-web/ort.wasm.min.mjs";

export class Engine {
  #session;
  #reference;

  /** Open the graph of the page at `base`, and test it with the known answers of its bundle. */
  static async open(page, base) {
    ort.env.wasm.numThreads = 1;
    ort.env.wasm.wasmPaths = new URL("onnxruntime-web/", base).href;
    const began = performance.now();
    const engine = new Engine();
    engine.#session = await ort.InferenceSession.create(new URL(page.graph, base).href, {
      executionProviders: ["wasm"],
      enableMemPattern: false,
      logSeverityLevel: 3,
    });
    engine.#reference = new ort.Tensor("float32", Float32Array.from(page.reference), [1, page.reference.length]);
    engine.backend = `onnxruntime-web ${page.onnxruntime_web} ${page.precision}`;
    engine.openMs = performance.now() - began;
    engine.knownAnswersError = page.known_answers ? await engine.#test(page, base) : null;
    return engine;
  }

  /** Score one window, a Float32Array at 16 kHz; `dimensions` is empty for a graph without. */
  async score(pcm) {
    const began = performance.now();
    const found = await this.#session.run({
      pcm: new ort.Tensor("float32", pcm, [1, pcm.length]),
      reference: this.#reference,
    });
    const [logits, dimensions] = [Array.from(found.logits.data), Array.from(found.dimensions?.data ?? [])];
    if (![...logits, ...dimensions].every(Number.isFinite)) throw new Error("the graph gives values that are not numbers");
    return { logits, dimensions, ms: performance.now() - began };
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
