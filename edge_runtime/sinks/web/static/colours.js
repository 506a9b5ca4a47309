// One colour per emotion, the same on every page; other labels take the colours that are left.

const KNOWN = {
  neutral: 0, calm: 1, happy: 2, happiness: 2, joy: 2, sad: 3, sadness: 3, angry: 4, anger: 4,
  fear: 5, fearful: 5, anxiety: 5, anxious: 5, disgust: 6, disgusted: 6, surprise: 7, surprised: 7, bored: 8, boredom: 8,
};
const COUNT = 10;

export class Colours {
  #of = new Map();

  /** Assign each label the number of a colour in style.css. */
  assign(labels) {
    for (const label of labels) {
      const known = Object.hasOwn(KNOWN, label.toLowerCase()) ? KNOWN[label.toLowerCase()] : undefined;
      if (known !== undefined) this.#of.set(label, known);
    }
    for (const label of labels) {
      if (this.#of.has(label)) continue;
      const taken = new Set(this.#of.values());
      const free = [...Array(COUNT).keys()].reverse().find((number) => !taken.has(number));
      this.#of.set(label, free ?? this.#of.size % COUNT);
    }
  }

  of(label) {
    return this.#of.get(label) ?? 0;
  }
}
