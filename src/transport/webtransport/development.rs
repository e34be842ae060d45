use std::{net::IpAddr, time::Duration};

use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256,
};
use rustls::pki_types::PrivatePkcs8KeyDer;
use time::OffsetDateTime;

use super::Certificate;
use crate::Error;

/// The names that every development certificate covers.
const LOCAL: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

/// The validity in days: a browser accepts at most 14 days by hash, and its clock may be off.
const DAYS: u64 = 13;

/// The time before its creation from which it is valid, for a peer whose clock is behind.
const EARLIER: Duration = Duration::from_secs(3600);

impl Certificate {
    /// Creates a self-signed certificate for development: an ECDSA key on P-256, valid from an hour ago and for 13 days
    /// in all. It covers `localhost`, `127.0.0.1`, `::1` and the host names and IP addresses in `names`.
    ///
    /// Clients trust it only by its [`hash`](Certificate::hash) (or if they use it as a root). Each call creates a new
    /// certificate with a new hash: keep it for the life of a server, and restart a server within 13 days. For
    /// third-party clients use a certificate of an authority, with [`from_pem`](Certificate::from_pem).
    ///
    /// # Errors
    ///
    /// Returns an error for which [`is_config`](Error::is_config) is true if a name cannot be a host name, and one for
    /// which [`is_other`](Error::is_other) is true if the operating system has no randomness.
    ///
    /// ```
    /// use tower_transport::transport::webtransport::Certificate;
    ///
    /// let certificate = Certificate::development(&["dev.example.com"])?;
    /// println!("[{{ algorithm: 'sha-256', value: new Uint8Array({:#}) }}]", certificate.hash());
    /// # Ok::<(), tower_transport::Error>(())
    /// ```
    pub fn development(names: &[&str]) -> Result<Self, Error> {
        Self::valid_from(OffsetDateTime::now_utc() - EARLIER, names)
    }

    fn valid_from(start: OffsetDateTime, names: &[&str]) -> Result<Self, Error> {
        for name in names {
            check(name)?;
        }
        let mut all = LOCAL.to_vec();
        all.extend(names.iter().filter(|name| !LOCAL.contains(name)));
        let all = all.into_iter().map(str::to_owned).collect::<Vec<_>>();

        let mut params = CertificateParams::new(all)
            .map_err(|error| Error::config("a name that no certificate can have").with_source(error))?;
        params.not_before = start;
        params.not_after = start + Duration::from_secs(DAYS * 24 * 3600);
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, "for development");
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];

        let failed = |error| Error::other("a key for a development certificate could not be made").with_source(error);
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(failed)?;
        let certificate = params.self_signed(&key).map_err(failed)?;
        Ok(Self { chain: vec![certificate.der().clone()], key: PrivatePkcs8KeyDer::from(key.serialize_der()).into() })
    }
}

/// rcgen accepts any ASCII as a host name: `https://localhost` would create a certificate that matches nothing.
fn check(name: &str) -> Result<(), Error> {
    let host = name.strip_prefix("*.").unwrap_or(name);
    let is_label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
    };
    let is_host = host.len() <= 253 && host.split('.').all(is_label);
    match is_host || name.parse::<IpAddr>().is_ok() {
        true => Ok(()),
        false => Err(Error::config(format!(
            "`{name}` is not a valid name for a certificate: use a host name (`localhost`, `*.example.com`) or an IP \
             address, without scheme, port or brackets"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;
    use rustls::{
        RootCertStore,
        client::{WebPkiServerVerifier, danger::ServerCertVerifier},
        pki_types::{ServerName, UnixTime},
    };

    use super::*;
    use crate::transport::webtransport::CertificateHash;

    /// Validates the certificate with rustls as a server's, with itself as the root, at this time after the epoch.
    fn verify(certificate: &Certificate, name: &str, at: UnixTime) -> Result<(), rustls::Error> {
        let mut roots = RootCertStore::empty();
        roots.add(certificate.chain[0].clone()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
        let name = ServerName::try_from(name.to_owned()).unwrap();
        verifier.verify_server_cert(&certificate.chain[0], &[], &name, &[], at).map(drop)
    }

    fn host() -> impl Strategy<Value = String> {
        prop_oneof![
            "[a-z][a-z0-9]{0,20}(-[a-z0-9]{1,20})?(\\.[a-z][a-z0-9]{0,10}){0,3}",
            any::<std::net::Ipv4Addr>().prop_map(|address| address.to_string()),
            any::<std::net::Ipv6Addr>().prop_map(|address| address.to_string()),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn rustls_takes_the_certificate_for_its_names_and_no_other(names in proptest::collection::vec(host(), 0..4)) {
            let names = names.iter().map(String::as_str).collect::<Vec<_>>();
            let certificate = Certificate::development(&names).unwrap();
            let now = UnixTime::now();
            for name in names.iter().chain(&LOCAL) {
                prop_assert!(verify(&certificate, name, now).is_ok(), "{}", name);
            }
            prop_assert!(verify(&certificate, "other.example.net", now).is_err());
            prop_assert_eq!(certificate.hash(), CertificateHash::of_der(&certificate.chain[0]));
        }
    }

    #[test]
    fn it_is_valid_for_13_days_and_from_before_it_was_made() {
        let made = OffsetDateTime::from_unix_timestamp(1_900_000_000).unwrap();
        let certificate = Certificate::valid_from(made, &[]).unwrap();
        let at = |second: i64| UnixTime::since_unix_epoch(Duration::from_secs((1_900_000_000 + second) as u64));
        assert!(verify(&certificate, "localhost", at(-1)).is_err());
        assert!(verify(&certificate, "localhost", at(0)).is_ok());
        assert!(verify(&certificate, "localhost", at(13 * 86_400)).is_ok());
        assert!(verify(&certificate, "localhost", at(13 * 86_400 + 1)).is_err());

        let now = OffsetDateTime::now_utc().unix_timestamp() as u64;
        let fresh = Certificate::development(&[]).unwrap();
        assert!(verify(&fresh, "127.0.0.1", UnixTime::since_unix_epoch(Duration::from_secs(now - 3000))).is_ok());
    }

    #[test]
    fn each_is_a_new_one() {
        let hashes = [(); 2].map(|()| Certificate::development(&[]).unwrap().hash());
        assert_ne!(hashes[0], hashes[1]);
    }

    #[test]
    fn what_is_no_name_is_refused_with_what_to_give() {
        for name in ["", "https://localhost", "localhost:4433", "[::1]", "two words", "ümlaut", "a..b", &"a".repeat(64)]
        {
            let error = Certificate::development(&[name]).unwrap_err();
            assert!(error.is_config(), "{name}");
            assert!(error.to_string().contains("a host name"), "{error}");
        }
    }

    #[test]
    fn debug_shows_the_hash_and_not_the_key() {
        let certificate = Certificate::development(&[]).unwrap();
        let shown = format!("{certificate:?}");
        assert_eq!(shown, format!("Certificate {{ hash: CertificateHash({}), .. }}", certificate.hash()));
    }
}
