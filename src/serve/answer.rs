//! Answers a request, complete or streamed.

use super::access::Access;
use super::ask::{Asked, Way};
use super::error::ApiError;
use super::picture;
use super::reply::{Head, Own, finish_reason};
use super::server::{Phase, Server};
use axum::Json;
use axum::body::{Body, Bytes};
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use hired::select::{Budget, Selection};
use hired::{Answer, FinishReason, Image, SubmitError, Ticket, Update};
use serde_json::Value;
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::time::timeout;

/// A request that the engine has accepted. It is dropped when the client disconnects, which cancels it.
pub struct Running {
    server: Arc<Server>,
    access: Arc<Access>,
    updates: UnboundedReceiver<Update>,
    _ticket: Ticket,
    /// Reserved memory of the request body, which the image uses by now.
    _room: OwnedSemaphorePermit,
    head: Head,
    selection: Selection,
    seed: Option<u64>,
    usage: bool,
    kept: bool,
    overlay: Vec<Image>,
    total: Option<Budget>,
    submitted: Instant,
    queued: f64,
    last: Option<Instant>,
}

/// The next part of an answer.
enum Next {
    Text(String),
    End { text: String, answer: Box<Answer> },
    Failed(ApiError),
}

/// Submits a request to the engine. Errors in the request are found here.
pub fn submit(
    server: &Arc<Server>,
    access: &Arc<Access>,
    asked: Asked,
    way: Way,
    room: OwnedSemaphorePermit,
) -> Result<(Running, bool), ApiError> {
    let loaded = server.working()?;
    server.metrics.unknown_fields(asked.unknown);
    let words = server.settings.log_prompts.then(|| format!("{:?}", asked.request.prompt));
    let seed = (asked.request.sampling.temperature > 0.0).then_some(asked.request.sampling.seed);
    let selection = asked.request.selection.clone();
    let total = asked.request.budget_total;
    let (sender, updates) = unbounded_channel();
    let submitted = loaded.scheduler.submit(asked.request, move |update| drop(sender.send(update)));
    let ticket = submitted.map_err(|refusal| match refusal {
        SubmitError::Full { waiting, .. } => {
            ApiError::busy(refusal.to_string(), server.retry_after(waiting))
        }
        SubmitError::Refused(error) => error.into(),
        _ => match server.phase() {
            Phase::Draining => ApiError::unavailable("the server is stopping", "stopping", 5),
            // The engine accepts no more work although the server is not shutting down.
            _ => {
                server.go(Phase::Broken);
                let message = "the engine has failed: start the server again";
                ApiError::unavailable(message, "device_failed", 30)
            }
        },
    })?;
    access.opened(asked.stream, words);
    let created = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
    let prefix = if way == Way::Chat { "chatcmpl" } else { "cmpl" };
    let id = format!("{prefix}-{}", access.id);
    let fingerprint = loaded.fingerprint.clone();
    let head = Head { id, created, model: asked.model, fingerprint, way };
    let running = Running {
        server: server.clone(),
        access: access.clone(),
        updates,
        _ticket: ticket,
        _room: room,
        head,
        selection,
        seed,
        usage: asked.include_usage,
        kept: asked.kept,
        overlay: asked.overlay,
        total,
        submitted: Instant::now(),
        queued: 0.0,
        last: None,
    };
    Ok((running, asked.stream))
}

impl Running {
    /// The next part of the answer; cancel-safe.
    async fn next(&mut self) -> Next {
        loop {
            match self.updates.recv().await {
                Some(Update::Started) => {
                    self.queued = self.submitted.elapsed().as_secs_f64();
                    self.access.started(self.queued);
                }
                Some(Update::Token { text, .. }) => {
                    if let Some(last) = self.last.replace(Instant::now()) {
                        self.server.metrics.gap(last.elapsed().as_secs_f64());
                    }
                    if !text.is_empty() {
                        return Next::Text(text);
                    }
                }
                Some(Update::Finished { text, answer, .. }) => match answer.finish_reason {
                    // Not cancelled by its client, who would have disconnected.
                    FinishReason::Cancelled => return Next::Failed(hired::Error::Cancelled.into()),
                    _ => {
                        self.server.device.answered();
                        return Next::End { text, answer };
                    }
                },
                Some(Update::Failed(error)) => {
                    let failed = matches!(error, hired::Error::Device(_));
                    if failed && self.server.device.failed(self.submitted) {
                        self.server.go(Phase::Broken);
                    }
                    return Next::Failed(error.into());
                }
                Some(_) => {}
                None => {
                    return Next::Failed(ApiError::server("the engine dropped the request"));
                }
            }
        }
    }

    fn failed(&self, error: &ApiError) {
        self.server.metrics.rejected(error.reason());
        self.access.failed(error.reason());
    }

    /// The answer's `hired` object, with pictures if they were requested.
    async fn own<'a>(&mut self, answer: &'a Answer) -> Own<'a> {
        self.access.answered(answer, finish_reason(answer));
        let images = std::mem::take(&mut self.overlay);
        let overlays = match images.is_empty() {
            true => Vec::new(),
            false => {
                let (server, visuals) = (self.server.clone(), answer.visuals.clone());
                let drawn = tokio::task::spawn_blocking(move || {
                    let pairs = images.iter().zip(&visuals);
                    // The images were decoded before, so errors are not the client's fault.
                    pairs
                        .filter_map(|(image, visual)| picture::draw(&server, image, visual).ok()?)
                        .collect()
                });
                drawn.await.unwrap_or_default()
            }
        };
        let asked = self.total.map_or(self.selection.budget, |total| total);
        let Self { selection, seed, queued, kept, .. } = self;
        Own::new(answer, selection, asked, *seed, *queued, *kept, overlays)
    }

    /// The complete answer as one response.
    pub async fn whole(mut self) -> Result<Response, ApiError> {
        loop {
            match self.next().await {
                Next::Text(_) => {}
                Next::Failed(error) => {
                    self.access.failed(error.reason());
                    return Err(error);
                }
                Next::End { answer, .. } => {
                    let own = self.own(&answer).await;
                    return Ok(Json(self.head.whole(&answer, &own)).into_response());
                }
            }
        }
    }

    /// The answer as server-sent events. Early errors have their own status; after a short time the status 200 is
    /// sent, so that comments can keep the connection alive.
    pub async fn streamed(mut self) -> Result<Response, ApiError> {
        let patience = self.server.settings.keep_alive;
        let mut first = String::new();
        match timeout(patience, self.next()).await {
            Ok(Next::Failed(error)) => {
                self.access.failed(error.reason());
                return Err(error);
            }
            Ok(Next::Text(text)) => {
                first = self.begin();
                first += &event(&self.head.piece(&text, self.usage));
            }
            Ok(Next::End { text, answer }) => {
                first = self.begin();
                first += &self.end(&text, &answer).await;
                let body = Body::from(first);
                return Ok(events(body));
            }
            Err(_) => first += ": waiting\n\n",
        }
        let begun = first.starts_with("data:");
        let state = Some((self, first, begun));
        let pieces = stream::unfold(state, |state| async move {
            let (mut running, first, mut begun) = state?;
            if !first.is_empty() {
                return Some((
                    Ok::<_, std::convert::Infallible>(Bytes::from(first)),
                    Some((running, String::new(), begun)),
                ));
            }
            let patience = running.server.settings.keep_alive;
            let mut text = String::new();
            let next = timeout(patience, running.next()).await;
            if !begun && matches!(next, Ok(Next::Text(_) | Next::End { .. })) {
                text += &running.begin();
                begun = true;
            }
            match next {
                Err(_) => text += ": still working\n\n",
                Ok(Next::Text(piece)) => text += &event(&running.head.piece(&piece, running.usage)),
                Ok(Next::End { text: rest, answer }) => {
                    text += &running.end(&rest, &answer).await;
                    return Some((Ok(Bytes::from(text)), None));
                }
                Ok(Next::Failed(error)) => {
                    running.failed(&error);
                    // Without an error event, a stream that just ends would look like a complete answer.
                    text += &event(&error.object());
                    return Some((Ok(Bytes::from(text)), None));
                }
            }
            Some((Ok(Bytes::from(text)), Some((running, String::new(), begun))))
        });
        Ok(events(Body::from_stream(pieces)))
    }

    fn begin(&self) -> String {
        match self.head.way {
            Way::Chat => event(&self.head.first(self.usage)),
            Way::Text => String::new(),
        }
    }

    /// Everything after the last token.
    async fn end(&mut self, rest: &str, answer: &Answer) -> String {
        let own = self.own(answer).await;
        let mut text = String::new();
        if !rest.is_empty() {
            text += &event(&self.head.piece(rest, self.usage));
        }
        text += &event(&self.head.last(answer, &own, self.usage));
        if self.usage {
            text += &event(&self.head.cost(answer));
        }
        text + "data: [DONE]\n\n"
    }
}

fn event(value: &Value) -> String {
    format!("data: {value}\n\n")
}

fn events(body: Body) -> Response {
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream")),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
        // Keeps nginx from buffering the stream.
        (header::HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no")),
    ];
    (headers, body).into_response()
}
