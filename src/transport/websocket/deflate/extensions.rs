//! The grammar of `Sec-WebSocket-Extensions` (RFC 6455, section 9.1).

use std::borrow::Cow;

use http::{HeaderMap, header::SEC_WEBSOCKET_EXTENSIONS};

/// A header that does not conform to the grammar of RFC 6455, section 9.1. Both ends must fail the connection then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Malformed;

/// One element of `Sec-WebSocket-Extensions`.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Extension<'a> {
    pub(super) name: &'a str,
    pub(super) parameters: Vec<(&'a str, Option<Cow<'a, str>>)>,
}

impl<'a> Extension<'a> {
    /// Parses all lines of the header, in order.
    pub(super) fn parse_all(headers: &'a HeaderMap) -> Result<Vec<Self>, Malformed> {
        let mut extensions = Vec::new();
        for value in headers.get_all(SEC_WEBSOCKET_EXTENSIONS) {
            parse_line(value.to_str().map_err(|_| Malformed)?, &mut extensions)?;
        }
        Ok(extensions)
    }
}

fn parse_line<'a>(line: &'a str, extensions: &mut Vec<Extension<'a>>) -> Result<(), Malformed> {
    let mut input = Input(line);
    loop {
        // A list may have empty elements (RFC 9110, section 5.6.1.2).
        while input.skip(',') {}
        if input.is_empty() {
            return Ok(());
        }
        let mut extension = Extension { name: input.token()?, parameters: Vec::new() };
        while input.skip(';') {
            let name = input.token()?;
            let value = if input.skip('=') { Some(input.value()?) } else { None };
            extension.parameters.push((name, value));
        }
        extensions.push(extension);
        if !input.is_empty() && !input.skip(',') {
            return Err(Malformed);
        }
    }
}

/// The rest of a header value. Optional whitespace in front of what is read is skipped.
struct Input<'a>(&'a str);

impl<'a> Input<'a> {
    fn skip_space(&mut self) {
        self.0 = self.0.trim_start_matches([' ', '\t']);
    }

    fn is_empty(&mut self) -> bool {
        self.skip_space();
        self.0.is_empty()
    }

    fn skip(&mut self, separator: char) -> bool {
        self.skip_space();
        let rest = self.0.strip_prefix(separator);
        self.0 = rest.unwrap_or(self.0);
        rest.is_some()
    }

    fn token(&mut self) -> Result<&'a str, Malformed> {
        self.skip_space();
        let length = self.0.find(|c| !is_token(c)).unwrap_or(self.0.len());
        let (token, rest) = self.0.split_at(length);
        self.0 = rest;
        if token.is_empty() { Err(Malformed) } else { Ok(token) }
    }

    /// Reads a token, or a quoted string whose content is a token.
    fn value(&mut self) -> Result<Cow<'a, str>, Malformed> {
        if !self.skip('"') {
            return self.token().map(Cow::Borrowed);
        }
        let mut value = String::new();
        let mut rest = self.0.chars();
        loop {
            match rest.next().ok_or(Malformed)? {
                '"' => break,
                '\\' => value.push(rest.next().ok_or(Malformed)?),
                c => value.push(c),
            }
        }
        self.0 = rest.as_str();
        if value.is_empty() || !value.chars().all(is_token) { Err(Malformed) } else { Ok(Cow::Owned(value)) }
    }
}

/// Returns whether this is a character of a token (RFC 9110, section 5.6.2).
fn is_token(c: char) -> bool {
    c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c)
}
