use jsonwebtoken::{
    Algorithm, DecodingKey, DecodingKeyKind,
    crypto::rust_crypto,
    errors::Error as JwtError,
    jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyOperations, PublicKeyUse},
};

use crate::Error;

/// A key that verifies JWTs, and its only algorithm: a token that names another algorithm is refused, whatever its
/// signature.
#[derive(Clone)]
pub struct JwtKey {
    pub(super) algorithm: Algorithm,
    pub(super) key: DecodingKey,
    pub(super) id: Option<Box<str>>,
}

impl JwtKey {
    /// Creates an HS256 key from a secret that both ends hold.
    ///
    /// # Errors
    ///
    /// Returns an error for which [`is_config`](Error::is_config) is true if `secret` has fewer than 32 bytes (RFC
    /// 7518, section 3.2). A shorter secret can be guessed from one token.
    pub fn hs256(secret: &[u8]) -> Result<Self, Error> {
        if secret.len() < 32 {
            return Err(Error::config("a secret for HS256 must have at least 32 random bytes"));
        }
        Self::checked(Algorithm::HS256, DecodingKey::from_secret(secret))
    }

    /// Creates an RS256 key from a public key in PEM.
    ///
    /// # Errors
    ///
    /// Returns an error for which [`is_config`](Error::is_config) is true if `pem` is not an RSA public key.
    pub fn rs256_pem(pem: &[u8]) -> Result<Self, Error> {
        Self::of_pem(Algorithm::RS256, DecodingKey::from_rsa_pem(pem))
    }

    /// Creates an ES256 key from a public key in PEM.
    ///
    /// # Errors
    ///
    /// Returns an error for which [`is_config`](Error::is_config) is true if `pem` is not a public key on P-256.
    pub fn es256_pem(pem: &[u8]) -> Result<Self, Error> {
        Self::of_pem(Algorithm::ES256, DecodingKey::from_ec_pem(pem))
    }

    /// Creates an EdDSA (Ed25519) key from a public key in PEM.
    ///
    /// # Errors
    ///
    /// Returns an error for which [`is_config`](Error::is_config) is true if `pem` is not an Ed25519 public key.
    pub fn eddsa_pem(pem: &[u8]) -> Result<Self, Error> {
        Self::of_pem(Algorithm::EdDSA, DecodingKey::from_ed_pem(pem))
    }

    /// Sets the id of the key. Tokens that name an id (`kid`) are verified by the key with that id.
    #[must_use]
    pub fn with_id(mut self, id: impl Into<Box<str>>) -> Self {
        self.id = Some(id.into());
        self
    }

    fn of_pem(algorithm: Algorithm, key: Result<DecodingKey, JwtError>) -> Result<Self, Error> {
        let wrong = |error| Error::config(format!("not a public key for {algorithm:?} in PEM")).with_source(error);
        Self::checked(algorithm, key.map_err(wrong)?)
    }

    /// Checks now, rather than with the first token, that jsonwebtoken can use the key.
    fn checked(algorithm: Algorithm, key: DecodingKey) -> Result<Self, Error> {
        // jsonwebtoken slices an Ed25519 key without checking its length.
        let is_short = match key.kind() {
            DecodingKeyKind::SecretOrDer(bytes) => algorithm == Algorithm::EdDSA && bytes.len() != 32,
            DecodingKeyKind::RsaModulusExponent { .. } => false,
        };
        let wrong = || Error::config(format!("not a public key for {algorithm:?}"));
        if is_short {
            return Err(wrong());
        }
        (rust_crypto::DEFAULT_PROVIDER.verifier_factory)(&algorithm, &key)
            .map_err(|error| wrong().with_source(error))?;
        Ok(Self { algorithm, key, id: None })
    }

    /// Converts a key of a fetched set (RFC 7517). Returns `None` for a key that is not for verifying signatures, or
    /// that is not supported. Symmetric keys are not accepted, because a set is public.
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
        // For an elliptic curve, the curve determines the algorithm; RSA allows any algorithm of its family.
        if algorithm.family() != by_type.family() || (algorithm != by_type && by_type != Algorithm::RS256) {
            return None;
        }
        let mut key = Self::checked(algorithm, DecodingKey::from_jwk(jwk).ok()?).ok()?;
        key.id = common.key_id.as_deref().map(Into::into);
        Some(key)
    }
}

debug_fields!(JwtKey { algorithm, id });
