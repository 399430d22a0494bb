// What the Node examples need of Moorgate: nothing but Node itself.
//
// A session is made by its name: every request whose proxy username names it
// leaves by one exit, until its ttl is over.
import { randomUUID } from "node:crypto";
import { request } from "node:http";

// What a site answers whom it does not like.
export const BLOCKED = new Set([401, 403, 429]);

// A gateway's address and one user's credential.
export class Gateway {
  constructor(proxy) {
    const { protocol, hostname, port, username, password } = new URL(proxy);
    if (protocol !== "http:" || !username || !password) {
      throw new Error("the proxy is a URL such as http://USER:SECRET@127.0.0.1:8080");
    }
    Object.assign(this, { host: hostname, port: Number(port || 80), user: username });
    this.secret = decodeURIComponent(password);
    this.server = `http://${hostname}:${this.port}`;
  }

  // A username that names a session of its own.
  newSession(ttl = "10m") {
    return `${this.user}-session-${randomUUID()}-ttl-${ttl}`;
  }

  // The proxy's URL for requests under this username.
  url(username) {
    return `http://${username}:${encodeURIComponent(this.secret)}@${this.host}:${this.port}`;
  }

  // The value of Proxy-Authorization.
  credential(username) {
    return "Basic " + Buffer.from(`${username}:${this.secret}`).toString("base64");
  }

  // Says that the session's exit is no good for the target. The session moves
  // to another exit at once, and for a while nobody's new session or rotating
  // request uses the old one for that site.
  report(username, target, reason) {
    const body = JSON.stringify({ target, reason });
    const headers = {
      "proxy-authorization": this.credential(username),
      "content-type": "application/json",
      "content-length": Buffer.byteLength(body),
    };
    const path = "http://moorgate.internal/session/report";
    return new Promise((resolve, reject) => {
      const ask = request({ host: this.host, port: this.port, method: "POST", path, headers, timeout: 30_000 });
      ask.on("timeout", () => ask.destroy(new Error("the gateway does not answer")));
      ask.on("error", reject);
      ask.on("response", async (response) => {
        let text = "";
        for await (const chunk of response.setEncoding("utf8")) text += chunk;
        if (response.statusCode === 200) resolve(JSON.parse(text));
        else reject(new Error(`the gateway refused: ${text}`));
      });
      ask.end(body);
    });
  }
}

// Runs an example: `get(username)` asks for the target under a proxy username
// and gives `{ status, text }`.
export async function run(makeGet) {
  if (process.argv.length !== 4) {
    console.error(`usage: node ${process.argv[1]} http://USER:SECRET@HOST:PORT TARGET_URL`);
    process.exit(2);
  }
  const gateway = new Gateway(process.argv[2]);
  const target = process.argv[3];
  const get = makeGet(gateway, target);

  // Two requests of one session have one exit.
  const session = gateway.newSession();
  console.log("sticky:", (await get(session)).text, (await get(session)).text);

  // A page of the session; blocked, the exit is reported, the session moves,
  // and the page is asked for again.
  let page;
  for (let tries = 0; tries < 3; tries++) {
    page = await get(session);
    if (!BLOCKED.has(page.status)) break;
    await gateway.report(session, target, `status ${page.status}`);
  }
  if (page.status !== 200) throw new Error(`${target} answered ${page.status}`);
  console.log("renewed:", page.text);

  // Without a session, each request leaves by the next exit of the pool.
  console.log("rotating:", (await get(gateway.user)).text, (await get(gateway.user)).text);
}
