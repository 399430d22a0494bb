// Lines over the last five minutes.

import { make } from "./dom.js";

const NS = "http://www.w3.org/2000/svg";
const SECONDS = 300;
const WIDTH = 600;
const HEIGHT = 100;

function svg(tag, attributes) {
  const element = document.createElementNS(NS, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  return element;
}

// The next round number: 1, 2 or 5 times a power of ten.
function roof(value) {
  const power = 10 ** Math.floor(Math.log10(Math.max(value, 1)));
  return [1, 2, 5, 10].map((step) => step * power).find((step) => step >= value);
}

export class Plot {
  // `series`: name and class of each line. `words`: a number as text.
  constructor(place, series, words) {
    this.words = words;
    this.points = [];
    this.frame = svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img" });
    for (const y of [1, HEIGHT / 2, HEIGHT - 1]) {
      this.frame.append(svg("line", { class: "plot-grid", x1: 0, x2: WIDTH, y1: y, y2: y }));
    }
    this.lines = series.map(([, className]) => svg("polyline", { class: `plot-line ${className}` }));
    this.frame.append(...this.lines);
    this.names = series.map(([name]) => name);
    this.legend = series.map(([, className]) => make("span", className));
    this.scale = make("span", "scale");
    place.replaceChildren(this.frame, make("div", "legend", ...this.legend, this.scale));
  }

  // A point in time, in seconds, with a value for each line; to be drawn.
  add(second, values) {
    this.points.push([second, values]);
    while (this.points.length > 0 && this.points[0][0] < second - SECONDS) this.points.shift();
  }

  clear() {
    this.points = [];
  }

  draw(now) {
    const top = roof(Math.max(1, ...this.points.flatMap(([, values]) => values)));
    const x = (second) => (WIDTH - ((now - second) * WIDTH) / SECONDS).toFixed(1);
    const y = (value) => (HEIGHT - 1 - (value * (HEIGHT - 2)) / top).toFixed(1);
    this.lines.forEach((line, index) => {
      line.setAttribute("points", this.points.map(([second, values]) => `${x(second)},${y(values[index])}`).join(" "));
    });
    const last = this.points.at(-1)[1];
    this.legend.forEach((place, index) => {
      place.textContent = `${this.names[index]} ${this.words(last[index])}`;
    });
    this.scale.textContent = `top ${this.words(top)}, 5 min`;
    this.frame.setAttribute("aria-label", this.legend.map((place) => place.textContent).join(", "));
  }
}
