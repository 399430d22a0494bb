// Pools and their exits.

import { exitPath, get, post } from "./api.js";
import { Kept, ask, at, bar, button, clock, keep, make, short } from "./dom.js";

// The most exits shown of all: a page is for people.
const MOST = 500;
const kept = new Kept();
// The hottest and the broken ones are to be seen among many, too.
let order = "name";

// What an exit is, in one word: its state, or its health where it is active.
const looks = (exit) => (exit.state === "active" ? exit.health : exit.state);

function words(exit) {
  const parts = [exit.state === "active" ? exit.health : exit.state];
  if (exit.state_switched) parts.push(`switched here; its file says ${exit.state_in_file}`);
  if (exit.last_error) parts.push(`last failure ${exit.last_error.code} at ${clock(new Date(exit.last_error.at))}`);
  return parts.join(", ");
}

export async function showPools(notice) {
  const [{ pools, last_reload: reload }, { exits }] = await Promise.all([
    get("/v1/pools"),
    get("/v1/exits", { limit: MOST, order }),
  ]);
  at("reloaded").textContent = reload
    ? `files read again at ${clock(new Date(reload.at))}: ${reload.ok ? "in force" : reload.findings.join("; ")}`
    : "";
  const shown = pools.map((pool) => one(pool, exits.filter((exit) => exit.pool === pool.name), notice));
  const all = pools.reduce((sum, pool) => sum + pool.exits, 0);
  if (all > exits.length) {
    shown.push(make("p", "quiet", `${exits.length} of ${all} exits are shown, in this order; moorgate exits shows all.`));
  }
  keep(at("pool-list"), shown.length ? shown : [make("p", "quiet", "no pool")]);
  kept.sweep();
}

function one(pool, exits, notice) {
  const most = Math.max(1, ...exits.map((exit) => exit.pins / exit.weight));
  const fair = pool.weight ? pool.pins / pool.weight : 0;
  const sum = [
    make("strong", "", pool.name),
    make("span", "quiet", `${pool.exits} exits`),
    make("span", pool.ejected ? "code" : "quiet", `${pool.ejected} ejected`),
    make("span", "quiet", `${pool.drain} draining, ${pool.off} off`),
    make("span", "quiet", `${short(pool.pins)} pins, ${short(pool.connections)} connections`),
  ];
  const rows = exits.map((exit) =>
    kept.element(`${pool.name}/${exit.id}`, [exit, most, fair], () => row(exit, most, fair, notice)));
  const details = kept.element(pool.name, null, () => {
    const made = make("details", "pool", make("summary", ""), make("div", "exits"));
    made.open = true;
    return made;
  });
  keep(details.firstElementChild, sum);
  keep(details.lastElementChild, rows);
  return details;
}

function row(exit, most, fair, notice) {
  const load = exit.pins / exit.weight;
  const hot = exit.pins >= 10 && load > 2 * fair;
  const room = exit.max_sessions ? ` of ${short(exit.max_sessions)}` : "";
  const share = hot ? `, ${short(load / fair)} × its share` : "";
  const dot = make("span", `dot ${looks(exit)}`);
  dot.title = words(exit);
  dot.setAttribute("role", "img");
  dot.setAttribute("aria-label", looks(exit));
  const p50 = exit.connect_ms ? `, p50 ${Number(exit.connect_ms.p50.toPrecision(2))} ms` : "";
  const element = make("div", "exit",
    dot,
    make("span", `name ${looks(exit)}`, exit.id),
    make("span", "quiet", exit.address && exit.address !== exit.via ? `${exit.via} → ${exit.address}` : exit.via),
    bar(load, most, `${short(exit.pins)}${room} pins${share}`, hot),
    make("span", "quiet exit-numbers", `${short(exit.connections)} open, ${short(exit.failures)} failed${p50} `,
      ...(exit.last_error && looks(exit) !== "healthy" ? [make("span", "code", exit.last_error.code)] : [])),
    make("span", "buttons", ...["active", "drain", "off", "reset"].map((act) => switcher(exit, act, notice))));
  element.dataset.exit = `${exit.pool}/${exit.id}`;
  element.title = words(exit);
  return element;
}

function switcher(exit, act, notice) {
  const element = button(act, act === "off" ? "danger" : "", async () => {
    await notice(async () => {
      const path = `${exitPath(exit)}/${act}`;
      const plan = await post(`${path}?dry_run=true`);
      const detail = `${plan.pins} pins are on it, ${plan.moves} of them would move; ${plan.connections} connections go on.`;
      if ((await ask(`Switch ${exit.pool}/${exit.id} to ${act}?`, detail)) === null) return null;
      const done = await post(path);
      await showPools(notice);
      return `${done.pool}/${done.id} is ${done.state}`;
    });
  });
  element.disabled = act === exit.state && act !== "reset";
  return element;
}

export function startPools(notice) {
  at("exit-order").addEventListener("change", (event) => {
    order = event.target.value;
    notice(() => showPools(notice));
  });
  at("reload").addEventListener("click", () =>
    notice(async () => {
      const done = await post("/v1/reload");
      await showPools(notice);
      return `read again: ${done.pools} pools are in force`;
    }));
}
