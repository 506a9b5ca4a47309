// Wires the parts: the connection fills the store, panels and timeline draw it once per frame at most.

import { Colours } from "./colours.js";
import { Connection } from "./connection.js";
import { byId, write } from "./dom.js";
import { Panels } from "./panels.js";
import { Store } from "./store.js";
import { Timeline } from "./timeline.js";
import { Trace } from "./trace.js";

const store = new Store();
const colours = new Colours();
const panels = new Panels(store, colours);
const trace = new Trace();
const timeline = new Timeline(store, colours, draw);
let drawing = false;

function draw() {
  if (drawing) return;
  drawing = true;
  requestAnimationFrame(() => {
    drawing = false;
    colours.learn(store.labels);
    panels.draw();
    timeline.draw();
    trace.draw();
  });
}

function heard(message) {
  if (message.type === "hello") {
    store.hello(message);
    timeline.offer(store.seconds);
  } else if (message.type === "level") {
    store.level(message);
    trace.add(message);
  } else {
    store.add(message);
  }
  draw();
}

function told(state, seconds) {
  byId("connection").dataset.state = state;
  document.body.dataset.connection = state;
  byId("retry").hidden = state !== "lost";
  const texts = {
    connecting: "Connecting …",
    live: "Live",
    lost: "Connection lost, trying again",
    denied: "Not allowed any more: open the page with its token",
  };
  write(byId("connection-text"), texts[state]);
  // Not in the text above: a screen reader would count along.
  write(byId("countdown"), state === "lost" ? `in ${seconds} s` : "");
  // What is old grows older without a line too.
  draw();
}

const connection = new Connection(heard, told);
byId("retry").addEventListener("click", () => connection.retry());
connection.open();
