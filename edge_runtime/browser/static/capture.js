// Audio for the worker: the microphone as it is, or all samples of a file.

export const FILE_RATE = 16000;

/** Open the microphone; `onBlock(pcm)` gets blocks of mono at `rate`, `onLost()` is called where the device goes. */
export class Microphone {
  static async open(onBlock, onLost) {
    if (!navigator.mediaDevices) throw new Error("a browser gives a microphone to pages of https or localhost only");
    // As the runtime takes it: what browsers do for calls changes how a voice sounds.
    const audio = { echoCancellation: false, noiseSuppression: false, autoGainControl: false };
    const microphone = new Microphone(await navigator.mediaDevices.getUserMedia({ audio }), new AudioContext());
    const { context, stream } = microphone;
    try {
      stream.getAudioTracks()[0].addEventListener("ended", onLost);
      await context.resume();
      await context.audioWorklet.addModule(new URL("recorder.js", import.meta.url));
      const recorder = new AudioWorkletNode(context, "recorder");
      recorder.port.addEventListener("message", ({ data }) => onBlock(data));
      recorder.port.start();
      // It plays silence: a node that leads nowhere need not run.
      context.createMediaStreamSource(stream).connect(recorder).connect(context.destination);
      return microphone;
    } catch (error) {
      microphone.close();
      throw error;
    }
  }

  constructor(stream, context) {
    this.stream = stream;
    this.context = context;
    this.rate = context.sampleRate;
    this.name = stream.getAudioTracks()[0].label || "microphone";
  }

  close() {
    for (const track of this.stream.getTracks()) track.stop();
    this.context.close();
  }
}

/** Return a file's samples at `FILE_RATE`, the mean of its channels. */
export async function decoded(file) {
  const audio = await new OfflineAudioContext(1, 1, FILE_RATE).decodeAudioData(await file.arrayBuffer());
  const channels = Array.from({ length: audio.numberOfChannels }, (_, i) => audio.getChannelData(i));
  return channels[0].map((_, i) => channels.reduce((sum, channel) => sum + channel[i], 0) / channels.length);
}
