use std::{
    fmt,
    future::{Ready, ready},
    marker::PhantomData,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, SystemTime},
};

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use jsonwebtoken::{
    Algorithm,
    crypto::rust_crypto,
    dangerous::insecure_decode_claims,
    errors::{Error as JwtError, ErrorKind},
};
use serde::{
    Deserialize, Deserializer,
    de::{DeserializeOwned, Error as _, IgnoredAny},
};
use tower_service::Service;

use super::JwtKey;
use crate::{
    Error,
    layer::auth::{Credentials, MAX_TOKEN, Principal},
};

/// The claims of a JWT: the registered claims (RFC 7519, section 4.1), and your own in `X`, which is any `Deserialize`
/// struct of the other claims.
///
/// ```
/// use tower_transport::layer::auth::Claims;
///
/// #[derive(Clone, Debug, serde::Deserialize)]
/// struct Extra { role: String }
///
/// let claims: Claims<Extra> = serde_json::from_str(r#"{"sub":"ada","aud":"feed","exp":4102444800,"role":"admin"}"#)?;
/// assert_eq!(claims.subject.as_deref(), Some("ada"));
/// assert_eq!(claims.extra.role, "admin");
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct Claims<X = ()> {
    /// `sub`: the subject.
    #[serde(rename = "sub", default)]
    pub subject: Option<String>,
    /// `iss`: the issuer.
    #[serde(rename = "iss", default)]
    pub issuer: Option<String>,
    /// `aud`: the audience, one string or several.
    #[serde(rename = "aud", default, deserialize_with = "one_or_many")]
    pub audience: Vec<String>,
    /// `exp`: the expiry, in seconds since 1970.
    #[serde(rename = "exp", default, deserialize_with = "seconds")]
    pub expires: Option<u64>,
    /// `nbf`: the start of validity, in seconds since 1970.
    #[serde(rename = "nbf", default, deserialize_with = "seconds")]
    pub not_before: Option<u64>,
    /// `iat`: the time of issue, in seconds since 1970.
    #[serde(rename = "iat", default, deserialize_with = "seconds")]
    pub issued: Option<u64>,
    /// `jti`: the id of the token.
    #[serde(rename = "jti", default)]
    pub id: Option<String>,
    /// The other claims.
    #[serde(flatten)]
    pub extra: X,
}

impl<X> Principal for Claims<X> {
    fn subject(&self) -> Option<&str> {
        self.subject.as_deref()
    }

    fn expires_at(&self) -> Option<SystemTime> {
        SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(self.expires?))
    }
}

/// Reads a NumericDate: seconds since 1970; a fraction is truncated.
fn seconds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    struct Visitor;

    impl serde::de::Visitor<'_> for Visitor {
        type Value = Option<u64>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a number of seconds since 1970")
        }

        fn visit_u64<E: serde::de::Error>(self, seconds: u64) -> Result<Option<u64>, E> {
            Ok(Some(seconds))
        }

        fn visit_f64<E: serde::de::Error>(self, seconds: f64) -> Result<Option<u64>, E> {
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is in the range")]
            match (0.0..1e15).contains(&seconds) {
                true => Ok(Some(seconds as u64)),
                false => Err(E::custom("not a time")),
            }
        }
    }

    deserializer.deserialize_any(Visitor)
}

fn one_or_many<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Audience {
        One(String),
        Many(Vec<String>),
    }

    match Audience::deserialize(deserializer) {
        Ok(Audience::One(one)) => Ok(vec![one]),
        Ok(Audience::Many(many)) => Ok(many),
        Err(_) => Err(D::Error::custom("not an audience")),
    }
}

/// The requirements on the claims of a JWT.
///
/// | claim | default |
/// |---|---|
/// | `exp` | required, and must be in the future |
/// | `nbf` | must not be in the future, if present |
/// | `aud` | a token with one is refused until [`audience`] names this service; then it is required |
/// | `iss` | any issuer, until [`issuer`](Self::issuer) names one; after that the claim is required |
///
/// Clocks may differ by 30 s ([`leeway`](Self::leeway)).
///
/// [`audience`]: Self::audience
#[derive(Clone, Debug)]
pub struct JwtRules {
    audiences: Vec<String>,
    issuers: Vec<String>,
    leeway: Duration,
    needs_expiry: bool,
    clock: fn() -> SystemTime,
}

impl JwtRules {
    /// Creates the default rules.
    #[must_use]
    pub fn new() -> Self {
        Self {
            audiences: Vec::new(),
            issuers: Vec::new(),
            leeway: Duration::from_secs(30),
            needs_expiry: true,
            clock: SystemTime::now,
        }
    }

    /// Accepts tokens for `audience` (RFC 7519, section 4.1.3), in addition to those named before.
    #[must_use]
    pub fn audience(mut self, audience: impl Into<String>) -> Self {
        self.audiences.push(audience.into());
        self
    }

    /// Accepts tokens of `issuer` (RFC 7519, section 4.1.1), in addition to those named before.
    #[must_use]
    pub fn issuer(mut self, issuer: impl Into<String>) -> Self {
        self.issuers.push(issuer.into());
        self
    }

    /// Sets by how much clocks may differ, in whole seconds. Defaults to 30 s.
    #[must_use]
    pub fn leeway(mut self, time: Duration) -> Self {
        self.leeway = time;
        self
    }

    /// Also accepts tokens without `exp`. Such a token is valid forever, also in the hands of a thief.
    #[must_use]
    pub fn without_expiry(mut self) -> Self {
        self.needs_expiry = false;
        self
    }

    /// Reads the time from another clock, for tests.
    #[must_use]
    pub fn clock(mut self, clock: fn() -> SystemTime) -> Self {
        self.clock = clock;
        self
    }

    /// Checks the issuer and the audience of a token whose signature is valid.
    pub(super) fn check_parties(
        &self,
        issuer: Option<&str>,
        has_audience: bool,
        audience: &[String],
    ) -> Result<(), &'static str> {
        const MISSING: &str = "the token lacks a required claim";

        if !self.issuers.is_empty() {
            let issuer = issuer.ok_or(MISSING)?;
            if !self.issuers.iter().any(|known| known == issuer) {
                return Err("the token is from another issuer");
            }
        }
        match (has_audience, self.audiences.is_empty()) {
            (false, true) => Ok(()),
            (false, false) => Err(MISSING),
            // RFC 7519, section 4.1.3: a token with an audience is only for that audience, whether this service has a
            // name or not.
            (true, _) if audience.iter().any(|named| self.audiences.contains(named)) => Ok(()),
            (true, _) => Err("the token is for another audience"),
        }
    }

    /// Checks the times of a token whose signature is valid.
    pub(super) fn check_times(&self, expires: Option<u64>, not_before: Option<u64>) -> Result<(), &'static str> {
        let now = (self.clock)().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        let leeway = self.leeway.as_secs();
        match expires {
            None if self.needs_expiry => return Err("the token has no expiry"),
            Some(expires) if now >= expires.saturating_add(leeway) => return Err("the token has expired"),
            _ => {}
        }
        match not_before {
            Some(start) if start > now.saturating_add(leeway) => Err("the token is not valid yet"),
            _ => Ok(()),
        }
    }
}

impl Default for JwtRules {
    fn default() -> Self {
        Self::new()
    }
}

/// Verifies JWTs with given keys: a `Service<`[`Credentials`]`, Response = `[`Claims`]`<X>>` that answers at once.
///
/// The algorithm is the key's, never the token's: `alg: none` is refused, and so is a token "signed" by HS256 with an
/// RSA public key. A header that requires extensions (`crit`) and a token over 8 KiB are refused.
///
/// ```
/// use tower_transport::layer::auth::{JwtKey, JwtRules, JwtVerifier};
///
/// # fn main() -> Result<(), tower_transport::Error> {
/// let key = JwtKey::hs256(b"32 bytes that only the two of us know")?;
/// let verifier: JwtVerifier = JwtVerifier::new(key, JwtRules::new().audience("feed"));
/// # Ok(()) }
/// ```
pub struct JwtVerifier<X = ()> {
    shared: Arc<(Vec<JwtKey>, JwtRules)>,
    extra: PhantomData<fn() -> X>,
}

impl<X> JwtVerifier<X> {
    /// Creates a verifier with one key.
    #[must_use]
    pub fn new(key: JwtKey, rules: JwtRules) -> Self {
        Self::with_keys(vec![key], rules)
    }

    /// Creates a verifier with several keys. A token is verified with the key that has the id that it names (`kid`). If
    /// it names none, it is verified with the only key that has its algorithm.
    #[must_use]
    pub fn with_keys(keys: Vec<JwtKey>, rules: JwtRules) -> Self {
        Self { shared: Arc::new((keys, rules)), extra: PhantomData }
    }
}

impl<X: DeserializeOwned> JwtVerifier<X> {
    /// Verifies a token and returns its claims. It blocks for the duration of the cryptography: about 100 µs at most.
    ///
    /// # Errors
    ///
    /// Returns an error for which [`is_auth`](Error::is_auth) is true if the token is refused. Its message states the
    /// reason, and reveals nothing of the token.
    pub fn verify(&self, credentials: &Credentials) -> Result<Claims<X>, Error> {
        let (keys, rules) = &*self.shared;
        token(credentials).and_then(|token| decode(token, keys, rules)).map_err(Problem::into_error)
    }
}

impl<X: DeserializeOwned> Service<Credentials> for JwtVerifier<X> {
    type Response = Claims<X>;
    type Error = Error;
    type Future = Ready<Result<Claims<X>, Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, credentials: Credentials) -> Self::Future {
        ready(self.verify(&credentials))
    }
}

impl<X> Clone for JwtVerifier<X> {
    fn clone(&self) -> Self {
        Self { shared: self.shared.clone(), extra: PhantomData }
    }
}

impl<X> fmt::Debug for JwtVerifier<X> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (keys, rules) = &*self.shared;
        f.debug_struct("JwtVerifier").field("keys", keys).field("rules", rules).finish_non_exhaustive()
    }
}

// Nothing of a token ends up in an error, because a parser's message may quote it.

/// The reason why a token yields no claims.
#[derive(Debug)]
pub(super) enum Problem {
    /// No key has the id that the token names.
    UnknownKey,
    Refused(&'static str),
}

impl Problem {
    // Not `From`: an implementation for a private type shows in the compiler's messages to users.
    pub(super) fn into_error(self) -> Error {
        Error::auth(match self {
            Self::UnknownKey => "the token is signed with an unknown key",
            Self::Refused(reason) => reason,
        })
    }
}

/// Returns the token of the credentials, if they are a token of acceptable length.
pub(super) fn token(credentials: &Credentials) -> Result<&str, Problem> {
    let token = credentials.bearer().ok_or(Problem::Refused("a token is required, not a password"))?;
    match token.expose() {
        token if token.len() > MAX_TOKEN => Err(Problem::Refused("the token is too long")),
        token => Ok(token),
    }
}

pub(super) fn decode<X: DeserializeOwned>(
    token: &str,
    keys: &[JwtKey],
    rules: &JwtRules,
) -> Result<Claims<X>, Problem> {
    let header = jsonwebtoken::decode_header(token).map_err(reason)?;
    // RFC 7515, section 4.1.11: a recipient that does not understand every critical extension must refuse the token.
    if header.crit.is_some() {
        return Err(Problem::Refused("the token requires an extension that is not supported"));
    }
    // The key decides which algorithm is used, and the header only chooses among the keys: a token cannot have its
    // signature checked by an algorithm of its own choice.
    let key = choose(keys, header.kid.as_deref(), header.alg)?;
    verify(token, key)?;
    // "Insecure" unless the signature was verified, and it was.
    let claims: Claims<X> = insecure_decode_claims(token).map_err(reason)?;
    let has_audience = !claims.audience.is_empty() || names_audience(token)?;
    rules.check_parties(claims.issuer.as_deref(), has_audience, &claims.audience).map_err(Problem::Refused)?;
    rules.check_times(claims.expires, claims.not_before).map_err(Problem::Refused)?;
    Ok(claims)
}

/// Verifies the signature (RFC 7515, section 5.2). It does not use `jsonwebtoken::decode`, which takes its cryptography
/// from a process-wide default. That default would have to be installed for the whole application, and `jsonwebtoken`
/// panics if its features leave the choice open.
fn verify(token: &str, key: &JwtKey) -> Result<(), Problem> {
    const WRONG: Problem = Problem::Refused("the token's signature is invalid");

    let (message, signature) = token.rsplit_once('.').ok_or(UNREADABLE)?;
    let signature = BASE64_URL_SAFE_NO_PAD.decode(signature).map_err(|_| UNREADABLE)?;
    let verifier = (rust_crypto::DEFAULT_PROVIDER.verifier_factory)(&key.algorithm, &key.key).map_err(reason)?;
    verifier.verify(message.as_bytes(), &signature).map_err(|_| WRONG)
}

/// Returns whether a token names an audience, even an empty list.
fn names_audience(token: &str) -> Result<bool, Problem> {
    #[derive(Deserialize)]
    struct Named {
        aud: Option<IgnoredAny>,
    }

    insecure_decode_claims::<Named>(token).map(|named| named.aud.is_some()).map_err(reason)
}

/// Returns the key to verify a token with. The key's algorithm decides; the token's must be the same.
fn choose<'a>(keys: &'a [JwtKey], id: Option<&str>, algorithm: Algorithm) -> Result<&'a JwtKey, Problem> {
    let of_algorithm = |key: &&JwtKey| key.algorithm == algorithm;
    let key = match id {
        Some(id) => {
            let mut named = keys.iter().filter(|key| key.id.as_deref() == Some(id)).peekable();
            match named.peek() {
                Some(_) => named.find(of_algorithm),
                // A key without an id accepts tokens that name one.
                None => {
                    let mut unnamed = keys.iter().filter(|key| key.id.is_none()).peekable();
                    unnamed.peek().ok_or(Problem::UnknownKey)?;
                    unnamed.find(of_algorithm)
                }
            }
        }
        None if keys.is_empty() => return Err(Problem::UnknownKey),
        None => {
            let mut fitting = keys.iter().filter(of_algorithm);
            let first = fitting.next();
            match fitting.next() {
                Some(_) => return Err(Problem::Refused("the token does not name the key that it is signed with")),
                None => first,
            }
        }
    };
    key.ok_or(Problem::Refused("the token's algorithm is not the key's"))
}

const UNREADABLE: Problem = Problem::Refused("the token cannot be decoded");

fn reason(error: JwtError) -> Problem {
    match error.kind() {
        ErrorKind::InvalidAlgorithm | ErrorKind::InvalidAlgorithmName => {
            Problem::Refused("the token's algorithm is not the key's")
        }
        _ => UNREADABLE,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layer::auth::JwtVerifier;

    #[test]
    fn verifying_a_token_leaves_the_default_provider_of_the_process_to_the_application() {
        // Signed elsewhere: jsonwebtoken's own `encode` would choose the default.
        const TOKEN: &str =
            "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiJhZGEifQ.lBKrxi1_3QMdNkGC_Iwnoa4S1faV7F3h4lezwRc1nQs";

        let key = JwtKey::hs256(b"a secret of more than 32 bytes, for tests only").unwrap();
        let verifier: JwtVerifier = JwtVerifier::new(key, JwtRules::new().without_expiry());
        let claims = verifier.verify(&Credentials::Bearer(TOKEN.into())).unwrap();
        assert_eq!(claims.subject.as_deref(), Some("ada"));
        let changed = TOKEN.replace("lBKr", "lBKs");
        assert!(verifier.verify(&Credentials::Bearer(changed.as_str().into())).unwrap_err().is_auth());
        assert!(rust_crypto::DEFAULT_PROVIDER.install_default().is_ok(), "it was taken");
    }

    #[test]
    fn numbers_and_audiences_come_in_two_forms_and_no_other() {
        let claims: Claims = serde_json::from_str(r#"{"exp":12.9,"aud":["a","b"],"other":1}"#).unwrap();
        assert_eq!((claims.expires, claims.audience.len()), (Some(12), 2));
        for bad in [r#"{"exp":"12"}"#, r#"{"exp":-1}"#, r#"{"exp":1e300}"#, r#"{"aud":7}"#, r#"{"iss":["a"]}"#] {
            assert!(serde_json::from_str::<Claims>(bad).is_err(), "{bad}");
        }
    }
}
