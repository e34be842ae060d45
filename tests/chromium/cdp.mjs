// Chromium by its DevTools protocol, without a package: JSON messages that NUL ends, on the descriptors 3 and 4.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { join } from "node:path";

const FLAGS = [
  "--headless",
  "--no-sandbox", // it cannot be had as root, and the pages are our own
  "--disable-gpu",
  "--disable-dev-shm-usage",
  "--no-first-run",
  "--no-default-browser-check",
  // Nothing leaves this machine, whatever the browser would like to look up.
  "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1 , EXCLUDE localhost",
  "--no-proxy-server",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-default-apps",
  "--disable-extensions",
  "--disable-sync",
  "--metrics-recording-only",
];

export class Browser {
  #process;
  #folder;
  #errors = "";
  #last = 0;
  #answers = new Map();
  #pages = new Map();
  /** Gets the events that belong to no page. */
  onevent = () => {};

  /** Starts Chromium with a fresh profile in a folder of its own under `folder`. */
  constructor(program, folder, flags = []) {
    this.#folder = mkdtempSync(join(folder, "chromium-"));
    const profile = `--user-data-dir=${this.#folder}`;
    this.#process = spawn(program, [...FLAGS, ...flags, "--remote-debugging-pipe", profile, "about:blank"], {
      stdio: ["ignore", "ignore", "pipe", "pipe", "pipe"],
      detached: true, // a process group, which is killed as one
    });
    this.#process.stderr.setEncoding("utf8").on("data", (text) => (this.#errors = (this.#errors + text).slice(-4000)));
    this.#process.on("error", (error) => this.#fail(error));
    this.#process.on("exit", () => this.#fail(new Error(`Chromium ended: ${this.#errors}`)));
    this.#process.stdio[3].on("error", () => {}); // the exit says it
    let rest = "";
    this.#process.stdio[4].setEncoding("utf8").on("data", (text) => {
      const messages = (rest + text).split("\0");
      rest = messages.pop();
      for (const message of messages) this.#receive(JSON.parse(message));
    });
  }

  /** Calls a method of the protocol, of a page where `session` is given. */
  call(method, params = {}, session = undefined) {
    const id = ++this.#last;
    this.#process.stdio[3].write(`${JSON.stringify({ id, method, params, sessionId: session })}\0`);
    return new Promise((resolve, reject) => this.#answers.set(id, { resolve, reject }));
  }

  async version() {
    return (await this.call("Browser.getVersion")).product;
  }

  /** Opens a page, and waits until it is loaded. */
  async open(url) {
    const { targetId } = await this.call("Target.createTarget", { url: "about:blank" });
    const { sessionId } = await this.call("Target.attachToTarget", { targetId, flatten: true });
    const page = new Page(this, sessionId);
    this.#pages.set(sessionId, page);
    for (const domain of ["Page", "Runtime", "Log", "Network"]) await page.call(`${domain}.enable`);
    await page.navigate(url);
    return page;
  }

  /** Ends Chromium and forgets its profile. */
  async close() {
    if (this.#process.exitCode === null && this.#process.signalCode === null && this.#process.pid) {
      const exit = once(this.#process, "exit");
      process.kill(-this.#process.pid, "SIGKILL");
      await exit;
    }
    rmSync(this.#folder, { recursive: true, force: true, maxRetries: 10 });
  }

  #receive(message) {
    const answer = this.#answers.get(message.id);
    if (!answer) return message.sessionId ? this.#pages.get(message.sessionId)?.receive(message) : this.onevent(message);
    this.#answers.delete(message.id);
    if (message.error) answer.reject(new Error(message.error.message));
    else answer.resolve(message.result);
  }

  #fail(error) {
    for (const { reject } of this.#answers.values()) reject(error);
    this.#answers.clear();
  }
}

class Page {
  /** What the browser logged: here it says why a connection failed, which it does not tell the page. */
  log = [];
  /** What a script of the page threw and nobody caught. */
  exceptions = [];
  onload = () => {};
  onshown = () => {};
  onevent = () => {};

  constructor(browser, session) {
    this.browser = browser;
    this.session = session;
  }

  call(method, params) {
    return this.browser.call(method, params, this.session);
  }

  /** The value of an expression, once the promise that it may be is settled. */
  async evaluate(expression) {
    const { result, exceptionDetails: failed } = await this.call("Runtime.evaluate", {
      expression,
      awaitPromise: true,
      returnByValue: true,
    });
    if (failed) throw new Error(failed.exception?.description ?? failed.text);
    return result.value;
  }

  /** Goes to another page in the same tab, and waits until it is loaded. */
  async navigate(url) {
    const loaded = new Promise((resolve) => (this.onload = resolve));
    const { errorText } = await this.call("Page.navigate", { url });
    if (errorText) throw new Error(`${url}: ${errorText}`);
    await loaded;
  }

  /** Goes back in the history, and waits until that page is shown. */
  async back() {
    const shown = new Promise((resolve) => (this.onshown = resolve));
    await this.call("Runtime.evaluate", { expression: "history.back()" });
    await shown;
  }

  receive({ method, params }) {
    this.onevent({ method, params });
    // `type` is `Navigation`, or `BackForwardCacheRestore`, after which nothing is loaded.
    if (method === "Page.frameNavigated" && !params.frame.parentId) this.onshown();
    if (method === "Page.loadEventFired") this.onload();
    if (method === "Log.entryAdded") this.log.push(params.entry.text);
    if (method === "Runtime.exceptionThrown") {
      const { exception, text } = params.exceptionDetails;
      this.exceptions.push(exception?.description ?? text);
    }
    if (method === "Network.webSocketFrameError") this.log.push(params.errorMessage);
  }
}
