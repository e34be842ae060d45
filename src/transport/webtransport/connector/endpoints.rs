use std::{
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::{Mutex, PoisonError},
};

use quinn::{ClientConfig, ConnectError, Connecting, Endpoint};

use crate::Error;

/// The UDP sockets of a connector: one a family, as a host may have only one of the two.
#[derive(Default)]
pub(super) struct Endpoints {
    v4: Mutex<Option<Endpoint>>,
    v6: Mutex<Option<Endpoint>>,
}

impl Endpoints {
    pub(super) fn connect(&self, config: &ClientConfig, to: SocketAddr, host: &str) -> Result<Connecting, Error> {
        let (slot, from) = match to {
            SocketAddr::V4(_) => (&self.v4, SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0))),
            SocketAddr::V6(_) => (&self.v6, SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0))),
        };
        let mut slot = slot.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(endpoint) = slot.as_ref() {
            match endpoint.connect_with(config.clone(), to, host) {
                // The runtime that it belonged to is gone.
                Err(ConnectError::EndpointStopping) => {}
                result => return result.map_err(unfit),
            }
        }
        let endpoint = Endpoint::client(from)?;
        let connecting = endpoint.connect_with(config.clone(), to, host).map_err(unfit)?;
        *slot = Some(endpoint);
        Ok(connecting)
    }
}

fn unfit(error: ConnectError) -> Error {
    match &error {
        ConnectError::InvalidServerName(name) => {
            Error::config(format!("`{}` is not a name that a certificate has", name.escape_debug()))
        }
        ConnectError::InvalidRemoteAddress(address) => Error::config(format!("{address} cannot be connected to")),
        _ => Error::other("the UDP socket takes no more connections"),
    }
    .with_source(error)
}
