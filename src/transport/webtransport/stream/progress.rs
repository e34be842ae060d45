use web_transport_quinn as wtq;

/// QUIC's progress with the bytes that a stream gave it. QUIC immediately accepts as much as the peer allows
/// ([`SessionLimits::stream_window`](super::super::SessionLimits::stream_window), 1 MiB by default), which is half a
/// minute of a slow line. Without this, that time would look like silence. Pure.
///
/// QUIC counts per connection, so this is an estimate: if other streams of the session send at the same time, it ends
/// too early.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// The bytes that QUIC may still have to send.
    left: u64,
    /// The number of STREAM frames sent at the last check, and the bytes of all packets.
    frames: u64,
    bytes: u64,
}

impl Progress {
    /// Records that QUIC accepted `bytes`.
    pub(super) fn given(&mut self, bytes: usize) {
        self.left = self.left.saturating_add(bytes as u64);
    }

    /// Returns whether QUIC may still have data of this stream to send, so that a check is worth its cost.
    pub(super) fn is_under_way(&self) -> bool {
        self.left > 0
    }

    /// Returns how many bytes the connection has sent since the last check.
    pub(super) fn sent_on(&mut self, connection: &wtq::Session) -> usize {
        let stats = quinn::Connection::stats(connection);
        self.sent(stats.frame_tx.stream, stats.udp_tx.bytes)
    }

    /// Returns how many bytes QUIC may still have to send.
    pub(super) fn left(&mut self, connection: &wtq::Session) -> u64 {
        if self.is_under_way() {
            self.sent_on(connection);
        }
        self.left
    }

    /// Takes the connection's current counts, and returns how many bytes were sent since the last check. The result is
    /// zero if there was no STREAM frame (only acknowledgements, keep-alives): those are also sent to a peer that reads
    /// nothing.
    pub(super) fn sent(&mut self, frames: u64, bytes: u64) -> usize {
        let (had_frames, had_bytes) = (self.frames, self.bytes);
        (self.frames, self.bytes) = (frames, bytes);
        if frames == had_frames {
            return 0;
        }
        let sent = bytes.saturating_sub(had_bytes);
        self.left = self.left.saturating_sub(sent);
        usize::try_from(sent).unwrap_or(usize::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_that_gave_nothing_has_nothing_under_way() {
        let mut progress = Progress::default();
        assert!(!progress.is_under_way());
        progress.given(1000);
        assert!(progress.is_under_way());
        assert_eq!(progress.sent(1, 1100), 1100);
        assert!(!progress.is_under_way());
    }

    #[test]
    fn packets_without_data_are_no_progress() {
        let mut progress = Progress::default();
        progress.given(100_000);
        assert_eq!(progress.sent(10, 12_000), 12_000);
        assert_eq!(progress.sent(10, 12_040), 0, "a keep-alive");
        assert_eq!(progress.sent(11, 13_240), 1_200);
        assert!(progress.is_under_way());
    }
}
