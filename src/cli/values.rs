//! Values as typed to values as meant. Each parser's error completes "invalid value '…' for '--option'".

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use hired::Preset;
use hired::engine::{Device, Dtype};
use hired::ops::gpu::{GPUS, Gpu};
use hired::quant::{Scheme, Scope};
use hired::select::Budget;
use std::ffi::OsStr;
use std::path::PathBuf;
use std::str::FromStr;

/// `--budget` of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BudgetArg {
    /// The largest one that keeps a limit.
    Auto,
    /// This one.
    Fixed(Budget),
}

impl FromStr for BudgetArg {
    type Err = hired::Error;

    fn from_str(text: &str) -> hired::Result<Self> {
        match text {
            "auto" => Ok(Self::Auto),
            text => text.parse().map(Self::Fixed),
        }
    }
}

/// A budget, kept as it was typed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TypedBudget {
    pub typed: String,
    pub budget: Budget,
}

impl FromStr for TypedBudget {
    type Err = hired::Error;

    fn from_str(text: &str) -> hired::Result<Self> {
        Ok(Self { typed: text.into(), budget: text.parse()? })
    }
}

/// What `plan` is about.
#[derive(Debug, Clone, Copy)]
pub enum GpuArg {
    /// Every GPU that has a name here.
    All,
    /// This one.
    One(&'static Gpu),
}

/// A GPU by its name, as people write it, or `all`.
#[derive(Debug, Clone, Copy)]
pub struct GpuParser;

impl TypedValueParser for GpuParser {
    type Value = GpuArg;

    fn parse_ref(
        &self,
        command: &clap::Command,
        option: Option<&clap::Arg>,
        typed: &OsStr,
    ) -> Result<GpuArg, clap::Error> {
        let text = typed.to_string_lossy();
        if text.eq_ignore_ascii_case("all") {
            return Ok(GpuArg::All);
        }
        match Gpu::named(&text) {
            Some(gpu) => Ok(GpuArg::One(gpu)),
            // Its error lists the names and the most similar one.
            None => PossibleValuesParser::new(GPUS.iter().map(|gpu| gpu.name))
                .parse_ref(command, option, typed)
                .map(|_| GpuArg::All),
        }
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        let names = std::iter::once("all").chain(GPUS.iter().map(|gpu| gpu.name));
        Some(Box::new(names.map(PossibleValue::new)))
    }
}

/// One of some names, which the help and the error list.
pub fn one_of<T: Copy + Send + Sync>(
    names: &'static [(&'static str, T)],
) -> impl TypedValueParser<Value = T> {
    PossibleValuesParser::new(names.iter().map(|(name, _)| *name)).map(|typed| {
        let (_, value) = names.iter().find(|(name, _)| *name == typed).expect("a possible value");
        *value
    })
}

/// What `--dtype` names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NumberFormat {
    /// Floating-point numbers.
    Float(Dtype),
    /// int8 weights and activations.
    Q8,
    /// int4 weights.
    Q4,
}

impl NumberFormat {
    /// As typed.
    pub fn name(self) -> &'static str {
        match self {
            Self::Float(dtype) => dtype.name(),
            Self::Q8 => "q8",
            Self::Q4 => "q4",
        }
    }

    /// The scheme of integers, in groups of 128 unless others are asked for.
    pub fn scheme(self, group: Option<usize>) -> Option<Scheme> {
        match self {
            Self::Float(_) => None,
            Self::Q8 => Some(Scheme::Q8),
            Self::Q4 => Some(Scheme::Q4 { group: group.unwrap_or(128) }),
        }
    }
}

/// Values of `--dtype`; the last two are integers.
pub const FORMATS: [(&str, NumberFormat); 4] = [
    ("f16", NumberFormat::Float(Dtype::F16)),
    ("f32", NumberFormat::Float(Dtype::F32)),
    ("q8", NumberFormat::Q8),
    ("q4", NumberFormat::Q4),
];

/// Values of `--activations`.
pub const ACTIVATIONS: [(&str, Dtype); 2] = [("f16", Dtype::F16), ("f32", Dtype::F32)];

/// Those of `hired quantize`.
pub const INTEGERS: [(&str, NumberFormat); 2] =
    [("q8", NumberFormat::Q8), ("q4", NumberFormat::Q4)];

/// Values of `--group`.
pub const GROUPS: [(&str, usize); 3] = [("32", 32), ("64", 64), ("128", 128)];

/// Values of `--quantize`.
pub const SCOPES: [(&str, Scope); 2] = [("llm", Scope::Llm), ("all", Scope::All)];

/// Architectures that `plan` is about.
#[derive(Debug, Clone, Copy)]
pub enum PresetArg {
    /// Every one that has a name here.
    All,
    /// This one.
    One(Preset),
}

impl FromStr for PresetArg {
    type Err = hired::Error;

    fn from_str(text: &str) -> hired::Result<Self> {
        match text {
            "all" => Ok(Self::All),
            text => text.parse().map(Self::One),
        }
    }
}

/// `auto`, `cpu`, `cuda` or `cuda:N`.
pub fn device(text: &str) -> Result<Device, &'static str> {
    match text {
        "auto" => Ok(Device::Auto),
        "cpu" => Ok(Device::Cpu),
        "cuda" => Ok(Device::Cuda(None)),
        _ => text
            .strip_prefix("cuda:")
            .and_then(|number| digits(number)?.parse().ok())
            .map(|number| Device::Cuda(Some(number)))
            .ok_or("give auto, cpu, cuda or cuda:N with a device number from 0"),
    }
}

/// Where the words of a prompt are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PromptArg {
    /// On the command line.
    Words(String),
    /// In a file.
    File(PathBuf),
    /// On standard input.
    Stdin,
}

/// Words, `@FILE` or `@-`; `@@` begins words with a plain `@`.
pub fn prompt(text: &str) -> Result<PromptArg, &'static str> {
    match text.strip_prefix('@') {
        None if text.is_empty() => Err("the prompt is empty: give some words"),
        None => Ok(PromptArg::Words(text.into())),
        Some("") => Err("@ needs the name of a file, or - for standard input"),
        Some("-") => Ok(PromptArg::Stdin),
        Some(words) if words.starts_with('@') => Ok(PromptArg::Words(words.into())),
        Some(file) => Ok(PromptArg::File(file.into())),
    }
}

/// A text that ends an answer.
pub fn stop(text: &str) -> Result<String, &'static str> {
    if text.is_empty() { Err("it is empty: give some words") } else { Ok(text.into()) }
}

/// A key of the server: what a header can carry.
#[cfg(feature = "serve")]
pub fn key(text: &str) -> Result<String, &'static str> {
    match !text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic()) {
        true => Ok(text.into()),
        false => Err("a key is made of visible ASCII characters, without blanks"),
    }
}

/// A whole number that may be 0.
pub fn whole<T: FromStr>(text: &str) -> Result<T, &'static str> {
    let number = digits(text).ok_or("give a whole number of at least 0")?;
    number.parse().map_err(|_| "this number is too large")
}

/// A layer; whether the model has it is for the engine to say, so numbers too large for it are cut, not refused.
pub fn layer(text: &str) -> Result<i32, &'static str> {
    let number: i128 = text.parse().map_err(|_| "give a whole number, such as 0 or -2")?;
    Ok(number.clamp(i32::MIN.into(), i32::MAX.into()) as i32)
}

/// A number of tokens.
pub fn count(text: &str) -> Result<usize, &'static str> {
    let number = text.parse().ok().filter(|&number| number > 0);
    number.ok_or("give a whole number of at least 1")
}

/// A number of threads.
pub fn threads(text: &str) -> Result<usize, String> {
    let most = super::threads::most();
    let number = text.parse().ok().filter(|number| (1..=most).contains(number));
    number.ok_or_else(|| format!("give a whole number from 1 to {most}, four for each core here"))
}

/// A divisor of logits.
pub fn temperature(text: &str) -> Result<f32, &'static str> {
    let number = text.parse().ok().filter(|t: &f32| t.is_finite() && *t >= 0.0);
    number.ok_or("give a number of at least 0, such as 0.7")
}

/// A probability.
pub fn probability(text: &str) -> Result<f32, &'static str> {
    let number = text.parse().ok().filter(|p| (0.0..=1.0).contains(p));
    number.ok_or("give a number from 0 to 1")
}

/// A divisor of the logits of repeated tokens.
pub fn penalty(text: &str) -> Result<f32, &'static str> {
    let number = text.parse().ok().filter(|f: &f32| f.is_finite() && *f > 0.0);
    number.ok_or("give a number above 0, such as 1.1")
}

/// A time in seconds.
pub fn seconds(text: &str) -> Result<f64, &'static str> {
    let number = text.parse().ok().filter(|s: &f64| s.is_finite() && *s > 0.0);
    number.ok_or("give a number of seconds above 0, such as 2.5")
}

/// A size in bytes: a number, and a binary or decimal unit if there is one.
pub fn size(text: &str) -> Result<usize, &'static str> {
    const WRONG: &str = "give a size such as 15GiB, 15GB or 15000000000 (bytes)";
    let unit_at = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
    let (number, unit) = text.split_at(unit_at);
    let unit: u64 = match unit {
        "" | "B" => 1,
        "kB" | "KB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "TB" => 1_000_000_000_000,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "TiB" => 1 << 40,
        _ => return Err(WRONG),
    };
    let number = number.trim_end();
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    let bytes = digits(whole)
        .and(digits(fraction))
        .and_then(|_| number.parse().ok())
        .map(|number: f64| number * unit as f64);
    // Beyond 2⁵³ an f64 holds no odd numbers, and no machine has that much memory.
    match bytes.filter(|bytes| (1.0..=(1u64 << 53) as f64).contains(bytes)) {
        Some(bytes) => usize::try_from(bytes as u64).map_err(|_| WRONG),
        None => Err(WRONG),
    }
}

/// What is kept of requests for later ones: some hundred images at a fifth of their tokens, for a model of 7 billion
/// weights.
pub const CACHE: &str = "512MiB";

/// A share in per cent.
pub fn share(text: &str) -> Result<f64, &'static str> {
    let number = text.strip_suffix('%').and_then(|number| number.parse::<f64>().ok());
    let share = number.filter(|number| (0.0..=100.0).contains(number));
    share.map(|number| number / 100.0).ok_or("give a share from 0% to 100%")
}

/// A size, or 0 for none.
pub fn size_or_none(text: &str) -> Result<usize, &'static str> {
    if text == "0" { Ok(0) } else { size(text) }
}

/// The text if it is one or more decimal digits; `parse` would take a sign too.
fn digits(text: &str) -> Option<&str> {
    (!text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        for (text, bytes) in [
            ("1", 1),
            ("15000000000", 15_000_000_000),
            ("15GB", 15_000_000_000),
            ("15GiB", 15 << 30),
            ("15 GiB", 15 << 30),
            ("1.5KiB", 1536),
            ("0.5kB", 500),
            ("2TiB", 2 << 40),
            ("7B", 7),
        ] {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        let wrong =
            "|0|-1|+1|GiB|15gib|15 G|1e9|1_000|nan|inf|0.4|.|1.|.5GB|1..2|9999999TB|1GiBs|٣";
        for text in wrong.split('|') {
            assert!(size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn prompts_come_from_files_too() {
        let words = |text: &str| Ok(PromptArg::Words(text.into()));
        assert_eq!(prompt("What? @home"), words("What? @home"));
        assert_eq!(prompt("@@home"), words("@home"));
        assert_eq!(prompt("@-"), Ok(PromptArg::Stdin));
        assert_eq!(prompt("@a/b.txt"), Ok(PromptArg::File("a/b.txt".into())));
        assert!(prompt("").is_err() && prompt("@").is_err());
    }

    #[test]
    fn whole_numbers() {
        assert_eq!((whole("0"), whole("18446744073709551615")), (Ok(0), Ok(u64::MAX)));
        let wrong = ["", "-1", "+1", "1.0", "x"].map(whole::<u64>);
        assert!(wrong.iter().all(|e| *e == Err("give a whole number of at least 0")), "{wrong:?}");
        assert_eq!(whole::<u64>("18446744073709551616"), Err("this number is too large"));
    }

    #[test]
    fn devices() {
        assert_eq!(device("cuda:12"), Ok(Device::Cuda(Some(12))));
        assert_eq!(device("cuda"), Ok(Device::Cuda(None)));
        for text in [
            "",
            "gpu",
            "CPU",
            "cuda:",
            "cuda:-1",
            "cuda:+1",
            "cuda:1x",
            "cuda:99999999999999999999",
        ] {
            assert!(device(text).is_err(), "{text}");
        }
    }

    #[test]
    fn layers_far_out_are_left_to_the_engine() {
        assert_eq!((layer("-2"), layer("99999999999")), (Ok(-2), Ok(i32::MAX)));
        assert!(["", "last", "1.0", "0x1"].iter().all(|text| layer(text).is_err()));
    }
}
