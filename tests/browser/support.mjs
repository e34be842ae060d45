// What the scripts of this folder share: programs, a page's condition, a wire that can be cut.
import { spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { createServer as createHttpServer } from "node:http";
import { createConnection, createServer } from "node:net";
import { join } from "node:path";
import { createInterface } from "node:readline";

export const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

const children = [];

/** Starts a program, and returns what `pattern` finds in a line of its output. `lines` gets each line. */
export function start(program, args, pattern, { env = {}, lines = [] } = {}) {
  const child = spawn(program, args, { stdio: ["ignore", "pipe", "inherit"], env: { ...process.env, ...env } });
  children.push(child);
  return new Promise((resolve, reject) => {
    child.on("error", reject);
    child.on("exit", (code) => reject(new Error(`${program} ended with ${code}`)));
    createInterface({ input: child.stdout }).on("line", (line) => {
      lines.push(line);
      const found = pattern.exec(line);
      if (found) resolve(found[1]);
    });
  });
}

/** Ends all programs that were started. */
export function stop() {
  for (const child of children.splice(0)) child.removeAllListeners("exit").kill();
}

/** Waits until a condition holds. */
export async function until(condition, what, seconds = 10) {
  const end = Date.now() + seconds * 1000;
  while (!(await condition())) {
    if (Date.now() > end) throw new Error(`${what}: not within ${seconds} s`);
    await sleep(25);
  }
}

/** Serves `pages` (name: HTML) and the files of `folder`, on a port of its own. */
export async function serve(folder, pages) {
  const types = { html: "text/html", js: "text/javascript", wasm: "application/wasm" };
  const http = createHttpServer((request, response) => {
    const name = new URL(request.url, "http://localhost").pathname.slice(1);
    try {
      const body = pages[name] ?? readFileSync(join(folder, name));
      const type = name in pages ? "text/html" : (types[name.split(".").pop()] ?? "text/plain");
      response.writeHead(200, { "content-type": type }).end(body);
    } catch {
      response.writeHead(404).end();
    }
  });
  await new Promise((resolve) => http.listen(0, "127.0.0.1", resolve));
  return { site: `http://127.0.0.1:${http.address().port}/`, close: () => http.close() };
}

/** A wire from a port of its own to `target` (`127.0.0.1:80`), which can be cut and kept down. */
export class Wire {
  #server;
  #sockets = new Set();
  #isDown = false;
  /** How many connections were attempted. */
  attempts = 0;
  /** How many bytes were sent to the target. */
  sent = 0;

  static async to(target) {
    const wire = new Wire();
    const [host, port] = target.split(":");
    wire.#server = createServer((near) => {
      wire.attempts += 1;
      if (wire.#isDown) return near.destroy();
      const far = createConnection(Number(port), host);
      for (const [from, to] of [[near, far], [far, near]]) {
        from.setNoDelay(true);
        from.on("error", () => {});
        from.on("close", () => to.destroy());
        from.on("data", (bytes) => {
          if (from === near) wire.sent += bytes.length;
          if (!near.isStalled) to.write(bytes);
        });
      }
      wire.#sockets.add(near);
      near.on("close", () => wire.#sockets.delete(near));
    });
    await new Promise((resolve) => wire.#server.listen(0, "127.0.0.1", resolve));
    wire.address = `127.0.0.1:${wire.#server.address().port}`;
    return wire;
  }

  /** Cuts all connections, and refuses others until `mend`. */
  cut() {
    this.#isDown = true;
    for (const socket of this.#sockets) socket.destroy();
  }

  /** Swallows everything on the connections that there are. Others work. */
  stall() {
    for (const socket of this.#sockets) socket.isStalled = true;
  }

  /** How many connections are open. */
  get open() {
    return this.#sockets.size;
  }

  mend() {
    this.#isDown = false;
  }

  close() {
    this.cut();
    this.#server.close();
  }
}
