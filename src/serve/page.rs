//! The web page.

use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use sha2::{Digest, Sha256};

/// A single file that loads no others.
const PAGE: &str = include_str!("page.html");

const ICON: &str = "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 16 16\"><rect width=\"16\" height=\"16\" \
                    rx=\"3\" fill=\"#18181c\"/><rect x=\"3\" y=\"3\" width=\"4\" height=\"4\" fill=\"#ffc800\"/><rect \
                    x=\"9\" y=\"9\" width=\"4\" height=\"4\" fill=\"#ffc800\"/></svg>";

/// The text between an element's tags.
fn inside(element: &str) -> &'static str {
    let (open, close) = (format!("<{element}>"), format!("</{element}>"));
    let begin = PAGE.find(&open).map_or(0, |at| at + open.len());
    let end = PAGE.find(&close).unwrap_or(begin);
    &PAGE[begin..end]
}

/// The content security policy: only this page's own script and style, and addresses of this server.
fn policy() -> String {
    let hash = |element| BASE64_STANDARD.encode(Sha256::digest(inside(element)));
    format!(
        "default-src 'none'; script-src 'sha256-{}'; style-src 'sha256-{}'; img-src 'self' data: blob:; connect-src \
         'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        hash("script"),
        hash("style")
    )
}

pub async fn page() -> Response {
    let policy =
        HeaderValue::from_str(&policy()).unwrap_or(HeaderValue::from_static("default-src 'none'"));
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8")),
        (header::CONTENT_SECURITY_POLICY, policy),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
    ];
    (headers, PAGE).into_response()
}

pub async fn icon() -> Response {
    ([(header::CONTENT_TYPE, "image/svg+xml")], ICON).into_response()
}
