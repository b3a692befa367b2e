//! The routes of the server and their handlers.

use super::access::Access;
use super::answer::{self, Running};
use super::ask::{Asked, Way, parsed};
use super::error::ApiError;
use super::metrics::Metrics;
use super::page;
use super::server::{Phase, Server};
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, HeaderValue, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use serde_json::{Value, json};
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use tokio::time::timeout;

/// The router.
pub fn router(server: Arc<Server>) -> Router {
    let api = Router::new()
        .route("/v1/chat/completions", post(chat))
        .route("/v1/completions", post(text))
        .route("/v1/models", get(models))
        .route("/v1/models/{*model}", get(model))
        .method_not_allowed_fallback(wrong_method)
        .layer(from_fn_with_state(server.clone(), key));
    Router::new()
        .merge(api)
        .route("/health", get(health))
        .route("/ready", get(ready))
        .route("/health/ready", get(ready))
        .route("/metrics", get(metrics))
        .route("/", get(page::page))
        .route("/favicon.ico", get(page::icon))
        .method_not_allowed_fallback(wrong_method)
        .fallback(wrong_path)
        .layer(from_fn_with_state(server.clone(), access))
        .with_state(server)
}

/// Gives a request its id, and writes its log line when it is over.
async fn access(State(server): State<Arc<Server>>, mut request: Request, next: Next) -> Response {
    let given = request.headers().get("x-request-id").and_then(|id| id.to_str().ok());
    let is_good =
        |id: &&str| (1..=64).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_graphic());
    let id = given.filter(is_good).map(str::to_owned);
    let id = id.unwrap_or_else(|| format!("{:016x}", RandomState::new().hash_one(0)));
    let (method, path) = (request.method().to_string(), request.uri().path().to_owned());
    let access = Access::new(id, method, path, server.metrics.clone(), server.alive.clone());
    request.extensions_mut().insert(access.clone());
    let mut response = next.run(request).await;
    access.status(response.status().as_u16());
    if let Some(reason) = response.extensions().get::<&'static str>() {
        server.metrics.rejected(reason);
        access.failed(reason);
    }
    let headers = response.headers_mut();
    if let Ok(id) = HeaderValue::from_str(&access.id) {
        headers.insert("x-request-id", id);
    }
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if server.phase() >= Phase::Draining {
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// Checks the API key.
async fn key(State(server): State<Arc<Server>>, request: Request, next: Next) -> Response {
    let given = request.headers().get(header::AUTHORIZATION).map(HeaderValue::as_bytes);
    match server.admits(given) {
        Ok(()) => next.run(request).await,
        Err(error) => error.into_response(),
    }
}

async fn wrong_method(request: Request) -> ApiError {
    ApiError::method(request.method().as_str(), request.uri().path())
}

async fn wrong_path(request: Request) -> ApiError {
    ApiError::no_path(request.uri().path())
}

async fn chat(
    State(server): State<Arc<Server>>,
    Extension(access): Extension<Arc<Access>>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    ask(server, access, headers, body, Way::Chat).await
}

async fn text(
    State(server): State<Arc<Server>>,
    Extension(access): Extension<Arc<Access>>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    ask(server, access, headers, body, Way::Text).await
}

async fn ask(
    server: Arc<Server>,
    access: Arc<Access>,
    headers: HeaderMap,
    body: Body,
    way: Way,
) -> Result<Response, ApiError> {
    server.working()?;
    // Other websites can send any request but this content type without a preflight.
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    let kind = kind.and_then(|kind| kind.split(';').next()).unwrap_or_default().trim();
    if !kind.eq_ignore_ascii_case("application/json") {
        return Err(ApiError::media_type());
    }
    let most = server.settings.max_body;
    let length =
        headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
    if length.is_some_and(|length: usize| length > most) {
        return Err(ApiError::large(most));
    }
    let mut room = server.room(length.unwrap_or(most))?;
    let body = receive(&server, body).await?;
    let mut body = reading(&server, move || parsed(&body)).await?;
    if let (Some(fetch), Way::Chat) = (&server.fetch, way) {
        let grow = |bytes| {
            room.merge(server.room(bytes)?);
            Ok(())
        };
        fetch.fill(&mut body, server.settings.terms.images.most, grow).await?;
    }
    let shared = server.clone();
    let running = reading(&server, move || -> Result<(Running, bool), ApiError> {
        let asked = Asked::of(body, way, &shared.settings.terms)?;
        answer::submit(&shared, &access, asked, way, room)
    });
    match running.await? {
        (running, true) => running.streamed().await,
        (running, false) => running.whole().await,
    }
}

/// Does what takes a processor, among the few who may at the same time.
async fn reading<T: Send + 'static>(
    server: &Server,
    work: impl FnOnce() -> Result<T, ApiError> + Send + 'static,
) -> Result<T, ApiError> {
    let _turn = server.reader().await;
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|_| ApiError::server("a defect, which stopped this request: please report it"))?
}

/// The whole body, within its bounds.
async fn receive(server: &Server, body: Body) -> Result<Bytes, ApiError> {
    let (most, patience) = (server.settings.max_body, server.settings.body_timeout);
    match timeout(patience, to_bytes(body, most)).await {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(error)) => {
            let error: axum::BoxError = error.into();
            let is_large = error.to_string().contains("length limit");
            if is_large {
                Err(ApiError::large(most))
            } else {
                Err(ApiError::field("", "the body broke off"))
            }
        }
        Err(_) => Err(ApiError::slow(patience.as_secs())),
    }
}

/// The object that describes the model.
fn card(server: &Server) -> Value {
    let positions = server.loaded().map(|loaded| loaded.config.text.max_positions);
    json!({
        "id": server.settings.terms.model,
        "object": "model",
        "created": 0,
        "owned_by": "hired",
        "max_model_len": positions,
    })
}

async fn models(State(server): State<Arc<Server>>) -> Json<Value> {
    Json(json!({"object": "list", "data": [card(&server)]}))
}

async fn model(
    State(server): State<Arc<Server>>,
    Path(asked): Path<String>,
) -> Result<Json<Value>, ApiError> {
    let served = &server.settings.terms.model;
    if &asked == served { Ok(Json(card(&server))) } else { Err(ApiError::no_model(&asked, served)) }
}

/// Returns 200 while the process runs and its engine has not failed.
async fn health(State(server): State<Arc<Server>>) -> Result<Json<Value>, ApiError> {
    match server.phase() {
        Phase::Broken => server.working().map(|_| Json(Value::Null)),
        _ => Ok(Json(json!({"status": "ok"}))),
    }
}

async fn ready(State(server): State<Arc<Server>>) -> Result<Json<Value>, ApiError> {
    server.is_ready().map(|()| Json(json!({"status": "ready"})))
}

async fn metrics(State(server): State<Arc<Server>>) -> Result<Response, ApiError> {
    let statistics = server.loaded().map(|loaded| loaded.scheduler.statistics());
    let text = server.metrics.text(statistics);
    let text = text.map_err(|error| ApiError::server(format!("metrics: {error}")))?;
    Ok(([(header::CONTENT_TYPE, Metrics::content_type())], text).into_response())
}
