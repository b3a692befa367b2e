//! HTTP as plain as it can be, so that a test sees what goes over the wire.

// Shared by tests, each of which uses a part.
#![allow(dead_code)]

use serde_json::Value;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

pub struct Request {
    pub head: String,
    pub body: Vec<u8>,
}

pub struct Reply {
    pub status: u16,
    headers: Vec<(String, String)>,
    pub body: String,
}

impl Request {
    pub fn new(method: &str, path: &str) -> Self {
        Self { head: format!("{method} {path} HTTP/1.1\r\nHost: test\r\n"), body: Vec::new() }
    }

    pub fn get(path: &str) -> Self {
        Self::new("GET", path)
    }

    pub fn post(path: &str, body: &str) -> Self {
        let request = Self::new("POST", path).header("Content-Type", "application/json");
        Self { body: body.into(), ..request }
    }

    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.head += &format!("{name}: {value}\r\n");
        self
    }

    /// Sends it, and leaves the connection open for what comes.
    pub fn open(&self, address: &str) -> TcpStream {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(120))).unwrap();
        let length = self.body.len();
        write!(stream, "{}Connection: close\r\nContent-Length: {length}\r\n\r\n", self.head)
            .unwrap();
        // A server that refuses by the head alone may have closed already.
        let _ = stream.write_all(&self.body);
        stream
    }

    pub fn send(&self, address: &str) -> Reply {
        Reply::read(self.open(address))
    }
}

impl Reply {
    /// Reads to the end of the connection.
    pub fn read(stream: TcpStream) -> Self {
        let mut reader = BufReader::new(stream);
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        let status = line.split(' ').nth(1).unwrap_or_else(|| panic!("{line:?}")).parse().unwrap();
        let mut headers = Vec::new();
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).unwrap();
            match line.trim().split_once(": ") {
                Some((name, value)) => headers.push((name.to_ascii_lowercase(), value.to_owned())),
                None => break,
            }
        }
        let mut body = Vec::new();
        if let Err(error) = reader.read_to_end(&mut body) {
            // What was refused before it was read ends so.
            assert_eq!(error.kind(), ErrorKind::ConnectionReset);
        }
        let mut reply = Self { status, headers, body: String::new() };
        if reply.header("transfer-encoding") == Some("chunked") {
            body = unchunked(&body);
        }
        reply.body = String::from_utf8(body).unwrap();
        reply
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }

    /// The events of a stream; the last is whatever stands for its end.
    pub fn events(&self) -> Vec<&str> {
        assert_eq!(self.header("content-type"), Some("text/event-stream"));
        let events = self.body.split("\n\n").filter(|event| !event.is_empty());
        events
            .filter(|event| !event.starts_with(':'))
            .map(|event| event.strip_prefix("data: ").unwrap())
            .collect()
    }
}

fn unchunked(mut bytes: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    while let Some(end) = bytes.windows(2).position(|pair| pair == b"\r\n") {
        let size = std::str::from_utf8(&bytes[..end]).unwrap();
        let size = usize::from_str_radix(size, 16).unwrap();
        let begin = end + 2;
        body.extend(&bytes[begin..begin + size]);
        bytes = &bytes[begin + size + 2..];
    }
    body
}

/// Bytes as the URL that a body carries them in.
pub fn data_url(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut url = String::from("data:image/png;base64,");
    for three in bytes.chunks(3) {
        let number =
            three.iter().fold(0, |n, &byte| n << 8 | u32::from(byte)) << (8 * (3 - three.len()));
        for digit in 0..4 {
            let value = (number >> (18 - 6 * digit)) & 63;
            url.push(if digit <= three.len() { DIGITS[value as usize] as char } else { '=' });
        }
    }
    url
}
