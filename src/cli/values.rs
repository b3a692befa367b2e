//! Parsers of option values. Each parser's error completes "invalid value '…' for '--option'".

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use hired::Preset;
use hired::engine::{Device, Dtype};
use hired::ops::gpu::{GPUS, Gpu};
use hired::quant::{Scheme, Scope};
use hired::select::Budget;
use std::ffi::OsStr;
use std::path::PathBuf;
use std::str::FromStr;

/// The value of `--budget` for an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BudgetArg {
    /// The largest budget within a limit.
    Auto,
    /// A given budget.
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

/// A budget, with its text as given on the command line.
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

/// The value of `hired plan --gpu`.
#[derive(Debug, Clone, Copy)]
pub enum GpuArg {
    /// Every known GPU.
    All,
    /// One GPU.
    One(&'static Gpu),
}

/// Parses a GPU's name as people write it, or `all`.
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
            // clap's error lists the names and suggests the most similar one.
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

/// A parser for one of some names, which the help and the error list.
pub fn one_of<T: Copy + Send + Sync>(
    names: &'static [(&'static str, T)],
) -> impl TypedValueParser<Value = T> {
    PossibleValuesParser::new(names.iter().map(|(name, _)| *name)).map(|typed| {
        let (_, value) = names.iter().find(|(name, _)| *name == typed).expect("a possible value");
        *value
    })
}

/// The value of `--dtype`.
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
    /// The name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Float(dtype) => dtype.name(),
            Self::Q8 => "q8",
            Self::Q4 => "q4",
        }
    }

    /// The quantization scheme of an integer format, with groups of 128 by default.
    pub fn scheme(self, group: Option<usize>) -> Option<Scheme> {
        match self {
            Self::Float(_) => None,
            Self::Q8 => Some(Scheme::Q8),
            Self::Q4 => Some(Scheme::Q4 { group: group.unwrap_or(128) }),
        }
    }
}

/// Values of `--dtype`; the last two are integer formats.
pub const FORMATS: [(&str, NumberFormat); 4] = [
    ("f16", NumberFormat::Float(Dtype::F16)),
    ("f32", NumberFormat::Float(Dtype::F32)),
    ("q8", NumberFormat::Q8),
    ("q4", NumberFormat::Q4),
];

/// Values of `--activations`.
pub const ACTIVATIONS: [(&str, Dtype); 2] = [("f16", Dtype::F16), ("f32", Dtype::F32)];

/// Values of `hired quantize --dtype`.
pub const INTEGERS: [(&str, NumberFormat); 2] =
    [("q8", NumberFormat::Q8), ("q4", NumberFormat::Q4)];

/// Values of `--group`.
pub const GROUPS: [(&str, usize); 3] = [("32", 32), ("64", 64), ("128", 128)];

/// Values of `--quantize`.
pub const SCOPES: [(&str, Scope); 2] = [("llm", Scope::Llm), ("all", Scope::All)];

/// The value of `hired plan --preset`.
#[derive(Debug, Clone, Copy)]
pub enum PresetArg {
    /// Every known architecture.
    All,
    /// One architecture.
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

/// Parses `auto`, `cpu`, `cuda` or `cuda:N`.
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

/// The source of a prompt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PromptArg {
    /// Text on the command line.
    Words(String),
    /// A file.
    File(PathBuf),
    /// Standard input.
    Stdin,
}

/// Parses text, `@FILE` or `@-`; a leading `@@` stands for a plain `@`.
pub fn prompt(text: &str) -> Result<PromptArg, &'static str> {
    match text.strip_prefix('@') {
        None if text.is_empty() => Err("the prompt is empty: give some text"),
        None => Ok(PromptArg::Words(text.into())),
        Some("") => Err("@ needs the name of a file, or - for standard input"),
        Some("-") => Ok(PromptArg::Stdin),
        Some(words) if words.starts_with('@') => Ok(PromptArg::Words(words.into())),
        Some(file) => Ok(PromptArg::File(file.into())),
    }
}

/// Parses a stop text.
pub fn stop(text: &str) -> Result<String, &'static str> {
    if text.is_empty() { Err("it is empty: give some text") } else { Ok(text.into()) }
}

/// Parses a key of the server, which must fit into an HTTP header.
#[cfg(feature = "serve")]
pub fn key(text: &str) -> Result<String, &'static str> {
    match !text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic()) {
        true => Ok(text.into()),
        false => Err("a key may only have visible ASCII characters, without blanks"),
    }
}

/// Parses a whole number, 0 included.
pub fn whole<T: FromStr>(text: &str) -> Result<T, &'static str> {
    let number = digits(text).ok_or("give a whole number of at least 0")?;
    number.parse().map_err(|_| "this number is too large")
}

/// Parses a layer. The engine checks whether the model has it, so larger numbers are clamped, not refused.
pub fn layer(text: &str) -> Result<i32, &'static str> {
    let number: i128 = text.parse().map_err(|_| "give a whole number, such as 0 or -2")?;
    Ok(number.clamp(i32::MIN.into(), i32::MAX.into()) as i32)
}

/// Parses a whole number of at least 1.
pub fn count(text: &str) -> Result<usize, &'static str> {
    let number = text.parse().ok().filter(|&number| number > 0);
    number.ok_or("give a whole number of at least 1")
}

/// Parses a number of threads.
pub fn threads(text: &str) -> Result<usize, String> {
    let most = super::threads::most();
    let number = text.parse().ok().filter(|number| (1..=most).contains(number));
    number.ok_or_else(|| {
        format!("give a whole number from 1 to {most}, four per core of this machine")
    })
}

/// Parses a temperature.
pub fn temperature(text: &str) -> Result<f32, &'static str> {
    let number = text.parse().ok().filter(|t: &f32| t.is_finite() && *t >= 0.0);
    number.ok_or("give a number of at least 0, such as 0.7")
}

/// Parses a probability.
pub fn probability(text: &str) -> Result<f32, &'static str> {
    let number = text.parse().ok().filter(|p| (0.0..=1.0).contains(p));
    number.ok_or("give a number from 0 to 1")
}

/// Parses a repetition penalty.
pub fn penalty(text: &str) -> Result<f32, &'static str> {
    let number = text.parse().ok().filter(|f: &f32| f.is_finite() && *f > 0.0);
    number.ok_or("give a number above 0, such as 1.1")
}

/// Parses a time in seconds.
pub fn seconds(text: &str) -> Result<f64, &'static str> {
    let number = text.parse().ok().filter(|s: &f64| s.is_finite() && *s > 0.0);
    number.ok_or("give a number of seconds above 0, such as 2.5")
}

/// Parses a size in bytes: a number with an optional binary or decimal unit.
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
    // Beyond 2⁵³ an f64 cannot represent odd numbers, and no machine has that much memory.
    match bytes.filter(|bytes| (1.0..=(1u64 << 53) as f64).contains(bytes)) {
        Some(bytes) => usize::try_from(bytes as u64).map_err(|_| WRONG),
        None => Err(WRONG),
    }
}

/// Default cache size: about a hundred images at 20% of their tokens, for a model with 7 billion parameters.
pub const CACHE: &str = "512MiB";

/// Parses a percentage.
pub fn share(text: &str) -> Result<f64, &'static str> {
    let number = text.strip_suffix('%').and_then(|number| number.parse::<f64>().ok());
    let share = number.filter(|number| (0.0..=100.0).contains(number));
    share.map(|number| number / 100.0).ok_or("give a share from 0% to 100%")
}

/// Parses a size, where 0 means none.
pub fn size_or_none(text: &str) -> Result<usize, &'static str> {
    if text == "0" { Ok(0) } else { size(text) }
}

/// Returns the text if it consists of decimal digits only; `parse` alone would accept a sign.
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
