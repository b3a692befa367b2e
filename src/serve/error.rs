//! Errors in the format of OpenAI's API: a status and an object with four keys.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

/// An error that is returned to the client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiError {
    pub status: StatusCode,
    message: String,
    /// The field at fault.
    param: Option<String>,
    /// An error code for programs.
    code: Option<&'static str>,
    /// Seconds after which a retry may succeed.
    retry_after: Option<u64>,
    /// Number of tokens of a prompt that is too long, and the model's context length.
    context: Option<[usize; 2]>,
}

impl ApiError {
    fn new(status: StatusCode, message: impl Into<String>) -> Self {
        // Values from the body are quoted, and control characters in them would reach logs and terminals.
        let message = message.into().replace(char::is_control, " ");
        Self { status, message, param: None, code: None, retry_after: None, context: None }
    }

    fn code(mut self, code: &'static str) -> Self {
        self.code = Some(code);
        self
    }

    fn retry_after(mut self, seconds: u64) -> Self {
        self.retry_after = Some(seconds);
        self
    }

    /// An invalid field in the body.
    pub fn field(param: impl Into<String>, message: impl Into<String>) -> Self {
        let param = Some(param.into()).filter(|param| !param.is_empty());
        Self { param, ..Self::new(StatusCode::BAD_REQUEST, message) }
    }

    /// An image that cannot be read.
    pub fn image(param: impl Into<String>, message: impl Into<String>) -> Self {
        Self::field(param, message).code("invalid_image")
    }

    /// A missing or wrong API key.
    pub fn key(message: &str) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, message).code("invalid_api_key")
    }

    pub fn no_model(asked: &str, served: &str) -> Self {
        let message = format!("the model '{asked}' is not available here: use '{served}'");
        Self { param: Some("model".into()), ..Self::new(StatusCode::NOT_FOUND, message) }
            .code("model_not_found")
    }

    pub fn no_path(path: &str) -> Self {
        let message = format!("there is no path {path}: the API is below /v1");
        Self::new(StatusCode::NOT_FOUND, message).code("not_found")
    }

    pub fn method(method: &str, path: &str) -> Self {
        let message = format!("{path} does not take {method}");
        Self::new(StatusCode::METHOD_NOT_ALLOWED, message).code("method_not_allowed")
    }

    /// The body did not arrive in time.
    pub fn slow(seconds: u64) -> Self {
        let message = format!("the body did not arrive within {seconds} s");
        Self::new(StatusCode::REQUEST_TIMEOUT, message).code("request_timeout")
    }

    pub fn large(limit: usize) -> Self {
        let message = format!("the body is larger than {limit} bytes: send smaller images");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, message).code("request_too_large")
    }

    pub fn media_type() -> Self {
        let message = "the body must be JSON: send the header Content-Type: application/json";
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, message).code("unsupported_media_type")
    }

    /// Too many requests are waiting.
    pub fn busy(message: impl Into<String>, retry_after: u64) -> Self {
        Self::new(StatusCode::TOO_MANY_REQUESTS, message)
            .code("queue_full")
            .retry_after(retry_after)
    }

    /// The server is starting, shutting down or has failed.
    pub fn unavailable(message: &str, code: &'static str, retry_after: u64) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, message).code(code).retry_after(retry_after)
    }

    /// A failure that is not the client's fault.
    pub fn server(message: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, message)
    }

    /// The label of this error in the metrics.
    pub fn reason(&self) -> &'static str {
        self.code.unwrap_or(match self.status {
            StatusCode::BAD_REQUEST => "invalid_request",
            _ => "internal_error",
        })
    }

    /// The JSON object of the error.
    pub fn object(&self) -> Value {
        let kind = match self.status {
            StatusCode::UNAUTHORIZED => "authentication_error",
            StatusCode::TOO_MANY_REQUESTS => "rate_limit_error",
            status if status.is_server_error() => "server_error",
            _ => "invalid_request_error",
        };
        let Self { message, param, code, .. } = self;
        let mut error = json!({"message": message, "type": kind, "param": param, "code": code});
        if let Some([prompt, limit]) = self.context {
            // Clients use these numbers to shorten their conversations.
            error["n_prompt_tokens"] = json!(prompt);
            error["n_ctx"] = json!(limit);
        }
        json!({"error": error})
    }
}

impl From<hired::Error> for ApiError {
    fn from(error: hired::Error) -> Self {
        use hired::Error;
        let message = error.to_string();
        match error {
            // Images are named by their position in the body.
            Error::Image { name, .. } => Self::image(name, message),
            Error::Request(_) => Self::field("", message),
            Error::Capacity(_) => Self {
                status: StatusCode::UNPROCESSABLE_ENTITY,
                ..Self::field("", message).code("insufficient_memory")
            },
            Error::Context { prompt, limit, .. } => Self {
                context: Some([prompt, limit]),
                ..Self::field("messages", message).code("context_length_exceeded")
            },
            Error::Busy(_) => Self::unavailable(&message, "memory_taken", 5),
            Error::Cancelled => Self::unavailable("the server is stopping", "stopping", 5),
            Error::Device(_) => Self::server(message).code("device_failed"),
            _ => Self::server(message),
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(self.object())).into_response();
        let headers = response.headers_mut();
        if let Some(seconds) = self.retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.status == StatusCode::INTERNAL_SERVER_ERROR && self.code.is_none() {
            // The same request would fail again; clients would otherwise retry it twice.
            headers.insert("x-should-retry", HeaderValue::from_static("false"));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response.extensions_mut().insert(self.reason());
        response
    }
}
