//! WebSocket (RFC 6455), client and server.
