//! `hired chat`: a conversation in a terminal.

use super::Stop;
use super::args::{ModelArgs, SamplingArgs, heading};
use super::device::DeviceArgs;
use super::idle::Given;
use super::images;
use super::interrupt::Interrupt;
use super::log::{Level, shows};
use super::output::{Stream, note, tell};
use super::report::statistics;
use super::run::load;
use super::selection::SelectionArgs;
use clap::Args;
use hired::engine::Answer;
use hired::image::{MAX_PIXELS, decode_within};
use hired::select::Budget;
use hired::{
    FinishReason, Image, Message, Prompt, Request, Role, Scheduler, SchedulerOptions, Update,
};
use rustyline::error::ReadlineError;
use std::io::{self, IsTerminal, Stdout};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

/// How often the program checks for Ctrl-C while it waits.
const TICK: Duration = Duration::from_millis(50);

/// Bytes of cached results from one turn to the next.
const CACHE: usize = 512 << 20;

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct ChatArgs {
    #[command(flatten)]
    pub model: ModelArgs,
    /// Image of the first question: a file (PNG, JPEG, WebP, BMP, first frame of a GIF) or a data: URL; can be
    /// repeated
    #[arg(short, long, value_name = "IMAGE", help_heading = heading::INPUT)]
    pub image: Vec<PathBuf>,
    /// System prompt, for models whose chat template has one
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true, help_heading = heading::INPUT)]
    pub system: Option<String>,
    /// Number of image tokens to keep of each image: a count (576), a share of all patches (20%) or full
    #[arg(short, long, value_name = "B", default_value = "20%", allow_hyphen_values = true, help_heading = heading::TOKENS)]
    pub budget: Budget,
    #[command(flatten)]
    pub selection: SelectionArgs,
    #[command(flatten)]
    pub sampling: SamplingArgs,
    #[command(flatten)]
    pub device: DeviceArgs,
}

const EXAMPLES: &str = "\
Examples:
  hired chat -m MODEL -i photo.jpg
  printf 'What is this?\\nWhat colour is it?\\n' | hired chat -m MODEL -i photo.jpg

In the conversation /help lists the commands, the arrow keys bring earlier lines back, Ctrl-C stops an answer and Ctrl-D
ends the program. `-h` shows the common options, `--help` all of them.";

const COMMANDS: &str = "\
/image FILE   add an image to the next question; can be repeated
/budget B     image tokens to keep of each image from now on: a count, a share such as 20%, or full
/reset        begin a new conversation
/help         this list
/quit         end the program, as Ctrl-D does
Anything else is a question; a leading // stands for a plain /.";

pub fn chat(args: &ChatArgs, given: &Given<'_>, interrupt: &Interrupt) -> Result<(), Stop> {
    let mut chat = Chat {
        args,
        budget: args.budget,
        messages: Vec::new(),
        images: Vec::new(),
        failures: 0,
        stream: Stream::new(io::stdout(), io::stdout().is_terminal()),
    };
    for path in &args.image {
        chat.take_image(path).map_err(Stop::Failed)?;
    }
    chat.reset();
    let engine = load(&args.model.model, &args.device, interrupt)?;
    let idle = [given.selection(&args.selection.with(args.budget)), given.sampling(&args.sampling)];
    idle.concat().iter().for_each(|what| note(what));
    let scheduler = SchedulerOptions::default().with_cache_memory(CACHE);
    let scheduler = Scheduler::start(engine, scheduler);
    let mut lines = Lines::open()?;
    while let Some(line) = lines.next()? {
        interrupt.heed();
        let go_on = chat.heed(line.trim(), &scheduler, interrupt);
        interrupt.ignore();
        chat.stream.outcome()?;
        if !go_on {
            break;
        }
    }
    match chat.failures {
        0 => Ok(()),
        // In a terminal each failure was shown when it happened.
        _ if io::stdin().is_terminal() => Ok(()),
        1 => Err(Stop::Failed("one line of the conversation failed".into())),
        failures => Err(Stop::Failed(format!("{failures} lines of the conversation failed"))),
    }
}

/// The source of input lines.
enum Lines {
    Terminal(Box<rustyline::DefaultEditor>),
    Pipe(io::Lines<io::StdinLock<'static>>),
}

impl Lines {
    fn open() -> Result<Self, Stop> {
        if !io::stdin().is_terminal() {
            return Ok(Self::Pipe(io::stdin().lines()));
        }
        let editor = rustyline::DefaultEditor::new();
        let editor = editor.map_err(|error| Stop::Failed(format!("standard input: {error}")))?;
        tell(Level::Note, "Ask something; /help lists the commands.");
        Ok(Self::Terminal(Box::new(editor)))
    }

    /// The next line; `None` at the end.
    fn next(&mut self) -> Result<Option<String>, Stop> {
        let failed =
            |error: &dyn std::fmt::Display| Err(Stop::Failed(format!("standard input: {error}")));
        match self {
            Self::Pipe(lines) => match lines.next().transpose() {
                Ok(line) => Ok(line),
                Err(error) => failed(&error),
            },
            Self::Terminal(editor) => loop {
                match editor.readline("> ") {
                    Ok(line) => {
                        // If the history cannot take the line, the question is asked all the same.
                        let _ = editor.add_history_entry(line.as_str());
                        return Ok(Some(line));
                    }
                    Err(ReadlineError::Interrupted) => {
                        tell(Level::Note, "Ctrl-D ends the program.")
                    }
                    Err(ReadlineError::Eof) => return Ok(None),
                    Err(error) => return failed(&error),
                }
            },
        }
    }
}

/// A conversation.
struct Chat<'a> {
    args: &'a ChatArgs,
    budget: Budget,
    messages: Vec<Message>,
    /// Images of the next question.
    images: Vec<Image>,
    failures: usize,
    stream: Stream<Stdout>,
}

impl Chat<'_> {
    /// Executes a line; returns false if the conversation is over.
    fn heed(&mut self, line: &str, scheduler: &Scheduler, interrupt: &Interrupt) -> bool {
        let outcome = match line.strip_prefix('/') {
            None if line.is_empty() => Ok(()),
            None => self.ask(line, scheduler, interrupt),
            Some(question) if question.starts_with('/') => self.ask(question, scheduler, interrupt),
            Some(command) => {
                let (name, rest) = command.split_once(char::is_whitespace).unwrap_or((command, ""));
                let rest = rest.trim();
                match (name, rest) {
                    ("quit" | "exit", "") => return false,
                    ("help", "") => {
                        COMMANDS.lines().for_each(|line| tell(Level::Error, line));
                        Ok(())
                    }
                    ("reset", "") => {
                        self.reset();
                        Ok(())
                    }
                    ("image", "") => Err("/image needs the name of a file".into()),
                    ("image", file) => self.take_image(Path::new(file)),
                    ("budget", "") => {
                        tell(Level::Error, &format!("the budget is {}", self.budget));
                        Ok(())
                    }
                    ("budget", text) => text
                        .parse()
                        .map(|budget| self.budget = budget)
                        .map_err(|error: hired::Error| error.to_string()),
                    _ => Err(format!(
                        "there is no command /{command}: /help lists all; begin a question with // to start it with a plain /"
                    )),
                }
            }
        };
        if let Err(what) = outcome {
            self.failures += 1;
            tell(Level::Error, &format!("hired: {what}"));
        }
        true
    }

    /// Starts a new conversation. Images of the next question are kept.
    fn reset(&mut self) {
        self.messages = self.args.system.iter().map(Message::system).collect();
    }

    fn take_image(&mut self, path: &Path) -> Result<(), String> {
        let most = self.args.device.max_pixels;
        let said = |stop| match stop {
            Stop::Failed(what) => what,
            other => format!("{other:?}"),
        };
        let (name, bytes) = images::read(path, most).map_err(said)?;
        // The image is decoded now, so that an error is shown before the question is typed.
        decode_within(&bytes, &name, most.unwrap_or(MAX_PIXELS))
            .map_err(|error| error.to_string())?;
        self.images.push(Image::encoded(name, bytes));
        Ok(())
    }

    /// Asks a question and prints the answer as it is generated.
    fn ask(
        &mut self,
        words: &str,
        scheduler: &Scheduler,
        interrupt: &Interrupt,
    ) -> Result<(), String> {
        let images = std::mem::take(&mut self.images);
        let message = images.iter().cloned().fold(Message::new(Role::User), Message::with);
        self.messages.push(message.with(words));
        match self.answer(scheduler, interrupt) {
            Ok(Some(answer)) => {
                self.messages.push(Message::assistant(answer.text.trim()));
                let terminal = io::stderr().is_terminal() && shows(Level::Note);
                if shows(Level::Info) || terminal {
                    tell(Level::Note, &statistics(&answer));
                }
                Ok(())
            }
            // The question was not asked, so its images are kept for the next one.
            Ok(None) => {
                self.messages.pop();
                self.images = images;
                Ok(())
            }
            Err(error) => {
                self.messages.pop();
                // An image that the model cannot take would fail the next question too.
                if !matches!(error, hired::Error::Image { .. }) {
                    self.images = images;
                }
                Err(error.to_string())
            }
        }
    }

    /// The answer to the messages; `None` if it was stopped before its first token.
    fn answer(
        &mut self,
        scheduler: &Scheduler,
        interrupt: &Interrupt,
    ) -> hired::Result<Option<Answer>> {
        let sampling = &self.args.sampling;
        let request = Request::new(Prompt::Messages(self.messages.clone()))
            .with_selection(self.args.selection.with(self.budget))
            .with_max_new_tokens(sampling.max_new_tokens)
            .with_sampling(sampling.sampling())
            .with_stop(sampling.stop.clone())
            .with_ignore_eos(sampling.ignore_eos);
        let (sender, updates) = channel();
        let submitted = scheduler.submit(request, move |update| drop(sender.send(update)));
        let ticket = submitted.map_err(|refusal| match refusal {
            hired::SubmitError::Refused(error) => error,
            other => hired::Error::Device(other.to_string()),
        })?;
        let outcome = loop {
            match updates.recv_timeout(TICK) {
                Ok(Update::Token { text, .. }) => self.stream.push(&text),
                Ok(Update::Finished { text, answer, .. }) => {
                    self.stream.push(&text);
                    break Ok(Some(*answer));
                }
                Ok(Update::Failed(hired::Error::Cancelled)) => break Ok(None),
                Ok(Update::Failed(error)) => break Err(error),
                Ok(_) | Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break Ok(None),
            }
            if interrupt.raised() || self.stream.failed() {
                ticket.cancel();
            }
        };
        if self.stream.is_open() || matches!(outcome, Ok(Some(_))) {
            self.stream.end();
        }
        let stopped =
            matches!(&outcome, Ok(Some(answer)) if answer.finish_reason == FinishReason::Cancelled);
        if interrupt.take() && (stopped || matches!(outcome, Ok(None))) {
            tell(Level::Note, "stopped");
        }
        outcome
    }
}
