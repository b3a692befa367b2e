//! Reads values of a JSON file by key, with errors that name file, key and value.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::path::Path;

use serde_json::{Map, Value};

use crate::error::{Error, Result, excerpt};

/// Parses the bytes of a JSON file whose top level must be an object.
pub(super) fn parse(path: &Path, bytes: &[u8]) -> Result<Map<String, Value>> {
    match serde_json::from_slice(bytes) {
        Ok(Value::Object(map)) => Ok(map),
        Ok(_) => Err(Error::model(path, "the file is not a JSON object; download it again")),
        Err(e) => Err(Error::model(path, format!("not valid JSON ({e}); download it again"))),
    }
}

/// A JSON object inside a file, with the dotted key that leads to it.
///
/// transformers writes `null` for settings with their default, so `null` counts as absent, except in
/// [`Section::is_null`].
pub(super) struct Section<'a> {
    path: &'a Path,
    prefix: String,
    map: Option<&'a Map<String, Value>>,
}

impl<'a> Section<'a> {
    /// The whole file.
    pub fn root(path: &'a Path, map: &'a Map<String, Value>) -> Self {
        Self { path, prefix: String::new(), map: Some(map) }
    }

    /// The object under `key`; empty if absent.
    pub fn section(&self, key: &str) -> Result<Section<'a>> {
        let map = match self.get(key) {
            None => None,
            Some(Value::Object(map)) => Some(map),
            Some(other) => return Err(self.wrong(key, other, "an object")),
        };
        Ok(Section { path: self.path, prefix: format!("{}{key}.", self.prefix), map })
    }

    /// Returns true if the object is present.
    pub fn exists(&self) -> bool {
        self.map.is_some()
    }

    /// Returns true if the object has no keys.
    pub fn is_empty(&self) -> bool {
        self.map.is_none_or(Map::is_empty)
    }

    /// The value under `key`, unless it is absent or `null`.
    pub fn get(&self, key: &str) -> Option<&'a Value> {
        self.map?.get(key).filter(|value| !value.is_null())
    }

    /// Returns true if `key` is present and `null`.
    pub fn is_null(&self, key: &str) -> bool {
        self.map.and_then(|map| map.get(key)).is_some_and(Value::is_null)
    }

    /// The spelling of a renamed key that this file uses; the newest if it has neither.
    pub fn spelling(&self, newest: &'static str, older: &'static str) -> &'static str {
        if self.get(newest).is_none() && self.get(older).is_some() { older } else { newest }
    }

    /// An error about `key`; `what` continues the text "`file`: `key` …".
    pub fn error(&self, key: &str, what: impl Display) -> Error {
        Error::model(self.path, format!("{}{key} {what}", self.prefix))
    }

    /// An error about the value of `key`, which should be `wanted`.
    pub fn wrong(&self, key: &str, value: &Value, wanted: impl Display) -> Error {
        self.error(key, format!("is {}; it must be {wanted}", quote(value)))
    }

    /// An integer inside `range`.
    pub fn whole(&self, key: &str, default: usize, range: RangeInclusive<usize>) -> Result<usize> {
        let Some(value) = self.get(key) else { return Ok(default) };
        whole(value).filter(|n| range.contains(n)).ok_or_else(|| {
            let wanted = format!("a whole number from {} to {}", range.start(), range.end());
            self.wrong(key, value, wanted)
        })
    }

    /// A number inside `range`.
    pub fn number(&self, key: &str, default: f64, range: RangeInclusive<f64>) -> Result<f64> {
        let Some(value) = self.get(key) else { return Ok(default) };
        value.as_f64().filter(|x| range.contains(x)).ok_or_else(|| {
            let wanted = format!("a number from {:e} to {:e}", range.start(), range.end());
            self.wrong(key, value, wanted)
        })
    }

    /// `true` or `false`.
    pub fn flag(&self, key: &str, default: bool) -> Result<bool> {
        match self.get(key) {
            None => Ok(default),
            Some(Value::Bool(flag)) => Ok(*flag),
            Some(other) => Err(self.wrong(key, other, "true or false")),
        }
    }

    /// Fails unless `key` has, or defaults to, the only supported value.
    pub fn require_flag(&self, key: &str, default: bool, wanted: bool) -> Result<()> {
        if self.flag(key, default)? == wanted {
            return Ok(());
        }
        Err(self.error(key, format!("is {}, which is not supported; only {wanted} is", !wanted)))
    }

    /// A string.
    pub fn text(&self, key: &str) -> Result<Option<&'a str>> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => Err(self.wrong(key, other, "a string")),
        }
    }

    /// One of several names; `default` is the name for an absent key.
    pub fn choice<T: Copy>(&self, key: &str, default: &str, names: &[(&str, T)]) -> Result<T> {
        let name = self.text(key)?.unwrap_or(default);
        let found = names.iter().find(|(known, _)| *known == name);
        found.map(|&(_, value)| value).ok_or_else(|| {
            let known: Vec<_> = names.iter().map(|(known, _)| format!("\"{known}\"")).collect();
            let what = format!(
                "is {}, which is not supported; it must be {}",
                quote(&Value::from(name)),
                known.join(" or ")
            );
            self.error(key, what)
        })
    }
}

/// The value as an integer, if it is one and not negative.
pub(super) fn whole(value: &Value) -> Option<usize> {
    value.as_u64().and_then(|n| usize::try_from(n).ok())
}

/// Formats a value for a message.
pub(super) fn quote(value: &Value) -> String {
    excerpt(value, 60)
}
