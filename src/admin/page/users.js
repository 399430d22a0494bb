// Users, and how much of what they may they use.

import { get } from "./api.js";
import { at, bar, bytes, make, short } from "./dom.js";

const use = (part, most, words) =>
  make("td", "", most ? bar(part, most, `${words(part)} of ${words(most)}`, part >= 0.9 * most) : words(part));

export async function showUsers() {
  const { users } = await get("/v1/users");
  const rows = users.map((user) => {
    const limits = user.limits ?? {};
    const row = make("tr", "",
      make("td", "", user.name),
      make("td", "", user.pools ? user.pools.join(", ") : "all"),
      use(user.sessions, limits.sessions, short),
      use(user.connections, limits.connections, short),
      use(user.bytes_today, limits.bytes_per_day, bytes));
    row.dataset.user = user.name;
    return row;
  });
  at("user-rows").replaceChildren(...rows);
}
