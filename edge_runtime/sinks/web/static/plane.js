// The valence-arousal plane of the last result, for bundles that predict these dimensions, and all values as text.

import { byId, write } from "./dom.js";

const PLACED = ["valence", "arousal"];
const inUnit = (value) => Math.max(0, Math.min(1, value));

export function drawPlane(event) {
  const dimensions = event?.dimensions ?? null;
  byId("dimensions").hidden = dimensions === null;
  if (dimensions === null) return;
  const texts = Object.entries(dimensions).map(([name, value]) => `${name} ${value.toFixed(2)}`);
  write(byId("dimension-values"), texts.join(", "));
  const plane = byId("plane");
  plane.hidden = PLACED.some((name) => dimensions[name] === undefined);
  if (plane.hidden) return;
  const [across, up] = PLACED.map((name) => inUnit(dimensions[name]));
  const dot = byId("plane-dot");
  dot.style.left = `${across * 100}%`;
  dot.style.bottom = `${up * 100}%`;
  plane.setAttribute("aria-label", `Valence ${across.toFixed(2)} and arousal ${up.toFixed(2)}, from 0 to 1`);
}
