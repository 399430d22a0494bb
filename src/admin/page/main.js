// Wiring: the stream of events drives the plots, and tells when a list is to
// be read again.

import { listen } from "./api.js";
import { at, bytes, short } from "./dom.js";
import { failed, forget, happened } from "./events.js";
import { Plot } from "./plot.js";
import { showPools, startPools } from "./pools.js";
import { showSessions, startSessions, tickSessions } from "./sessions.js";
import { showUsers } from "./users.js";

// Does something, and says what came of it, or what went wrong.
async function notice(act) {
  const place = at("notice");
  try {
    const done = await act();
    if (!done) return;
    place.className = "notice";
    place.textContent = done;
  } catch (error) {
    place.className = "notice bad";
    place.textContent = error.message;
  }
  place.hidden = false;
}

const plots = {
  bytes: new Plot(at("plot-bytes"), [["to clients", "series-0"], ["from clients", "series-1"]], bytes),
  connections: new Plot(at("plot-connections"), [["connections", "series-0"], ["sessions", "series-1"]], short),
  requests: new Plot(at("plot-requests"), [["requests", "series-0"], ["errors", "series-bad"]], short),
};

function stats(now) {
  const second = Date.parse(now.at) / 1000;
  plots.bytes.add(second, [now.bytes_down_per_second, now.bytes_up_per_second]);
  plots.connections.add(second, [now.connections, now.sessions]);
  plots.requests.add(second, [now.requests_per_second, now.errors_per_second]);
  if (now.past) return;
  for (const plot of Object.values(plots)) plot.draw(second);
  at("status").className = "live";
  at("status").textContent = `live, ${short(now.requests)} requests since the start`;
  at("tile-connections").textContent = short(now.connections);
  at("tile-sessions").textContent = short(now.sessions);
  at("tile-requests").textContent = short(now.requests_per_second);
  at("tile-errors").textContent = short(now.errors_per_second);
  at("tile-up").textContent = bytes(now.bytes_up_per_second);
  at("tile-down").textContent = bytes(now.bytes_down_per_second);
  tick();
}

// Which lists are to be read again, and how often at the most (s).
const lists = {
  pools: { read: () => showPools(notice), every: 2, most: 5 },
  sessions: { read: () => showSessions(notice), every: 2, most: 10 },
  users: { read: showUsers, every: 2, most: 5 },
};
for (const list of Object.values(lists)) Object.assign(list, { dirty: true, age: Infinity, busy: false });

function dirty(...names) {
  for (const name of names) lists[name].dirty = true;
}

function tick() {
  tickSessions();
  // What nobody sees, and what somebody is about to click, is left alone.
  if (document.hidden || at("ask").open) return;
  for (const list of Object.values(lists)) {
    list.age += 1;
    if (list.busy || list.age < (list.dirty ? list.every : list.most)) continue;
    Object.assign(list, { dirty: false, age: 0, busy: true });
    notice(list.read).finally(() => (list.busy = false));
  }
}

const session = (event) => `session ${event.session} of ${event.user}`;

// What was is told first, again each time.
function begin() {
  forget();
  for (const plot of Object.values(plots)) plot.clear();
}

listen(begin, {
  stats,
  failed(event) {
    failed(event);
    if (!event.past) dirty("pools");
  },
  session_made: () => dirty("sessions", "pools", "users"),
  session_moved(event) {
    happened(event, `${session(event)} moved from ${event.from} to ${event.exit} (${event.reason})`);
    dirty("sessions", "pools");
  },
  session_ended: () => dirty("sessions", "pools", "users"),
  exit_ejected(event) {
    happened(event, `exit ${event.pool}/${event.exit} is ejected: ${event.cause ?? "it fails"}`);
    dirty("pools");
  },
  exit_returned(event) {
    happened(event, `exit ${event.pool}/${event.exit} is in use again`);
    dirty("pools");
  },
  exit_switched(event) {
    happened(event, `exit ${event.pool}/${event.exit} is switched: ${event.state}`);
    dirty("pools");
  },
  reloaded(event) {
    happened(event, event.ok ? "files read again" : `files are wrong, what was before goes on: ${event.findings.join("; ")}`);
    dirty("pools", "users");
  },
  lagged: (event) => happened(event, `${event.lost} events were too many for this page`),
}, () => {
  at("status").className = "lost";
  at("status").textContent = "connection lost, trying again…";
});

startPools(notice);
startSessions(notice);
tick();
