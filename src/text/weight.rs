//! Limits the size of values in a template.
//!
//! Lists and maps can share parts, so a hundred steps can create one with 2¹⁰⁰ items. The engine's fuel counts what
//! is created, not what is visited when such values are compared, sorted, hashed, printed or joined; therefore they
//! must not be created.

use minijinja::value::ValueKind;
use minijinja::{Error, ErrorKind, State, Value};

/// Largest number of items of a value, nested ones included. A conversation has about ten.
const NODES: usize = 4_000;
/// Deepest nesting of lists.
const DEPTH: usize = 64;
/// Largest number of bytes of a value's texts.
const BYTES: usize = 16 << 20;
/// Items that are visited per unit of fuel.
const NODES_PER_FUEL: usize = 32;

/// Returns the value if its size is within the limits.
pub(super) fn bounded(state: &mut State, value: Value) -> Result<Value, Error> {
    let mut weight = Weight::default();
    weight.add(&value, 0)?;
    state.consume_fuel((weight.nodes / NODES_PER_FUEL) as u64)?;
    Ok(value)
}

/// The same for an attribute of a namespace. A namespace inside another one is refused, because it could grow after
/// it was measured.
pub(super) fn bounded_attribute(state: &mut State, value: Value) -> Result<Value, Error> {
    if is_namespace(&value) {
        return Err(namespace_inside());
    }
    bounded(state, value)
}

/// Fails if a value exceeds the limits.
pub(super) fn check(value: &Value) -> Result<(), Error> {
    Weight::default().add(value, 0)
}

/// Fails for a namespace inside a namespace.
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

/// The engine's type is private, but its name is accessible.
fn is_namespace(value: &Value) -> bool {
    value.as_object().is_some_and(|object| object.type_name().ends_with("::Namespace"))
}

/// What was counted so far.
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
