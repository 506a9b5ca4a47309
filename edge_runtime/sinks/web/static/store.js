// The events of the last minutes, merged from the server's history and from live messages.

const LISTED = 100;
const BANDS = 3000;
const LABELS = 40;

const key = (event) => `${event.time} ${event.type} ${event.start} ${event.end} ${event.status ?? event.label}`;

export class Store {
  labels = [];
  bands = [];
  marks = [];
  finals = [];
  messages = [];
  current = null;
  now = null;
  /** Whether `now` is what is now: false without a connection. */
  live = false;
  model = "";
  version = "";
  seconds = 600;
  #run = null;
  #came = 0;
  #known = new Set();

  /** Process the first message of a connection. */
  hello(message) {
    if (message.run !== this.#run) {
      // Another sample clock: earlier events have no place on this timeline; the lists keep them.
      this.#run = message.run;
      this.bands = [];
      this.marks = [];
      this.current = null;
    }
    this.labels = message.labels.slice(0, LABELS);
    this.model = message.model;
    this.version = message.version;
    this.seconds = message.history_minutes * 60;
    this.level(message.now);
    message.history.forEach((event) => this.add(event));
  }

  /** The current second on the sample clock, estimated while there is no audio or no connection. */
  get second() {
    return this.now.position + (this.now.audio_age ?? 0) + (performance.now() - this.#came) / 1000;
  }

  level(message) {
    this.now = message;
    this.#came = performance.now();
    const oldest = message.position - this.seconds;
    while (this.bands.length && this.bands[0].end < oldest) this.bands.shift();
    while (this.marks.length && this.marks[0].end < oldest) this.marks.shift();
  }

  /** Add an event, unless it was added before. */
  add(event) {
    if (this.#known.has(key(event))) return;
    this.#remember(event);
    if (event.type === "status") {
      this.messages.unshift(event);
      this.messages.length = Math.min(this.messages.length, LISTED);
      this.marks.push(event);
      if (this.marks.length > BANDS) this.marks.shift();
      if (event.model) this.model = event.model;
      return;
    }
    if (event.type === "final") {
      // A final result replaces the provisional ones that it overlaps.
      this.bands = this.bands.filter(
        (band) => band.type === "final" || band.end <= event.start || event.end <= band.start,
      );
      this.finals.unshift(event);
      this.finals.length = Math.min(this.finals.length, LISTED);
    }
    const before = this.bands.at(-1);
    // Windows overlap: of a provisional result, only the new part is drawn.
    const overlaps = event.type === "provisional" && before?.type === "provisional" && before.end < event.end;
    this.bands.push({ ...event, from: overlaps ? Math.max(before.end, event.start) : event.start });
    if (this.bands.length > BANDS) this.bands.shift();
    this.current = event;
    if (!this.labels.includes(event.label) && this.labels.length < LABELS) this.labels = [...this.labels, event.label];
  }

  #remember(event) {
    this.#known.add(key(event));
    if (this.#known.size > 4 * BANDS) {
      this.#known = new Set([...this.bands, ...this.finals, ...this.messages, ...this.marks, event].map(key));
    }
  }
}
