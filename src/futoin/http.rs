//! Messages over HTTP: `POST` of one on the base path, the REST form below it,
//! and WebSockets on either.

use std::sync::Arc;

use axum::{
    Router,
    body::{Body, Bytes},
    extract::State,
    http::{HeaderValue, Method, Request, Response, StatusCode, header},
    routing::any,
};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::ext::ReasonPhrase;
use hyper_util::rt::TokioIo;
use tokio::time::timeout;

use super::{
    Shim,
    call::{Answer, Channel},
    coder::Coder,
    doc::Doc,
    handshake, rest, websocket,
};
use crate::{
    auth,
    bodies::{self, Shape},
    error::Error,
    limits,
    listen::{Place, Transport},
    telemetry::traces,
};

/// What a call is named in traces until its function is known.
pub(super) const SPAN: &str = "futoin";

/// The paths of the front.
pub(super) fn routes(shim: Arc<Shim>) -> Router {
    let path = shim.options.path.clone();
    let origins = shim.options.web_origins.clone();
    let routes = Router::new()
        .route(&path, any(base))
        .route(&format!("{path}/"), any(base))
        .route(&format!("{path}/{{*below}}"), any(below))
        .with_state(shim);
    if origins.is_empty() {
        routes
    } else {
        routes.layer(origins.layer())
    }
}

async fn base(State(shim): State<Arc<Shim>>, request: Request<Body>) -> Response<Body> {
    if handshake::is_asked_for(request.headers()) {
        return upgrade(&shim, request);
    }
    if request.method() != Method::POST {
        return invalid();
    }
    let channel = channel(&shim, &request);
    let trace = traces::headers(request.headers());
    match body(&shim, request).await {
        Ok(bytes) => {
            let (coder, doc) = Coder::read(&bytes);
            let work = shim.answer(coder, doc.as_ref(), &channel);
            answered(traces::serve(SPAN, trace.as_ref(), work).await)
        }
        Err(status) => refused(status),
    }
}

async fn below(State(shim): State<Arc<Shim>>, request: Request<Body>) -> Response<Body> {
    if handshake::is_asked_for(request.headers()) {
        return upgrade(&shim, request);
    }
    if request.method() != Method::POST && request.method() != Method::GET {
        return invalid();
    }
    let channel = channel(&shim, &request);
    let path = request.uri().path().strip_prefix(&*shim.options.path);
    let query = request.uri().query().unwrap_or_default();
    let authorization = request.headers().get(header::AUTHORIZATION);
    let authorization = authorization.and_then(|value| value.to_str().ok());
    let message = rest::message(path.unwrap_or_default(), query, authorization);
    let (coder, doc): (_, Option<Doc>) = Coder::read(message.as_bytes());
    let work = shim.answer(coder, doc.as_ref(), &channel);
    answered(traces::serve(SPAN, Some(request.headers()), work).await)
}

fn channel(shim: &Shim, request: &Request<Body>) -> Channel {
    let told =
        request.headers().get("x-forwarded-proto") == Some(&HeaderValue::from_static("https"));
    let transport = request.extensions().get::<Transport>();
    let private = transport.is_some_and(Transport::is_private);
    Channel {
        secure: private || shim.options.secure_channel || (shim.options.trust_proxy && told),
        peer: None,
        from: auth::peer(request.extensions()),
    }
}

/// The body, inside the limits.
async fn body(shim: &Shim, request: Request<Body>) -> Result<Bytes, StatusCode> {
    let bounded = bodies::bound(request.into_body(), Shape::Message, Into::into);
    let limited = Limited::new(bounded, shim.options.request_limit);
    match timeout(limits::BODY_TIMEOUT, limited.collect()).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(StatusCode::PAYLOAD_TOO_LARGE),
        Ok(Err(error)) if is_full(&*error) => Err(StatusCode::SERVICE_UNAVAILABLE),
        Ok(Err(_)) => Err(StatusCode::BAD_REQUEST),
        Err(_) => Err(StatusCode::REQUEST_TIMEOUT),
    }
}

/// Whether too many bodies are on their way.
fn is_full(error: &(dyn std::error::Error + 'static)) -> bool {
    std::iter::successors(Some(error), |error| error.source())
        .any(|error| matches!(error.downcast_ref(), Some(Error::Overloaded { .. })))
}

fn answered(answer: Answer) -> Response<Body> {
    let kind = HeaderValue::from_static(answer.coder.content_type());
    let mut response = Response::new(Body::from(answer.body));
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

/// Nothing that FutoIn has words for.
fn refused(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    // What is left of the body is not read.
    let close = HeaderValue::from_static("close");
    response.headers_mut().insert(header::CONNECTION, close);
    response
}

/// As the original answers what is neither `POST` nor below the base path.
fn invalid() -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::BAD_REQUEST;
    let reason = ReasonPhrase::from_static(b"Invalid Request");
    response.extensions_mut().insert(reason);
    response
}

/// Answers, and then serves the socket in a task of its own. Browsers do not ask
/// before a page opens one: its origin is all there is to go by.
fn upgrade(shim: &Arc<Shim>, mut request: Request<Body>) -> Response<Body> {
    let origins = &shim.options.web_origins;
    let origin = request.headers().get(header::ORIGIN);
    if !origins.is_empty() && origin.is_some_and(|origin| !origins.allow(origin)) {
        return refused(StatusCode::FORBIDDEN);
    }
    let response = handshake::answer(request.headers());
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        return response;
    }
    let channel = channel(shim, &request);
    let place = request.extensions().get::<Place>().cloned();
    let upgraded = hyper::upgrade::on(&mut request);
    let crew = Arc::clone(shim);
    shim.crowd.spawn(async move {
        match upgraded.await {
            Ok(io) => websocket::serve(crew, TokioIo::new(io), channel).await,
            Err(error) => tracing::debug!(%error, "no WebSocket after all"),
        }
        drop(place);
    });
    response
}
