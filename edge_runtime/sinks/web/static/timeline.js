// The timeline: a lane per emotion, drawn on a canvas. Seconds are those of the sample clock, in double precision: after
// weeks they are too large for the positions of elements.

import { byId, clock, element, percent } from "./dom.js";
import { pencil } from "./trace.js";

const AXIS = 22;
const SPANS = [[60, "1 min"], [180, "3 min"], [600, "10 min"], [3600, "1 h"], [7200, "2 h"]];
const STEPS = { 60: 10, 180: 30, 600: 120, 3600: 600, 7200: 1200 };

export class Timeline {
  #store;
  #colours;
  #span = 180;
  #chosen = null;
  #lanes = "";
  #canvas = byId("canvas");
  #list = byId("lanes");

  constructor(store, colours, changed) {
    this.#store = store;
    this.#colours = colours;
    this.changed = changed;
    new ResizeObserver(changed).observe(this.#canvas);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", changed);
    this.#canvas.addEventListener("pointermove", (event) => this.#point(event));
    this.#canvas.addEventListener("pointerdown", (event) => this.#point(event));
    this.#canvas.addEventListener("keydown", (event) => this.#key(event));
  }

  /** Offer the spans that the history is long enough for. */
  offer(seconds) {
    const fitting = SPANS.filter(([span], index) => index === 0 || SPANS[index - 1][0] < seconds);
    if (!fitting.some(([span]) => span === this.#span)) this.#span = fitting.at(-1)[0];
    const fieldset = byId("spans");
    fieldset.querySelectorAll("label").forEach((label) => label.remove());
    for (const [span, name] of fitting) {
      const input = element("input", { attributes: { type: "radio", name: "span", value: span } });
      input.checked = span === this.#span;
      input.addEventListener("change", () => {
        this.#span = span;
        this.changed();
      });
      fieldset.append(element("label", {}, input, name));
    }
  }

  draw() {
    this.#nameLanes();
    const { width, height } = this.#canvas.getBoundingClientRect();
    const style = getComputedStyle(document.body);
    const colour = (name) => style.getPropertyValue(`--${name}`).trim();
    const pen = pencil(this.#canvas, width, height);
    const laneHeight = (height - AXIS) / Math.max(1, this.#store.labels.length);
    const until = this.#store.now?.position ?? 0;
    const place = (second) => width - ((until - second) / this.#span) * width;
    this.#store.labels.forEach((_, index) => {
      pen.fillStyle = colour("lane");
      pen.beginPath();
      pen.roundRect(0, index * laneHeight + 3, width, laneHeight - 6, 5);
      pen.fill();
    });
    this.#axis(pen, width, height, colour, style.fontFamily);
    for (const mark of this.#store.marks) line(pen, place(mark.start), height - AXIS, colour("quiet"), [2, 3]);
    for (const band of this.#store.bands) {
      const lane = this.#store.labels.indexOf(band.label);
      const [left, right] = [place(band.from), place(band.end)];
      if (lane < 0 || right < 0) continue;
      // One pixel apart, so that neighbours can be distinguished.
      const box = [left, lane * laneHeight + 5, Math.max(2, right - left - 1), laneHeight - 10];
      paint(pen, box, colour(`c${this.#colours.of(band.label)}`), band);
      if (band === this.#chosen) frame(pen, box, colour("text"));
    }
    this.#describe();
  }

  #nameLanes() {
    const names = JSON.stringify(this.#store.labels);
    if (names === this.#lanes) return;
    this.#lanes = names;
    this.#list.replaceChildren(
      ...this.#store.labels.map((label) =>
        element("li", { text: label, data: { colour: this.#colours.of(label) }, attributes: { title: label } }),
      ),
      element("li", { className: "axis" }),
    );
  }

  #axis(pen, width, height, colour, font) {
    pen.font = `12px ${font}`;
    pen.fillStyle = colour("quiet");
    pen.textBaseline = "bottom";
    const steps = this.#span / STEPS[this.#span];
    const every = width / steps < 60 ? 2 : 1;
    for (let step = 0; step < steps; step += 1) {
      const x = width - (step / steps) * width;
      if (step) line(pen, x, height - AXIS, colour("line"), []);
      if (step % every) continue;
      pen.textAlign = step ? "center" : "right";
      pen.fillText(ago(step * STEPS[this.#span]), x, height);
    }
  }

  #describe() {
    const last = this.#store.finals[0];
    const text = last
      ? `Timeline of ${this.#span / 60} minutes; the last final result is ${last.label}, ${percent(last.confidence)}`
      : `Timeline of ${this.#span / 60} minutes; no final result yet`;
    if (this.#canvas.getAttribute("aria-label") !== text) this.#canvas.setAttribute("aria-label", text);
  }

  #point(event) {
    const { left, width } = this.#canvas.getBoundingClientRect();
    const second = (this.#store.now?.position ?? 0) - ((left + width - event.clientX) / width) * this.#span;
    const over = this.#store.bands.filter((band) => band.from <= second && second <= band.end);
    this.#choose(over.at(-1) ?? this.#chosen);
  }

  #key(event) {
    const bands = this.#store.bands;
    const steps = { ArrowLeft: -1, ArrowRight: 1, Home: -Infinity, End: Infinity };
    if (!(event.key in steps) || !bands.length) return;
    event.preventDefault();
    const at = bands.indexOf(this.#chosen);
    const from = at < 0 ? bands.length : at;
    this.#choose(bands[Math.max(0, Math.min(bands.length - 1, from + steps[event.key]))]);
  }

  #choose(band) {
    if (!band || band === this.#chosen) return;
    this.#chosen = band;
    const parts = [clock(band.time), `${band.label} ${percent(band.confidence)}`, band.type];
    parts.push(`${(band.end - band.start).toFixed(1)} s`);
    if (band.uncertain) parts.push("uncertain");
    byId("readout").textContent = parts.join(" · ");
    this.changed();
  }
}

function ago(seconds) {
  if (!seconds) return "now";
  if (seconds < 60) return `−${seconds} s`;
  return seconds % 60 ? "" : `−${seconds / 60} min`;
}

function paint(pen, [x, y, width, height], colour, band) {
  pen.save();
  pen.globalAlpha = band.type === "final" ? 1 : 0.4;
  pen.beginPath();
  pen.roundRect(x, y, width, height, Math.min(4, width / 2));
  if (band.uncertain) {
    pen.strokeStyle = colour;
    pen.lineWidth = 1.5;
    pen.stroke();
    pen.clip();
    pen.beginPath();
    for (let start = Math.floor((x - height) / 6) * 6; start < x + width; start += 6) {
      pen.moveTo(start, y + height);
      pen.lineTo(start + height, y);
    }
    pen.stroke();
  } else {
    pen.fillStyle = colour;
    pen.fill();
  }
  pen.restore();
}

function frame(pen, [x, y, width, height], colour) {
  pen.strokeStyle = colour;
  pen.lineWidth = 2;
  pen.strokeRect(x - 1, y - 1, width + 2, height + 2);
}

function line(pen, x, until, colour, dashes) {
  pen.save();
  pen.strokeStyle = colour;
  pen.lineWidth = 1;
  pen.setLineDash(dashes);
  pen.beginPath();
  pen.moveTo(Math.round(x) + 0.5, 0);
  pen.lineTo(Math.round(x) + 0.5, until);
  pen.stroke();
  pen.restore();
}
