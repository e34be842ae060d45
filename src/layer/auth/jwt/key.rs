use std::fmt;

use jsonwebtoken::{
    Algorithm, DecodingKey, DecodingKeyKind,
    crypto::rust_crypto,
    errors::Error as JwtError,
    jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyOperations, PublicKeyUse},
};

use crate::Error;

/// A key that verifies JWTs, and the one algorithm that it is for: a token that names another is refused, whatever its
/// signature.
#[derive(Clone)]
pub struct JwtKey {
    pub(super) algorithm: Algorithm,
    pub(super) key: DecodingKey,
    pub(super) id: Option<Box<str>>,
}

impl JwtKey {
    /// HS256, by a secret that both ends hold.
    ///
    /// # Errors
    ///
    /// [`is_config`](Error::is_config) for fewer than 32 bytes (RFC 7518, section 3.2), which can be guessed from one token.
    pub fn hs256(secret: &[u8]) -> Result<Self, Error> {
        if secret.len() < 32 {
            return Err(Error::config("a secret for HS256 must have at least 32 random bytes"));
        }
        Self::checked(Algorithm::HS256, DecodingKey::from_secret(secret))
    }

    /// RS256, by a public key in PEM.
    ///
    /// # Errors
    ///
    /// [`is_config`](Error::is_config) for what is no RSA public key.
    pub fn rs256_pem(pem: &[u8]) -> Result<Self, Error> {
        Self::of_pem(Algorithm::RS256, DecodingKey::from_rsa_pem(pem))
    }

    /// ES256, by a public key in PEM.
    ///
    /// # Errors
    ///
    /// [`is_config`](Error::is_config) for what is no public key on P-256.
    pub fn es256_pem(pem: &[u8]) -> Result<Self, Error> {
        Self::of_pem(Algorithm::ES256, DecodingKey::from_ec_pem(pem))
    }

    /// EdDSA (Ed25519), by a public key in PEM.
    ///
    /// # Errors
    ///
    /// [`is_config`](Error::is_config) for what is no Ed25519 public key.
    pub fn eddsa_pem(pem: &[u8]) -> Result<Self, Error> {
        Self::of_pem(Algorithm::EdDSA, DecodingKey::from_ed_pem(pem))
    }

    /// The same key with an id: tokens that name one (`kid`) are verified by the key of that id.
    #[must_use]
    pub fn with_id(mut self, id: impl Into<Box<str>>) -> Self {
        self.id = Some(id.into());
        self
    }

    fn of_pem(algorithm: Algorithm, key: Result<DecodingKey, JwtError>) -> Result<Self, Error> {
        let wrong = |error| Error::config(format!("this is no public key for {algorithm:?} in PEM")).with_source(error);
        Self::checked(algorithm, key.map_err(wrong)?)
    }

    /// A key that jsonwebtoken can work with, found out now and not with the first token.
    fn checked(algorithm: Algorithm, key: DecodingKey) -> Result<Self, Error> {
        // jsonwebtoken slices a key of Ed25519 without looking at its length.
        let is_short = match key.kind() {
            DecodingKeyKind::SecretOrDer(bytes) => algorithm == Algorithm::EdDSA && bytes.len() != 32,
            DecodingKeyKind::RsaModulusExponent { .. } => false,
        };
        let wrong = || Error::config(format!("this is no public key for {algorithm:?}"));
        if is_short {
            return Err(wrong());
        }
        (rust_crypto::DEFAULT_PROVIDER.verifier_factory)(&algorithm, &key)
            .map_err(|error| wrong().with_source(error))?;
        Ok(Self { algorithm, key, id: None })
    }

    /// A key of a fetched set (RFC 7517); `None` for one that is not for verifying signatures, or that is not known here. A
    /// symmetric key is not taken from there: a set is public.
    pub(super) fn of_jwk(jwk: &Jwk) -> Option<Self> {
        let common = &jwk.common;
        if common.public_key_use.as_ref().is_some_and(|purpose| *purpose != PublicKeyUse::Signature)
            || common.key_operations.as_ref().is_some_and(|operations| !operations.contains(&KeyOperations::Verify))
        {
            return None;
        }
        let by_type = match &jwk.algorithm {
            AlgorithmParameters::RSA(_) => Algorithm::RS256,
            AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P256 => Algorithm::ES256,
            AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P384 => Algorithm::ES384,
            AlgorithmParameters::OctetKeyPair(key) if key.curve == EllipticCurve::Ed25519 => Algorithm::EdDSA,
            _ => return None,
        };
        let algorithm = match common.key_algorithm {
            Some(named) => Algorithm::try_from(named).ok()?,
            None => by_type,
        };
        // Of an elliptic curve, the curve says it all; of RSA, any of its own.
        if algorithm.family() != by_type.family() || (algorithm != by_type && by_type != Algorithm::RS256) {
            return None;
        }
        let mut key = Self::checked(algorithm, DecodingKey::from_jwk(jwk).ok()?).ok()?;
        key.id = common.key_id.as_deref().map(Into::into);
        Some(key)
    }
}

impl fmt::Debug for JwtKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JwtKey").field("algorithm", &self.algorithm).field("id", &self.id).finish_non_exhaustive()
    }
}
