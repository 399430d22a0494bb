// Playwright with Chromium through Moorgate.
//
//   npm ci --prefix examples/node
//   node examples/node/playwright.mjs http://USER:SECRET@127.0.0.1:8080 http://target.example/ip
//
// The target should answer with the address that it sees. It runs Debian's
// Chromium, or the one that CHROMIUM names.
import { chromium } from "playwright-core";
import { run } from "./moorgate.mjs";

const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  // What a container needs; leave it out on a desktop.
  args: ["--no-sandbox"],
});
const contexts = new Map();

// A context keeps one credential for a proxy, so it is one session. User and
// secret stand apart from the server's URL, where Playwright ignores them.
async function context(gateway, username) {
  if (!contexts.has(username)) {
    const { server, secret: password } = gateway;
    // Chromium goes round every proxy to addresses of this host, but for this.
    const proxy = { server, username, password, bypass: "<-loopback>" };
    contexts.set(username, await browser.newContext({ proxy }));
  }
  return contexts.get(username);
}

try {
  await run((gateway, target) => async (username) => {
    const page = await (await context(gateway, username)).newPage();
    try {
      const response = await page.goto(target, { timeout: 30_000 });
      return { status: response.status(), text: (await page.innerText("body")).trim() };
    } finally {
      await page.close();
    }
  });
} finally {
  await browser.close();
}
