// The WebSocket: it reconnects by itself, after a longer time with each failure, and reports its state.

const FIRST_WAIT = 0.5;
const LONGEST_WAIT = 15;
/** Seconds without a message after which the connection counts as lost; the level comes five times a second. */
const SILENT_SECONDS = 6;
/** The code of a WebSocket that ended without a reason, as one that was never accepted. */
const REFUSED = 1006;

export class Connection {
  #socket = null;
  #failures = 0;
  #timer = null;
  #watchdog = null;
  #received = 0;
  #again = 0;
  #blocked = false;

  /**
   * Calls `onState(state, seconds)` with `connecting`, `live`, `denied`, or, with the seconds to the next try, `lost` or
   * `blocked`: the server answers, but WebSockets do not reach it.
   */
  constructor(onMessage, onState) {
    this.onMessage = onMessage;
    this.onState = onState;
    window.addEventListener("online", () => this.retry());
    document.addEventListener("visibilitychange", () => document.hidden || this.retry());
  }

  /** Try now, unless it is open or being opened. */
  retry() {
    if (this.#socket) return;
    clearTimeout(this.#timer);
    this.open();
  }

  open() {
    this.onState("connecting");
    const address = new URL("ws", document.baseURI);
    const source = new URLSearchParams(location.search).get("source");
    if (source) address.searchParams.set("source", source);
    address.protocol = location.protocol === "https:" ? "wss:" : "ws:";
    const socket = new WebSocket(address);
    this.#socket = socket;
    let opened = false;
    this.#received = performance.now();
    this.#watchdog = setInterval(() => {
      if (performance.now() - this.#received > SILENT_SECONDS * 1000) this.#lost(socket, opened);
    }, 1000);
    socket.addEventListener("message", ({ data }) => {
      if (socket !== this.#socket) return;
      this.#received = performance.now();
      const message = JSON.parse(data);
      if (message.type === "hello") {
        opened = true;
        this.#failures = 0;
        this.#blocked = false;
        this.onState("live");
      }
      this.onMessage(message);
    });
    socket.addEventListener("close", ({ code }) => this.#lost(socket, opened, code));
  }

  async #lost(socket, opened, code = REFUSED) {
    if (socket !== this.#socket) return;
    this.#socket = null;
    clearInterval(this.#watchdog);
    socket.close();
    const wait = Math.min(LONGEST_WAIT, FIRST_WAIT * 2 ** this.#failures) * (0.8 + 0.4 * Math.random());
    this.#failures += 1;
    this.#again = performance.now() + wait * 1000;
    this.#count();
    if (opened) return;
    // A WebSocket gives no reason for a refusal; an HTTP status does.
    const status = await statusOfServer();
    if (status === 401) {
      clearTimeout(this.#timer);
      this.onState("denied");
    }
    // Twice in a row: the server may have started only now.
    this.#blocked = status === 200 && code === REFUSED && this.#failures > 1;
  }

  #count() {
    const left = (this.#again - performance.now()) / 1000;
    if (left <= 0) {
      this.open();
      return;
    }
    this.onState(this.#blocked ? "blocked" : "lost", Math.ceil(left));
    this.#timer = setTimeout(() => this.#count(), Math.min(1000, left * 1000));
  }
}

async function statusOfServer() {
  try {
    return (await fetch(new URL("api/state", document.baseURI))).status;
  } catch {
    return 0;
  }
}
