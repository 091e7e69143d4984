//! Becoming a WebSocket (RFC 6455, version 13).

use axum::{
    body::Body,
    http::{HeaderMap, HeaderValue, Response, StatusCode, header},
};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

/// Whether a request asks for it.
pub(super) fn is_asked_for(headers: &HeaderMap) -> bool {
    has_token(headers, &header::UPGRADE, "websocket")
}

/// The answer to such a request: 101 if it can be met.
pub(super) fn answer(headers: &HeaderMap) -> Response<Body> {
    if headers.get(header::SEC_WEBSOCKET_VERSION) != Some(&HeaderValue::from_static("13")) {
        let mut refusal = empty(StatusCode::UPGRADE_REQUIRED);
        let version = HeaderValue::from_static("13");
        refusal
            .headers_mut()
            .insert(header::SEC_WEBSOCKET_VERSION, version);
        return refusal;
    }
    let key = headers.get(header::SEC_WEBSOCKET_KEY);
    let accepted = key.and_then(|key| {
        let accepted = derive_accept_key(key.as_bytes());
        HeaderValue::try_from(accepted).ok()
    });
    let upgrades = has_token(headers, &header::CONNECTION, "upgrade");
    let Some(accepted) = accepted.filter(|_| upgrades) else {
        return empty(StatusCode::BAD_REQUEST);
    };
    let mut response = empty(StatusCode::SWITCHING_PROTOCOLS);
    let answer = response.headers_mut();
    answer.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    answer.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    answer.insert(header::SEC_WEBSOCKET_ACCEPT, accepted);
    if let Some(protocol) = first_protocol(headers) {
        answer.insert(header::SEC_WEBSOCKET_PROTOCOL, protocol);
    }
    response
}

/// As the original chooses; its own clients offer none.
fn first_protocol(headers: &HeaderMap) -> Option<HeaderValue> {
    let offered = headers.get(header::SEC_WEBSOCKET_PROTOCOL)?.to_str().ok()?;
    let first = offered.split(',').next().map(str::trim)?;
    HeaderValue::from_str(first)
        .ok()
        .filter(|_| !first.is_empty())
}

fn has_token(headers: &HeaderMap, name: &header::HeaderName, token: &str) -> bool {
    let values = headers.get_all(name).iter();
    let mut tokens = values
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','));
    tokens.any(|part| part.trim().eq_ignore_ascii_case(token))
}

fn empty(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response
}
