/// How far QUIC has come with what a stream gave it to send. QUIC takes at once what the peer allows
/// ([`SessionLimits::stream_window`](super::super::SessionLimits::stream_window), 1 MiB by default), which is half a minute of a slow
/// line: without this it would pass for silence. Pure.
///
/// QUIC counts by connection, so this is an estimate: where other streams of the session send at the same time, it ends too early.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// The bytes that QUIC may still have to send.
    left: u64,
    /// The STREAM frames that it had sent at the last look, and the bytes of all its packets.
    frames: u64,
    bytes: u64,
}

impl Progress {
    /// QUIC took so many bytes.
    pub(super) fn given(&mut self, bytes: usize) {
        self.left = self.left.saturating_add(bytes as u64);
    }

    /// Whether QUIC may have something of this stream to send, so that a look is worth its cost.
    pub(super) fn is_under_way(&self) -> bool {
        self.left > 0
    }

    /// Takes the connection's counts of the moment, and returns how many bytes went out since the last look. Without a STREAM frame
    /// among them (acknowledgements, keep-alives) it is none: those go out for a peer that reads nothing, too.
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
