//! From a token to its claims. Nothing of a token ends up in an error: what a parser says may quote it.

use std::sync::Once;

use jsonwebtoken::{
    Algorithm,
    crypto::rust_crypto,
    errors::{Error as JwtError, ErrorKind},
};
use serde::de::DeserializeOwned;

use super::{Claims, JwtKey, JwtRules};
use crate::{
    Error,
    layer::auth::{Credentials, MAX_TOKEN},
};

/// Why a token has no claims for us.
#[derive(Debug)]
pub(super) enum Problem {
    /// No key has the id that it names.
    UnknownKey,
    Refused(&'static str),
}

impl From<Problem> for Error {
    fn from(problem: Problem) -> Self {
        Self::auth(match problem {
            Problem::UnknownKey => "the token is signed with a key that is not known here",
            Problem::Refused(reason) => reason,
        })
    }
}

/// The token of credentials, if it is one and not too long to look at.
pub(super) fn token(credentials: &Credentials) -> Result<&str, Problem> {
    let token = credentials.bearer().ok_or(Problem::Refused("a token is needed here, not a password"))?;
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
    // RFC 7515, section 4.1.11: who does not understand all that is critical must refuse.
    if header.crit.is_some() {
        return Err(Problem::Refused("the token asks for what is not supported here"));
    }
    let key = choose(keys, header.kid.as_deref(), header.alg)?;
    let validation = rules.validation(key.algorithm);
    choose_provider();
    let claims = jsonwebtoken::decode::<Claims<X>>(token, &key.key, &validation).map_err(reason)?.claims;
    rules.check_times(claims.expires, claims.not_before).map_err(Problem::Refused)?;
    Ok(claims)
}

/// The key that a token is to be verified with. Its own algorithm decides; the token's must be the same.
fn choose<'a>(keys: &'a [JwtKey], id: Option<&str>, algorithm: Algorithm) -> Result<&'a JwtKey, Problem> {
    let of_algorithm = |key: &&JwtKey| key.algorithm == algorithm;
    let key = match id {
        Some(id) => {
            let mut named = keys.iter().filter(|key| key.id.as_deref() == Some(id)).peekable();
            match named.peek() {
                Some(_) => named.find(of_algorithm),
                // A key without an id takes tokens that name one.
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
                Some(_) => return Err(Problem::Refused("the token does not say which key it is signed with")),
                None => first,
            }
        }
    };
    key.ok_or(Problem::Refused("the token's algorithm is not the key's"))
}

/// jsonwebtoken panics if it cannot tell its provider of cryptography from its features, which others may turn on as well.
fn choose_provider() {
    static ONCE: Once = Once::new();
    // An application that has chosen one keeps it.
    ONCE.call_once(|| {
        let _ = rust_crypto::DEFAULT_PROVIDER.install_default();
    });
}

fn reason(error: JwtError) -> Problem {
    Problem::Refused(match error.kind() {
        ErrorKind::InvalidSignature => "the token's signature is wrong",
        ErrorKind::InvalidAudience => "the token is for another audience",
        ErrorKind::InvalidIssuer => "the token is of another issuer",
        ErrorKind::MissingRequiredClaim(_) => "the token lacks a claim that is required here",
        ErrorKind::InvalidAlgorithm | ErrorKind::InvalidAlgorithmName => "the token's algorithm is not the key's",
        _ => "this is no token that can be read here",
    })
}
