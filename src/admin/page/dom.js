// Elements and words. What comes from outside only ever becomes text.

export const at = (id) => document.getElementById(id);

// An element with a class, and children that are elements or text.
export function make(tag, className, ...children) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  element.append(...children.map((child) => (child instanceof Node ? child : String(child))));
  return element;
}

// A cell of a table, which says by itself what it is where its head is hidden.
export function cell(label, className, ...children) {
  const made = make("td", className, ...children);
  made.dataset.label = label;
  return made;
}

export function button(text, className, act) {
  const element = make("button", className, text);
  element.type = "button";
  element.addEventListener("click", act);
  return element;
}

// Makes `place` hold just these elements. What stays is not touched, so that
// nothing moves away under a click.
export function keep(place, elements) {
  const wanted = new Set(elements);
  for (const child of [...place.childNodes]) if (!wanted.has(child)) child.remove();
  elements.forEach((element, index) => {
    if (place.childNodes[index] !== element) place.insertBefore(element, place.childNodes[index] ?? null);
  });
}

// Elements by name, made again only where what they show has changed.
export class Kept {
  constructor() {
    this.all = new Map();
  }

  // The element `name` that shows `what`; `build` makes it.
  element(name, what, build) {
    const shows = JSON.stringify(what);
    let kept = this.all.get(name);
    if (kept?.shows !== shows) {
      kept = { shows, element: build() };
      this.all.set(name, kept);
    }
    kept.used = true;
    return kept.element;
  }

  // Forgets what was not asked for since the last time.
  sweep() {
    for (const [name, kept] of this.all) {
      if (!kept.used) this.all.delete(name);
      kept.used = false;
    }
  }
}

// A bar that is `part` of `whole` full, with words on it.
export function bar(part, whole, words, hot) {
  const fill = make("i", hot ? "hot" : "");
  fill.style.width = `${whole > 0 ? Math.min(100, (100 * part) / whole) : 0}%`;
  return make("div", "bar", fill, make("span", "", words));
}

const UNITS = ["", "k", "M", "G", "T", "P"];

// 12345 as "12.3 k".
export function short(number) {
  let unit = 0;
  while (number >= 1000 && unit < UNITS.length - 1) {
    number /= 1000;
    unit += 1;
  }
  const digits = unit === 0 || number >= 100 ? 0 : 1;
  const shown = unit === 0 ? Math.round(number * 10) / 10 : number.toFixed(digits);
  return UNITS[unit] ? `${shown} ${UNITS[unit]}` : `${shown}`;
}

export const bytes = (number) => (number < 1000 ? `${Math.round(number)} B` : `${short(number)}B`);

// Seconds as "2 d 3 h", "12 m 5 s".
export function duration(seconds) {
  const parts = [["d", 86400], ["h", 3600], ["m", 60], ["s", 1]];
  const words = [];
  for (const [name, length] of parts) {
    const count = Math.floor(seconds / length);
    seconds -= count * length;
    if (count > 0 || (name === "s" && words.length === 0)) words.push(`${count} ${name}`);
  }
  return words.slice(0, 2).join(" ");
}

export const clock = (date) => date.toLocaleTimeString([], { hour12: false });

// Asks before something is done. Resolves to the text of the field ("" if
// there is none), or to null for no.
export function ask(text, detail, field) {
  const dialog = at("ask");
  at("ask-text").textContent = text;
  at("ask-detail").textContent = detail;
  at("ask-line").hidden = !field;
  at("ask-label").textContent = field?.label ?? "";
  at("ask-input").value = field?.value ?? "";
  dialog.returnValue = "";
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener(
      "close",
      () => resolve(dialog.returnValue === "yes" ? at("ask-input").value.trim() : null),
      { once: true },
    );
  });
}

// Enter in the field means yes, not the first button.
at("ask-input").addEventListener("keydown", (event) => {
  if (event.key === "Enter") {
    event.preventDefault();
    at("ask-yes").click();
  }
});
