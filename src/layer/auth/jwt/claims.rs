use std::{
    fmt,
    time::{Duration, SystemTime},
};

use serde::{Deserialize, Deserializer, de::Error as _};

use crate::layer::auth::Principal;

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_audiences_come_in_two_forms_and_no_other() {
        let claims: Claims = serde_json::from_str(r#"{"exp":12.9,"aud":["a","b"],"other":1}"#).unwrap();
        assert_eq!((claims.expires, claims.audience.len()), (Some(12), 2));
        for bad in [r#"{"exp":"12"}"#, r#"{"exp":-1}"#, r#"{"exp":1e300}"#, r#"{"aud":7}"#, r#"{"iss":["a"]}"#] {
            assert!(serde_json::from_str::<Claims>(bad).is_err(), "{bad}");
        }
    }
}
