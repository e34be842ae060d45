use std::fmt;

use tower_layer::Layer;

use super::{FirstMessage, Form};
use crate::layer::auth::{TokenSource, Tokens};

/// A layer for a client's transport: sends a token as the first message, before all messages of the user. See the
/// [module](crate::layer::auth) for the complete documentation.
///
/// Each transport requests its own token from the source: put the layer under `per_connection(..)`.
pub struct FirstMessageLayer<S: TokenSource> {
    tokens: Tokens<S>,
    form: Form,
}

impl<S: TokenSource> FirstMessageLayer<S> {
    /// Creates a layer that sends a token of `tokens` as [`Form::Json`].
    #[must_use]
    pub const fn new(tokens: Tokens<S>) -> Self {
        Self { tokens, form: Form::Json }
    }

    /// Sets the form. Defaults to [`Form::Json`].
    #[must_use]
    pub fn form(mut self, form: Form) -> Self {
        self.form = form;
        self
    }
}

impl<T, S> Layer<T> for FirstMessageLayer<S>
where
    S: TokenSource,
{
    type Service = FirstMessage<T, S>;

    fn layer(&self, inner: T) -> FirstMessage<T, S> {
        FirstMessage::new(inner, self.tokens.clone(), self.form)
    }
}

impl<S: TokenSource> Clone for FirstMessageLayer<S> {
    fn clone(&self) -> Self {
        Self { tokens: self.tokens.clone(), form: self.form }
    }
}

impl<S: TokenSource> fmt::Debug for FirstMessageLayer<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FirstMessageLayer").field("tokens", &self.tokens).field("form", &self.form).finish()
    }
}
