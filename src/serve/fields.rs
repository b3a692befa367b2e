//! Reads a JSON object field by field, so that every error names the field.

use super::error::ApiError;
use serde_json::{Map, Value};
use std::str::FromStr;

/// The remaining fields of an object, and its position in the body.
#[derive(Debug)]
pub struct Fields {
    path: String,
    map: Map<String, Value>,
}

/// The name of a value's type in messages.
fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

impl Fields {
    /// # Errors
    /// If the value is not an object.
    pub fn of(path: impl Into<String>, value: Value) -> Result<Self, ApiError> {
        let path = path.into();
        match value {
            Value::Object(map) => Ok(Self { path, map }),
            other => {
                let name = if path.is_empty() { "the body" } else { &path };
                let message = format!("{name} must be an object, not {}", kind(&other));
                Err(ApiError::field(path, message))
            }
        }
    }

    /// The full name of a field.
    pub fn name(&self, field: &str) -> String {
        if self.path.is_empty() { field.into() } else { format!("{}.{field}", self.path) }
    }

    /// An error about a field.
    pub fn wrong(&self, field: &str, what: impl std::fmt::Display) -> ApiError {
        let name = self.name(field);
        let message = format!("{name}: {what}");
        ApiError::field(name, message)
    }

    /// Removes and returns a field's value; null counts as absent.
    pub fn take(&mut self, field: &str) -> Option<Value> {
        self.map.remove(field).filter(|value| !value.is_null())
    }

    fn typed<T>(
        &mut self,
        field: &str,
        wanted: &str,
        read: impl FnOnce(Value) -> Result<T, Value>,
    ) -> Result<Option<T>, ApiError> {
        let Some(value) = self.take(field) else { return Ok(None) };
        match read(value) {
            Ok(read) => Ok(Some(read)),
            Err(Value::Number(number)) => {
                Err(self.wrong(field, format!("give {wanted}, not {number}")))
            }
            Err(other) => Err(self.wrong(field, format!("give {wanted}, not {}", kind(&other)))),
        }
    }

    pub fn text(&mut self, field: &str) -> Result<Option<String>, ApiError> {
        self.typed(field, "a string", |value| match value {
            Value::String(text) => Ok(text),
            other => Err(other),
        })
    }

    pub fn flag(&mut self, field: &str) -> Result<Option<bool>, ApiError> {
        self.typed(field, "true or false", |value| value.as_bool().ok_or(value))
    }

    /// An integer; some clients write it with a decimal point.
    pub fn whole(&mut self, field: &str, least: u64) -> Result<Option<u64>, ApiError> {
        self.typed(field, &format!("a whole number of at least {least}"), |value| {
            let float = value.as_f64().filter(|f| f.fract() == 0.0 && (0.0..9e15).contains(f));
            let number = value.as_u64().or(float.map(|float| float as u64));
            number.filter(|&number| number >= least).ok_or(value)
        })
    }

    pub fn number(
        &mut self,
        field: &str,
        wanted: &str,
        is_good: impl FnOnce(f64) -> bool,
    ) -> Result<Option<f64>, ApiError> {
        self.typed(field, wanted, |value| {
            value.as_f64().filter(|&number| is_good(number)).ok_or(value)
        })
    }

    pub fn array(&mut self, field: &str) -> Result<Option<Vec<Value>>, ApiError> {
        self.typed(field, "an array", |value| match value {
            Value::Array(items) => Ok(items),
            other => Err(other),
        })
    }

    pub fn object(&mut self, field: &str) -> Result<Option<Self>, ApiError> {
        let name = self.name(field);
        self.take(field).map(|value| Self::of(name, value)).transpose()
    }

    /// A value that the command line takes as text; a number is converted to its text.
    pub fn parsed<T: FromStr<Err = hired::Error>>(
        &mut self,
        field: &str,
    ) -> Result<Option<T>, ApiError> {
        let text = self.typed(field, "a string or a number", |value| match value {
            Value::String(text) => Ok(text),
            Value::Number(number) => Ok(number.to_string()),
            other => Err(other),
        })?;
        text.map(|text| text.parse().map_err(|error| self.wrong(field, error))).transpose()
    }

    /// Names of the remaining fields.
    pub fn left(&self) -> impl Iterator<Item = &str> {
        self.map.iter().filter(|(_, value)| !value.is_null()).map(|(name, _)| name.as_str())
    }
}
