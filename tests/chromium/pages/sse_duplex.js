// A client of SSE and POST: events come down, POSTs go up, one at a time. Sends each of `messages` once the one before has come
// back, then closes: what came, and how it ended.
async ({ url, messages }) => {
  const framed = (kind, payload) => {
    const [size, length] = [payload.length < 64 ? 0 : payload.length < 16384 ? 1 : 2, payload.length];
    const head = [[length], [0x40 | length >> 8, length & 255], [0x80 | length >> 24, length >> 16 & 255, length >> 8 & 255, length & 255]];
    return new Uint8Array([kind, ...head[size], ...payload]);
  };
  const came = [];
  let [token, sequence] = [undefined, 0];
  const send = (kind, payload) => {
    const headers = { "content-type": "application/vnd.tower-transport.messages", "tower-transport-session": token, "tower-transport-sequence": sequence++ };
    return fetch(url, { method: "POST", body: framed(kind, payload), headers });
  };
  const next = (data) => {
    if (data !== undefined) came.push(data);
    const message = messages[came.length];
    if (message === undefined) return send(4, [0x0f, 0xa0, ...new TextEncoder().encode("that is all")]);
    return typeof message === "string" ? send(0, new TextEncoder().encode(message)) : send(1, message);
  };
  return await new Promise((resolve) => {
    const stream = new EventSource(url);
    stream.addEventListener("session", ({ data }) => { token = data; next(); });
    stream.onmessage = ({ data }) => next(data);
    stream.addEventListener("binary", ({ data }) => next([...atob(data)].map((c) => c.charCodeAt(0))));
    stream.addEventListener("close", ({ data }) => { stream.close(); resolve({ came, end: data }); });
    stream.onerror = () => { if (stream.readyState === 2) resolve({ came, end: "error" }); };
  });
}
