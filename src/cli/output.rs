//! Standard output, and notes on standard error.

use super::log::{Level, shows};
use super::{Stop, one_line};
use hired::engine::Engine;
use serde::Serialize;
use std::io::{self, Write};

/// Prints a result unchanged.
pub fn print(text: &str) -> Result<(), Stop> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(|e| Stop::stdout(&e))
}

/// Prints a result as JSON on one line.
pub fn print_json(value: &impl Serialize) -> Result<(), Stop> {
    match serde_json::to_string(value) {
        Ok(text) => print(&(text + "\n")),
        Err(error) => Err(Stop::Failed(format!("cannot write the result as JSON: {error}"))),
    }
}

/// Prints a note, which is no failure, on standard error.
pub fn note(what: &str) {
    tell(Level::Note, &format!("note: {what}"));
}

/// Prints a line on standard error if its level is shown.
pub fn tell(level: Level, what: &str) {
    if shows(level) {
        // If stderr is closed, nothing can be reported.
        let _ = writeln!(io::stderr(), "{}", one_line(what));
    }
}

/// Prints the engine's notes after loading.
pub fn tell_notes(engine: &Engine) {
    engine.notes().iter().for_each(|what| note(what));
    let device = match engine.card() {
        Some(card) => card.name.clone(),
        None => "the CPU".into(),
    };
    tell(Level::Info, &format!("info: {} on {device}", engine.config().architecture.class()));
}

/// Text that is printed as it is generated.
#[derive(Debug)]
pub struct Stream<W> {
    out: W,
    /// True if text was printed since the newline that ended the last answer.
    open: bool,
    failure: Option<io::Error>,
    /// `out` is a terminal, so control characters of an answer must not reach it.
    terminal: bool,
}

/// Returns true for characters that control a terminal or the order of text: control characters, bidirectional marks
/// and Unicode line separators.
pub fn steers(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{2028}' | '\u{2029}')
}

impl<W: Write> Stream<W> {
    /// Creates a stream. On a terminal, control characters are replaced.
    pub fn new(out: W, terminal: bool) -> Self {
        Self { out, open: false, failure: None, terminal }
    }

    /// Prints immediately, unless an earlier write failed.
    pub fn push(&mut self, text: &str) {
        if text.is_empty() || self.failure.is_some() {
            return;
        }
        self.open = true;
        let shown: String;
        let text = match self.terminal {
            true => {
                let shows = |c| if steers(c) && !matches!(c, '\n' | '\t') { '\u{fffd}' } else { c };
                shown = text.chars().map(shows).collect();
                &shown
            }
            false => text,
        };
        let written = self.out.write_all(text.as_bytes()).and_then(|()| self.out.flush());
        self.failure = written.err();
    }

    /// Returns true if nothing more can be printed.
    pub fn failed(&self) -> bool {
        self.failure.is_some()
    }

    /// Returns true if the current answer has not been ended by a newline.
    pub fn is_open(&self) -> bool {
        self.open
    }

    /// Ends an answer with a newline.
    pub fn end(&mut self) {
        self.push("\n");
        self.open = false;
    }

    /// The result of all writes.
    pub fn outcome(&self) -> Result<(), Stop> {
        self.failure.as_ref().map_or(Ok(()), |error| Err(Stop::stdout(error)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Accepts that many bytes, then fails.
    struct Pipe(usize);

    impl Write for Pipe {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if self.0 == 0 {
                return Err(io::ErrorKind::BrokenPipe.into());
            }
            let taken = bytes.len().min(self.0);
            self.0 -= taken;
            Ok(taken)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_terminal_is_not_steered() {
        let said = "a\x1b]0;title\x07\tb\r\n\u{202e}c\u{2028}é";
        for (terminal, shown) in
            [(false, said), (true, "a\u{fffd}]0;title\u{fffd}\tb\u{fffd}\n\u{fffd}c\u{fffd}é")]
        {
            let mut stream = Stream::new(Vec::new(), terminal);
            stream.push(said);
            assert_eq!(String::from_utf8(stream.out).unwrap(), shown);
        }
    }

    #[test]
    fn a_closed_pipe_is_found_at_the_first_text_and_stays_found() {
        let mut stream = Stream::new(Pipe(3), false);
        stream.push("");
        assert!(!stream.is_open());
        stream.push("one");
        assert!(stream.is_open() && !stream.failed() && stream.outcome().is_ok());
        stream.push("two");
        stream.end();
        assert!(stream.failed() && !stream.is_open());
        assert!(matches!(stream.outcome(), Err(Stop::Closed)));
    }
}
