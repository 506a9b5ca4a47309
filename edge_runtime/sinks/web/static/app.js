// Connects the parts: the connection fills the store, and the view draws it.

import { Connection } from "./connection.js";
import { byId, element, write } from "./dom.js";
import { View } from "./view.js";

const view = new View();
const { store, trace, timeline } = view;

function receive(message) {
  if (message.type === "hello") {
    store.hello(message);
    offerSources(message.sources);
    timeline.offer(store.seconds);
  } else if (message.type === "level") {
    store.level(message);
    trace.add(message);
  } else {
    store.add(message);
  }
  view.draw();
}

/** Offer the sources to choose from; each choice has an address of its own. */
function offerSources(names) {
  const choice = byId("sources");
  choice.hidden = names.length < 2;
  const shown = new URLSearchParams(location.search).get("source") ?? names[0];
  choice.replaceChildren(...names.map((name) => element("option", { text: name, attributes: { value: name } })));
  choice.value = shown;
  if (names.length) document.title = `${shown} – edgeemo`;
}

function showConnection(state, seconds) {
  byId("connection").dataset.state = state;
  document.body.dataset.connection = state;
  store.live = state === "live";
  const waits = state === "lost" || state === "blocked";
  byId("retry").hidden = !waits;
  const texts = {
    connecting: "Connecting …",
    live: "Live",
    lost: "Connection lost, trying again",
    blocked: "The proxy does not pass on the WebSocket, or its name is not in allowed_hosts",
    denied: "Not allowed any more: open the page with its token",
  };
  write(byId("connection-text"), texts[state]);
  // Not in the text above: a screen reader would read every second.
  write(byId("countdown"), waits ? `in ${seconds} s` : "");
  // Without a connection the state is unknown, and the age of the last result grows.
  view.draw();
}

byId("sources").addEventListener("change", ({ target }) => {
  location.search = new URLSearchParams({ source: target.value });
});
const connection = new Connection(receive, showConnection);
byId("retry").addEventListener("click", () => connection.retry());
connection.open();
