// `count` WebSockets at once: each sends `messages`, the next one once the one before has come back, and closes.
async ({ url, messages, count }) => {
  const run = () => {
    const socket = new WebSocket(url);
    socket.binaryType = "arraybuffer";
    const came = [];
    const next = (data) => {
      if (data !== undefined) came.push(typeof data === "string" ? data : [...new Uint8Array(data)]);
      const message = messages[came.length];
      if (message === undefined) socket.close(4000, "that is all");
      else socket.send(typeof message === "string" ? message : new Uint8Array(message));
    };
    return new Promise((resolve) => {
      socket.onopen = () => next();
      socket.onmessage = (event) => next(event.data);
      socket.onclose = ({ code, reason, wasClean }) =>
        resolve({ came, code, reason, wasClean, extensions: socket.extensions });
    });
  };
  return await Promise.all(Array.from({ length: count }, run));
}
