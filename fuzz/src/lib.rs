//! What every target asks of an outcome: a value, or an error that fits one line of a terminal.

use hired::Error;

/// Longest message in characters: long enough for every sentence of ours with a piece of the input quoted.
const LONGEST: usize = 1000;

/// Panics unless the error is one printable line of readable length that names `culprit`.
pub fn assert_one_line(error: &Error, culprit: &str) {
    let message = error.to_string();
    assert!(!message.contains(char::is_control), "more than a line: {message:?}");
    assert!(message.contains(culprit), "does not name {culprit}: {message:?}");
    let length = message.chars().count();
    assert!(length <= LONGEST, "{length} characters: {message:?}");
}
