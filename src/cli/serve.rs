//! `hired serve`: answers many clients over HTTP.

use super::Stop;
use super::args::{ModelArgs, heading};
use super::device::DeviceArgs;
use super::idle::Given;
use super::interrupt::Interrupt;
use super::log::{Level, shows};
use super::output::{note, print};
use super::selection::SelectionArgs;
use super::values;
use crate::serve::{FetchTerms, Images, Settings, Terms};
use clap::Args;
use hired::Engine;
use hired::select::Budget;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tracing::level_filters::LevelFilter;

/// Default limit of a request's body: an image of 20 MB as base64, and some more.
const BODY: &str = "32MiB";
/// Default limit of an image's pixels: a large photograph.
const PIXELS: usize = 40_000_000;
/// Default limit of the images in a request.
const IMAGES: usize = 16;

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct ServeArgs {
    #[command(flatten)]
    pub model: ModelArgs,
    /// Name of the model in requests and answers [default: MODEL, or for a folder its last part]
    #[arg(long, value_name = "NAME", help_heading = heading::INPUT)]
    pub served_name: Option<String>,
    /// Allow file: URLs of images, but only below DIR [default: none]
    #[arg(long, value_name = "DIR", help_heading = heading::INPUT)]
    pub media_dir: Option<PathBuf>,
    /// Also download images by http: and https: addresses, of the public internet only
    #[arg(hide_short_help = true, long, help_heading = heading::INPUT)]
    pub fetch_images: bool,
    /// Download from every address: also this machine's own and its network's, whose answers clients can then see parts of.
    /// Only where clients may reach all that this machine can
    #[arg(hide_short_help = true, long, requires = "fetch_images", help_heading = heading::INPUT)]
    pub fetch_private: bool,
    /// Seconds in which all images of a request must be downloaded
    #[arg(hide_short_help = true, long, value_name = "S", default_value = "10", value_parser = values::seconds, requires = "fetch_images", help_heading = heading::INPUT)]
    pub fetch_timeout: f64,
    /// Address to listen on: 127.0.0.1 for programs on this machine only, 0.0.0.0 for everyone who can reach it
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1", help_heading = heading::SERVER)]
    pub host: String,
    /// Port to listen on; 0 picks a free one, which is printed
    #[arg(long, value_name = "PORT", default_value = "8080", help_heading = heading::SERVER)]
    pub port: u16,
    /// Key that clients must send as "Authorization: Bearer KEY"; can be repeated. Other users of this machine can
    /// read it on the command line, so prefer the variable or the file [default: none, requests need no key]
    #[arg(long, value_name = "KEY", env = "HIRED_API_KEY", hide_env_values = true, value_parser = values::key, help_heading = heading::SERVER)]
    pub api_key: Vec<String>,
    /// Also accept the keys in FILE, one per line
    #[arg(hide_short_help = true, long, value_name = "FILE", help_heading = heading::SERVER)]
    pub api_key_file: Option<PathBuf>,
    /// Requests that may wait in the queue; further ones are refused with status 429
    #[arg(long, value_name = "N", default_value = "64", value_parser = values::count, help_heading = heading::SERVER)]
    pub max_waiting: usize,
    /// Rows of other prompts and images that may be computed between two tokens of an answer; 0: no limit, which
    /// gives the highest throughput
    #[arg(hide_short_help = true, long, value_name = "N", default_value = "128", help_heading = heading::SERVER)]
    pub max_stall: usize,
    /// Memory for cached image features, and as much of the key/value cache for cached prompt prefixes; 0 disables
    /// the cache
    #[arg(long, value_name = "SIZE", default_value = values::CACHE, value_parser = values::size_or_none, help_heading = heading::SERVER)]
    pub cache_memory: usize,
    /// Largest size of a request's body, images as base64 included
    #[arg(hide_short_help = true, long, value_name = "SIZE", default_value = BODY, value_parser = values::size, help_heading = heading::SERVER)]
    pub max_body: usize,
    /// Largest number of images in a request
    #[arg(hide_short_help = true, long, value_name = "N", default_value_t = IMAGES, value_parser = values::count, help_heading = heading::SERVER)]
    pub max_images: usize,
    /// Largest number of simultaneous connections
    #[arg(hide_short_help = true, long, value_name = "N", default_value = "256", value_parser = values::count, help_heading = heading::SERVER)]
    pub max_connections: usize,
    /// Seconds within which a request's headers must arrive; idle connections are closed after the same time
    #[arg(hide_short_help = true, long, value_name = "S", default_value = "10", value_parser = values::seconds, help_heading = heading::SERVER)]
    pub header_timeout: f64,
    /// Seconds within which a request's body must arrive
    #[arg(hide_short_help = true, long, value_name = "S", default_value = "60", value_parser = values::seconds, help_heading = heading::SERVER)]
    pub body_timeout: f64,
    /// Seconds without the client accepting data after which the connection is closed
    #[arg(hide_short_help = true, long, value_name = "S", default_value = "60", value_parser = values::seconds, help_heading = heading::SERVER)]
    pub send_timeout: f64,
    /// Seconds after which a silent stream sends a comment, so that proxies do not close it
    #[arg(hide_short_help = true, long, value_name = "S", default_value = "10", value_parser = values::seconds, help_heading = heading::SERVER)]
    pub keep_alive: f64,
    /// Seconds during which new requests are still accepted after SIGTERM or Ctrl-C, for load balancers that poll
    /// /ready [default: 0]
    #[arg(hide_short_help = true, long, value_name = "S", value_parser = values::seconds, help_heading = heading::SERVER)]
    pub drain_delay: Option<f64>,
    /// Seconds that running requests then have to finish
    #[arg(hide_short_help = true, long, value_name = "S", default_value = "60", value_parser = values::seconds, help_heading = heading::SERVER)]
    pub drain_timeout: f64,
    /// Number of image tokens to keep unless a request sets it: a count (576), a share of all patches (20%) or full
    #[arg(short, long, value_name = "B", default_value = "20%", allow_hyphen_values = true, help_heading = heading::TOKENS)]
    pub budget: Budget,
    #[command(flatten)]
    pub selection: SelectionArgs,
    /// Largest number of tokens of an answer unless a request sets it
    #[arg(long, value_name = "N", default_value = "512", value_parser = values::count, help_heading = heading::ANSWER)]
    pub default_max_tokens: usize,
    /// Largest number of tokens that a request may ask for [default: the model's context length]
    #[arg(hide_short_help = true, long, value_name = "N", value_parser = values::count, help_heading = heading::ANSWER)]
    pub max_tokens: Option<usize>,
    /// Write the prompts of requests to the log, which otherwise contains none of their text
    #[arg(hide_short_help = true, long, help_heading = heading::MESSAGES)]
    pub log_prompts: bool,
    /// Write the log as JSON, one object per line
    #[arg(hide_short_help = true, long, help_heading = heading::MESSAGES)]
    pub log_json: bool,
    #[command(flatten)]
    pub device: DeviceArgs,
}

const EXAMPLES: &str = "\
Examples:
  hired serve -m MODEL
  hired serve -m MODEL --host 0.0.0.0 --port 8000 --api-key-file keys.txt -b 10%

Then: http://127.0.0.1:8080 in a browser, or any client of OpenAI's API with the base address
http://127.0.0.1:8080/v1. `-h` shows the common options, `--help` all of them.";

pub fn serve(args: &ServeArgs, given: &Given<'_>, interrupt: &Interrupt) -> Result<(), Stop> {
    let settings = settings(args)?;
    log(args.log_json);
    let selection = args.selection.with(args.budget);
    let idle = [given.selection(&selection), args.device.idle(given)].concat();
    idle.iter().for_each(|what| note(what));
    let model = args.model.model.clone();
    let options = args.device.options().with_max_pixels(settings.terms.images.max_pixels);
    interrupt.heed();
    let announce = |address: &str| drop(print(&format!("listening on {address}\n")));
    let load = move || Engine::load(&model, options);
    crate::serve::serve(settings, load, announce, || interrupt.raised()).map_err(Stop::Failed)
}

/// Reads and checks the settings of the server.
fn settings(args: &ServeArgs) -> Result<Settings, Stop> {
    let mut keys = args.api_key.clone();
    if let Some(path) = &args.api_key_file {
        let failed =
            |what: String| Stop::Failed(format!("--api-key-file {}: {what}", path.display()));
        let text = std::fs::read_to_string(path).map_err(|error| failed(error.to_string()))?;
        let before = keys.len();
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
            keys.push(values::key(line).map_err(|what| failed(what.into()))?);
        }
        if keys.len() == before {
            return Err(failed("the file has no key: write one per line".into()));
        }
    }
    let folder = args.media_dir.as_deref().map(|dir| {
        let failed = |what: String| Stop::Failed(format!("--media-dir {}: {what}", dir.display()));
        let found = dir.canonicalize().map_err(|error| failed(error.to_string()))?;
        if found.is_dir() { Ok(found) } else { Err(failed("this is not a folder".into())) }
    });
    let images = Images {
        folder: folder.transpose()?,
        max_pixels: Some(args.device.max_pixels.unwrap_or(PIXELS)),
        most: args.max_images,
    };
    let terms = Terms {
        model: args.served_name.clone().unwrap_or_else(|| name(&args.model.model)),
        selection: args.selection.with(args.budget),
        default_tokens: args.default_max_tokens.min(args.max_tokens.unwrap_or(usize::MAX)),
        most_tokens: args.max_tokens,
        images,
    };
    let seconds = Duration::from_secs_f64;
    Ok(Settings {
        host: args.host.clone(),
        port: args.port,
        keys,
        terms,
        fetch: args.fetch_images.then_some(FetchTerms {
            private: args.fetch_private,
            patience: seconds(args.fetch_timeout),
        }),
        max_waiting: args.max_waiting,
        max_stall: (args.max_stall > 0).then_some(args.max_stall),
        cache_memory: args.cache_memory,
        max_body: args.max_body,
        max_connections: args.max_connections,
        header_timeout: seconds(args.header_timeout),
        body_timeout: seconds(args.body_timeout),
        send_timeout: seconds(args.send_timeout),
        keep_alive: seconds(args.keep_alive),
        drain_delay: args.drain_delay.map_or(Duration::ZERO, seconds),
        drain_timeout: seconds(args.drain_timeout),
        log_prompts: args.log_prompts,
        resample: args.device.resample,
        formats: format!("{:?}", args.device.options()),
    })
}

/// The model's name: as given, or for a folder its last part.
fn name(model: &Path) -> String {
    let last = if model.exists() { model.canonicalize().ok() } else { None };
    let last = last.as_deref().and_then(Path::file_name).unwrap_or(model.as_os_str());
    last.to_string_lossy().into_owned()
}

/// Sets up the program's log on standard error.
fn log(json: bool) {
    let level = match () {
        () if shows(Level::Info) => LevelFilter::DEBUG,
        () if shows(Level::Note) => LevelFilter::INFO,
        () => LevelFilter::ERROR,
    };
    let log = tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_max_level(level)
        .with_target(false);
    if json { log.json().flatten_event(true).init() } else { log.init() }
}
