// Crawlee through Moorgate: its sessions are sessions of the gateway.
//
//   npm ci --prefix examples/node
//   node examples/node/crawlee.mjs http://USER:SECRET@127.0.0.1:8080 http://target.example/ip
//
// The target should answer with the address that it sees. Crawlee's other
// crawlers (CheerioCrawler, PlaywrightCrawler, ...) take the same options.
import { Configuration, HttpCrawler, ProxyConfiguration } from "@crawlee/http";
import { Gateway } from "./moorgate.mjs";

if (process.argv.length !== 4) {
  console.error("usage: node crawlee.mjs http://USER:SECRET@HOST:PORT TARGET_URL");
  process.exit(2);
}
const gateway = new Gateway(process.argv[2]);
const target = process.argv[3];

// Crawlee's session ids are letters, digits and _, which a username may hold.
const username = (sessionId) => `${gateway.user}-session-${sessionId}-ttl-1h`;

// Crawls the target so often, and gives what it saw.
async function crawl(label, requests, options, newUrlFunction) {
  const seen = [];
  const crawler = new HttpCrawler(
    {
      proxyConfiguration: new ProxyConfiguration({ newUrlFunction }),
      additionalMimeTypes: ["application/octet-stream", "text/plain"],
      maxConcurrency: 1,
      maxRequestRetries: 3,
      requestHandler: ({ body }) => void seen.push(body.toString().trim()),
      ...options,
    },
    // Nothing is kept on disk.
    new Configuration({ persistStorage: false }),
  );
  crawler.log.setLevel(crawler.log.LEVELS.ERROR);
  await crawler.run(Array.from({ length: requests }, (_, n) => ({ url: target, uniqueKey: `${label}-${n}` })));
  return seen;
}

// One session of Crawlee's for the whole crawl, and so one exit. A 401, 403 or
// 429 retires it: the request is tried again with a new one. Before that, its
// exit is reported, so that the new session is placed on another.
const sticky = await crawl(
  "sticky",
  3,
  {
    useSessionPool: true,
    sessionPoolOptions: { maxPoolSize: 1, persistenceOptions: { enable: false } },
    errorHandler: async ({ session }, error) => {
      if (session) await gateway.report(username(session.id), target, error.message.slice(0, 100)).catch(() => {});
    },
  },
  (sessionId) => gateway.url(username(sessionId)),
);
console.log("sticky:", sticky[0], sticky[1]);
console.log("renewed:", sticky[2]);

// Without a session, each request leaves by the next exit of the pool.
const rotating = await crawl("rotating", 2, { useSessionPool: false }, () => gateway.url(gateway.user));
console.log("rotating:", ...rotating);
