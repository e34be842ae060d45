use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use proptest::prelude::*;
use tower_transport::layer::auth::{Claims, Credentials, JwtKey, JwtRules, JwtVerifier, Principal};

use super::*;

fn rules() -> JwtRules {
    JwtRules::new().audience("feed").issuer("https://issuer.example")
}

fn key(algorithm: Algorithm) -> JwtKey {
    match algorithm {
        Algorithm::HS256 => JwtKey::hs256(SECRET),
        Algorithm::RS256 => JwtKey::rs256_pem(RSA_PUBLIC),
        Algorithm::ES256 => JwtKey::es256_pem(EC_PUBLIC),
        _ => JwtKey::eddsa_pem(ED_PUBLIC),
    }
    .unwrap()
}

const ALL: [Algorithm; 4] = [Algorithm::HS256, Algorithm::RS256, Algorithm::ES256, Algorithm::EdDSA];

fn verify(verifier: &JwtVerifier, token: &str) -> Result<Claims, Error> {
    verifier.verify(&Credentials::Bearer(token.into()))
}

/// Returns the verdict on a token whose claims are the good ones, but for `change`.
fn changed(change: impl FnOnce(&mut Value)) -> Result<Claims, String> {
    let mut claims = good_claims();
    change(&mut claims);
    let verifier = JwtVerifier::new(key(Algorithm::HS256), rules());
    verify(&verifier, &sign(Algorithm::HS256, &claims)).map_err(|error| {
        assert!(error.is_auth());
        error.to_string()
    })
}

/// A token with this header, and a signature by `sign` if there is one.
fn by_hand(header: &Value, signature: impl FnOnce(&str) -> String) -> String {
    let encode = |value: &Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
    let message = format!("{}.{}", encode(header), encode(&good_claims()));
    let signature = signature(&message);
    format!("{message}.{signature}")
}

#[test]
fn a_good_token_of_each_algorithm_says_who_it_is_and_until_when() {
    for algorithm in ALL {
        let claims = verify(&JwtVerifier::new(key(algorithm), rules()), &sign(algorithm, &good_claims())).unwrap();
        assert_eq!(claims.subject(), Some("ada"));
        let left = claims.expires_at().unwrap().duration_since(SystemTime::now()).unwrap();
        assert!((590..=600).contains(&left.as_secs()), "{left:?}");
    }
}

#[test]
fn other_claims_have_a_type_of_the_users() {
    #[derive(Debug, serde::Deserialize)]
    struct Role {
        role: String,
    }
    let verifier = JwtVerifier::<Role>::new(key(Algorithm::ES256), rules());
    let mut claims = good_claims();
    claims["role"] = json!("admin");
    let token = Credentials::Bearer(sign(Algorithm::ES256, &claims).into());
    assert_eq!(verifier.verify(&token).unwrap().extra.role, "admin");
    let without = Credentials::Bearer(sign(Algorithm::ES256, &good_claims()).into());
    assert!(verifier.verify(&without).unwrap_err().is_auth());
}

#[test]
fn times_are_checked_with_a_leeway_of_thirty_seconds() {
    changed(|claims| claims["exp"] = json!(now() - 25)).unwrap();
    assert_eq!(changed(|claims| claims["exp"] = json!(now() - 31)).unwrap_err(), "the token has expired");
    changed(|claims| claims["nbf"] = json!(now() + 25)).unwrap();
    assert_eq!(changed(|claims| claims["nbf"] = json!(now() + 60)).unwrap_err(), "the token is not valid yet");
    changed(|claims| claims["exp"] = json!(u64::MAX)).unwrap();
}

#[test]
fn a_token_without_an_expiry_is_refused_unless_that_was_asked_for() {
    let without = |claims: &mut Value| drop(claims.as_object_mut().unwrap().remove("exp"));
    assert_eq!(changed(without).unwrap_err(), "the token has no expiry");
    let mut claims = good_claims();
    without(&mut claims);
    let verifier = JwtVerifier::new(key(Algorithm::HS256), rules().without_expiry());
    assert_eq!(verify(&verifier, &sign(Algorithm::HS256, &claims)).unwrap().expires_at(), None);
}

#[test]
fn who_it_is_for_and_who_made_it_must_be_right() {
    changed(|claims| claims["aud"] = json!(["other", "feed"])).unwrap();
    for (claim, value) in [("aud", json!("other")), ("aud", json!([])), ("aud", json!(7)), ("aud", Value::Null)] {
        changed(|claims| claims[claim] = value).unwrap_err();
    }
    for value in [json!("https://evil.example"), json!(["https://issuer.example"]), Value::Null] {
        changed(|claims| claims["iss"] = value).unwrap_err();
    }
}

#[test]
fn a_token_for_someone_is_refused_by_who_does_not_say_who_it_is() {
    let verifier = JwtVerifier::new(key(Algorithm::HS256), JwtRules::new());
    assert!(verify(&verifier, &sign(Algorithm::HS256, &good_claims())).unwrap_err().is_auth());
}

#[test]
fn a_token_that_was_good_is_refused_when_it_has_expired() {
    fn later() -> SystemTime {
        SystemTime::now() + Duration::from_secs(700)
    }
    let token = sign(Algorithm::RS256, &good_claims());
    verify(&JwtVerifier::new(key(Algorithm::RS256), rules()), &token).unwrap();
    let error = verify(&JwtVerifier::new(key(Algorithm::RS256), rules().clock(later)), &token).unwrap_err();
    assert_eq!(error.to_string(), "the token has expired");
}

#[test]
fn alg_none_is_refused_in_every_spelling() {
    for name in ["none", "None", "NONE", "nOnE", ""] {
        for signature in ["", "x"] {
            let token = by_hand(&json!({ "alg": name, "typ": "JWT" }), |_| signature.to_owned());
            for algorithm in ALL {
                let verifier = JwtVerifier::new(key(algorithm), rules());
                assert!(verify(&verifier, &token).unwrap_err().is_auth(), "{name} {algorithm:?}");
            }
        }
    }
}

/// The oldest trick: the public key is public, so everyone can make an HMAC with it.
#[test]
fn an_hmac_made_with_the_public_key_is_refused() {
    for (algorithm, public) in
        [(Algorithm::RS256, RSA_PUBLIC), (Algorithm::ES256, EC_PUBLIC), (Algorithm::EdDSA, ED_PUBLIC)]
    {
        let key_of_all = EncodingKey::from_secret(public);
        let token = jsonwebtoken::encode(&Header::new(Algorithm::HS256), &good_claims(), &key_of_all).unwrap();
        let verifier = JwtVerifier::new(key(algorithm), rules());
        assert_eq!(verify(&verifier, &token).unwrap_err().to_string(), "the token's algorithm is not the key's");
    }
}

#[test]
fn a_token_of_another_algorithm_is_refused_whatever_its_header_says() {
    for signed in ALL {
        for held in ALL.into_iter().filter(|held| *held != signed) {
            let verifier = JwtVerifier::new(key(held), rules());
            assert!(verify(&verifier, &sign(signed, &good_claims())).unwrap_err().is_auth(), "{signed:?} {held:?}");
        }
    }
}

#[test]
fn a_header_that_asks_for_extensions_is_refused() {
    let header = json!({ "alg": "HS256", "crit": ["b64"], "b64": false });
    let token = by_hand(&header, |message| {
        jsonwebtoken::crypto::sign(message.as_bytes(), &signer(Algorithm::HS256), Algorithm::HS256).unwrap()
    });
    let error = verify(&JwtVerifier::new(key(Algorithm::HS256), rules()), &token).unwrap_err();
    assert!(error.to_string().contains("not supported"), "{error}");
}

#[test]
fn a_key_is_found_by_the_id_that_the_token_names() {
    let keys = vec![key(Algorithm::RS256).with_id("a"), key(Algorithm::ES256).with_id("b")];
    let verifier = JwtVerifier::with_keys(keys, rules());
    verify(&verifier, &sign_with_id(Algorithm::RS256, "a", &good_claims())).unwrap();
    verify(&verifier, &sign(Algorithm::ES256, &good_claims())).unwrap();
    verify(&verifier, &sign_with_id(Algorithm::ES256, "a", &good_claims())).unwrap_err();
    verify(&verifier, &sign_with_id(Algorithm::ES256, "c", &good_claims())).unwrap_err();
    let both = vec![key(Algorithm::RS256).with_id("a"), key(Algorithm::RS256).with_id("b")];
    let error = verify(&JwtVerifier::with_keys(both, rules()), &sign(Algorithm::RS256, &good_claims())).unwrap_err();
    assert!(error.to_string().contains("does not name the key"), "{error}");
}

#[test]
fn keys_that_cannot_work_are_found_out_at_the_start() {
    assert!(JwtKey::hs256(b"short").unwrap_err().is_config());
    for key in [
        JwtKey::rs256_pem(EC_PUBLIC),
        JwtKey::es256_pem(RSA_PUBLIC),
        JwtKey::eddsa_pem(RSA_PUBLIC),
        JwtKey::rs256_pem(b""),
    ] {
        assert!(key.unwrap_err().is_config());
    }
}

#[test]
fn passwords_and_tokens_that_are_too_long_are_not_looked_at() {
    let verifier: JwtVerifier = JwtVerifier::new(key(Algorithm::HS256), rules());
    let basic = Credentials::Basic { user: "ada".to_owned(), password: "x".into() };
    assert!(verifier.verify(&basic).unwrap_err().is_auth());
    assert_eq!(verify(&verifier, &"x".repeat(8193)).unwrap_err().to_string(), "the token is too long");
}

proptest! {
    #[test]
    fn one_changed_byte_of_a_token_makes_it_bad(at in 0..400usize, by in 1..128u8) {
        let verifier = JwtVerifier::new(key(Algorithm::EdDSA), rules());
        let mut token = sign(Algorithm::EdDSA, &good_claims()).into_bytes();
        // The last character of a base64 text has bits that say nothing.
        let at = at % (token.len() - 1);
        token[at] = (token[at] ^ by) & 0x7f;
        let changed = String::from_utf8(token).unwrap();
        prop_assert!(verify(&verifier, &changed).is_err());
    }
}
