//! The framing of `docs/wire.md` by hand, for peers that are not of this crate.

use tokio::io::{AsyncRead, AsyncReadExt};

pub(crate) const TEXT: u8 = 0;
pub(crate) const BINARY: u8 = 1;
pub(crate) const PING: u8 = 2;
pub(crate) const PONG: u8 = 3;
pub(crate) const CLOSE: u8 = 4;

/// The beginning of a stream, from its opener.
pub(crate) const PREAMBLE: u8 = 1;

/// A message as it is on the wire.
pub(crate) fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = head(kind, payload.len() as u64);
    bytes.extend_from_slice(payload);
    bytes
}

/// The kind and the length, which need not be that of what follows.
pub(crate) fn head(kind: u8, length: u64) -> Vec<u8> {
    let mut bytes = vec![kind];
    match length {
        0..0x40 => bytes.push(length as u8),
        0x40..0x4000 => bytes.extend((0x4000 | length as u16).to_be_bytes()),
        0x4000..0x4000_0000 => bytes.extend((0x8000_0000 | length as u32).to_be_bytes()),
        _ => bytes.extend((0xc000_0000_0000_0000 | length).to_be_bytes()),
    }
    bytes
}

/// The next message: its kind and its payload. `None` at the end of the stream.
pub(crate) async fn read_frame(stream: &mut (impl AsyncRead + Unpin)) -> Option<(u8, Vec<u8>)> {
    let kind = stream.read_u8().await.ok()?;
    let first = stream.read_u8().await.unwrap();
    let mut length = u64::from(first & 0x3f);
    for _ in 1..1 << (first >> 6) {
        length = length << 8 | u64::from(stream.read_u8().await.unwrap());
    }
    let mut payload = vec![0; length as usize];
    stream.read_exact(&mut payload).await.unwrap();
    Some((kind, payload))
}
