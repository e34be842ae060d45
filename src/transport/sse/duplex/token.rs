use std::fmt;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use http::HeaderValue;

/// The identifier of a session: 128 random bits that cannot be guessed. It occurs in the first event and in one header,
/// and nowhere else.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Token([u8; 16]);

impl Token {
    pub(super) fn random() -> Self {
        Self(rand::random())
    }

    /// Returns the token as it is sent: base64url without padding, 22 characters.
    pub(super) fn text(self) -> String {
        URL_SAFE_NO_PAD.encode(self.0)
    }

    /// Parses the token in a header. Returns `None` if the value is not a token.
    pub(super) fn parse(value: &HeaderValue) -> Option<Self> {
        let mut token = [0; 16];
        // A longer value is rejected before it is decoded.
        let text = Some(value.as_bytes()).filter(|text| text.len() == 22)?;
        let length = URL_SAFE_NO_PAD.decode_slice(text, &mut token).ok()?;
        (length == token.len()).then_some(Self(token))
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_comes_out_of_a_header_as_it_went_in() {
        for _ in 0..100 {
            let token = Token::random();
            assert_eq!(Token::parse(&HeaderValue::try_from(token.text()).unwrap()), Some(token));
        }
    }

    #[test]
    fn what_is_not_128_bits_in_base64url_is_no_token() {
        let good = Token([0xff; 16]).text();
        for bad in ["", "a", &good[1..], &format!("{good}A"), &format!("{}=", &good[1..]), &good.replace('_', "/")] {
            assert_eq!(Token::parse(&HeaderValue::try_from(bad).unwrap()), None, "{bad}");
        }
        assert_eq!(Token::parse(&HeaderValue::from_bytes(&[0xff; 22]).unwrap()), None);
    }

    #[test]
    fn a_token_is_not_printed() {
        assert_eq!(format!("{:?}", Token::random()), "Token(..)");
    }
}
