//! The doors of a server: what lets a connection in, holds its place, and shows it out.

mod drain;
mod every_way;
mod handshake;
mod logs;
mod places;

use support::serve::{serve_axum, serve_http as serve};
