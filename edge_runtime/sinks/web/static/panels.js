// The panels around the timeline: emotion, sound, device, results and messages.

import { byId, clock, duration, element, percent, write } from "./dom.js";
import { drawPlane } from "./plane.js";

const LOWEST_DB = -80;
const OLD_SECONDS = 5;
const PEAK_FALL = 3;
const STATES = {
  starting: "starting", listening: "listening", silence: "digital silence", "no-audio": "no audio",
  "device-lost": "microphone lost", stopped: "stopped", failing: "no window can be scored",
  stalled: "the program hangs", unknown: "unknown: no connection",
};

export class Panels {
  #store;
  #colours;
  #bars = new Map();
  #peak = LOWEST_DB;
  #shownFinal = null;
  #shownMessage = null;
  #announced = null;

  constructor(store, colours) {
    this.#store = store;
    this.#colours = colours;
  }

  draw() {
    this.#emotion();
    if (this.#store.now) {
      this.#sound(this.#store.now);
      this.#device(this.#store.now);
    }
    this.#results();
    this.#messages();
  }

  #emotion() {
    const { current, labels, now } = this.#store;
    if (labels.join("\n") !== [...this.#bars.keys()].join("\n")) this.#makeBars(labels);
    for (const [label, bar] of this.#bars) bar.show(current?.probabilities[label] ?? 0, label === current?.label);
    const age = current && now ? this.#store.second - current.end : 0;
    const old = age > OLD_SECONDS;
    byId("now").dataset.old = String(old);
    byId("emotion-age").hidden = !old;
    write(byId("emotion-age"), old ? `${duration(age)} ago` : "");
    byId("emotion").dataset.colour = current ? this.#colours.of(current.label) : 0;
    write(byId("emotion-label"), current ? current.label : "–");
    write(byId("emotion-confidence"), current ? percent(current.confidence) : "");
    byId("uncertain").hidden = !current?.uncertain;
    const profile = current?.profile ? `profile ${current.profile}, ` : "";
    const known = Boolean(profile || current?.speaker_known);
    byId("profile").hidden = !known;
    write(byId("profile"), known ? `${profile}speaker ${percent(current.speaker_known)} known` : "");
    write(byId("emotion-note"), current ? note(current, old) : "No result yet.");
    drawPlane(current);
    if (current?.type === "final" && current !== this.#announced) {
      this.#announced = current;
      write(byId("spoken"), `${current.label}, ${percent(current.confidence)}${current.uncertain ? ", uncertain" : ""}`);
    }
  }

  #makeBars(labels) {
    this.#bars = new Map();
    byId("bars").replaceChildren(
      ...labels.map((label) => {
        const fill = element("div", { className: "fill" });
        const meter = element(
          "div",
          {
            className: "track",
            attributes: { role: "meter", "aria-label": label, "aria-valuemin": 0, "aria-valuemax": 100 },
          },
          fill,
        );
        const share = element("span", { className: "percent" });
        const row = element(
          "li",
          { data: { colour: this.#colours.of(label) } },
          element("span", { text: label, className: "name", attributes: { title: label } }),
          meter,
          share,
        );
        const show = (value, top) => {
          fill.style.transform = `scaleX(${value})`;
          meter.setAttribute("aria-valuenow", Math.round(value * 100));
          row.dataset.top = String(top);
          write(share, percent(value));
        };
        this.#bars.set(label, { show });
        return row;
      }),
    );
  }

  #sound(now) {
    const level = now.level_db ?? LOWEST_DB;
    this.#peak = Math.max(level, this.#peak - PEAK_FALL);
    const share = (decibels) => Math.max(0, Math.min(1, 1 - decibels / LOWEST_DB));
    const meter = byId("level");
    meter.querySelector(".fill").style.transform = `scaleX(${share(level)})`;
    meter.querySelector(".peak").style.transform = `translateX(${share(this.#peak) * 100}%)`;
    meter.setAttribute("aria-valuenow", Math.round(Math.max(LOWEST_DB, Math.min(0, level))));
    meter.setAttribute("aria-valuetext", level <= -100 ? "silence" : `${Math.round(level)} dB`);
    write(byId("level-number"), level <= -100 ? "−∞" : `${level < 0 ? "−" : ""}${Math.abs(Math.round(level))}`);
    const speech = byId("speech");
    const { live } = this.#store;
    speech.dataset.on = String(live && now.speaking && now.speech !== null);
    const word = now.speaking ? "Speech" : "No speech";
    // Without voice activity detection, all audio is scored.
    const scored = now.speech === null ? "Everything is scored, silence too" : word;
    write(byId("speech-text"), live ? scored : "–");
    // No figure beside the word: the word is the VAD's decision, which has hysteresis; the probability is of the last block.
    const probability = byId("probability");
    probability.hidden = now.speech === null;
    probability.querySelector(".fill").style.transform = `scaleX(${now.speech ?? 0})`;
    probability.setAttribute("aria-valuenow", Math.round((now.speech ?? 0) * 100));
    const state = byId("state");
    state.dataset.state = stateOf(now, live);
    write(state, STATES[stateOf(now, live)] ?? now.state);
  }

  #device(now) {
    const { live } = this.#store;
    write(byId("source"), now.source || "no source yet");
    const facts = {
      Source: now.source || "–",
      State: STATES[stateOf(now, live)] ?? now.state,
      Backend: now.backend || "–",
      "Backend changes": now.backend_note || "none",
      Model: this.#store.model || "–",
      "Listening for": live ? duration(now.uptime) : "–",
      "Dropped samples": now.dropped_samples.toLocaleString(),
      "Windows not scored": now.failures.toLocaleString(),
      "Events lost by sinks": now.lost_events.toLocaleString(),
      Version: this.#store.version,
    };
    const list = byId("device");
    if (!list.children.length) {
      list.append(
        ...Object.keys(facts).map((name) =>
          element("div", {}, element("dt", { text: name }), element("dd", { data: { fact: name } })),
        ),
      );
    }
    for (const [name, value] of Object.entries(facts)) write(list.querySelector(`[data-fact="${name}"]`), value);
  }

  #results() {
    const { finals } = this.#store;
    if (finals[0] === this.#shownFinal) return;
    this.#shownFinal = finals[0];
    byId("no-finals").hidden = finals.length > 0;
    byId("finals").replaceChildren(
      ...finals.map((final) => {
        const label = element("td", { className: "label", data: { colour: this.#colours.of(final.label) } });
        label.append(element("span", { text: final.label, attributes: { title: final.label } }));
        if (final.uncertain) label.append(element("em", { text: "uncertain", className: "badge warn" }));
        return element(
          "tr",
          {},
          element("td", {}, element("time", { text: clock(final.time), attributes: { datetime: final.time } })),
          label,
          element("td", { text: percent(final.confidence), className: "right" }),
          element("td", { text: `${(final.end - final.start).toFixed(1)} s`, className: "right" }),
        );
      }),
    );
  }

  #messages() {
    const { messages } = this.#store;
    if (messages[0] === this.#shownMessage) return;
    this.#shownMessage = messages[0];
    byId("messages").replaceChildren(
      ...messages.map((message) =>
        element(
          "li",
          {},
          element("time", { text: clock(message.time), attributes: { datetime: message.time } }),
          element(
            "div",
            {},
            element("span", { text: message.detail }),
            element("div", { text: message.status, className: "kind" }),
          ),
        ),
      ),
    );
  }
}

/** The state that is shown; missing audio takes precedence over failed scoring. */
function stateOf(now, live) {
  if (!live) return "unknown";
  if (now.stalled) return "stalled";
  return now.failing && now.state === "listening" ? "failing" : now.state;
}

function note(event, old) {
  if (event.type === "provisional") return old ? "provisional" : "provisional …";
  return `final, ${(event.end - event.start).toFixed(1)} s of speech`;
}
