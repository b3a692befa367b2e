//! Times every case on a device and prints a table.

use super::cases::{Case, Model, SEVEN, SMALL, cases};
use super::data::Data;
use hired::format::Dtype;
use hired::ops::MemoryOps;
use hired::ops::clock::Stage;
use hired::ops::cost::{Cost, Kind, Roof, Roofs};
use hired::ops::count::Counter;
use hired::ops::cuda::Gemm;
use hired::ops::cuda::{Cuda, Options, Timing};
use hired::ops::gpu::Gpu;
use hired::ops::memory::Purpose;
use hired::quant::Scheme;
use hired::{Error, Result};
use std::collections::BTreeMap;
use std::time::Duration;

/// The options of a run.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    pub dtype: Dtype,
    /// Quantize the weights to this format, and time the products only.
    pub scheme: Option<Scheme>,
    /// Use small shapes, to check that everything runs.
    pub small: bool,
}

const REPETITIONS: usize = 15;

/// Rows, columns and depth of the product that measures cuBLAS's throughput.
const LARGE: usize = 8192;

/// The measurements of a case.
struct Measured {
    costs: BTreeMap<Kind, Cost>,
    timing: Timing,
}

impl Measured {
    fn cost(&self) -> Cost {
        let mut all = Cost::default();
        self.costs.values().for_each(|cost| all += *cost);
        all
    }
}

/// A device and its executor.
struct Bench<'a> {
    cuda: Cuda,
    data: &'a Data,
    repetitions: usize,
    flushed: usize,
}

impl Bench<'_> {
    fn measure(&mut self, case: &Case) -> Result<Measured> {
        let mut counter = Counter::new(self.cuda.footprint());
        let mut held = case.prepare(&mut counter, self.data)?;
        let before = costs(&counter);
        case.work(&mut counter, &mut held)?;
        let mut costs = costs(&counter);
        for (kind, cost) in before {
            let of_work = costs.entry(kind).or_default();
            of_work.flops -= cost.flops;
            of_work.bytes -= cost.bytes;
        }
        let meter = counter.meter();
        let (weights, workspace) = (meter.most(Purpose::Weights), meter.most(Purpose::Workspace));

        let cuda = &mut self.cuda;
        cuda.reserve(Purpose::Workspace, 0)?;
        cuda.reserve(Purpose::Weights, weights)?;
        cuda.reserve(Purpose::Workspace, workspace.max(1))?;
        let mut held = case.prepare(cuda, self.data)?;
        let timing =
            cuda.time(self.repetitions, self.flushed, |cuda| case.work(cuda, &mut held))?;
        Ok(Measured { costs, timing })
    }
}

fn costs(counter: &Counter) -> BTreeMap<Kind, Cost> {
    let idle = counter.costs().filter(|(stage, ..)| *stage == Stage::Idle);
    idle.map(|(_, kind, cost)| (kind, cost)).collect()
}

/// Measures all cases and prints the table.
///
/// # Errors
/// When there is no device, or it fails.
pub fn run(settings: Settings) -> Result<()> {
    let Settings { dtype, scheme, small } = settings;
    let open =
        |gemm| Cuda::open(Options { ordinal: None, formats: dtype.into(), graphs: false, gemm });
    let data =
        Data::new(scheme).map_err(|e| Error::Device(format!("a folder for tensors: {e}")))?;
    let model = if small { SMALL } else { SEVEN };
    let (repetitions, flushed) = if small { (2, 1 << 12) } else { (REPETITIONS, 512 << 20) };
    let bench = |cuda| Bench { cuda, data: &data, repetitions, flushed };
    let mut own = bench(open(Gemm::Own)?);
    let mut library = match dtype {
        _ if scheme.is_some() => Err("integers are multiplied by own kernels only".into()),
        Dtype::F16 => open(Gemm::Cublas).map(bench).map_err(|e| e.to_string()),
        _ => Err("f32 is made by own kernels only".into()),
    };

    let card = own.cuda.description();
    let weights = scheme.map_or(dtype.name().into(), |scheme| scheme.to_string());
    println!("{}, {}, weights in {weights}, activations in {}", card.name, card.code, dtype.name());
    // The data sheet, if the GPU is one that plans are made for.
    let known = Gpu::named(&card.name);
    let roofs = known.map(|gpu| gpu.roofs(dtype, false));
    let ceilings = ceilings(&mut own, library.as_mut().ok(), small)?;
    match &library {
        Ok(_) => {}
        Err(why) => println!("no cuBLAS: {why}"),
    }
    println!();
    println!(
        "| operation | shape | kernels | µs | floor µs | GB/s | TFLOP/s | share | cuBLAS µs |"
    );
    println!("|---|---|---|---:|---:|---:|---:|---:|---:|");
    for case in settings.cases(model) {
        let measured = own.measure(&case)?;
        let (cost, timing) = (measured.cost(), &measured.timing);
        let time = timing.median();
        let other = match &mut library {
            Ok(library) if case.multiplies && case.rows() > hired::ops::DECODE_ROWS => {
                Some(library.measure(&case)?.timing.median())
            }
            _ => None,
        };
        println!(
            "| {} | {} | {} | {} | {} | {} | {} | {} | {} |",
            case.name,
            case.shape,
            names(&timing.kernels),
            micros(time),
            roofs.map(|roofs| micros(floor(&roofs, &measured.costs))).unwrap_or_default(),
            rate(cost.bytes, time, 1e9, 0),
            rate(cost.flops, time, 1e12, 2),
            share(&ceilings, cost, time),
            other.map(micros).unwrap_or_default(),
        );
    }
    println!();
    println!(
        "Medians of {repetitions} by the device's events, after writing {flushed} bytes each time, so that caches are \
         cold. Floor: by the data sheet. GB/s and TFLOP/s: what must be read and written once, and computed. Share: of the time that the measured \
         ceilings allow for it, the longer of the two."
    );
    Ok(())
}

/// The lower bound by the data sheet: the sum over the kinds of work, since kernels run one after another.
pub fn floor(roofs: &Roofs, costs: &BTreeMap<Kind, Cost>) -> Duration {
    Duration::from_secs_f64(costs.iter().map(|(kind, cost)| roofs.kind(*kind).time(*cost)).sum())
}

/// The share of the measured ceilings that an operation reaches.
fn share(ceilings: &Roof, cost: Cost, time: Duration) -> String {
    match ceilings.time(cost) {
        0.0 => String::new(),
        least => format!("{:.0}%", 100.0 * least / time.as_secs_f64().max(1e-9)),
    }
}

/// The measured ceilings of the device.
fn ceilings<'a>(own: &mut Bench<'a>, library: Option<&mut Bench<'a>>, small: bool) -> Result<Roof> {
    let (bytes, edge) = if small { (1 << 16, 64) } else { (1 << 30, LARGE) };
    let copy = own.cuda.time_copy(own.repetitions, bytes)?.median();
    let bandwidth = 2.0 * bytes as f64 / copy.as_secs_f64().max(1e-9);
    println!("copy on the device: {:.0} GB/s, read and written ({bytes} bytes)", bandwidth / 1e9);
    let product = Case::product(edge, edge, edge);
    let mut best = 0.0f64;
    let benches = [Some(("own kernels", own)), library.map(|l| ("cuBLAS", l))];
    for (name, bench) in benches.into_iter().flatten() {
        let measured = bench.measure(&product)?;
        let rate = measured.cost().flops as f64 / measured.timing.median().as_secs_f64().max(1e-9);
        println!("{edge} × {edge} → {edge} by {name}: {:.1} TFLOP/s", rate / 1e12);
        best = best.max(rate);
    }
    Ok(Roof { flops: best, bandwidth })
}

/// The kernels' names, each once, with the number of launches.
fn names(kernels: &[String]) -> String {
    let mut counted: Vec<(&str, usize)> = Vec::new();
    for kernel in kernels {
        match counted.iter_mut().find(|(name, _)| name == kernel) {
            Some((_, count)) => *count += 1,
            None => counted.push((kernel, 1)),
        }
    }
    let names = counted.iter().map(|(name, count)| match count {
        1 => format!("`{name}`"),
        count => format!("{count} × `{name}`"),
    });
    names.collect::<Vec<_>>().join(", ")
}

fn micros(time: Duration) -> String {
    let micros = time.as_secs_f64() * 1e6;
    if micros < 100.0 { format!("{micros:.1}") } else { format!("{micros:.0}") }
}

fn rate(amount: u64, time: Duration, unit: f64, digits: usize) -> String {
    match amount {
        0 => String::new(),
        amount => format!("{:.digits$}", amount as f64 / time.as_secs_f64().max(1e-9) / unit),
    }
}

impl Settings {
    /// The cases to measure, in the order of the table.
    fn cases(&self, model: Model) -> impl Iterator<Item = Case> + use<> {
        let integers = self.scheme.is_some();
        cases(model).into_iter().filter(move |case| !integers || case.is_of_decoder())
    }

    /// Names and shapes of the table's rows.
    #[allow(dead_code)] // for the test that looks for them
    pub fn names(&self, model: Model) -> Vec<(String, String)> {
        self.cases(model).map(|case| (case.name, case.shape)).collect()
    }
}
