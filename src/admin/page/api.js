// The admin API. A failure is thrown as an Error that says what to change.

// Without the credential that the page's own address may hold: a browser
// refuses to fetch such an address, and sends the credential by itself.
const url = (path) => new URL(path, location.origin);

async function call(method, path, body) {
  const options = { method, headers: {} };
  if (body !== undefined) {
    options.headers["Content-Type"] = "application/json";
    options.body = JSON.stringify(body);
  }
  const answer = await fetch(url(path), options);
  const json = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Error([json.title, json.detail].filter(Boolean).join(": ") || `status ${answer.status}`);
  return json;
}

export const get = (path, query = {}) => {
  const given = Object.entries(query).filter(([, value]) => value !== "" && value != null);
  const search = new URLSearchParams(given).toString();
  return call("GET", search ? `${path}?${search}` : path);
};
export const post = (path, body) => call("POST", path, body);
export const remove = (path) => call("DELETE", path);

// An exit's path: its id may hold anything.
export const exitPath = ({ pool, id }) => `/v1/exits/${encodeURIComponent(pool)}/${encodeURIComponent(id)}`;

// The stream of events. The browser connects again by itself where the
// connection broke, but not where it was refused; `lost` is told meanwhile.
export function listen(begin, handlers, lost) {
  const source = new EventSource(url("/v1/events?past"));
  source.addEventListener("open", begin);
  for (const [name, handler] of Object.entries(handlers)) {
    source.addEventListener(name, (event) => handler(JSON.parse(event.data)));
  }
  source.addEventListener("error", () => {
    lost();
    if (source.readyState === EventSource.CLOSED) setTimeout(listen, 5000, begin, handlers, lost);
  });
}
