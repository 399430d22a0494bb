// Live sessions: a page of them, searched, ended, moved, extended.

import { get, post, remove } from "./api.js";
import { Kept, ask, at, button, cell, duration, keep, make } from "./dom.js";

const PAGE = 50;
// The API's longest page: so many are read again and again, at most.
const MOST = 1000;
const kept = new Kept();
let rows = [];
let next = null;
let asked = {};

const path = (session) => `/v1/sessions/${session.key}`;

export async function showSessions(notice) {
  const page = await get("/v1/sessions", { ...asked, limit: Math.min(MOST, Math.max(PAGE, rows.length)) });
  take(page, [], notice);
}

function take(page, before, notice) {
  const now = Date.now();
  rows = before.concat(page.sessions.map((session) => ({ session, ends: now + session.ends_in * 1000 })));
  next = page.next;
  for (const row of rows) {
    const { ends_in: _, ...what } = row.session;
    row.element = kept.element(what.key, what, () => element(row.session, notice));
  }
  keep(at("session-rows"), rows.map((row) => row.element));
  kept.sweep();
  const full = rows.length >= MOST;
  at("more-sessions").hidden = next === null || full;
  at("session-note").textContent = rows.length === 0 ? "no session" : next && full ? "there are more: search" : "";
  tickSessions();
}

function element(session, notice) {
  const labels = Object.entries(session.labels).map(([key, value]) => ` ${key}=${value}`).join("");
  const made = make("tr", "",
    cell("session", "", session.session, make("span", "quiet", labels)),
    cell("user", "", session.user),
    cell("exit", "", `${session.pool}/${session.exit}`),
    cell("address", "", session.exit_address ?? "–"),
    cell("time left", "number left"),
    cell("moves", "number", session.moves),
    cell("", "", make("div", "buttons",
      button("extend", "", () => notice(() => extend(session, notice))),
      button("move", "", () => notice(() => move(session, notice))),
      button("end", "danger", () => notice(() => end(session, notice))))));
  made.dataset.session = session.session;
  return made;
}

async function end(session, notice) {
  const sure = await ask(`End session ${session.session} of ${session.user}?`,
    "Its next request gets a new pin. Open tunnels go on.");
  if (sure === null) return null;
  await remove(path(session));
  await showSessions(notice);
  return `session ${session.session} has ended`;
}

async function move(session, notice) {
  const exit = await ask(`Move session ${session.session} of ${session.user}?`,
    "It keeps its expiry. Open tunnels go on.", { label: "to the exit (empty: any other)" });
  if (exit === null) return null;
  const moved = await post(`${path(session)}/move`, exit ? { exit } : undefined);
  await showSessions(notice);
  return `session ${moved.session} leaves by ${moved.pool}/${moved.exit} now`;
}

async function extend(session, notice) {
  const ttl = await ask(`Extend session ${session.session} of ${session.user}?`,
    "Never past 168 h from its making.", { label: "from now on, at least", value: "1h" });
  if (!ttl) return null;
  const extended = await post(`${path(session)}/extend`, { ttl });
  await showSessions(notice);
  return `session ${extended.session} has ${duration(extended.ends_in)} left`;
}

// Each second: what is left of each.
export function tickSessions() {
  const now = Date.now();
  for (const row of rows) {
    const left = Math.max(0, Math.floor((row.ends - now) / 1000));
    row.element.querySelector(".left").textContent = left > 0 ? duration(left) : "over";
  }
}

export function startSessions(notice) {
  const form = at("search");
  const search = () => {
    asked = Object.fromEntries([...new FormData(form)].map(([name, value]) => [name, value.trim()]));
    rows = [];
    notice(() => showSessions(notice));
  };
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    search();
  });
  // The fields are empty only after the event.
  form.addEventListener("reset", () => setTimeout(search));
  at("more-sessions").addEventListener("click", () =>
    notice(async () => take(await get("/v1/sessions", { ...asked, limit: PAGE, cursor: next }), rows, notice)));
}
