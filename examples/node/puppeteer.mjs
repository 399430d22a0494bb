// Puppeteer with Chromium through Moorgate.
//
//   npm ci --prefix examples/node
//   node examples/node/puppeteer.mjs http://USER:SECRET@127.0.0.1:8080 http://target.example/ip
//
// The target should answer with the address that it sees. It runs Debian's
// Chromium, or the one that CHROMIUM names.
import puppeteer from "puppeteer-core";
import { run } from "./moorgate.mjs";

const browser = await puppeteer.launch({
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  // What a container needs; leave it out on a desktop.
  args: ["--no-sandbox"],
});
const contexts = new Map();

// A context keeps one credential for a proxy, so it is one session: two pages
// of one context with different credentials would both use the first one's.
async function context(gateway, username) {
  if (!contexts.has(username)) {
    // Chromium goes round every proxy to addresses of this host, but for this.
    const options = { proxyServer: gateway.server, proxyBypassList: ["<-loopback>"] };
    contexts.set(username, await browser.createBrowserContext(options));
  }
  return contexts.get(username);
}

try {
  await run((gateway, target) => async (username) => {
    const page = await (await context(gateway, username)).newPage();
    try {
      await page.authenticate({ username, password: gateway.secret });
      const response = await page.goto(target, { timeout: 30_000 });
      const text = await page.evaluate(() => document.body.innerText);
      return { status: response.status(), text: text.trim() };
    } finally {
      await page.close();
    }
  });
} finally {
  await browser.close();
}
