// Sends each of `messages` once the one before has come back, then closes: what came, and how it ended, and where it was
// asked for the extensions.
async ({ url, messages, protocols = [], withExtensions = false }) => {
  const socket = new WebSocket(url, protocols);
  socket.binaryType = "arraybuffer";
  const came = [];
  const next = (data) => {
    if (data !== undefined) came.push(typeof data === "string" ? data : [...new Uint8Array(data)]);
    const message = messages[came.length];
    if (message === undefined) socket.close(4000, "that is all");
    else socket.send(typeof message === "string" ? message : new Uint8Array(message));
  };
  return await new Promise((resolve) => {
    socket.onopen = () => next();
    socket.onmessage = (event) => next(event.data);
    socket.onclose = ({ code, reason, wasClean }) =>
      resolve({ came, code, reason, wasClean, ...(withExtensions && { extensions: socket.extensions }) });
  });
}
