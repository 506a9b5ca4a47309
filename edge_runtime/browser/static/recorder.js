// In the audio thread: collects the mean of all channels into blocks of about 100 ms.

const SECONDS = 0.1;

class Recorder extends AudioWorkletProcessor {
  #block = new Float32Array(Math.round(SECONDS * sampleRate));
  #filled = 0;

  process([channels]) {
    // Without an input there are no channels.
    for (let i = 0; i < (channels[0]?.length ?? 0); i++) {
      this.#block[this.#filled++] = channels.reduce((sum, channel) => sum + channel[i], 0) / channels.length;
      if (this.#filled === this.#block.length) {
        this.port.postMessage(this.#block.slice());
        this.#filled = 0;
      }
    }
    return true;
  }
}

registerProcessor("recorder", Recorder);
