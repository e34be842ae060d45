use std::{fmt, time::Duration};

use super::Text;

/// The reason why a connection was closed: a number, as [RFC 6455, section
/// 7.4](https://www.rfc-editor.org/rfc/rfc6455#section-7.4) and its
/// [registry](https://www.iana.org/assignments/websocket/websocket.xhtml#close-code-number) define it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CloseCode(u16);

impl CloseCode {
    /// 1000: the connection has fulfilled its purpose.
    pub const NORMAL: Self = Self(1000);
    /// 1001: the server is going down, or the user left the page.
    pub const AWAY: Self = Self(1001);
    /// 1002: the peer violated the protocol.
    pub const PROTOCOL: Self = Self(1002);
    /// 1003: a kind of data that this end does not accept (for example, binary where only text is understood).
    pub const UNSUPPORTED: Self = Self(1003);
    /// 1007: a payload that does not match its kind (for example, text that is not UTF-8).
    pub const INVALID_PAYLOAD: Self = Self(1007);
    /// 1008: a message that violates a policy (a rate limit, a permission).
    pub const POLICY: Self = Self(1008);
    /// 1009: a message larger than this end accepts.
    pub const TOO_BIG: Self = Self(1009);
    /// 1011: the server encountered an unexpected condition.
    pub const INTERNAL: Self = Self(1011);
    /// 1012: the server is restarting; reconnect after a random delay.
    pub const RESTART: Self = Self(1012);
    /// 1013: the server is overloaded, or this client is too slow; reconnect later.
    pub const TRY_AGAIN: Self = Self(1013);

    /// Creates a code that may be sent: 1000 to 4999, except those that the RFC reserves for reporting (1004, 1005,
    /// 1006, 1015). Returns `None` for any other number.
    ///
    /// Codes from 3000 are for libraries and registered uses, codes from 4000 for applications.
    #[must_use]
    pub const fn new(code: u16) -> Option<Self> {
        match code {
            1000..=1003 | 1007..=1014 | 3000..=4999 => Some(Self(code)),
            _ => None,
        }
    }

    /// Returns the number.
    #[must_use]
    pub const fn get(self) -> u16 {
        self.0
    }
}

impl From<CloseCode> for u16 {
    fn from(code: CloseCode) -> Self {
        code.0
    }
}

impl fmt::Debug for CloseCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for CloseCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// The content of a [close message](super::Message::Close): a code, and a human-readable reason.
///
/// Every close frame can be sent: [`CloseCode::new`] allows its code, and its reason fits a control frame.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CloseFrame {
    code: CloseCode,
    reason: Text,
}

impl CloseFrame {
    /// The maximum length of a reason in a WebSocket close frame, in bytes.
    pub const MAX_REASON: usize = 123;

    /// Creates a close frame. A reason longer than [`MAX_REASON`](Self::MAX_REASON) bytes is truncated after the last
    /// whole character that fits.
    pub fn new(code: CloseCode, reason: impl Into<Text>) -> Self {
        let mut reason = reason.into();
        if reason.len() > Self::MAX_REASON {
            // Copies, so that a long-lived frame does not keep a long text alive.
            let mut end = Self::MAX_REASON;
            while !reason.is_char_boundary(end) {
                end -= 1;
            }
            reason = Text::from(&reason[..end]);
        }
        Self { code, reason }
    }

    /// Adds the time after which the peer is to connect again, in whole milliseconds. The time goes to the end of the
    /// reason, which is truncated if it has no room for both. [`return_after`](Self::return_after) reads it; a peer
    /// that does not know it sees a reason. A time over 49 days is reduced to that.
    ///
    /// A [`Drain`](crate::transport) gives each connection a time of its own, so that its clients do not return at
    /// once.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tower_transport::{CloseCode, CloseFrame};
    ///
    /// let frame = CloseFrame::new(CloseCode::RESTART, "new version").with_return_after(Duration::from_millis(2500));
    /// assert_eq!(frame.reason(), "new version; return-after-ms=2500");
    /// assert_eq!(frame.return_after(), Some(Duration::from_millis(2500)));
    /// ```
    #[must_use]
    pub fn with_return_after(self, time: Duration) -> Self {
        let milliseconds = u32::try_from(time.as_millis()).unwrap_or(u32::MAX);
        let hint = format!("{RETURN_AFTER}{milliseconds}");
        let (mut reason, _) = split_hint(&self.reason);
        while !reason.is_empty() && reason.len() + SEPARATOR.len() + hint.len() > Self::MAX_REASON {
            let mut end = reason.len() - 1;
            while !reason.is_char_boundary(end) {
                end -= 1;
            }
            reason = &reason[..end];
        }
        let separator = if reason.is_empty() { "" } else { SEPARATOR };
        Self::new(self.code, format!("{reason}{separator}{hint}"))
    }

    /// Returns the time after which the sender of this frame asks the peer to connect again, if the frame has one:
    /// see [`with_return_after`](Self::with_return_after). Only a frame of code 1001, 1012 or 1013 has one.
    ///
    /// In a received frame the peer chose it. It may be up to 49 days, so bound it before you wait. The reconnect
    /// layer bounds it by `Backoff::max_retry_after`.
    #[must_use]
    pub fn return_after(&self) -> Option<Duration> {
        if !matches!(self.code, CloseCode::AWAY | CloseCode::RESTART | CloseCode::TRY_AGAIN) {
            return None;
        }
        split_hint(&self.reason).1.map(|milliseconds| Duration::from_millis(milliseconds.into()))
    }

    /// Returns the code: why the connection ends.
    #[must_use]
    pub const fn code(&self) -> CloseCode {
        self.code
    }

    /// Returns the reason: a sentence for logs, at most [`MAX_REASON`](Self::MAX_REASON) bytes, or empty. In a received
    /// frame it is the peer's text: do not trust it.
    #[must_use]
    pub fn reason(&self) -> &str {
        &self.reason
    }
}

/// The beginning of a return hint at the end of a reason, and its separator from the text before it.
const RETURN_AFTER: &str = "return-after-ms=";
const SEPARATOR: &str = "; ";

/// Splits a reason into its text and its return hint in milliseconds.
fn split_hint(reason: &str) -> (&str, Option<u32>) {
    let Some((text, digits)) = reason.rsplit_once(RETURN_AFTER) else { return (reason, None) };
    let text = match text {
        "" => Some(""),
        text => text.strip_suffix(SEPARATOR),
    };
    // `parse` alone would accept a sign.
    let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    match (text, digits.parse()) {
        (Some(text), Ok(milliseconds)) if is_number => (text, Some(milliseconds)),
        _ => (reason, None),
    }
}

impl fmt::Display for CloseFrame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The peer wrote the reason: escape control sequences that a terminal would interpret.
        write!(f, "{} \"{}\"", self.code, self.reason.escape_debug())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_that_must_never_be_sent_cannot_be_made() {
        for code in [0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, u16::MAX] {
            assert_eq!(CloseCode::new(code), None, "{code}");
        }
        for code in [1000, 1001, 1013, 3000, 4401, 4999] {
            assert_eq!(CloseCode::new(code).map(CloseCode::get), Some(code));
        }
    }

    #[test]
    fn a_long_reason_is_cut_at_a_character() {
        let frame = CloseFrame::new(CloseCode::NORMAL, "é".repeat(100));
        assert_eq!(frame.reason().len(), 122);
        assert!(frame.reason().chars().all(|c| c == 'é'));
    }

    fn restart(reason: &str) -> CloseFrame {
        CloseFrame::new(CloseCode::RESTART, reason.to_owned())
    }

    #[test]
    fn a_return_hint_follows_the_reason_and_replaces_an_earlier_one() {
        let second = Duration::from_secs(1);
        assert_eq!(restart("").with_return_after(second).reason(), "return-after-ms=1000");
        let twice = restart("new version").with_return_after(second).with_return_after(2 * second);
        assert_eq!(twice.reason(), "new version; return-after-ms=2000");
        assert_eq!(twice.return_after(), Some(2 * second));
        let long = restart(&"é".repeat(100)).with_return_after(Duration::MAX);
        assert!(long.reason().len() <= CloseFrame::MAX_REASON && long.reason().starts_with('é'));
        assert_eq!(long.return_after(), Some(Duration::from_millis(u32::MAX.into())));
    }

    #[test]
    fn text_that_only_resembles_a_return_hint_is_none() {
        for reason in [
            "",
            "new version",
            "return-after-ms=",
            "return-after-ms=+5",
            "return-after-ms=5 ",
            "return-after-ms=-1",
            "return-after-ms=4294967296",
            "xreturn-after-ms=5",
            "a;return-after-ms=5",
        ] {
            assert_eq!(restart(reason).return_after(), None, "{reason}");
        }
        let code = CloseCode::new(4000).unwrap();
        assert_eq!(CloseFrame::new(code, "return-after-ms=5").return_after(), None);
        assert_eq!(
            CloseFrame::new(CloseCode::TRY_AGAIN, "return-after-ms=5").return_after(),
            Some(Duration::from_millis(5))
        );
    }

    #[test]
    fn a_reason_cannot_steer_the_terminal_of_who_prints_it() {
        let frame = CloseFrame::new(CloseCode::NORMAL, "\u{1b}[2J");
        assert_eq!(frame.to_string(), "1000 \"\\u{1b}[2J\"");
    }
}
