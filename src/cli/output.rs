//! Standard output, and notes beside it.

use super::log::{Level, shows};
use super::{Stop, one_line};
use hired::engine::Engine;
use serde::Serialize;
use std::io::{self, Write};

/// Prints a result as it is.
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

/// Tells something on standard error that is no failure.
pub fn note(what: &str) {
    tell(Level::Note, &format!("note: {what}"));
}

/// Tells something on standard error, a line, to those who want to hear it.
pub fn tell(level: Level, what: &str) {
    if shows(level) {
        // Nobody is left to tell when it is closed.
        let _ = writeln!(io::stderr(), "{}", one_line(what));
    }
}

/// Tells what an engine has to say after loading.
pub fn tell_notes(engine: &Engine) {
    engine.notes().iter().for_each(|what| note(what));
    let device = match engine.card() {
        Some(card) => card.name.clone(),
        None => "the CPU".into(),
    };
    tell(Level::Info, &format!("info: {} on {device}", engine.config().architecture.class()));
}

/// Text that is printed as it comes.
#[derive(Debug)]
pub struct Stream<W> {
    out: W,
    /// Something was printed since the last newline that ended an answer.
    open: bool,
    failure: Option<io::Error>,
}

impl<W: Write> Stream<W> {
    pub fn new(out: W) -> Self {
        Self { out, open: false, failure: None }
    }

    /// Prints at once, unless printing has failed before.
    pub fn push(&mut self, text: &str) {
        if text.is_empty() || self.failure.is_some() {
            return;
        }
        self.open = true;
        let written = self.out.write_all(text.as_bytes()).and_then(|()| self.out.flush());
        self.failure = written.err();
    }

    /// Whether nothing more can be printed.
    pub fn failed(&self) -> bool {
        self.failure.is_some()
    }

    /// Whether an answer has begun that no newline has ended.
    pub fn is_open(&self) -> bool {
        self.open
    }

    /// Ends an answer with a newline.
    pub fn end(&mut self) {
        self.push("\n");
        self.open = false;
    }

    /// How printing went.
    pub fn outcome(&self) -> Result<(), Stop> {
        self.failure.as_ref().map_or(Ok(()), |error| Err(Stop::stdout(error)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes so many bytes, then fails.
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
    fn a_closed_pipe_is_found_at_the_first_text_and_stays_found() {
        let mut stream = Stream::new(Pipe(3));
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
