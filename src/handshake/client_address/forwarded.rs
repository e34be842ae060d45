//! The addresses that proxies write into headers. Pure.

use std::{
    borrow::Cow,
    net::{IpAddr, SocketAddr},
};

/// Returns the addresses of one `X-Forwarded-For` header, the last proxy's first. An entry that is no address is
/// `None`.
pub(super) fn x_forwarded_for(value: &str) -> Vec<Option<IpAddr>> {
    value.rsplit(',').map(|entry| address(entry.trim())).collect()
}

/// Returns the addresses of one `Forwarded` header ([RFC 7239](https://www.rfc-editor.org/rfc/rfc7239)), the last
/// proxy's first. An element without an address (`for=unknown`, `for=_hidden`, no `for` at all) is `None`.
///
/// A quotation that is not closed makes all elements doubtful: then there is a single `None`.
pub(super) fn forwarded(value: &str) -> Vec<Option<IpAddr>> {
    match split(value, ',') {
        Some(elements) => elements.into_iter().rev().map(element).collect(),
        None => vec![None],
    }
}

fn element(element: &str) -> Option<IpAddr> {
    let pairs = split(element, ';')?.into_iter().filter_map(|pair| pair.split_once('='));
    let mut nodes = pairs.filter(|(name, _)| name.trim().eq_ignore_ascii_case("for")).map(|(_, node)| node.trim());
    // A second one is not allowed, and nothing says which of them counts.
    let (node, None) = (nodes.next()?, nodes.next()) else { return None };
    match node.strip_prefix('"') {
        Some(quoted) => address(&unescape(quoted.strip_suffix('"')?)),
        None => address(node),
    }
}

/// Splits at a separator outside of quoted strings. Returns `None` if a quotation is not closed.
fn split(value: &str, separator: char) -> Option<Vec<&str>> {
    let (mut parts, mut start) = (Vec::new(), 0);
    let (mut is_quoted, mut is_escaped) = (false, false);
    for (at, char) in value.char_indices() {
        match char {
            _ if is_escaped => is_escaped = false,
            '\\' if is_quoted => is_escaped = true,
            '"' => is_quoted = !is_quoted,
            _ if char == separator && !is_quoted => {
                parts.push(&value[start..at]);
                start = at + char.len_utf8();
            }
            _ => {}
        }
    }
    parts.push(&value[start..]);
    (!is_quoted).then_some(parts)
}

fn unescape(quoted: &str) -> Cow<'_, str> {
    match quoted.contains('\\') {
        true => quoted.replace('\\', "").into(),
        false => quoted.into(),
    }
}

/// Reads `192.0.2.1`, `192.0.2.1:80`, `2001:db8::1`, `[2001:db8::1]` and `[2001:db8::1]:80`.
fn address(node: &str) -> Option<IpAddr> {
    let bare = node.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let address = bare.unwrap_or(node).parse().ok();
    address
        .or_else(|| node.parse::<SocketAddr>().ok().map(|address| address.ip()))
        .map(|address| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ip(address: &str) -> Option<IpAddr> {
        Some(address.parse().unwrap())
    }

    #[test]
    fn an_x_forwarded_for_is_read_from_its_end_with_and_without_ports() {
        let list = "2001:db8::1, [2001:db8::2]:80 ,[2001:db8::3],192.0.2.1:4711,unknown,, ::ffff:192.0.2.2";
        let read = x_forwarded_for(list);
        let v6 = ["2001:db8::3", "2001:db8::2", "2001:db8::1"].map(ip);
        assert_eq!(read[..4], [ip("192.0.2.2"), None, None, ip("192.0.2.1")]);
        assert_eq!(read[4..], v6);
    }

    #[test]
    fn the_examples_of_rfc_7239_are_read() {
        for (header, addresses) in [
            ("for=\"_gazonk\"", vec![None]),
            ("For=\"[2001:db8:cafe::17]:4711\"", vec![ip("2001:db8:cafe::17")]),
            ("for=192.0.2.60;proto=http;by=203.0.113.43", vec![ip("192.0.2.60")]),
            ("for=192.0.2.43, for=198.51.100.17", vec![ip("198.51.100.17"), ip("192.0.2.43")]),
            (
                "for=192.0.2.43,for=\"[2001:db8:cafe::17]\",for=unknown",
                vec![None, ip("2001:db8:cafe::17"), ip("192.0.2.43")],
            ),
        ] {
            assert_eq!(forwarded(header), addresses, "{header}");
        }
    }

    #[test]
    fn separators_in_quotes_separate_nothing() {
        // A client writes whatever it wants into its own header; the proxy appends its element.
        assert_eq!(forwarded(r#"for="x, for=192.0.2.9";by=y, for=198.51.100.1"#), [ip("198.51.100.1"), None]);
        assert_eq!(forwarded(r#"for="192.0.\2.9""#), [ip("192.0.2.9")]);
        assert_eq!(forwarded(r#"for="open, for=198.51.100.1"#), [None]);
        assert_eq!(forwarded("for=192.0.2.1;for=192.0.2.2"), [None]);
    }

    proptest! {
        #[test]
        fn any_header_is_read_without_a_panic(value in ".{0,60}", list in "[for=\",;\\\\0-9.: \\[\\]]{0,60}") {
            for value in [value, list] {
                let _ = (forwarded(&value), x_forwarded_for(&value));
            }
        }
    }
}
