// The three transports of a page, with one shape. A link carries messages and knows nothing of the layers above it.
//
//   link.next()              the next [kind, message] of wire.js, or undefined at the end; link.end then says why
//   link.send(message)       queues a string or a Uint8Array
//   link.pong(payload)       answers a ping of the transport
//   link.close(code, reason) says goodbye, and ends
//   link.abort()             ends at once, as far as a page can

import {
  Kind, ProtocolError, SUBPROTOCOL, closePayload, concat, events, frame, frames, fromBase64, toBytes, toText,
} from "./wire.js";

/**
 * Why a link could not be made. A page is told little: of a WebSocket or a WebTransport session only that it failed, so
 * that a refusal looks like a network without it. `stops` rules the other transports out, too.
 */
export class LinkError extends Error {
  constructor(message, { stops = false } = {}) {
    super(message);
    this.stops = stops;
  }
}

/** The end of a link that this page has aborted. */
export const DROPPED = "dropped by this page";

/** The most that waits to be read. A page cannot slow a WebSocket down, so more than that ends the link. */
const MAX_WAITING = 16 << 20;

class Link {
  end;
  #waiting = [];
  #size = 0;
  #wake = () => {};

  constructor(kind) {
    this.kind = kind;
  }

  async next() {
    while (!this.#waiting.length && !this.end) await new Promise((wake) => (this.#wake = wake));
    const item = this.#waiting.shift();
    this.#size -= item?.[1].length ?? 0;
    return item;
  }

  deliver(kind, message) {
    if (this.end) return;
    this.#size += message.length;
    if (this.#size > MAX_WAITING) {
      this.close(1008, "too much waits to be read");
      return this.finish({ error: "too much waits to be read" });
    }
    this.#waiting.push([kind, message]);
    this.#wake();
  }

  /** The first end counts. What has arrived before it is still read. */
  finish(end) {
    this.end ??= end;
    this.#wake();
  }
}

/** Rejects when the signal does, after `stop`. */
function aborted(signal, stop) {
  return new Promise((_, reject) => {
    const abort = () => {
      stop();
      reject(new LinkError(signal.reason?.message ?? "given up"));
    };
    if (signal.aborted) abort();
    else signal.addEventListener("abort", abort, { once: true });
  });
}

/* WebSocket */

class WebSocketLink extends Link {
  #socket;

  constructor(socket) {
    super("websocket");
    this.#socket = socket;
    socket.onmessage = ({ data }) => {
      if (typeof data === "string") this.deliver(Kind.TEXT, data);
      else this.deliver(Kind.BINARY, new Uint8Array(data));
    };
    // 1006 is the browser's own code for a connection that was lost without a close.
    socket.onclose = ({ code, reason }) => this.finish(code === 1006 ? { error: "cut without a close" } : { code, reason });
  }

  send(message) {
    if (this.#socket.readyState === WebSocket.OPEN) this.#socket.send(message);
  }

  pong() {} // the browser answers

  close(code, reason) {
    // A page may send 1000 and 3000 to 4999 only.
    this.#socket.close(code === 1000 || code >= 3000 ? code : 4000, reason);
  }

  abort() {
    this.finish({ error: DROPPED });
    this.#socket.close();
  }
}

async function openWebSocket(url, signal) {
  const socket = new WebSocket(url.replace(/^http/, "ws"), [SUBPROTOCOL]);
  socket.binaryType = "arraybuffer";
  const link = new WebSocketLink(socket); // before the first message can come
  const opened = new Promise((resolve, reject) => {
    socket.onopen = resolve;
    socket.onerror = () => reject(new LinkError("refused or unreachable"));
  });
  await Promise.race([opened, aborted(signal, () => socket.close())]);
  if (socket.protocol !== SUBPROTOCOL) throw new LinkError("the server does not speak this protocol", { stops: true });
  return link;
}

/* WebTransport: one bidirectional stream */

class WebTransportLink extends Link {
  #session;
  #writer;
  #isClosing = false;

  constructor(session, stream) {
    super("webtransport");
    this.#session = session;
    this.#writer = stream.writable.getWriter();
    this.#write(new Uint8Array([1])); // the version of the format
    this.#read(stream.readable.getReader());
  }

  async #read(reader) {
    try {
      for await (const [kind, payload] of frames(reader)) {
        if (kind === Kind.CLOSE) return this.#closed(payload);
        this.deliver(kind, kind === Kind.TEXT ? toText(payload) : payload);
      }
      this.finish({ error: "cut without a close" });
    } catch (error) {
      this.finish({ error: error instanceof ProtocolError ? error.message : "the session was lost" });
    }
    this.#session.close();
  }

  #closed(payload) {
    const code = payload.length >= 2 ? payload[0] * 256 + payload[1] : 1005;
    this.close(code === 1005 ? 1000 : code, ""); // the answer, unless this end closed first
    this.finish({ code, reason: toText(payload.subarray(2)) });
  }

  #write(bytes) {
    return this.#writer.write(bytes).catch(() => {}); // the reading side learns why
  }

  send(message) {
    this.#write(frame(typeof message === "string" ? Kind.TEXT : Kind.BINARY, toBytes(message)));
  }

  pong(payload) {
    this.#write(frame(Kind.PONG, payload));
  }

  close(code, reason) {
    if (this.#isClosing) return;
    this.#isClosing = true;
    this.#write(frame(Kind.CLOSE, closePayload(code, reason)));
    this.#writer.close().catch(() => {});
  }

  abort() {
    this.finish({ error: DROPPED });
    this.#session.close();
  }
}

async function openWebTransport({ url, hash }, signal) {
  if (typeof WebTransport !== "function") {
    const why = isSecureContext ? "this browser does not have it" : "this page was not loaded over https or from localhost";
    throw new LinkError(why);
  }
  const serverCertificateHashes = [{ algorithm: "sha-256", value: new Uint8Array(hash) }];
  const session = new WebTransport(url, { protocols: [SUBPROTOCOL], serverCertificateHashes });
  session.closed.catch(() => {}); // `ready` and the stream say it, too
  const opened = session.ready.then(
    () => session.createBidirectionalStream(),
    () => Promise.reject(new LinkError("UDP blocked, or refused")),
  );
  const stream = await Promise.race([opened, aborted(signal, () => session.close())]);
  if (session.protocol !== SUBPROTOCOL) {
    session.close();
    throw new LinkError("this browser cannot offer a subprotocol");
  }
  return new WebTransportLink(session, stream);
}

/* SSE + POST */

/** The most in one POST: proxies limit the body, nginx to 1 MiB. */
const MAX_POST = 960 << 10;
const MAX_ATTEMPTS = 4;

class SseLink extends Link {
  #url;
  #controller;
  #token;
  #queue = [];
  #sequence = 0; // of the first message in the queue
  #isPosting = false;

  constructor(url, controller, reader) {
    super("sse");
    this.#url = url;
    this.#controller = controller;
    this.begun = new Promise((begin) => this.#read(reader, begin));
  }

  async #read(reader, begin) {
    try {
      for await (const { type, data } of events(reader)) {
        if (type === "session") begin((this.#token = data));
        else if (type === "") this.deliver(Kind.TEXT, data);
        else if (type === "text64") this.deliver(Kind.TEXT, toText(fromBase64(data)));
        else if (type === "binary") this.deliver(Kind.BINARY, fromBase64(data));
        else if (type === "ping") this.deliver(Kind.PING, fromBase64(data));
        else if (type === "close" || type === "close64") return this.#closed(type, data);
        else if (type !== "pong") throw new ProtocolError(`an event of the unknown type ${type}`);
      }
      this.finish({ error: "cut without a close" });
    } catch (error) {
      this.finish({ error: error instanceof ProtocolError ? error.message : "the stream was cut" });
    }
    begin();
    this.#controller.abort();
  }

  #closed(type, data) {
    const [, code, reason] = /^(\d*) ?(.*)$/s.exec(data);
    this.close(Number(code) || 1000, "");
    this.finish({ code: Number(code) || 1005, reason: type === "close64" ? toText(fromBase64(reason)) : reason });
  }

  send(message) {
    this.#push(typeof message === "string" ? Kind.TEXT : Kind.BINARY, toBytes(message));
  }

  pong(payload) {
    this.#push(Kind.PONG, payload);
  }

  close(code, reason) {
    this.#push(Kind.CLOSE, closePayload(code, reason));
  }

  abort() {
    this.finish({ error: DROPPED });
    this.#controller.abort();
  }

  #push(kind, payload) {
    this.#queue.push(frame(kind, payload));
    if (!this.#isPosting) this.#post();
  }

  /** One POST at a time; all that waits meanwhile shares the next one. */
  async #post() {
    this.#isPosting = true;
    await Promise.resolve(); // what is sent in the same turn goes together
    for (let failures = 0; this.#queue.length && !this.#controller.signal.aborted; ) {
      let [count, size] = [0, 0];
      while (count < this.#queue.length && (count === 0 || size + this.#queue[count].length <= MAX_POST)) {
        size += this.#queue[count++].length;
      }
      const accepted = await this.#posted(concat(...this.#queue.slice(0, count)));
      if (accepted === undefined) break;
      if (accepted > this.#sequence && accepted <= this.#sequence + this.#queue.length) {
        this.#queue.splice(0, accepted - this.#sequence);
        this.#sequence = accepted;
        failures = 0;
      } else if (++failures > MAX_ATTEMPTS) {
        this.finish({ error: "the POSTs do not get through" });
        this.#controller.abort();
      } else {
        await new Promise((resolve) => setTimeout(resolve, 100 * 2 ** failures));
      }
    }
    this.#isPosting = false;
  }

  /** The number of the first message that the server does not have, -1 to try again, `undefined` where it is over. */
  async #posted(body) {
    const headers = {
      "content-type": "application/vnd.tower-transport.messages",
      "tower-transport-session": this.#token,
      "tower-transport-sequence": String(this.#sequence),
    };
    try {
      const { status, headers: answer } = await fetch(this.#url, { method: "POST", body, headers, signal: this.#controller.signal });
      const number = answer.get("tower-transport-sequence");
      if ((status === 204 || status === 409) && number !== null) return Number(number);
      if (status < 300 || [408, 409, 429, 502, 503, 504].includes(status) || (status === 400 && number === null)) return -1;
      this.finish({ error: `a POST was answered with ${status}` });
      this.#controller.abort();
      return undefined;
    } catch {
      return -1; // a cut; the sequence keeps a second copy from being taken
    }
  }
}

async function openSse(url, signal) {
  const controller = new AbortController();
  const headers = { accept: "text/event-stream", "tower-transport-protocol": SUBPROTOCOL };
  const connect = async () => {
    const answer = await fetch(url, { headers, cache: "no-store", signal: controller.signal }).catch(() => {
      throw new LinkError("the server is not reachable");
    });
    if (!answer.ok) throw new LinkError(`answered with ${answer.status}`, { stops: [401, 403, 429].includes(answer.status) });
    if (answer.headers.get("sec-websocket-protocol") !== SUBPROTOCOL) throw new LinkError("the server does not speak this protocol");
    const link = new SseLink(url, controller, answer.body.getReader());
    if (!(await link.begun)) throw new LinkError("the stream ended before it began");
    return link;
  };
  return Promise.race([connect(), aborted(signal, () => controller.abort())]);
}

export const open = { webtransport: openWebTransport, websocket: openWebSocket, sse: openSse };
