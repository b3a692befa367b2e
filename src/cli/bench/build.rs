//! Describes the program, model and device behind a measurement.

use super::args::BenchArgs;
use super::picture;
use crate::cli::devices::Cpu;
use crate::cli::journal::{Settings, of_selection};
use crate::cli::table::Rate;
use hired::engine::{Ceiling, Engine};
use hired::image::Resample;
use hired::select::Budget;
use serde::Serialize;
use serde_json::{Map, Value, json};
use std::fmt::Write;

/// The program, model and device: the first JSON line, and the lines above the tables.
#[derive(Debug, Serialize)]
pub struct Build {
    schema: u32,
    /// This program's version, and whether it is an optimised build.
    pub build: String,
    pub model: String,
    device: Value,
    /// The device's peak rates: measured bandwidth, and arithmetic as measured or from its data sheet.
    ceiling: Ceiling,
    dtype: &'static str,
    #[serde(skip)]
    resample: Resample,
}

impl Build {
    pub fn new(engine: &Engine, args: &BenchArgs, ceiling: Ceiling) -> Self {
        let profile = if cfg!(debug_assertions) { "debug" } else { "release" };
        let model = match (&args.model, args.synthetic) {
            (Some(dir), _) => dir.display().to_string(),
            (None, Some(preset)) => format!("{preset}, synthetic"),
            (None, None) => String::new(),
        };
        let device = match engine.card() {
            Some(card) => with_kind("cuda", json!(card)),
            None => with_kind("cpu", json!(Cpu::here())),
        };
        Self {
            schema: 1,
            build: format!("hired {} ({profile})", env!("CARGO_PKG_VERSION")),
            model,
            device,
            ceiling,
            dtype: args.device.dtype_name(engine.card().is_some()),
            resample: Resample::of(&engine.config().image, args.device.resample),
        }
    }

    /// The settings that rows depend on, apart from their own columns.
    pub fn settings(&self, args: &BenchArgs) -> Settings {
        let options = args.device.options();
        let image = args.image.as_ref().map_or(picture::NAME.into(), |i| i.display().to_string());
        let mut all = Settings::new();
        all.insert("build".into(), self.build.clone().into());
        all.insert("model".into(), self.model.clone().into());
        all.insert("device".into(), self.machine().into());
        all.insert("dtype".into(), self.dtype.into());
        all.insert("no_graph".into(), options.no_graph.into());
        all.insert("resample".into(), format!("{:?}", self.resample).to_lowercase().into());
        all.insert("image".into(), image.into());
        all.insert("prompt_tokens".into(), args.prompt_tokens.into());
        all.insert("new_tokens".into(), args.new_tokens.into());
        all.insert("reps".into(), args.reps.into());
        all.extend(of_selection(&args.selection.with(Budget::Full)));
        all
    }

    /// The columns of an object, preceded by those that describe the machine.
    pub fn beside(&self, columns: &Value) -> Value {
        let mut all = Map::new();
        all.insert("build".into(), self.build.clone().into());
        all.insert("model".into(), self.model.clone().into());
        all.insert("device".into(), self.machine().into());
        all.extend(columns.as_object().cloned().unwrap_or_default());
        Value::Object(all)
    }

    fn text(&self, key: &str) -> Option<String> {
        match self.device.get(key)? {
            Value::String(text) => Some(text.clone()),
            Value::Null => None,
            other => Some(other.to_string()),
        }
    }

    /// Device, driver and clocks on one line.
    pub fn machine(&self) -> String {
        let mut line = self.text("name").unwrap_or_default();
        for (key, before, after) in [
            ("cores", "", " cores"),
            ("code", "", ""),
            ("driver", "driver for CUDA ", ""),
            ("clock_mhz", "", " MHz"),
            ("memory_clock_mhz", "memory ", " MHz"),
            ("gemm", "matrix products: ", ""),
        ] {
            if let Some(text) = self.text(key) {
                let _ = write!(line, ", {before}{text}{after}");
            }
        }
        line
    }

    /// The device's peak rates on one line.
    pub fn ceilings(&self) -> String {
        let Ceiling { bytes_per_second, flops_per_second, flops_measured } = self.ceiling;
        let mut line = format!("{} (measured)", Rate(bytes_per_second, "B/s"));
        if let Some(rate) = flops_per_second {
            let how = if flops_measured { "measured" } else { "cores × clock" };
            let _ = write!(line, ", {} ({how})", Rate(rate, "FLOP/s"));
        }
        line
    }
}

fn with_kind(kind: &str, value: Value) -> Value {
    let mut all = Map::new();
    all.insert("kind".into(), kind.into());
    if let Value::Object(fields) = value {
        all.extend(fields);
    }
    Value::Object(all)
}
