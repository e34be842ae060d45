use std::{fmt, str::FromStr};

use crate::Error;

/// The SHA-256 of a certificate in DER. With it, a client can trust a certificate that no authority has signed.
///
/// It is displayed as 64 hexadecimal digits, and with `{:#}` as the list of bytes that a browser takes. It parses from
/// both forms, and from the form with colons that `openssl x509 -fingerprint -sha256` prints.
///
/// A browser accepts such a certificate on two conditions ([W3C WebTransport, section 9.4][w3c]): it is valid for at
/// most 14 days, and its key is not RSA (P-256 works everywhere). A page uses it as follows:
///
/// ```js
/// const session = new WebTransport("https://127.0.0.1:4433/", {
///   // The bytes as `{:#}` prints them.
///   serverCertificateHashes: [{ algorithm: "sha-256", value: new Uint8Array([186, 120, /* ... */]) }],
/// });
/// ```
///
/// [w3c]: https://www.w3.org/TR/webtransport/#verifying-a-certificate-hash
///
/// ```
/// use tower_transport::transport::webtransport::CertificateHash;
///
/// let hash = CertificateHash::of_der(b"abc");
/// let hex = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
/// assert_eq!(hash.to_string(), hex);
/// assert_eq!(hex.parse::<CertificateHash>()?, hash);
///
/// let list = format!("{hash:#}");
/// assert!(list.starts_with("[186, 120, 22, 191, "));
/// assert_eq!(list.parse::<CertificateHash>()?, hash);
/// # Ok::<(), tower_transport::Error>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CertificateHash([u8; 32]);

impl CertificateHash {
    /// Returns the hash of a certificate in DER. In a page, which has no certificates, it does not exist.
    #[cfg(not(target_arch = "wasm32"))]
    #[must_use]
    pub fn of_der(certificate: &[u8]) -> Self {
        let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
        let certificate = rustls::pki_types::CertificateDer::from(certificate);
        let digest = web_transport_quinn::crypto::sha256(&provider, &certificate);
        let mut bytes = [0; 32];
        bytes.iter_mut().zip(digest.as_ref()).for_each(|(byte, from)| *byte = *from);
        Self(bytes)
    }

    /// Returns the 32 bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl From<[u8; 32]> for CertificateHash {
    fn from(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

impl fmt::Display for CertificateHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if f.alternate() {
            // On one line, whatever the flags: `{:#?}` of a list would take 34.
            return write!(f, "{:?}", self.0);
        }
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for CertificateHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CertificateHash({self})")
    }
}

impl FromStr for CertificateHash {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let text = text.trim();
        let bytes = match text.strip_prefix('[').and_then(|list| list.strip_suffix(']')) {
            Some(list) => parse_list(list),
            None => parse_hex(text),
        };
        bytes.map(Self).ok_or_else(|| {
            Error::config(
                "not the SHA-256 of a certificate: expected 64 hexadecimal digits (with colons or without), or a list \
                 of 32 bytes in brackets",
            )
        })
    }
}

fn parse_list(list: &str) -> Option<[u8; 32]> {
    // A trailing comma is allowed, as in JavaScript.
    let list = list.trim_end();
    let list = list.strip_suffix(',').unwrap_or(list);
    collect(list.split(',').map(|number| number.trim().parse().ok()))
}

fn parse_hex(text: &str) -> Option<[u8; 32]> {
    if text.contains(':') {
        return collect(text.split(':').map(parse_byte));
    }
    // Split by bytes, because splitting within a character would be invalid.
    collect(text.as_bytes().chunks(2).map(|pair| parse_byte(std::str::from_utf8(pair).ok()?)))
}

fn parse_byte(pair: &str) -> Option<u8> {
    // `from_str_radix` would also accept a sign.
    let is_pair = pair.len() == 2 && pair.bytes().all(|digit| digit.is_ascii_hexdigit());
    is_pair.then(|| u8::from_str_radix(pair, 16).ok()).flatten()
}

fn collect(bytes: impl Iterator<Item = Option<u8>>) -> Option<[u8; 32]> {
    // One more byte than fits shows that it is too long, and no more are kept.
    let bytes = bytes.take(33).collect::<Option<Vec<_>>>()?;
    bytes.try_into().ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_printed_form_parses_to_the_same_hash(bytes: [u8; 32]) {
            let hash = CertificateHash::from(bytes);
            let colons = bytes.map(|byte| format!("{byte:02X}")).join(":");
            for form in [hash.to_string(), format!("{hash:#}"), colons, format!("  {hash}\n")] {
                prop_assert_eq!(form.parse::<CertificateHash>().unwrap(), hash, "{}", form);
            }
        }

        #[test]
        fn no_text_makes_it_panic(text: String) {
            let _ = text.parse::<CertificateHash>();
        }
    }

    #[test]
    fn what_is_not_a_hash_is_a_config_error() {
        let digits = "ab".repeat(32);
        let not_hex = format!("{}é", &digits[..62]);
        let signed = format!("{}+1", &digits[..62]);
        for text in [
            "",
            "[]",
            "[1, 2]",
            "[256]",
            &digits[..63],
            &format!("{digits}a"),
            &format!("{digits}ab"),
            &not_hex,
            &signed,
            "ab:cd",
        ] {
            let error = text.parse::<CertificateHash>().unwrap_err();
            assert!(error.is_config(), "{text}");
        }
    }

    #[test]
    fn the_digest_is_that_of_sha_256() {
        // FIPS 180-4's example of an empty message.
        let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(CertificateHash::of_der(b"").to_string(), empty);
    }
}
