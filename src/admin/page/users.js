// Users, and how much of what they may they use.

import { get } from "./api.js";
import { at, bar, bytes, cell, make, short } from "./dom.js";

const use = (label, part, most, words) =>
  cell(label, "", most ? bar(part, most, `${words(part)} of ${words(most)}`, part >= 0.9 * most) : words(part));

// What is not counted, but bounds all the same.
function rates(limits) {
  const parts = [];
  if (limits.requests_per_second) parts.push(`${short(limits.requests_per_second)} requests / s`);
  if (limits.bandwidth_up) parts.push(`${bytes(limits.bandwidth_up)} / s up`);
  if (limits.bandwidth_down) parts.push(`${bytes(limits.bandwidth_down)} / s down`);
  return parts.join(", ");
}

export async function showUsers() {
  const { users } = await get("/v1/users");
  const rows = users.map((user) => {
    const limits = user.limits ?? {};
    const row = make("tr", "",
      cell("user", "", user.name),
      cell("pools", "", user.pools ? user.pools.join(", ") : "all"),
      use("sessions", user.sessions, limits.sessions, short),
      use("connections", user.connections, limits.connections, short),
      use("bytes today", user.bytes_today, limits.bytes_per_day, bytes),
      cell("rate and bandwidth", "quiet", rates(limits) || "–"));
    row.dataset.user = user.name;
    return row;
  });
  at("user-rows").replaceChildren(...rows);
}
