// What the page shows of the store: panels, timeline and trace, drawn at most once per frame.

import { Colours } from "./colours.js";
import { Panels } from "./panels.js";
import { Store } from "./store.js";
import { Timeline } from "./timeline.js";
import { Trace } from "./trace.js";

export class View {
  constructor() {
    this.store = new Store();
    this.trace = new Trace();
    this.colours = new Colours();
    this.panels = new Panels(this.store, this.colours);
    this.timeline = new Timeline(this.store, this.colours, () => this.draw());
    this.drawing = false;
  }

  draw() {
    if (this.drawing) return;
    this.drawing = true;
    requestAnimationFrame(() => {
      this.drawing = false;
      this.colours.assign(this.store.labels);
      this.panels.draw();
      this.timeline.draw();
      this.trace.draw();
    });
  }
}
