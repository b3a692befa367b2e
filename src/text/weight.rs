//! How large a value of a template is.
//!
//! Lists and maps can share parts, so that a hundred steps make one of 2¹⁰⁰ items. The engine counts what is made, not
//! what is walked when such values are compared, sorted, hashed, printed or joined: so none is let come about.

use minijinja::value::ValueKind;
use minijinja::{Error, ErrorKind, State, Value};

/// Items of a value, those of its lists in lists included. A conversation has about ten.
const NODES: usize = 4_000;
/// Levels of lists in lists.
const DEPTH: usize = 64;
/// Bytes of a value's texts.
const BYTES: usize = 16 << 20;
/// Items that are walked for one unit of fuel.
const NODES_PER_FUEL: usize = 32;

/// Puts a value through if it is of a size that can be worked with.
pub(super) fn bounded(state: &mut State, value: Value) -> Result<Value, Error> {
    let mut weight = Weight::default();
    weight.add(&value, 0)?;
    state.consume_fuel((weight.nodes / NODES_PER_FUEL) as u64)?;
    Ok(value)
}

/// The same of what becomes an attribute of a namespace. One inside another could grow after it was measured.
pub(super) fn bounded_attribute(state: &mut State, value: Value) -> Result<Value, Error> {
    if is_namespace(&value) {
        return Err(namespace_inside());
    }
    bounded(state, value)
}

/// Refuses what has no measure.
pub(super) fn check(value: &Value) -> Result<(), Error> {
    Weight::default().add(value, 0)
}

/// Refuses a namespace inside a namespace.
pub(super) fn check_attributes(attributes: &Value) -> Result<(), Error> {
    let mut weight = Weight::default();
    if attributes.kind() != ValueKind::Map {
        return Ok(());
    }
    for key in attributes.try_iter()? {
        weight.add(&attributes.get_item(&key)?, 1)?;
    }
    Ok(())
}

fn invalid(what: &'static str) -> Error {
    Error::new(ErrorKind::InvalidOperation, what)
}

fn namespace_inside() -> Error {
    invalid("a namespace inside a list, a dict or another namespace is not supported")
}

/// The engine's type is private, its name is not.
fn is_namespace(value: &Value) -> bool {
    value.as_object().is_some_and(|object| object.type_name().ends_with("::Namespace"))
}

/// What was met so far.
#[derive(Default)]
struct Weight {
    nodes: usize,
    bytes: usize,
}

impl Weight {
    fn add(&mut self, value: &Value, depth: usize) -> Result<(), Error> {
        if let Some(text) = value.as_str() {
            self.bytes += text.len();
        }
        if self.nodes > NODES || self.bytes > BYTES || depth > DEPTH {
            return Err(invalid("a list, dict or text is too large or too deep"));
        }
        if depth > 0 && is_namespace(value) {
            return Err(namespace_inside());
        }
        if !matches!(value.kind(), ValueKind::Seq | ValueKind::Map | ValueKind::Iterable) {
            return Ok(());
        }
        for item in value.try_iter()? {
            self.nodes += 1;
            self.add(&item, depth + 1)?;
            if value.kind() == ValueKind::Map {
                self.add(&value.get_item(&item)?, depth + 1)?;
            }
        }
        Ok(())
    }
}
