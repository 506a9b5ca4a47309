// The level of the last minute as a small area, a step for each message; coloured during speech.

import { byId } from "./dom.js";

const POINTS = 300;
const LOWEST_DB = -80;

export class Trace {
  #points = [];
  #canvas = byId("trace");

  add({ level_db: level, speaking }) {
    const share = Math.max(0, Math.min(1, 1 - (level ?? LOWEST_DB) / LOWEST_DB));
    this.#points.push({ share, speaking });
    if (this.#points.length > POINTS) this.#points.shift();
  }

  draw() {
    const { width, height } = this.#canvas.getBoundingClientRect();
    const pen = pencil(this.#canvas, width, height);
    const style = getComputedStyle(document.body);
    const step = width / POINTS;
    this.#points.forEach(({ share, speaking }, index) => {
      const x = width - (this.#points.length - index) * step;
      const tall = Math.max(1, share * height);
      pen.fillStyle = style.getPropertyValue(speaking ? "--accent" : "--idle");
      pen.fillRect(x, height - tall, step + 0.5, tall);
    });
  }
}

/** Fit a canvas to its place and the screen's resolution, empty it, and return what draws on it in CSS pixels. */
export function pencil(canvas, width, height) {
  const ratio = window.devicePixelRatio || 1;
  const [across, down] = [Math.round(width * ratio), Math.round(height * ratio)];
  if (canvas.width !== across || canvas.height !== down) {
    canvas.width = across;
    canvas.height = down;
  }
  const pen = canvas.getContext("2d");
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  pen.clearRect(0, 0, width, height);
  return pen;
}
