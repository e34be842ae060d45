// The formats of docs/wire.md, as pure functions. A message is a string (text) or a Uint8Array (binary).

const MAGIC = [0xf8, 0x74, 0x74, 0x78, 0x01, 0xff];
const MARK = 8; // kind, layer, magic
const encoder = new TextEncoder();
const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

export const SUBPROTOCOL = "tower-transport.v1";
export const Layer = { COMPRESSION: 1, BATCH: 2, RESUME: 3, HEARTBEAT: 4, STACK: 7 };
export const Kind = { TEXT: 0, BINARY: 1, PING: 2, PONG: 3, CLOSE: 4 };

/** The largest message that this end accepts, plain and inflated. */
export const MAX_MESSAGE = 4 << 20;

export class ProtocolError extends Error {
  constructor(message, code = 1002) {
    super(message);
    this.code = code;
  }
}

function check(holds, message, code) {
  if (!holds) throw new ProtocolError(message, code);
}

export const toBytes = (message) => (typeof message === "string" ? encoder.encode(message) : message);

export function toText(bytes) {
  try {
    return decoder.decode(bytes);
  } catch {
    throw new ProtocolError("text that is not UTF-8", 1007);
  }
}

export function concat(...parts) {
  const whole = new Uint8Array(parts.reduce((length, part) => length + part.length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}

const view = (bytes) => new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);

/* Marks: ... payload ... | body | kind | layer | F8 74 74 78 01 FF */

export const marked = (layer, kind, ...body) => concat(...body, [kind, layer, ...MAGIC]);

/** The kind of the mark of `layer` at the end of a message and what is before it, or `undefined`. */
export function open(layer, message) {
  const at = message.length - MARK;
  if (typeof message === "string" || at < 0 || message[at + 1] !== layer) return undefined;
  if (MAGIC.some((byte, index) => message[at + 2 + index] !== byte)) return undefined;
  return { kind: message[at], body: message.subarray(0, at) };
}

/** Keeps a message of the user that ends like a mark of `layer` from being taken for one. */
export const escape = (layer, message) => (open(layer, message) ? marked(layer, 0, message) : message);

/* Stack: the first message of each end. */

const FEATURES = { BASE: 1, BATCH: 2, COMPRESSION: 4, RESUME: 8 };
const KEPT_CONTEXT = 32;

export function hello(nonce, canInflate) {
  const body = new Uint8Array(12);
  view(body).setUint32(0, FEATURES.BASE | FEATURES.BATCH | FEATURES.RESUME | (canInflate ? FEATURES.COMPRESSION : 0), true);
  view(body).setUint32(4, MAX_MESSAGE, true);
  view(body).setUint32(8, 4096, true); // room for marks: nothing here limits them
  return marked(Layer.STACK, 1, body, nonce);
}

/** What a server's hello says, or `undefined` where the message is not a hello. */
export function readHello(message) {
  const { kind, body } = open(Layer.STACK, message) ?? {};
  if (kind !== 1 || body.length < 8 || (body.length > 8 && body.length < 12)) return undefined;
  const [features, maxMessage] = [view(body).getUint32(0, true), view(body).getUint32(4, true)];
  const isValid = features & FEATURES.BASE && maxMessage > 0 && !(features & KEPT_CONTEXT && !(features & FEATURES.COMPRESSION));
  if (!isValid) return undefined;
  return { maxMessage, batch: !!(features & FEATURES.BATCH), compression: !!(features & FEATURES.COMPRESSION), resume: !!(features & FEATURES.RESUME) };
}

/** Whether a message repeats the nonce: proof that the server's hello was made for this connection. */
export function isProof(message, nonce) {
  const { kind, body } = open(Layer.STACK, message) ?? {};
  return kind === 2 && body.length === nonce.length && body.every((byte, index) => byte === nonce[index]);
}

/* Compression: deflate data | length u32 | mark of kind 1 (binary) or 2 (text) */

export const canInflate = typeof DecompressionStream === "function";

/** The message inside a compressed one, which must be no larger than `MAX_MESSAGE` nor over 200 times its data. */
export async function inflate({ kind, body }) {
  check(kind === 1 || kind === 2, "compression with a kept context was not agreed");
  check(body.length >= 4, "a compressed message without its length", 1007);
  const data = body.subarray(0, -4);
  const length = view(body).getUint32(body.length - 4, true);
  check(length <= MAX_MESSAGE && (length <= 65536 || length <= 200 * data.length), "inflated data over the limit", 1009);
  // The end of the flush that the sender leaves out, and an empty last block, without which the stream would not end.
  const whole = concat(data, [0, 0, 0xff, 0xff, 3, 0]);
  const reader = new Blob([whole]).stream().pipeThrough(new DecompressionStream("deflate-raw")).getReader();
  const inflated = new Uint8Array(length);
  let at = 0;
  try {
    for (let read; !(read = await reader.read()).done; at += read.value.length) {
      check(at + read.value.length <= length, "more inflated data than announced", 1007);
      inflated.set(read.value, at);
    }
  } catch (error) {
    reader.cancel().catch(() => {});
    throw error instanceof ProtocolError ? error : new ProtocolError("data that cannot be inflated", 1007);
  }
  check(at === length, "less inflated data than announced", 1007);
  return kind === 2 ? toText(inflated) : inflated;
}

/* Batch: payloads | varint of 2 * length + is text, each | length of all varints u32 | mark */

const MOST_IN_A_BATCH = 65_536;

export function batch(messages) {
  const payloads = messages.map(toBytes);
  const entries = [];
  messages.forEach((message, index) => {
    let entry = payloads[index].length * 2 + (typeof message === "string" ? 1 : 0);
    for (; entry >= 0x80; entry = Math.floor(entry / 128)) entries.push((entry & 0x7f) | 0x80);
    entries.push(entry);
  });
  const length = new Uint8Array(4);
  view(length).setUint32(0, entries.length, true);
  return marked(Layer.BATCH, 1, ...payloads, entries, length);
}

export function unbatch({ kind, body }) {
  check(kind === 1 && body.length >= 4, "a mark of the batch layer that is none");
  const end = body.length - 4;
  const start = end - view(body).getUint32(end, true);
  check(start >= 0 && start < end, "the entries of a batch do not fit");
  const messages = [];
  let [at, index] = [0, start];
  while (index < end) {
    let [entry, place, byte] = [0, 1, 0];
    do {
      check(index < end && place <= 128 ** 4, "a cut entry");
      byte = body[index++];
      entry += (byte & 0x7f) * place;
      place *= 128;
    } while (byte >= 0x80);
    const length = Math.floor(entry / 2);
    check(entry < 2 ** 32 && at + length <= start && messages.length < MOST_IN_A_BATCH, "a batch that does not add up");
    const payload = body.subarray(at, (at += length));
    messages.push(entry % 2 ? toText(payload) : payload);
  }
  check(at === start, "a batch that does not add up");
  return messages;
}

/* Resume: hello, welcome, acknowledgement, bye */

export const Resume = { HELLO: 1, WELCOME: 2, ACK: 3, BYE: 4 };
export const WINDOW = { messages: 1024, bytes: 1 << 20 };

const HEAD = 34; // version, flags, id, token

function layout(size, flags, { id, token }, position) {
  const body = new Uint8Array(size);
  const at = view(body);
  body.set([1, flags]);
  body.set(id, 2);
  body.set(token, 18);
  at.setUint32(HEAD, WINDOW.messages, true);
  at.setUint32(HEAD + 4, WINDOW.bytes, true);
  ["received", "digest", "first", "sent"].forEach((name, index) => at.setBigUint64(HEAD + 8 + 8 * index, BigInt(position[name]), true));
  return body;
}

const NOBODY = { id: new Uint8Array(16), token: new Uint8Array(16) };
const NOWHERE = { received: 0, digest: 0n, first: 0, sent: 0 };

/** The client's hello. `session` has the id and the token of a session to resume; without one, a new one begins. */
export function resumeHello(session, position, epoch, hasNotRead) {
  const flags = session ? 1 | (hasNotRead ? 2 : 0) : 0;
  const body = layout(82, flags, session ?? NOBODY, session ? position : NOWHERE);
  view(body).setBigUint64(74, BigInt(epoch), true);
  return marked(Layer.RESUME, Resume.HELLO, body);
}

export function readWelcome(body) {
  check(body.length === 74 && body[0] === 1, "a welcome of another version");
  const at = view(body);
  const number = (index) => Number(at.getBigUint64(HEAD + 8 + 8 * index, true));
  return {
    isResumed: !!(body[1] & 1),
    id: body.slice(2, 18),
    token: body.slice(18, 34),
    window: { messages: at.getUint32(HEAD, true), bytes: at.getUint32(HEAD + 4, true) },
    received: number(0),
    digest: at.getBigUint64(HEAD + 16, true),
    first: number(2),
    sent: number(3),
  };
}

export function progress(kind, received, sent) {
  const body = new Uint8Array(16);
  view(body).setBigUint64(0, BigInt(received), true);
  view(body).setBigUint64(8, BigInt(sent), true);
  return marked(Layer.RESUME, kind, body);
}

export function readProgress(body) {
  check(body.length === 16, "an acknowledgement of another length");
  return { received: Number(view(body).getBigUint64(0, true)), sent: Number(view(body).getBigUint64(8, true)) };
}

const rotl = (value, by) => BigInt.asUintN(64, (value << by) | (value >> (64n - by)));

/** The digest of all messages up to and including this one. It finds accidents, not forgeries. */
export function step(digest, message) {
  const bytes = toBytes(message);
  let [head, tail] = [0n, 0n];
  if (bytes.length >= 8) {
    head = view(bytes).getBigUint64(0, true);
    tail = view(bytes).getBigUint64(bytes.length - 8, true);
  } else {
    for (const byte of bytes) head = (head << 8n) | BigInt(byte);
  }
  const kind = BigInt(bytes.length + 1) | (typeof message === "string" ? 1n << 63n : 0n);
  const K = 0x9e3779b97f4a7c15n;
  const mixed = BigInt.asUintN(64, (rotl(digest, 23n) ^ head) * K);
  return BigInt.asUintN(64, (mixed ^ rotl(tail, 32n) ^ kind) * K);
}

/* Heartbeat: `ttxh` and a number, in a mark */

export function ping(number) {
  const body = new Uint8Array([0x74, 0x74, 0x78, 0x68, 0, 0, 0, 0]);
  view(body).setUint32(4, number);
  return marked(Layer.HEARTBEAT, 1, body);
}

export const pong = (body) => marked(Layer.HEARTBEAT, 2, body);
export const readPong = (body) => (body.length === 8 ? view(body).getUint32(4) : undefined);

/* Messages in a stream of bytes (WebTransport, the body of a POST): kind | length as in QUIC | payload */

export function frame(kind, payload) {
  const length = payload.length;
  if (length < 1 << 6) return concat([kind, length], payload);
  if (length < 1 << 14) return concat([kind, 0x40 | (length >> 8), length & 0xff], payload);
  return concat([kind, 0x80 | (length >> 24), (length >> 16) & 0xff, (length >> 8) & 0xff, length & 0xff], payload);
}

export const closePayload = (code, reason) => concat([code >> 8, code & 0xff], encoder.encode(reason));

/** Cuts a stream of bytes into its messages: `[kind, payload]` each. It holds one message and one chunk at most. */
export async function* frames(reader) {
  let [chunks, held] = [[], 0];
  const need = async (count) => {
    while (held < count) {
      const { done, value } = await reader.read();
      if (done) {
        check(held === 0, "a cut message");
        return false;
      }
      chunks.push(value);
      held += value.length;
    }
    if (chunks.length > 1 && chunks[0].length < count) chunks = [concat(...chunks)];
    return true;
  };
  const take = (count) => {
    const taken = chunks[0]?.subarray(0, count) ?? new Uint8Array();
    if (chunks.length) chunks[0] = chunks[0].subarray(count);
    if (chunks[0]?.length === 0) chunks.shift();
    held -= count;
    return taken;
  };
  while (await need(2)) {
    const size = 1 << (chunks[0][1] >> 6);
    if (!(await need(1 + size))) return;
    const head = take(1 + size);
    let length = head[1] & 0x3f;
    for (let index = 2; index < head.length; index++) length = length * 256 + head[index];
    check(head[0] <= Kind.CLOSE, "an unknown kind of message");
    check(length <= (head[0] <= Kind.BINARY ? MAX_MESSAGE + 4096 : 125), "a message over the limit", 1009);
    if (length && !(await need(length))) return;
    yield [head[0], take(length).slice()];
  }
}

/* Server-sent events */

/** Cuts a stream of text into events: `{ type, data }`. Fields that this wire does not use are skipped. */
export async function* events(reader) {
  const utf8 = new TextDecoder();
  let [rest, type, data, size] = ["", "", [], 0];
  for (let read; !(read = await reader.read()).done; ) {
    rest += utf8.decode(read.value, { stream: true });
    const isHalf = rest.endsWith("\r"); // a line feed may follow
    const lines = (isHalf ? rest.slice(0, -1) : rest).split(/\r\n|\r|\n/);
    rest = lines.pop() + (isHalf ? "\r" : "");
    for (const line of lines) {
      if (line === "") {
        if (data.length) yield { type, data: data.join("\n") };
        [type, data, size] = ["", [], 0];
        continue;
      }
      const [, field, value] = /^([^:]*):? ?(.*)$/s.exec(line);
      if (field === "event") type = value;
      if (field === "data") data.push(value);
      if (field === "data") size += value.length;
    }
    check(size + rest.length <= 2 * MAX_MESSAGE, "an event over the limit", 1009);
  }
}

const BASE64_CHUNK = 0x8000;

export function toBase64(bytes) {
  let text = "";
  for (let at = 0; at < bytes.length; at += BASE64_CHUNK) text += String.fromCharCode(...bytes.subarray(at, at + BASE64_CHUNK));
  return btoa(text);
}

export const fromBase64 = (text) => Uint8Array.from(atob(text), (char) => char.charCodeAt(0));
