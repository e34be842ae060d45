//! The messages that leave. Pure.

use serde_json::{Map, Value, json};

use super::message::{JsonRpcError, JsonRpcRequest, code};
use crate::service::peer::frame::Rejection;

pub(super) fn invalid(what: &str) -> String {
    error_answer(code::INVALID_REQUEST, what, Value::Null)
}

pub(super) fn error_answer(code: i64, message: &str, id: Value) -> String {
    json!({ "jsonrpc": "2.0", "error": { "code": code, "message": message }, "id": id }).to_string()
}

pub(super) fn rejection(reason: Rejection) -> JsonRpcError {
    let code = match reason {
        Rejection::Overloaded | Rejection::ShuttingDown => code::BUSY,
        Rejection::TimedOut => code::TIMED_OUT,
        Rejection::Panicked | Rejection::Unsendable | Rejection::Streamed => code::INTERNAL_ERROR,
    };
    JsonRpcError::new(code, reason.as_str())
}

pub(super) fn request(id: Option<u64>, request: JsonRpcRequest) -> String {
    let mut object = Map::new();
    object.insert("jsonrpc".to_owned(), "2.0".into());
    object.insert("method".to_owned(), request.method.into());
    if let Some(params) = request.params {
        object.insert("params".to_owned(), params);
    }
    if let Some(id) = id {
        object.insert("id".to_owned(), id.into());
    }
    Value::Object(object).to_string()
}
