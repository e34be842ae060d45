//! Pages to run scripts on.

use axum::{Router, response::Html, routing::get};
use tokio::net::TcpListener;

/// Serves `app` and an empty page at `/` until the runtime ends, on a port of its own, hence as an origin of its own; gives the
/// host and port. Pages of 127.0.0.1 are a secure context.
pub(crate) async fn serve(app: Router) -> String {
    let app = app.route("/", get(async || Html("<!doctype html><meta charset=utf-8><title>test</title>")));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let host = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move { axum::serve(listener, app).await });
    host
}
