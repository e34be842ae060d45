use std::time::Duration;

use super::Session;

/// How a session's QUIC connection fares, as of the call. Counts run from the connection's beginning; they are of the
/// connection, which is the session's alone.
///
/// "Packet" is QUIC's ([RFC 9000](https://www.rfc-editor.org/rfc/rfc9000)), "UDP datagram" what carries one or more of them; "datagram" alone
/// is the message that [`Datagrams`](super::Datagrams) sends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// The round trip time, smoothed (RFC 9002, section 5.3).
    pub rtt: Duration,
    /// The shortest round trip time on the present path, without the peer's delay of its acknowledgements.
    pub min_rtt: Duration,
    /// The congestion window, in bytes: how much may be on its way unacknowledged.
    pub congestion_window: u64,
    /// How often the congestion window was made smaller, since packets were lost or marked.
    pub congestion_events: u64,
    /// Packets sent.
    pub packets_sent: u64,
    /// Packets sent that count as lost (their data were sent again, but for datagrams). Probes for a larger MTU are not among them.
    pub packets_lost: u64,
    /// The size of the lost packets, in bytes.
    pub bytes_lost: u64,
    /// Bytes of UDP payload sent, everything included.
    pub bytes_sent: u64,
    /// Bytes of UDP payload received, everything included.
    pub bytes_received: u64,
    /// UDP datagrams sent.
    pub udp_datagrams_sent: u64,
    /// UDP datagrams received.
    pub udp_datagrams_received: u64,
    /// Datagrams that went out.
    pub datagrams_sent: u64,
    /// Datagrams that came in, whether read, still unread or dropped because nobody read them.
    pub datagrams_received: u64,
    /// The largest UDP payload that the path carries, in bytes, as far as it was probed.
    pub mtu: u16,
    /// How often the path stopped carrying packets of [`mtu`](Self::mtu), which then started again from the minimum.
    pub black_holes: u64,
    /// How often the peer was asked to show that it is at an address (RFC 9000, section 9): on the server the number of
    /// changes of path that were looked into, a network change of the client among them. A lost question is asked again.
    pub path_challenges_sent: u64,
}

impl Session {
    /// How the session's connection fares now. It takes the connection's lock for a moment; once a second is no burden.
    #[must_use]
    pub fn stats(&self) -> Stats {
        Stats::from(quinn::Connection::stats(self.quic()))
    }
}

impl From<quinn::ConnectionStats> for Stats {
    fn from(stats: quinn::ConnectionStats) -> Self {
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
    /// The part of the sent packets that was lost, 0 to 1; 0 before the first was sent.
    #[must_use]
    pub fn loss(&self) -> f64 {
        match self.packets_sent {
            0 => 0.0,
            sent => self.packets_lost as f64 / sent as f64,
        }
    }
}
