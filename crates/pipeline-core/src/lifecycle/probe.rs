//! What `/livez` and `/readyz` answer, on whichever listener they are asked.

use bytes::Bytes;
use http_body_util::Full;
use hyper::{
    Method, Response, StatusCode,
    header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue, RETRY_AFTER},
};

use super::Readiness;

/// Answers `/livez` and `/readyz`; `None` for every other path.
#[must_use]
pub fn probe(method: &Method, path: &str, readiness: &Readiness) -> Option<Response<Full<Bytes>>> {
    let state = match path {
        // Whatever Kafka does: a process that answers is well.
        "/livez" => Ok(()),
        "/readyz" => readiness.check(),
        _ => return None,
    };
    Some(only_read(method).unwrap_or_else(|| match state {
        Ok(()) => text("text/plain; charset=utf-8", "ok\n".to_owned()),
        Err(reason) => not_ready(&reason),
    }))
}

/// 503 with what it waits for.
pub(super) fn not_ready(reason: &str) -> Response<Full<Bytes>> {
    let code = if reason == "draining" {
        "draining"
    } else {
        "not_ready"
    };
    let mut answer = problem(StatusCode::SERVICE_UNAVAILABLE, code, reason);
    let headers = answer.headers_mut();
    headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}

/// 405 unless the method is GET or HEAD (whose body hyper leaves out).
pub(super) fn only_read(method: &Method) -> Option<Response<Full<Bytes>>> {
    if method == Method::GET || method == Method::HEAD {
        return None;
    }
    let mut answer = problem(
        StatusCode::METHOD_NOT_ALLOWED,
        "method_not_allowed",
        &format!("found method {method}, allowed are GET and HEAD"),
    );
    let allow = HeaderValue::from_static("GET, HEAD");
    answer.headers_mut().insert(ALLOW, allow);
    Some(answer)
}

/// A 200 that no cache keeps.
pub(super) fn text(content_type: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut answer = Response::new(Full::new(Bytes::from(body)));
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}

/// An error as `application/problem+json` (RFC 9457) with a machine-readable `code`.
#[must_use]
pub fn problem(status: StatusCode, code: &str, detail: &str) -> Response<Full<Bytes>> {
    let body = serde_json::json!({
        "title": status.canonical_reason().unwrap_or("Error"),
        "status": status.as_u16(),
        "code": code,
        "detail": detail,
    });
    let mut answer = Response::new(Full::new(Bytes::from(body.to_string())));
    *answer.status_mut() = status;
    let content_type = HeaderValue::from_static("application/problem+json");
    answer.headers_mut().insert(CONTENT_TYPE, content_type);
    answer
}
