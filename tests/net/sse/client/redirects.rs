//! Redirects: followed, bounded, and without credentials for others.

use tower::{ServiceBuilder, ServiceExt};
use tower_http::auth::AddAuthorizationLayer;
use tower_transport::{
    Error,
    transport::sse::{Sse, SseConnector},
};

use super::scripted::{STREAM, Scripted, get, open, read};

fn redirect(status: u16, location: &str) -> String {
    format!("HTTP/1.1 {status} x\r\nlocation: {location}\r\ncontent-length: 0\r\n\r\n")
}

async fn with_a_token(url: &str) -> Result<Sse, Error> {
    let connector = ServiceBuilder::new().layer(AddAuthorizationLayer::bearer("secret")).service(SseConnector::new());
    Ok(connector.oneshot(get(url)).await?.into_body())
}

#[tokio::test]
async fn every_kind_of_redirect_is_followed_to_the_stream() {
    let server = Scripted::new([
        redirect(301, "/one"),
        redirect(302, "two?x"),
        redirect(303, "http://{own}/three"),
        redirect(307, "//{own}/four/"),
        redirect(308, "../five"),
        format!("{STREAM}data: a\n\n"),
    ])
    .await;
    let (events, _) = read(with_a_token(&server.url()).await.unwrap()).await;
    assert_eq!(events.len(), 1);
    let requests = server.requests();
    let paths: Vec<_> = requests.iter().map(|head| head.split(' ').nth(1).unwrap()).collect();
    assert_eq!(paths, ["/feed?a=b", "/one", "/two?x", "/three", "/four/", "/five"]);
    assert!(requests.iter().all(|head| head.contains("authorization: bearer secret")), "one origin");
}

#[tokio::test]
async fn redirects_without_end_are_an_error_that_names_the_limit() {
    let server = Scripted::new([redirect(302, "/again")]).await;
    let error = open(&SseConnector::new(), &server.url()).await.unwrap_err();
    assert!(error.is_protocol() && error.to_string().contains("more than 5 times (SseConnector::max_redirects)"));
    assert_eq!(server.requests().len(), 6);
    assert!(open(&SseConnector::new().max_redirects(0), &server.url()).await.unwrap_err().is_protocol());
    assert_eq!(server.requests().len(), 7);
}

#[tokio::test]
async fn credentials_and_cookies_do_not_go_to_another_origin() {
    let other = Scripted::new([format!("{STREAM}data: a\n\n")]).await;
    let server = Scripted::new([redirect(302, &other.url())]).await;
    read(with_a_token(&server.url()).await.unwrap()).await;
    assert!(server.requests()[0].contains("authorization"));
    let head = &other.requests()[0];
    assert!(!head.contains("authorization"), "{head}");
    assert!(head.contains(&format!("host: {}", other.address)), "{head}");
}

#[tokio::test]
async fn a_redirect_to_nowhere_is_an_error() {
    for location in ["ftp://example.com/", "http://"] {
        let server = Scripted::new([redirect(302, location)]).await;
        assert!(open(&SseConnector::new(), &server.url()).await.unwrap_err().is_protocol(), "{location}");
    }
    let server = Scripted::new(["HTTP/1.1 302 x\r\ncontent-length: 0\r\n\r\n"]).await;
    let error = open(&SseConnector::new(), &server.url()).await.unwrap_err();
    assert!(error.is_protocol() && error.to_string().contains("Location"), "{error}");
}

#[tokio::test]
async fn the_error_of_a_redirect_that_is_not_followed_has_the_servers_answer() {
    let error = |location: &str| {
        let answer = redirect(308, location);
        async move {
            let server = Scripted::new([answer]).await;
            open(&SseConnector::new().max_redirects(1), &server.url()).await.unwrap_err()
        }
    };
    for location in ["ftp://example.com/", "/again"] {
        let error = error(location).await;
        assert!(error.is_protocol(), "{error:?}");
        assert_eq!(error.status().map(|status| status.as_u16()), Some(308), "{error:?}");
        assert_eq!(error.response_headers().unwrap()["location"], location);
    }
    let server = Scripted::new(["HTTP/1.1 302 x\r\ncontent-length: 4\r\n\r\ngone"]).await;
    let error = open(&SseConnector::new(), &server.url()).await.unwrap_err();
    assert_eq!(error.status().map(|status| status.as_u16()), Some(302));
    assert_eq!(error.response_body().unwrap(), "gone");
}
