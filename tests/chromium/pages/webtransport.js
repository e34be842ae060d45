// A session by the certificate's hash, and everything in it once: each of `messages` over a bidirectional stream and back, one over a
// unidirectional stream and back over another, `datagrams` and back. Then it closes with `close`, or, without one, asks the server to.
// The framing of messages is that of docs/wire.md.
async ({ url, hash, protocols, messages, datagrams, close }) => {
  const [TEXT, BINARY, CLOSE] = [0, 1, 4];
  const PREAMBLE = new Uint8Array([1]);

  const frame = (message) => {
    const payload = typeof message === "string" ? new TextEncoder().encode(message) : new Uint8Array(message);
    const n = payload.length;
    const length = n < 0x40 ? [n] : n < 0x4000 ? [0x40 | (n >> 8), n & 255] : [0x80 | (n >> 24), (n >> 16) & 255, (n >> 8) & 255, n & 255];
    return new Uint8Array([typeof message === "string" ? TEXT : BINARY, ...length, ...payload]);
  };

  const frames = (readable) => {
    const reader = readable.getReader();
    let bytes = new Uint8Array();
    const take = async (n) => {
      while (bytes.length < n) {
        const { value, done } = await reader.read();
        if (done) return undefined;
        bytes = new Uint8Array(await new Blob([bytes, value]).arrayBuffer());
      }
      const taken = bytes.slice(0, n);
      bytes = bytes.slice(n);
      return taken;
    };
    return async () => {
      const start = await take(2);
      if (!start) return null;
      const [kind, first] = start;
      let length = first & 0x3f;
      for (const byte of await take((1 << (first >> 6)) - 1)) length = length * 256 + byte;
      const payload = await take(length);
      if (kind === CLOSE) return { close: payload.length ? payload[0] * 256 + payload[1] : null, reason: new TextDecoder().decode(payload.slice(2)) };
      return kind === TEXT ? new TextDecoder().decode(payload) : [...payload];
    };
  };

  const session = new WebTransport(url, { protocols, serverCertificateHashes: [{ algorithm: "sha-256", value: new Uint8Array(hash) }] });
  const ended = session.closed.then(({ closeCode, reason }) => ({ closeCode, reason }), (error) => ({ error: String(error) }));
  try {
    await session.ready;
  } catch (error) {
    return { refused: String(error) };
  }
  const came = { protocol: session.protocol, messages: [], datagrams: [] };

  const stream = await session.createBidirectionalStream();
  const writer = stream.writable.getWriter();
  const next = frames(stream.readable);
  await writer.write(PREAMBLE);
  for (const message of messages) {
    await writer.write(frame(message));
    came.messages.push(await next());
  }
  // A close frame is answered with its code and reason; then the stream ends.
  await writer.write(new Uint8Array([CLOSE, 7, 0x0f, 0xa1, ...new TextEncoder().encode("done.")]));
  came.streamClose = await next();
  came.streamEnd = await next();

  const one = (await session.createUnidirectionalStream()).getWriter();
  await one.write(PREAMBLE);
  await one.write(frame("one way"));
  await one.close();
  const { value: back } = await session.incomingUnidirectionalStreams.getReader().read();
  const preamble = back.getReader();
  const chunks = [];
  for (let read; !(read = await preamble.read()).done; ) chunks.push(read.value);
  const whole = new Uint8Array(await new Blob(chunks).arrayBuffer());
  came.uni = await frames(new Blob([whole.slice(1)]).stream())();
  came.preamble = whole[0];

  const { readable, writable } = session.datagrams;
  const out = (session.datagrams.createWritable ? session.datagrams.createWritable() : writable).getWriter();
  const incoming = readable.getReader();
  for (const datagram of datagrams) {
    await out.write(new TextEncoder().encode(datagram));
    came.datagrams.push(new TextDecoder().decode((await incoming.read()).value));
  }

  if (close) session.close(close);
  else await out.write(new TextEncoder().encode("close, please"));
  came.end = await ended;
  // The browser ends with this function, and would take a close with it that is still on its way.
  await new Promise((resolve) => setTimeout(resolve, 500));
  return came;
}
