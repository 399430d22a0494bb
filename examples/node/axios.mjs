// Node with axios through Moorgate.
//
//   npm ci --prefix examples/node
//   node examples/node/axios.mjs http://USER:SECRET@127.0.0.1:8080 http://target.example/ip
//
// The target should answer with the address that it sees.
import axios from "axios";
import { run } from "./moorgate.mjs";

await run((gateway, target) => async (username) => {
  const response = await axios.get(target, {
    // axios opens a tunnel of its own for each https request, so one object
    // may serve any number of sessions.
    proxy: {
      protocol: "http",
      host: gateway.host,
      port: gateway.port,
      auth: { username, password: gateway.secret },
    },
    responseType: "text",
    timeout: 30_000,
    validateStatus: () => true,
  });
  // A tunnel that the gateway refused looks like the target's own answer.
  const refused = response.headers["moorgate-error"];
  if (refused) throw new Error(`the gateway refused: ${refused}`);
  return { status: response.status, text: response.data.trim() };
});
