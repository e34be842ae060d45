// Reads an event stream until the browser gives it up, or `most` events have come: the events, and whether it was given up.
async ({ url, types, most }) => {
  const source = new EventSource(url);
  const came = [];
  return await new Promise((resolve) => {
    const end = () => {
      const gaveUp = source.readyState === EventSource.CLOSED;
      source.close();
      resolve({ came, gaveUp });
    };
    for (const type of types) {
      source.addEventListener(type, (event) => {
        came.push([event.type, event.data, event.lastEventId]);
        if (came.length === most) end();
      });
    }
    source.onerror = () => {
      if (source.readyState === EventSource.CLOSED) end();
    };
  });
}
