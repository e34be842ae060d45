use crate::{CloseCode, CloseFrame, Error};

/// Creates the error for an end that the peer caused with a WebTransport code, which has 32 bits. A code that this
/// crate supports becomes a close frame.
pub(super) fn closed_by_peer(what: &'static str, code: u32, reason: &str) -> Error {
    let known = u16::try_from(code).ok().and_then(CloseCode::new);
    match known {
        Some(code) => Error::closed(what).with_close_frame(Some(CloseFrame::new(code, reason.to_owned()))),
        None if code == 0 && reason.is_empty() => Error::closed(what),
        // The peer wrote the reason: escape control sequences that a terminal would interpret.
        None => Error::closed(format!("{what} (code {code} \"{}\")", reason.escape_debug())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_of_ours_is_a_close_frame_and_another_is_named() {
        let error = closed_by_peer("closed", 4001, "enough");
        assert_eq!(error.close_frame(), Some(&CloseFrame::new(CloseCode::new(4001).unwrap(), "enough")));
        for (code, reason, says) in
            [(5, "", "code 5"), (1005, "", "code 1005"), (4_000_000, "x", "\"x\""), (0, "y", "\"y\"")]
        {
            let error = closed_by_peer("closed", code, reason);
            assert!(error.is_closed() && error.close_frame().is_none() && error.to_string().contains(says), "{error}");
        }
        assert_eq!(closed_by_peer("closed", 0, "").to_string(), "closed");
    }
}
