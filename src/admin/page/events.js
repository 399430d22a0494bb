// What has happened lately.

import { advice } from "./codes.js";
import { at, clock, make } from "./dom.js";

const MOST = 100;

// Failures of one code, user and exit in a row are one line with a count.
let lastFailure = null;

function put(list, line) {
  if (list.firstElementChild?.classList.contains("quiet")) list.replaceChildren();
  list.prepend(line);
  while (list.children.length > MOST) list.lastElementChild.remove();
}

// The stream has begun anew, and tells the last failures again.
export function forget() {
  at("failures").replaceChildren(make("li", "quiet", "none"));
  lastFailure = null;
}

export function failed(event) {
  const when = clock(new Date(event.at));
  const of = [event.user, event.pool && event.exit ? `${event.pool}/${event.exit}` : event.pool]
    .filter(Boolean).join(" by ");
  const same = JSON.stringify([event.code, of, event.detail]);
  if (lastFailure?.same === same) {
    lastFailure.count += 1;
    lastFailure.times.textContent = ` × ${lastFailure.count}`;
    lastFailure.time.textContent = when;
    return;
  }
  const time = make("time", "", when);
  const times = make("span", "times");
  const code = make("span", "code", `${event.status} ${event.code}`);
  const detail = make("div", "", event.detail ?? "");
  const line = make("li", "", time, code, times, of ? ` ${of}` : "", detail, make("div", "quiet", advice(event.code)));
  put(at("failures"), line);
  lastFailure = { same, count: 1, time, times };
}

export function happened(event, text) {
  put(at("events"), make("li", "", make("time", "", clock(new Date(event.at))), text));
}
