use std::fmt;

/// The class of the error for which a transport failed to connect or was lost, as the policy sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Reason {
    /// Nothing comes back over UDP, or nothing listens there.
    UdpBlocked,
    /// The server or a proxy in between did not answer as this transport's server does: the upgrade was refused or
    /// stripped, the path does not exist, or the answer is in another protocol.
    UpgradeRefused,
    /// The TLS handshake failed.
    Tls,
    /// The host name did not resolve.
    Dns,
    /// The client's credentials are missing or rejected, or it lacks permission: 401, 403, 407.
    Auth,
    /// The URL or a setting cannot work.
    Config,
    /// Nothing listens on the server's TCP port.
    ServerDown,
    /// The server accepts no more for now: 429, or 503 with `Retry-After`.
    Busy,
    /// No answer came in time.
    Timeout,
    /// The connection was cut while connecting.
    Cut,
    /// The path went dead in the middle of a session: nothing came in, neither data nor an answer to a heartbeat.
    PathDead,
    /// Any other reason.
    Other,
}

impl Reason {
    /// Returns the reason as one word for a metric label or a log.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
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

/// Formats [`as_str`](Reason::as_str) with spaces.
impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.as_str().replace('_', " "))
    }
}
