// The view: it draws what the client tells, and the server's numbers of this page.

import { Client, NAMES } from "./client.js";

const $ = (id) => document.getElementById(id);
const isCalm = matchMedia("(prefers-reduced-motion: reduce)").matches;

const PEOPLE = ["Ada", "Alan", "Barbara", "Dennis", "Edsger", "Frances", "Grace", "Hedy", "Ken", "Margaret", "Radia", "Tim"];
const random = (count) => crypto.getRandomValues(new Uint32Array(1))[0] % count;

const id = [...crypto.getRandomValues(new Uint8Array(12))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
const asked = new URLSearchParams(location.search).get("name") ?? "";
const name = /^[a-zA-Z0-9-]{1,32}$/.test(asked) ? asked : `${PEOPLE[random(PEOPLE.length)]}-${10 + random(90)}`;
const query = `?client=${id}&name=${name}`;

export const client = new Client({
  // The certificate of the development server is new with each of its lives.
  webtransport: async () => {
    const { url, hash } = await (await fetch("/config.json")).json();
    return { url: url + query, hash };
  },
  websocket: `${location.origin}/ws${query}`,
  sse: `${location.origin}/sse${query}`,
});

/* State and decisions */

const states = {
  connecting: () => "Connecting",
  open: () => `Connected over ${NAMES[client.kind]}`,
  waiting: ({ delay }) => `Waiting ${(delay / 1000).toFixed(1)} s to reconnect`,
  offline: () => "Offline",
  closed: () => "Closed",
};

let connections = 0;

client.addEventListener("state", ({ detail }) => {
  $("state").dataset.state = detail.state;
  $("state").textContent = states[detail.state](detail);
  if (detail.state === "open") {
    $("in-use").textContent = NAMES[client.kind];
    $("why").textContent = client.why;
    $("reconnects").textContent = connections++;
  } else {
    $("in-use").textContent = "–";
  }
});

client.addEventListener("verdict", ({ detail: { name, sent, incoming, lost, isFirst } }) => {
  $("verdict").textContent = name === "Resumed" ? `Resumed, ${sent + incoming} replayed` : isFirst ? "Fresh, the first" : `Fresh, ${lost} lost`;
});

const MOST_DECISIONS = 100;

client.addEventListener("decision", ({ detail: { text, tone, at } }) => {
  const newest = $("decisions").firstElementChild;
  if (newest?.dataset.text === text) {
    newest.dataset.count = Number(newest.dataset.count ?? 1) + 1;
    newest.lastElementChild.textContent = `${text} (${newest.dataset.count} times)`;
    return;
  }
  const item = document.createElement("li");
  item.dataset.tone = tone;
  item.dataset.text = text;
  const time = document.createElement("time");
  time.dateTime = new Date(at).toISOString();
  time.textContent = new Date(at).toLocaleTimeString("en-GB");
  const what = document.createElement("span");
  what.textContent = text;
  item.append(time, what);
  $("decisions").prepend(item);
  while ($("decisions").childElementCount > MOST_DECISIONS) $("decisions").lastElementChild.remove();
});

/* The room */

const MOST_LINES = 200;
const sent = new Map(); // number: the line of a message of this page that the room has not heard yet
const heard = new Map(); // name: the last number
const people = new Set();
let number = 0;
export const audit = { messages: 0, missing: 0, doubled: 0 };

function line(kind, text, who) {
  const element = document.createElement("p");
  element.className = kind;
  if (who) element.append(Object.assign(document.createElement("b"), { textContent: who }));
  element.append(text);
  const log = $("log");
  const isAtEnd = log.scrollHeight - log.scrollTop - log.clientHeight < 40;
  log.append(element);
  while (log.childElementCount > MOST_LINES) log.firstElementChild.remove();
  if (isAtEnd) log.scrollTop = log.scrollHeight;
  return element;
}

function note(element, text, isFailed = false) {
  const mark = element.querySelector("i") ?? element.appendChild(document.createElement("i"));
  mark.textContent = text;
  mark.className = isFailed ? "failed" : "";
}

export function say(text) {
  const said = line("said own", text);
  const value = JSON.stringify({ type: "Say", number: number + 1, text });
  if (!client.send(value)) return note(said, "not sent: too much waits already", true);
  number += 1;
  sent.set(number, said);
  if (client.state !== "open") note(said, "waits for the connection");
}

function seen() {
  const others = [...people].filter((person) => person !== name).sort();
  $("people").textContent = others.length ? `you are ${name}, with ${others.join(", ")}` : `you are ${name}, alone so far`;
}

const received = {
  Welcome({ members }) {
    people.clear();
    for (const member of members) people.add(member);
    seen();
  },
  Presence({ name: who, online }) {
    if (online) people.add(who);
    else if (who !== name) people.delete(who);
    if (who !== name) line("event", `${who} ${online ? "came" : "left"}`);
    seen();
  },
  Said({ name: who, number: count, text }) {
    const before = heard.get(who);
    if (before !== undefined && count <= before) audit.doubled += 1;
    if (before !== undefined && count > before + 1) audit.missing += count - before - 1;
    heard.set(who, Math.max(count, before ?? 0));
    audit.messages += 1;
    $("audit").textContent = `${audit.messages} messages, ${audit.missing} missing, ${audit.doubled} doubled`;
    if (who !== name) return line("said", text, who);
    sent.get(count)?.querySelector("i")?.remove();
    sent.delete(count);
  },
  Tick({ symbol, price }) {
    ticks.set(symbol, price);
  },
};

client.addEventListener("message", ({ detail }) => {
  const event = JSON.parse(detail);
  received[event.type]?.(event);
});

client.addEventListener("lost", ({ detail }) => {
  for (const message of detail) {
    const { number: count } = JSON.parse(message);
    if (sent.has(count)) note(sent.get(count), "may be lost: the server crashed", true);
    sent.delete(count);
  }
});

$("say").addEventListener("submit", (event) => {
  event.preventDefault();
  const text = $("text").value.trim();
  if (text) say(text);
  $("text").value = "";
  $("text").focus();
});

/* The ticker */

const SVG = "http://www.w3.org/2000/svg";
const PRICES = 40;
const ticks = new Map(); // symbol: the price
const cells = new Map();
let drawnAt = 0;

function cell(symbol) {
  const item = document.createElement("li");
  const [label, price] = ["b", "span"].map((tag) => document.createElement(tag));
  const [svg, path] = ["svg", "path"].map((tag) => document.createElementNS(SVG, tag));
  label.textContent = symbol;
  price.className = "price";
  svg.setAttribute("viewBox", `0 0 ${PRICES - 1} 18`);
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("aria-hidden", "true");
  svg.append(path);
  item.append(label, svg, price);
  cells.set(symbol, { item, price, path, prices: [] });
  $("ticks").replaceChildren(...[...cells.keys()].sort().map((key) => cells.get(key).item));
  return cells.get(symbol);
}

function drawTicks(now) {
  requestAnimationFrame(drawTicks);
  if (now - drawnAt < (isCalm ? 1000 : 125)) return;
  drawnAt = now;
  for (const [symbol, price] of ticks) {
    const { price: text, path, prices } = cells.get(symbol) ?? cell(symbol);
    sample(prices, price, PRICES);
    text.textContent = (price / 100).toFixed(2);
    const [least, most] = [Math.min(...prices), Math.max(...prices, Math.min(...prices) + 1)];
    path.setAttribute("d", `M${prices.map((it, index) => `${PRICES - prices.length + index},${(17 - (16 * (it - least)) / (most - least)).toFixed(1)}`).join("L")}`);
  }
}
requestAnimationFrame(drawTicks);

/* Meters: a sample each half second, for half a minute; the strip for a minute */

const EVERY = 500;
const SAMPLES = 60;
const series = { rtt: [], rate: [], queue: [], wire: [], payload: [] };
const STRIP = 120;
const kinds = [];

function sample(list, value, most = SAMPLES) {
  list.push(value);
  if (list.length > most) list.shift();
}

/** Draws which transport was in use when: one rectangle for each run of samples. */
function drawStrip() {
  sample(kinds, client.state === "open" ? client.kind : "none", STRIP);
  const rects = [];
  for (let from = 0, to; from < kinds.length; from = to) {
    for (to = from; kinds[to] === kinds[from]; to++);
    const rect = document.createElementNS(SVG, "rect");
    rect.dataset.kind = kinds[from];
    for (const [name, value] of Object.entries({ x: STRIP - kinds.length + from, y: 0, width: to - from, height: 1 })) rect.setAttribute(name, value);
    rects.push(rect);
  }
  $("strip").replaceChildren(...rects);
}
$("strip").setAttribute("viewBox", `0 0 ${STRIP} 1`);
$("strip").setAttribute("preserveAspectRatio", "none");

/** Draws one or two series on one scale; the first is the one that counts. */
function chart(element, first, second = []) {
  const top = Math.max(1, ...first, ...second) * 1.1;
  const points = (list) => list.map((value, index) => `${(SAMPLES - list.length + index).toFixed(1)},${(40 - (40 * value) / top).toFixed(2)}`);
  const path = (className, d) => {
    const shape = document.createElementNS(SVG, "path");
    shape.setAttribute("class", className);
    shape.setAttribute("d", d);
    return shape;
  };
  element.setAttribute("viewBox", `0 0 ${SAMPLES - 1} 40`);
  element.setAttribute("preserveAspectRatio", "none");
  const shapes = [path("base", `M0,40H${SAMPLES - 1}`)];
  if (first.length > 1) {
    const start = SAMPLES - first.length;
    shapes.push(path("area", `M${start},40L${points(first).join("L")}L${SAMPLES - 1},40Z`), path("line", `M${points(first).join("L")}`));
  }
  if (second.length > 1) shapes.push(path("second", `M${points(second).join("L")}`));
  element.replaceChildren(...shapes);
}

const whole = new Intl.NumberFormat("en-US");
const tenths = (value) => (value < 100 ? value.toFixed(1) : whole.format(Math.round(value)));

let rtt;
client.addEventListener("rtt", ({ detail }) => (rtt = detail));

function drawRtt() {
  if (rtt === undefined) return;
  sample(series.rtt, rtt);
  const sorted = [...series.rtt].sort((a, b) => a - b);
  $("rtt").textContent = tenths(rtt);
  $("rtt-note").textContent = `median ${tenths(sorted[sorted.length >> 1])} ms, worst ${tenths(sorted.at(-1))} ms`;
  chart($("rtt-chart"), series.rtt);
}

export let stats;
let last;

async function measure() {
  const now = performance.now();
  drawStrip();
  drawRtt();
  try {
    stats = await (await fetch(`/stats?client=${id}`, { signal: AbortSignal.timeout(2 * EVERY) })).json();
  } catch {
    $("server").textContent = "not reachable";
    last = undefined;
    return;
  }
  $("server").textContent = `life ${stats.life}, up ${stats.uptime} s`;
  $("queue").textContent = whole.format(stats.queued);
  $("queue-note").textContent = `${whole.format(stats.dropped)} conflated, ${whole.format(client.unread)} unread here`;
  sample(series.queue, stats.queued);
  chart($("queue-chart"), series.queue);
  const { in: payload, messages } = client.payload;
  if (last?.life === stats.life && stats.written >= last.written) {
    const seconds = (now - last.now) / 1000;
    const [rate, wire, useful] = [(messages - last.messages) / seconds, (stats.written - last.written) / seconds / 1000, (payload - last.payload) / seconds / 1000];
    sample(series.rate, rate);
    sample(series.wire, wire);
    sample(series.payload, useful);
    $("rate").textContent = whole.format(Math.round(rate));
    $("rate-note").textContent = `${whole.format(messages)} received`;
    $("wire").textContent = tenths(wire);
    $("wire-note").textContent = `on the wire, for ${tenths(useful)} KB/s of payload`;
    chart($("rate-chart"), series.rate);
    chart($("wire-chart"), series.wire, series.payload);
  }
  last = { now, messages, payload, written: stats.written, life: stats.life };
}

setInterval(() => document.hidden || measure(), EVERY);

/* Controls */

async function control(command) {
  const headers = { "content-type": "application/json" };
  try {
    await fetch(`/control?client=${id}`, { method: "POST", headers, body: JSON.stringify(command) });
  } catch {
    // The server is gone for a moment, and the state says so.
  }
}

const pressed = (button) => {
  const isPressed = button.getAttribute("aria-pressed") !== "true";
  button.setAttribute("aria-pressed", isPressed);
  return isPressed;
};

for (const input of document.querySelectorAll("[name=transport]")) input.addEventListener("change", () => client.use(input.value));
$("cut").addEventListener("click", () => control({ type: "Cut" }));
$("restart").addEventListener("click", () => control({ type: "Restart" }));
$("crash").addEventListener("click", () => control({ type: "Crash" }));
$("stall").addEventListener("click", (event) => (pressed(event.currentTarget) ? client.pause() : client.resume()));
for (const button of document.querySelectorAll("[data-block]")) {
  button.addEventListener("click", async () => {
    const [transport, is_blocked] = [button.dataset.block, pressed(button)];
    await control({ type: "Block", transport, is_blocked });
    if (is_blocked && client.kind === transport) await control({ type: "Cut" });
    if (!is_blocked && client.choice === "auto") client.use("auto"); // it may be a better one
  });
}

seen();
client.start();

// For the console, and for the tests.
globalThis.demo = { id, client, say, audit, get stats() { return stats; }, series };
