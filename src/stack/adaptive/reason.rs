use std::fmt;

/// Why a transport was not made, or is no more: the class of its error, as the policy sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Reason {
    /// Nothing comes back over UDP, or nobody listens there.
    UdpBlocked,
    /// The server or a proxy on the way answered otherwise than this transport's server does: the upgrade was refused or stripped,
    /// the path is not there, the answer is not the protocol's.
    UpgradeRefused,
    /// The TLS handshake failed.
    Tls,
    /// The host's name did not resolve.
    Dns,
    /// Whoever connects is not who it must be, or may not: 401, 403, 407.
    Auth,
    /// The URL or a setting cannot work.
    Config,
    /// Nobody listens at the server's TCP port.
    ServerDown,
    /// The server does not want more for now: 429, or 503 with `Retry-After`.
    Busy,
    /// No answer came in time.
    Timeout,
    /// The connection was cut while it was made.
    Cut,
    /// The path went dead in the middle of a session: nothing came in, neither data nor the answer to a heartbeat.
    PathDead,
    /// None of these.
    Other,
}

impl Reason {
    /// In one word, for a metric's label or a log.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::UdpBlocked => "udp_blocked",
            Self::UpgradeRefused => "upgrade_refused",
            Self::Tls => "tls",
            Self::Dns => "dns",
            Self::Auth => "auth",
            Self::Config => "config",
            Self::ServerDown => "server_down",
            Self::Busy => "busy",
            Self::Timeout => "timeout",
            Self::Cut => "cut",
            Self::PathDead => "path_dead",
            Self::Other => "other",
        }
    }
}

/// Its [`word`](Reason::word), with spaces.
impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.word().replace('_', " "))
    }
}
