//! The format of the first message. Pure.

use serde::{Deserialize, Serialize};

use crate::{Message, layer::auth::Secret};

/// How a client writes its first message. A server reads both forms.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Form {
    /// `{"token":"..."}`, as text.
    #[default]
    Json,
    /// Only the token, as text.
    Plain,
}

#[derive(Serialize)]
struct Written<'a> {
    token: &'a str,
}

#[derive(Deserialize)]
struct Read {
    token: String,
}

impl Form {
    pub(super) fn write(self, token: &Secret) -> Message {
        let token = token.expose();
        match self {
            // Every string can be represented in JSON, so this does not fail.
            Self::Json => Message::text(serde_json::to_string(&Written { token }).unwrap_or_default()),
            Self::Plain => Message::text(token),
        }
    }
}

/// Returns the token of a first message, in either form.
#[cfg_attr(target_arch = "wasm32", allow(dead_code))]
pub(super) fn read(message: &Message) -> Option<Secret> {
    let text = message.as_text()?.trim();
    let token = match text.starts_with('{') {
        true => serde_json::from_str::<Read>(text).ok()?.token,
        false => text.to_owned(),
    };
    (!token.is_empty()).then(|| token.into())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_one_end_writes_the_other_reads(token in ".{1,40}") {
            let written = Form::Json.write(&token.clone().into());
            prop_assert_eq!(read(&written).map(|read| read.expose().to_owned()), Some(token));
        }

        #[test]
        fn a_plain_token_is_read_as_it_is(token in "[A-Za-z0-9._~+/-]{1,40}=?") {
            let read = read(&Form::Plain.write(&token.clone().into()));
            prop_assert_eq!(read.map(|read| read.expose().to_owned()), Some(token));
        }

        #[test]
        fn no_text_makes_it_panic(text in ".*") {
            let _ = read(&Message::text(text));
        }
    }

    #[test]
    fn what_is_no_token_is_none() {
        for text in ["", "  ", "{}", r#"{"token":7}"#, r#"{"token":""}"#, "{\"token\":\"a\"", "{not json"] {
            assert!(read(&Message::text(text)).is_none(), "{text}");
        }
        assert!(read(&Message::binary(b"token".to_vec())).is_none());
    }
}
