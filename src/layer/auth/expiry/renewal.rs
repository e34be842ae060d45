use std::{
    convert::Infallible,
    future::{Ready, ready},
    task::{Context, Poll},
};

use tower_service::Service;

use crate::{
    Error,
    layer::auth::{Credentials, Principal},
};

/// The verifier of sessions that are not renewed. It refuses every token.
#[derive(Clone, Copy, Debug)]
pub struct NoRenewal(());

impl Service<Credentials> for NoRenewal {
    type Response = Infallible;
    type Error = Error;
    type Future = Ready<Result<Infallible, Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Credentials) -> Self::Future {
        ready(Err(Error::auth("session renewal is disabled here (ExpiryLayer::renewal)")))
    }
}

impl Principal for Infallible {}
