// A session that outlives its connections, over whichever transport works: hello, resume, acknowledgements, replay,
// batches, heartbeats, reconnects. It is a second implementation of docs/wire.md and knows nothing of the demo.
//
//   const client = new Client({ webtransport: async () => ({ url, hash }), websocket: url, sse: url });
//   client.addEventListener("message", ({ detail }) => ...);  client.start();  client.send("hello");
//
// | state      | what it does                                  | left by                                     |
// |------------|-----------------------------------------------|---------------------------------------------|
// | idle       | nothing                                       | start()                                     |
// | connecting | tries the transports, says hello, resumes     | open; waiting where all fail                |
// | open       | carries messages                              | a lost connection, use(): connecting        |
// | waiting    | counts down to the next attempt               | the end of the count, use(), a page shown   |
// | offline    | nothing: the browser has no network           | the browser's `online`                      |
// | closed     | nothing, for good                             |                                             |
//
// Events: `state`, `message` (a string or bytes), `verdict` (what became of the session), `lost` (messages that may not
// have arrived), `rtt` (milliseconds), `decision` ({ text, tone }: everything that was decided, and why).

import { DROPPED, LinkError, open } from "./links.js";
import {
  Kind, Layer, ProtocolError, Resume, WINDOW, batch, canInflate, escape, hello, inflate, isProof, open as opened, ping,
  pong, progress, readHello, readPong, readProgress, readWelcome, resumeHello, step, toBytes, unbatch,
} from "./wire.js";

export const KINDS = ["webtransport", "websocket", "sse"];
export const NAMES = { webtransport: "WebTransport", websocket: "WebSocket", sse: "SSE + POST" };

const HEAD_START = 1_000; // ms before the next transport is tried beside the first
const HANDSHAKE = 5_000;
const MEMORY = 30_000; // how long a transport that failed is tried last
const PING_EVERY = 1_000;
const DEAD_AFTER = 4_000;
const ACK_DELAY = 100;
const BACKOFF = { first: 250, most: 5_000, hidden: 30_000, hint: 600_000 };

export class Client extends EventTarget {
  state = "idle";
  choice = "auto";
  why = "";
  verdict;
  payload = { in: 0, out: 0, messages: 0 }; // bytes given to the user and taken from it, messages given
  #endpoints;
  #link;
  #failed = new Map(); // transport: { until, reason }
  #session; // { id, token }
  #epoch = 0;
  #peer; // the server's hello
  #isBegun = false; // whether the welcome has come on this link
  // Outgoing messages are numbered from 0. `#kept` holds those from `#acked` on.
  #kept = [];
  #keptBytes = 0;
  #acked = 0;
  #ackedDigest = 0n;
  #digest = 0n;
  #written = 0; // the end of those on this link
  #mostWritten = 0; // the end of those on any link
  #outbox = []; // what goes with the next flush
  // Incoming messages: `#received` were given to the user, `#arrived` are on this end.
  #received = 0;
  #receivedDigest = 0n;
  #arrived = 0;
  #inbox = [];
  #inboxBytes = 0;
  #told = 0;
  #untoldBytes = 0;
  #ackTimer;
  #isPaused = false;
  #hasNotRead = false;
  #attempts = 0;
  #wake = () => {};
  #heartbeat = { number: 0, sentAt: undefined, heardAt: 0, tickedAt: 0 };

  constructor(endpoints) {
    super();
    this.#endpoints = endpoints;
  }

  get kind() {
    return this.#link?.kind;
  }

  get unacknowledged() {
    return this.#kept.length;
  }

  get unread() {
    return this.#inbox.length;
  }

  start() {
    if (this.state !== "idle") return;
    addEventListener("online", () => {
      this.#attempts = 0;
      this.#decide("The browser is online again: reconnect now.");
      this.#wake();
    });
    addEventListener("offline", () => {
      this.#decide("The browser is offline: no attempts until it is back.", "bad");
      if (this.state === "waiting") this.#wake();
    });
    document.addEventListener("visibilitychange", () => document.hidden || this.#shown());
    addEventListener("pageshow", ({ persisted }) => persisted && this.#shown());
    addEventListener("pagehide", ({ persisted }) => (persisted ? this.#link?.abort() : this.close()));
    setInterval(() => this.#beat(), 500);
    this.#live();
  }

  /** Queues a message. False if too much waits for an acknowledgement, or it is larger than the server accepts. */
  send(message) {
    const kept = escape(Layer.RESUME, message);
    const { length } = toBytes(kept);
    const isFull = this.#kept.length >= WINDOW.messages || this.#keptBytes >= WINDOW.bytes;
    if (this.state === "closed" || isFull || length > (this.#peer?.maxMessage ?? 65_536)) return false;
    this.#digest = step(this.#digest, message);
    this.#kept.push({ message: kept, plain: message, length, digest: this.#digest });
    this.#keptBytes += length;
    this.payload.out += length;
    if (this.#isBegun) this.#write();
    return true;
  }

  /** Uses this transport from now on, or `auto`: the best that works now. The session moves with it. */
  use(choice) {
    this.choice = choice;
    this.#failed.clear();
    this.#attempts = 0;
    this.#decide(choice === "auto" ? "Adapt: the best transport that works." : `${NAMES[choice]} only, as you picked.`);
    if (choice !== "auto" || this.kind !== KINDS[0]) this.#link?.abort();
    this.#wake();
  }

  /** Stops giving messages to the user, and so acknowledging them: the server soon keeps what it has. */
  pause() {
    this.#isPaused = true;
  }

  resume() {
    this.#isPaused = false;
    this.#deliver();
  }

  /** Ends the session for good. */
  close() {
    if (this.#isBegun) this.#put(progress(Resume.BYE, this.#received, this.#written), true);
    this.#link?.close(1000, "");
    this.#become("closed");
    this.#wake();
  }

  /* The life of the session */

  async #live() {
    while (this.state !== "closed") {
      let end;
      try {
        this.#become("connecting");
        this.#attempts += 1;
        this.#link = await this.#connect();
        end = await this.#carry(this.#link);
      } catch (error) {
        end = { error: error.message, isStopped: error instanceof LinkError && error.stops };
        if (error instanceof LinkError && !this.#link) this.#decide(`No connection. ${error.message}.`, "bad");
        if (error instanceof ProtocolError) this.#link?.close(error.code, "protocol error");
        if (error instanceof TypeError || error instanceof RangeError || error instanceof ReferenceError) throw error;
      }
      await this.#ended(end);
    }
  }

  /** Cleans up after a connection or a failed attempt, and waits for the time of the next one. */
  async #ended({ code, reason, error, isStopped }) {
    const link = this.#link;
    this.#link = undefined;
    this.#isBegun = false;
    this.#outbox = [];
    this.#hasNotRead = this.#isPaused;
    // Messages that the user did not get come again on the next connection.
    [this.#inbox, this.#inboxBytes] = [[], 0];
    clearTimeout(this.#ackTimer);
    this.#ackTimer = undefined;
    if (this.state === "closed") return;
    if (link) {
      this.#attempts = 0;
      if (error !== DROPPED) {
        const what = code === undefined ? error : `closed with ${code}${reason ? ` “${reason}”` : ""}`;
        this.#decide(`${NAMES[link.kind]}: ${what}.`, "bad");
      }
    }
    if ([4401, 4403, 4409].includes(code)) return this.#become("closed");
    while (!navigator.onLine && this.state !== "closed") {
      this.#become("offline");
      await new Promise((wake) => (this.#wake = wake));
    }
    if (this.state === "offline" || this.state === "closed" || (link && error === DROPPED)) return;
    const most = document.hidden ? BACKOFF.hidden : isStopped ? BACKOFF.most : BACKOFF.first * 2 ** Math.min(this.#attempts, 10);
    const own = this.#attempts || code !== undefined ? Math.random() * Math.min(most, document.hidden ? most : BACKOFF.most) : 0;
    // A server that drains spreads the returns of its clients.
    const [, hint] = ([1001, 1012, 1013].includes(code) && /(?:^|; )return-after-ms=(\d{1,10})$/.exec(reason ?? "")) || [];
    const delay = Math.max(own, Math.min(Number(hint ?? 0), BACKOFF.hint));
    if (delay > 0) {
      this.#become("waiting", { delay });
      await new Promise((wake) => {
        const timer = setTimeout(wake, delay);
        this.#wake = () => (clearTimeout(timer), wake());
      });
      if (!navigator.onLine) return this.#ended({ error: "offline" });
    }
  }

  /** The page is seen again, perhaps after a sleep. */
  #shown() {
    this.#attempts = 0;
    if (this.state === "waiting") this.#wake();
    this.#ping();
  }

  #become(state, detail = {}) {
    if (this.state === "closed") return;
    this.state = state;
    this.#tell("state", { state, ...detail });
  }

  #tell(name, detail) {
    this.dispatchEvent(new CustomEvent(name, { detail }));
  }

  #decide(text, tone = "plain") {
    this.#tell("decision", { text, tone, at: Date.now() });
  }

  /* The choice of a transport */

  /** Tries the transports, the best first, and each next one a little later or once one has failed. */
  #connect() {
    const now = Date.now();
    const isBad = (kind) => (this.#failed.get(kind)?.until ?? 0) > now;
    const kinds = this.choice === "auto" ? [...KINDS].sort((a, b) => isBad(a) - isBad(b)) : [this.choice];
    const waiting = [...kinds];
    const failures = [];
    const attempts = new Map();
    return new Promise((resolve, reject) => {
      let timer;
      let isOver = false;
      const over = (settle, value) => {
        isOver = true;
        clearTimeout(timer);
        for (const controller of attempts.values()) controller.abort(new Error("another transport was faster"));
        settle(value);
      };
      const failed = (kind, error) => {
        attempts.delete(kind);
        if (isOver) return;
        failures.push(`${NAMES[kind]}: ${error.message}`);
        this.#failed.set(kind, { until: Date.now() + MEMORY, reason: error.message });
        if (error.stops || (!waiting.length && !attempts.size)) {
          return over(reject, new LinkError(failures.join(". "), { stops: error.stops }));
        }
        next();
      };
      const next = () => {
        clearTimeout(timer);
        const kind = waiting.shift();
        if (!kind || isOver) return;
        const controller = new AbortController();
        const late = setTimeout(() => controller.abort(new Error("no answer in time")), HANDSHAKE);
        const began = performance.now();
        attempts.set(kind, controller);
        this.#greeted(kind, controller.signal)
          .then(({ link, peer }) => {
            if (isOver) return link.abort();
            attempts.delete(kind);
            this.#failed.delete(kind);
            this.#peer = peer;
            this.why = this.#reason(kind);
            this.#decide(`${NAMES[kind]} connected in ${Math.round(performance.now() - began)} ms. ${this.why}`);
            over(resolve, link);
          })
          .catch((error) => failed(kind, error))
          .finally(() => clearTimeout(late));
        if (waiting.length) timer = setTimeout(next, HEAD_START);
      };
      next();
    });
  }

  #reason(kind) {
    if (this.choice !== "auto") return "You picked it.";
    const better = KINDS.slice(0, KINDS.indexOf(kind));
    if (!better.length) return "The first choice works.";
    return better.map((other) => `${NAMES[other]}: ${this.#failed.get(other)?.reason ?? "slower"}.`).join(" ");
  }

  /** Opens a link and exchanges hellos: the server's, this end's with a nonce, and the proof. */
  async #greeted(kind, signal) {
    const endpoint = this.#endpoints[kind];
    const unreachable = () => Promise.reject(new LinkError("the server is not reachable"));
    const link = await open[kind](typeof endpoint === "function" ? await endpoint().catch(unreachable) : endpoint, signal);
    signal.addEventListener("abort", () => link.end ?? link.abort());
    const read = async () => {
      for (let pings = 0, item; (item = await link.next()); ) {
        if (item[0] <= Kind.BINARY) return item[1];
        if (++pings > 16) break;
        if (item[0] === Kind.PING) link.pong(item[1]);
      }
      throw new LinkError(link.end?.error ?? `closed with ${link.end?.code ?? "no code"} instead of a hello`);
    };
    try {
      const peer = readHello(await read());
      if (!peer?.resume) throw new LinkError("the server has no sessions", { stops: true });
      const nonce = crypto.getRandomValues(new Uint8Array(16));
      link.send(hello(nonce, canInflate));
      if (!isProof(await read(), nonce)) throw new LinkError("the server's hello is a copy", { stops: true });
      return { link, peer };
    } catch (error) {
      link.abort();
      throw error;
    }
  }

  /* A connection, from the bottom of the stack to the top */

  async #carry(link) {
    this.#heartbeat = { number: this.#heartbeat.number, sentAt: undefined, heardAt: performance.now(), tickedAt: performance.now() };
    const position = { received: this.#received, digest: this.#receivedDigest, first: this.#acked, sent: this.#acked + this.#kept.length };
    this.#put(resumeHello(this.#session, position, ++this.#epoch, this.#hasNotRead), true);
    for (let item; (item = await link.next()); ) {
      this.#heartbeat.heardAt = performance.now();
      const [kind, message] = item;
      if (kind === Kind.PING) link.pong(message);
      if (kind > Kind.BINARY) continue;
      for (const data of await this.#unpacked(message)) this.#resumed(data);
    }
    return link.end;
  }

  /** Heartbeat, compression, batch: the messages inside one that has arrived. */
  async #unpacked(message) {
    const beat = opened(Layer.HEARTBEAT, message);
    if (beat?.kind === 1) {
      this.#link.send(pong(beat.body));
      return [];
    }
    if (beat?.kind === 2) {
      this.#ponged(readPong(beat.body));
      return [];
    }
    if (beat) message = beat.body;
    const deflated = opened(Layer.COMPRESSION, message);
    if (deflated) message = deflated.kind === 0 ? deflated.body : await inflate(deflated);
    const batched = opened(Layer.BATCH, message);
    if (!batched) return [message];
    return batched.kind === 0 ? [batched.body] : unbatch(batched);
  }

  #resumed(message) {
    const mark = opened(Layer.RESUME, message);
    if (mark && mark.kind !== 0) return this.#control(mark);
    if (!this.#isBegun) throw new ProtocolError("data before the welcome");
    const { length } = toBytes(message);
    // The server keeps no more than this, unless it breaks its word.
    if (this.#inbox.length >= WINDOW.messages || this.#inboxBytes >= WINDOW.bytes) throw new ProtocolError("over the window");
    this.#arrived += 1;
    this.#inbox.push({ message: mark ? mark.body : message, length });
    this.#inboxBytes += length;
    this.#deliver();
  }

  #control({ kind, body }) {
    if (kind === Resume.WELCOME && !this.#isBegun) return this.#welcomed(readWelcome(body));
    if (kind !== Resume.ACK && kind !== Resume.BYE) throw new ProtocolError("an unexpected message of the session");
    const { received, sent } = readProgress(body);
    const isPossible = received >= this.#acked && received <= this.#written && sent === this.#arrived;
    if (!isPossible) throw new ProtocolError("the server counts other messages");
    this.#release(received);
    if (kind === Resume.BYE) this.#session = undefined; // what is not acknowledged now is lost
  }

  #welcomed(theirs) {
    if (this.#session && theirs.isResumed) {
      const end = this.#acked + this.#kept.length;
      const isPossible = theirs.received >= this.#acked && theirs.received <= this.#mostWritten
        && theirs.first <= this.#received && theirs.sent >= this.#received;
      if (!isPossible) throw new ProtocolError("an impossible position");
      const digest = theirs.received === this.#acked ? this.#ackedDigest : this.#kept[theirs.received - this.#acked - 1].digest;
      if (theirs.digest !== 0n && theirs.digest !== digest) {
        this.#session = undefined;
        throw new ProtocolError("the two ends have seen different messages");
      }
      this.#release(theirs.received);
      const incoming = theirs.sent - this.#received;
      this.verdict = { name: "Resumed", sent: end - theirs.received, incoming };
      this.#decide(`Resumed: ${end - theirs.received} sent again, ${incoming} to come, 0 lost.`, "good");
    } else {
      const isFirst = this.verdict === undefined;
      const lost = this.#kept.splice(0, this.#mostWritten - this.#acked).map(({ plain }) => plain);
      this.verdict = { name: "Fresh", lost: lost.length, isFirst };
      if (!isFirst) this.#decide(`Fresh: the server does not have the session. ${lost.length} sent by this page lost.`, lost.length ? "bad" : "plain");
      // Messages that were on no connection yet belong to the new session.
      [this.#acked, this.#ackedDigest, this.#digest, this.#mostWritten, this.#keptBytes] = [0, 0n, 0n, 0, 0];
      for (const kept of this.#kept) {
        kept.digest = this.#digest = step(this.#digest, kept.plain);
        this.#keptBytes += kept.length;
      }
      [this.#received, this.#receivedDigest] = [0, 0n];
      if (lost.length) this.#tell("lost", lost);
    }
    if (!theirs.isResumed) this.#session = { id: theirs.id, token: theirs.token };
    [this.#arrived, this.#told, this.#untoldBytes] = [this.#received, this.#received, 0];
    this.#written = this.#acked;
    this.#isBegun = true;
    this.#attempts = 0;
    this.#become("open", { kind: this.kind });
    this.#tell("verdict", this.verdict);
    this.#write();
    this.#ping();
  }

  /* Out: kept, written, acknowledged */

  #write() {
    for (const { message } of this.#kept.slice(this.#written - this.#acked)) this.#put(message);
    this.#written = this.#acked + this.#kept.length;
    this.#mostWritten = Math.max(this.#mostWritten, this.#written);
  }

  /** Puts a message on the link with all others of this turn, or at once. */
  #put(message, isUrgent = false) {
    if (!this.#outbox.length && !isUrgent) queueMicrotask(() => this.#flush());
    this.#outbox.push(message);
    if (isUrgent) this.#flush();
  }

  #flush() {
    const messages = this.#outbox.splice(0);
    if (!this.#link || !messages.length) return;
    const packed = messages.length > 1 && this.#peer.batch ? [batch(messages)] : messages.map((it) => escape(Layer.BATCH, it));
    for (const message of packed) {
      const plain = this.#peer.compression && canInflate ? escape(Layer.COMPRESSION, message) : message;
      this.#link.send(escape(Layer.HEARTBEAT, plain));
    }
  }

  #release(received) {
    while (this.#acked < received) {
      const kept = this.#kept.shift();
      this.#keptBytes -= kept.length;
      this.#ackedDigest = kept.digest;
      this.#acked += 1;
    }
  }

  /* In: arrived, received, told */

  #deliver() {
    while (this.#inbox.length && !this.#isPaused) {
      const { message, length } = this.#inbox.shift();
      this.#inboxBytes -= length;
      this.#received += 1;
      this.#receivedDigest = step(this.#receivedDigest, message);
      this.#untoldBytes += length;
      this.payload.in += length;
      this.payload.messages += 1;
      this.#tell("message", message);
    }
    const untold = this.#received - this.#told;
    if (untold >= WINDOW.messages / 4 || this.#untoldBytes >= WINDOW.bytes / 4) this.#acknowledge();
    else if (untold > 0) this.#ackTimer ??= setTimeout(() => this.#acknowledge(), ACK_DELAY);
  }

  #acknowledge() {
    clearTimeout(this.#ackTimer);
    this.#ackTimer = undefined;
    if (!this.#isBegun || this.#told === this.#received) return;
    [this.#told, this.#untoldBytes] = [this.#received, 0];
    this.#put(progress(Resume.ACK, this.#received, this.#written));
  }

  /* Heartbeat */

  #beat() {
    const now = performance.now();
    const beat = this.#heartbeat;
    const hasSlept = now - beat.tickedAt > 3_000; // the timers of a page stop while it sleeps
    beat.tickedAt = now;
    if (!this.#isBegun) return;
    if (hasSlept) beat.sentAt = undefined;
    if (beat.sentAt === undefined) {
      if (hasSlept || now - (beat.pingedAt ?? 0) >= PING_EVERY) this.#ping();
    } else if (now - Math.max(beat.sentAt, beat.heardAt) > DEAD_AFTER) {
      this.#failed.set(this.kind, { until: Date.now() + MEMORY, reason: "it went dead" });
      this.#decide(`${NAMES[this.kind]}: no answer for ${DEAD_AFTER / 1000} s. The path is dead.`, "bad");
      this.#link.abort();
    }
  }

  #ping() {
    if (!this.#isBegun) return;
    const beat = this.#heartbeat;
    beat.number = (beat.number + 1) % 2 ** 32;
    beat.sentAt = beat.pingedAt = performance.now();
    this.#link.send(ping(beat.number));
  }

  #ponged(number) {
    const beat = this.#heartbeat;
    if (number !== beat.number || beat.sentAt === undefined) return;
    this.#tell("rtt", performance.now() - beat.sentAt);
    beat.sentAt = undefined;
  }
}
