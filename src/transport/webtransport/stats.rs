use std::time::Duration;

use super::Session;

/// The statistics of a session's QUIC connection, as of the call. Counts start at the connection's beginning. A
/// connection has one session only.
///
/// "Packet" is QUIC's ([RFC 9000](https://www.rfc-editor.org/rfc/rfc9000)), "UDP datagram" carries one or more of them,
/// and "datagram" alone is the message that [`Datagrams`](super::Datagrams) sends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// The smoothed round-trip time (RFC 9002, section 5.3).
    pub rtt: Duration,
    /// The minimum round-trip time on the present path, without the peer's delay of its acknowledgements.
    pub min_rtt: Duration,
    /// The congestion window, in bytes: the maximum amount of unacknowledged data in flight.
    pub congestion_window: u64,
    /// The number of reductions of the congestion window because packets were lost or marked.
    pub congestion_events: u64,
    /// The number of packets sent.
    pub packets_sent: u64,
    /// The number of sent packets considered lost (their data were resent, except for datagrams). Probes for a larger
    /// MTU are excluded.
    pub packets_lost: u64,
    /// The size of the lost packets, in bytes.
    pub bytes_lost: u64,
    /// The number of bytes of UDP payload sent, everything included.
    pub bytes_sent: u64,
    /// The number of bytes of UDP payload received, everything included.
    pub bytes_received: u64,
    /// The number of UDP datagrams sent.
    pub udp_datagrams_sent: u64,
    /// The number of UDP datagrams received.
    pub udp_datagrams_received: u64,
    /// The number of datagrams sent.
    pub datagrams_sent: u64,
    /// The number of datagrams received, whether read, still unread or dropped because they were not read.
    pub datagrams_received: u64,
    /// The largest UDP payload that the path carries, in bytes, as far as it was probed.
    pub mtu: u16,
    /// The number of times that the path stopped carrying packets of [`mtu`](Self::mtu), which then restarted from the
    /// minimum.
    pub black_holes: u64,
    /// The number of address validations sent to the peer (RFC 9000, section 9). On the server this is the number of
    /// path changes that were checked, including network changes of the client. A lost challenge is sent again.
    pub path_challenges_sent: u64,
}

impl Session {
    /// Returns the current statistics of the session's connection. It briefly takes the connection's lock; calling it
    /// once a second is cheap.
    #[must_use]
    pub fn stats(&self) -> Stats {
        Stats::of(quinn::Connection::stats(self.quic()))
    }
}

impl Stats {
    fn of(stats: quinn::ConnectionStats) -> Self {
        let quinn::ConnectionStats { udp_tx, udp_rx, frame_tx, frame_rx, path, .. } = stats;
        Self {
            rtt: path.rtt,
            min_rtt: path.min_rtt,
            congestion_window: path.cwnd,
            congestion_events: path.congestion_events,
            packets_sent: path.sent_packets,
            packets_lost: path.lost_packets,
            bytes_lost: path.lost_bytes,
            bytes_sent: udp_tx.bytes,
            bytes_received: udp_rx.bytes,
            udp_datagrams_sent: udp_tx.datagrams,
            udp_datagrams_received: udp_rx.datagrams,
            datagrams_sent: frame_tx.datagram,
            datagrams_received: frame_rx.datagram,
            mtu: path.current_mtu,
            black_holes: path.black_holes_detected,
            path_challenges_sent: frame_tx.path_challenge,
        }
    }
}

impl Stats {
    /// Returns the fraction of sent packets that were lost, 0 to 1; 0 before the first packet was sent.
    #[must_use]
    pub fn loss(&self) -> f64 {
        match self.packets_sent {
            0 => 0.0,
            sent => self.packets_lost as f64 / sent as f64,
        }
    }
}
