use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The codes of section 5.1 of the specification, and those of this crate for what it does not name.
pub mod code {
    /// The message is no JSON.
    pub const PARSE_ERROR: i64 = -32700;
    /// The JSON is no request.
    pub const INVALID_REQUEST: i64 = -32600;
    /// There is no such method.
    pub const METHOD_NOT_FOUND: i64 = -32601;
    /// The parameters do not fit the method.
    pub const INVALID_PARAMS: i64 = -32602;
    /// The server failed.
    pub const INTERNAL_ERROR: i64 = -32603;
    /// The server has as many calls in flight as it allows, or shuts down: the call was not executed.
    pub const BUSY: i64 = -32000;
    /// The time of the call is over.
    pub const TIMED_OUT: i64 = -32001;
    /// The caller has cancelled the call. It is LSP's code.
    pub const CANCELLED: i64 = -32800;
}

/// A request or a notification.
#[derive(Clone, Debug, PartialEq)]
pub struct JsonRpcRequest {
    /// The name of the method.
    pub method: String,
    /// The parameters: an array, an object, or nothing.
    pub params: Option<Value>,
}

impl JsonRpcRequest {
    /// Creates a request. [`Value::Null`] stands for no parameters.
    pub fn new(method: impl Into<String>, params: impl Into<Value>) -> Self {
        let params = Some(params.into()).filter(|params| !params.is_null());
        Self { method: method.into(), params }
    }

    /// Reads the parameters as a type of the application.
    ///
    /// # Errors
    ///
    /// Returns an error with the code [`INVALID_PARAMS`](code::INVALID_PARAMS), ready to be the answer.
    pub fn parse<T: serde::de::DeserializeOwned>(self) -> Result<T, JsonRpcError> {
        serde_json::from_value(self.params.unwrap_or_default())
            .map_err(|error| JsonRpcError::new(code::INVALID_PARAMS, format!("invalid parameters: {error}")))
    }
}

/// The error object of an answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct JsonRpcError {
    /// The kind of the error: see [`code`].
    pub code: i64,
    /// The error in one sentence.
    pub message: String,
    /// More about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<Value>,
}

impl JsonRpcError {
    /// Creates an error.
    pub fn new(code: i64, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), data: None }
    }

    /// Creates the error for a method that does not exist.
    #[must_use]
    pub fn method_not_found(method: &str) -> Self {
        Self::new(code::METHOD_NOT_FOUND, format!("there is no method {method:?}"))
    }
}

impl std::fmt::Display for JsonRpcError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({})", self.message, self.code)
    }
}

impl std::error::Error for JsonRpcError {}
