// Node with undici through Moorgate.
//
//   npm ci --prefix examples/node
//   node examples/node/undici.mjs http://USER:SECRET@127.0.0.1:8080 http://target.example/ip
//
// The target should answer with the address that it sees.
import { ProxyAgent, fetch } from "undici";
import { run } from "./moorgate.mjs";

await run((gateway, target) => async (username) => {
  // A ProxyAgent opens a tunnel for each origin (to http ones, too), keeps it,
  // and a tunnel keeps its exit. One for each request lets a session that was
  // moved be at its new exit, and rotating requests rotate.
  const dispatcher = new ProxyAgent({ uri: gateway.server, token: gateway.credential(username) });
  try {
    const response = await fetch(target, { dispatcher, signal: AbortSignal.timeout(30_000) });
    return { status: response.status, text: (await response.text()).trim() };
  } finally {
    await dispatcher.close();
  }
});
