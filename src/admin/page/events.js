// What has happened since the page was opened.

import { at, clock, make } from "./dom.js";

const MOST = 100;

// Failures of one code, user and exit in a row are one line with a count.
let lastFailure = null;

function put(list, line) {
  if (list.firstElementChild?.classList.contains("quiet")) list.replaceChildren();
  list.prepend(line);
  while (list.children.length > MOST) list.lastElementChild.remove();
}

export function failed(event) {
  const of = [event.user, event.pool && event.exit ? `${event.pool}/${event.exit}` : event.pool]
    .filter(Boolean).join(" by ");
  const same = JSON.stringify([event.code, of, event.detail]);
  if (lastFailure?.same === same) {
    lastFailure.count += 1;
    lastFailure.times.textContent = ` × ${lastFailure.count}`;
    lastFailure.time.textContent = clock(new Date());
    return;
  }
  const time = make("time", "", clock(new Date()));
  const times = make("span", "times");
  const code = make("span", "code", `${event.status} ${event.code}`);
  put(at("failures"), make("li", "", time, code, times, of ? ` ${of}` : "", make("div", "quiet", event.detail ?? "")));
  lastFailure = { same, count: 1, time, times };
}

export function happened(text) {
  put(at("events"), make("li", "", make("time", "", clock(new Date())), text));
}
