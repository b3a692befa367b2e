//! Images by http: and https: addresses, for servers whose owner allows it: within bounds of size, time and redirects, and
//! not from where the client could not go itself.

mod address;
#[cfg(test)]
mod tests;

use super::error::ApiError;
use address::{Find, May, Names, Private, is_public, system};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use reqwest::redirect::Policy;
use reqwest::{Client, Response, Url, header};
use serde_json::Value;
use std::error::Error;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::timeout;

/// Redirects that are followed for an image.
const REDIRECTS: usize = 3;
/// Requests whose images are downloaded at the same time; others wait, which counts as time.
const TOGETHER: usize = 8;
/// Bytes of memory that are asked for at a time.
const STEP: usize = 64 << 10;

/// What the server's owner allows.
#[derive(Debug, Clone, Copy)]
pub struct FetchTerms {
    /// Also from addresses that are not the public internet's.
    pub private: bool,
    /// For all images of a request together.
    pub patience: Duration,
}

/// Downloads images.
#[derive(Debug)]
pub struct Fetch {
    client: Client,
    may: May,
    patience: Duration,
    /// Bytes of all images of a request together.
    most: usize,
    places: Semaphore,
}

impl Fetch {
    /// # Errors
    /// When the system has no certificates to trust.
    pub fn new(terms: FetchTerms, most: usize) -> Result<Self, String> {
        let may: May = if terms.private { |_| true } else { is_public };
        Self::within(may, system(), terms.patience, most)
    }

    fn within(may: May, find: Find, patience: Duration, most: usize) -> Result<Self, String> {
        // The first one of the process holds; there is no other.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = Client::builder()
            .user_agent(concat!("hired/", env!("CARGO_PKG_VERSION")))
            .redirect(Policy::none())
            // A proxy would look names up by itself.
            .no_proxy()
            .referer(false)
            .pool_max_idle_per_host(0)
            .dns_resolver(Arc::new(Names { may, find }))
            .build();
        let client = client.map_err(|error| format!("--fetch-images: {}", reason(&error)))?;
        Ok(Self { client, may, patience, most, places: Semaphore::new(TOGETHER) })
    }

    /// Puts the images in place of their addresses, as `data:` URLs. `room` is asked for the memory before it is used.
    ///
    /// # Errors
    /// With the place of the image that cannot be had.
    pub async fn fill(
        &self,
        body: &mut Value,
        most_images: usize,
        mut room: impl FnMut(usize) -> Result<(), ApiError>,
    ) -> Result<(), ApiError> {
        let wanted = wanted(body);
        let count = wanted.len();
        if count > most_images {
            let what = format!("messages: {count} images, and at most {most_images} are allowed");
            return Err(ApiError::field("messages", what));
        }
        let Some((first, _)) = wanted.first() else { return Ok(()) };
        let mut param = first.clone();
        let mut left = self.most;
        let all = async {
            let _place = self.places.acquire().await;
            for (place, url) in wanted {
                param.clone_from(&place);
                let bytes =
                    self.get(url, &mut left, &mut room).await.map_err(|what| match what {
                        Failure::Image(what) => ApiError::image(&place, format!("{place}: {what}")),
                        Failure::Room(error) => error,
                    })?;
                *url = format!("data:;base64,{}", BASE64_STANDARD.encode(bytes));
            }
            Ok(())
        };
        let all = timeout(self.patience, all).await;
        all.unwrap_or_else(|_| {
            let seconds = self.patience.as_secs_f64();
            let what = format!("{param}: it did not arrive within {seconds} s (--fetch-timeout)");
            Err(ApiError::image(param, what))
        })
    }

    /// The bytes behind an address; `left` of them may still come.
    async fn get(
        &self,
        url: &str,
        left: &mut usize,
        room: &mut impl FnMut(usize) -> Result<(), ApiError>,
    ) -> Result<Vec<u8>, Failure> {
        let mut url = Url::parse(url).map_err(|_| "this is no address of an image")?;
        for _ in 0..=REDIRECTS {
            self.check(&url)?;
            let response = self.client.get(url.clone()).send().await.map_err(failed)?;
            // What names and numbers promised; a second look at what it came to.
            if !response.remote_addr().is_some_and(|peer| (self.may)(peer.ip())) {
                return Err(Private.to_string().into());
            }
            let status = response.status();
            if let Some(next) =
                response.headers().get(header::LOCATION).filter(|_| status.is_redirection())
            {
                let next = next.to_str().ok().and_then(|next| url.join(next).ok());
                url = next.ok_or("it redirects to what is no address")?;
                continue;
            }
            if !status.is_success() {
                return Err(
                    format!("the server there answers with status {}", status.as_u16()).into()
                );
            }
            return self.receive(response, left, room).await;
        }
        Err(format!("it redirects more than {REDIRECTS} times").into())
    }

    /// Refuses what needs no connection to be refused. Numbers are no names: nobody would look them up.
    fn check(&self, url: &Url) -> Result<(), Failure> {
        if !matches!(url.scheme(), "http" | "https") {
            return Err("it redirects to what is neither http: nor https:".into());
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err("names and passwords in addresses are not sent".into());
        }
        let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
        match host.parse::<IpAddr>() {
            Ok(address) if !(self.may)(address) => Err(Private.to_string().into()),
            _ => Ok(()),
        }
    }

    async fn receive(
        &self,
        mut response: Response,
        left: &mut usize,
        room: &mut impl FnMut(usize) -> Result<(), ApiError>,
    ) -> Result<Vec<u8>, Failure> {
        let large =
            || format!("the images are larger than {} bytes together (--max-body)", self.most);
        let length = response.content_length().unwrap_or(0);
        if length > *left as u64 {
            return Err(large().into());
        }
        let (mut bytes, mut held) = (Vec::new(), 0);
        while let Some(chunk) = response.chunk().await.map_err(failed)? {
            *left = left.checked_sub(chunk.len()).ok_or_else(large)?;
            // As base64 it takes a third more.
            while held < (bytes.len() + chunk.len()).div_ceil(3) * 4 {
                room(STEP).map_err(Failure::Room)?;
                held += STEP;
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(bytes)
    }
}

/// Why an image is not there.
enum Failure {
    Image(String),
    /// The memory is others'.
    Room(ApiError),
}

impl From<String> for Failure {
    fn from(what: String) -> Self {
        Self::Image(what)
    }
}

impl From<&str> for Failure {
    fn from(what: &str) -> Self {
        Self::Image(what.into())
    }
}

fn failed(error: reqwest::Error) -> Failure {
    Failure::Image(reason(&error))
}

/// The cause at the bottom of a failure, which is the one that says something, on a line.
fn reason(error: &reqwest::Error) -> String {
    let mut cause: &dyn Error = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    match cause.is::<Private>() {
        true => cause.to_string(),
        false => {
            format!("it cannot be downloaded: {}", cause.to_string().replace(char::is_control, " "))
        }
    }
}

/// The addresses to download in a body, and where they stand in it. What is wrong with the rest is found later.
fn wanted(body: &mut Value) -> Vec<(String, &mut String)> {
    let messages = body.get_mut("messages").and_then(Value::as_array_mut);
    let mut found = Vec::new();
    for (m, message) in messages.into_iter().flatten().enumerate() {
        if message.get("role").is_none_or(|role| role != "user") {
            continue;
        }
        let parts = message.get_mut("content").and_then(Value::as_array_mut);
        for (p, part) in parts.into_iter().flatten().enumerate() {
            let url = match part.get_mut("image_url") {
                Some(Value::String(url)) => url,
                Some(Value::Object(fields)) => match fields.get_mut("url") {
                    Some(Value::String(url)) => url,
                    _ => continue,
                },
                _ => continue,
            };
            let scheme = url.split_once(':').map(|(scheme, _)| scheme.trim().to_ascii_lowercase());
            if matches!(scheme.as_deref(), Some("http" | "https")) {
                found.push((format!("messages[{m}].content[{p}].image_url"), url));
            }
        }
    }
    found
}
