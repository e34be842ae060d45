//! Pages to run scripts on.

use axum::{Router, response::Html, routing::get};
use support::serve::serve_axum;

/// Serves `app` and an empty page at `/` until the runtime ends. Returns the host and port, which are an origin of
/// their own. Pages of 127.0.0.1 are a secure context.
pub(crate) async fn serve(app: Router) -> String {
    let app = app.route("/", get(async || Html("<!doctype html><meta charset=utf-8><title>test</title>")));
    serve_axum(app).await.to_string()
}
