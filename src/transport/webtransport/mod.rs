//! WebTransport over HTTP/3, client and server, on native targets.
