// Node with undici through Moorgate.
//
//   npm ci --prefix examples/node
//   node examples/node/node_undici.mjs http://USER:SECRET@127.0.0.1:8080 http://target.example/ip
//
// The target should answer with the address that it sees.
import { randomUUID } from "node:crypto";
import { ProxyAgent, fetch } from "undici";

if (process.argv.length !== 4) {
  console.error("usage: node node_undici.mjs http://USER:SECRET@HOST:PORT TARGET_URL");
  process.exit(2);
}
const [proxy, target] = process.argv.slice(2);
const { username: user, password, origin: uri } = new URL(proxy);
const secret = decodeURIComponent(password);

// One request under this proxy username. A ProxyAgent opens a tunnel for each
// origin, keeps it, and a tunnel keeps its exit: so each request has one of its
// own here. A session needs only one.
async function get(username) {
  const token = "Basic " + Buffer.from(`${username}:${secret}`).toString("base64");
  const dispatcher = new ProxyAgent({ uri, token });
  try {
    const response = await fetch(target, { dispatcher, signal: AbortSignal.timeout(30_000) });
    if (!response.ok) throw new Error(`${target} answered ${response.status}`);
    return (await response.text()).trim();
  } finally {
    await dispatcher.close();
  }
}

// A session is made by its name: two requests with one name have one exit.
const sticky = `${user}-session-${randomUUID()}-ttl-10m`;
console.log("sticky:", await get(sticky), await get(sticky));

// Without a session, each request leaves by the next exit of the pool.
console.log("rotating:", await get(user), await get(user));
