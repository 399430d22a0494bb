// Node with got and hpagent through Moorgate.
//
//   npm ci --prefix examples/node
//   node examples/node/got.mjs http://USER:SECRET@127.0.0.1:8080 http://target.example/ip
//
// The target should answer with the address that it sees.
import { got } from "got";
import { HttpProxyAgent, HttpsProxyAgent } from "hpagent";
import { run } from "./moorgate.mjs";

await run((gateway, target) => async (username) => {
  // Agents open tunnels, to http targets as well, and a tunnel that is kept
  // keeps its exit: these keep none.
  const options = { proxy: gateway.url(username), keepAlive: false };
  const response = await got(target, {
    agent: { http: new HttpProxyAgent(options), https: new HttpsProxyAgent(options) },
    throwHttpErrors: false,
    // got would ask again for a 429 by itself, by the same exit.
    retry: { limit: 0 },
    timeout: { request: 30_000 },
  });
  return { status: response.statusCode, text: response.body.trim() };
});
