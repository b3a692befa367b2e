//! Compiles `kernels/*.cu` to machine code: the list of compilations, a cache of their results, and the table that
//! embeds them.

use std::collections::BTreeSet;
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// Architectures that get machine code.
pub const ARCHITECTURES: [u32; 7] = [61, 70, 75, 80, 86, 89, 90];

/// The first architecture of each code path; its PTX serves GPUs whose architecture has no machine code.
pub const CODE_PATHS: [u32; 3] = [61, 75, 80];

/// Flags of every compilation.
const FLAGS: [&str; 7] = [
    "-std=c++17",
    "-O3",
    "--fmad=true",
    "-Xptxas",
    "-v",
    // CUDA 11.8 officially supports GCC up to 11, and works with 12.
    "-allow-unsupported-compiler",
    "-Wno-deprecated-gpu-targets",
];

/// Kind of compiled code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Form {
    /// Machine code.
    Cubin,
    /// Code for the driver to compile.
    Ptx,
}

/// The compilation of one source file for one architecture.
#[derive(Debug, Clone)]
pub struct Job {
    /// `kernels/NAME.cu`.
    pub name: String,
    pub architecture: u32,
    pub form: Form,
}

impl Job {
    /// Name of the result: `norm.sm_61.cubin`, `norm.compute_61.ptx`.
    pub fn file(&self) -> String {
        let Self { name, architecture, .. } = self;
        match self.form {
            Form::Cubin => format!("{name}.sm_{architecture}.cubin"),
            Form::Ptx => format!("{name}.compute_{architecture}.ptx"),
        }
    }

    /// The arguments of nvcc.
    pub fn arguments(&self, compiler: &Compiler) -> Vec<String> {
        let (form, target) = match self.form {
            Form::Cubin => ("-cubin", format!("-arch=sm_{}", self.architecture)),
            Form::Ptx => ("-ptx", format!("-arch=compute_{}", self.architecture)),
        };
        // Line numbers let a profiler show the source. They cost no speed, but make machine code three times as large.
        // With line numbers of inlined functions, the compilers of CUDA 11 and 12.0 crash by endless recursion when
        // they generate code for Hopper. PTX gets no line numbers: the same compiler in the driver would crash and end
        // the process, and by default a driver does not use them.
        let is_safe = match self.form {
            Form::Cubin => self.architecture < 90 || !compiler.version.starts_with("11."),
            Form::Ptx => false,
        };
        let lines = (compiler.lines && is_safe).then(|| "-lineinfo".to_owned());
        let flags = FLAGS.iter().map(|&flag| flag.to_owned());
        flags.chain(lines).chain([form.to_owned(), target]).collect()
    }
}

/// The architectures in a value of `HIRED_ARCHS`, like `61,75`; `None` means all, with PTX for GPUs whose architecture
/// has no machine code.
pub fn wanted(value: &str, known: &[u32]) -> Result<Option<Vec<u32>>, String> {
    if value.trim().is_empty() {
        return Ok(None);
    }
    let numbers = |all: &[u32]| all.iter().map(u32::to_string).collect::<Vec<_>>().join(",");
    let mut wanted = Vec::new();
    for word in value.split(',').map(str::trim) {
        let architecture =
            word.parse().ok().filter(|a| ARCHITECTURES.contains(a)).ok_or_else(|| {
                format!("HIRED_ARCHS={value}: `{word}` is none of {}", numbers(&ARCHITECTURES))
            })?;
        if !known.contains(&architecture) {
            return Err(format!(
                "HIRED_ARCHS={value}: this nvcc makes no code for {architecture}, only for {}",
                numbers(known)
            ));
        }
        wanted.push(architecture);
    }
    Ok(Some(wanted))
}

/// All compilations of these sources by an nvcc that supports the `known` architectures. If some are `wanted`, only
/// machine code for these.
pub fn jobs(names: &[String], known: &[u32], wanted: Option<&[u32]>) -> Vec<Job> {
    let mut jobs = Vec::new();
    let forms = match wanted {
        Some(wanted) => vec![(Form::Cubin, wanted)],
        None => vec![(Form::Cubin, &ARCHITECTURES[..]), (Form::Ptx, &CODE_PATHS[..])],
    };
    for name in names {
        for &(form, architectures) in &forms {
            for &architecture in architectures.iter().filter(|a| known.contains(a)) {
                jobs.push(Job { name: name.clone(), architecture, form });
            }
        }
    }
    jobs
}

/// Architectures without machine code when nvcc supports only the `known` ones: those that PTX serves, and those that
/// nothing serves.
pub fn left_out(known: &[u32]) -> (Vec<u32>, Vec<u32>) {
    let is_served = |a: &u32| CODE_PATHS.iter().any(|path| path <= a && known.contains(path));
    ARCHITECTURES.iter().filter(|a| !known.contains(a)).partition(|a| is_served(a))
}

/// Names of the sources in a folder, sorted, without extension.
pub fn sources(folder: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|e| e == "cu")
            && let Some(name) = path.file_stem().and_then(|s| s.to_str())
        {
            names.push(name.to_owned());
        }
    }
    names.sort();
    Ok(names)
}

/// All files that `source` includes by `#include "…"`, directly and indirectly, and itself.
///
/// Missing files are left out; the compiler will report them.
pub fn closure(source: &str, read: &dyn Fn(&str) -> Option<String>) -> BTreeSet<String> {
    let mut seen = BTreeSet::new();
    let mut open = vec![source.to_owned()];
    while let Some(file) = open.pop() {
        let Some(text) = read(&file) else { continue };
        if seen.insert(file) {
            open.extend(text.lines().filter_map(|line| {
                let rest = line.trim_start().strip_prefix('#')?.trim_start();
                let rest = rest.strip_prefix("include")?.trim_start().strip_prefix('"')?;
                Some(rest.split_once('"')?.0.to_owned())
            }));
        }
    }
    seen
}

/// Cache key of a compilation: changes whenever its result may change, with the compiler, its flags, the source or an
/// included file.
pub fn key(job: &Job, compiler: &Compiler, read: &dyn Fn(&str) -> Option<String>) -> String {
    let mut hasher = DefaultHasher::new();
    (&compiler.path, &compiler.version, job.arguments(compiler)).hash(&mut hasher);
    for file in closure(&format!("{}.cu", job.name), read) {
        (&file, read(&file)).hash(&mut hasher);
    }
    format!("{:016x}", hasher.finish())
}

/// An nvcc and its options.
#[derive(Debug, Clone)]
pub struct Compiler {
    pub path: PathBuf,
    /// `11.8.89`.
    pub version: String,
    /// Whether machine code contains line numbers.
    pub lines: bool,
}

/// The compiler and the folders of a build.
pub struct Build<'a> {
    pub compiler: Compiler,
    pub kernels: &'a Path,
    /// Cached results by key, shared by all profiles and feature sets of the same target folder.
    pub cache: PathBuf,
    /// The results of this build.
    pub out: &'a Path,
    /// Compresses a result.
    pub pack: fn(&[u8]) -> Vec<u8>,
    /// Waits until another compiler process may run, and occupies that place while the return value lives.
    pub turn: &'a (dyn Fn() -> Option<Turn> + Sync),
}

/// A place among the processes that cargo runs in parallel.
pub type Turn = Box<dyn Send>;

/// File name of the compressed form of a result.
fn packed(file: &str) -> String {
    format!("{file}.z")
}

impl Build<'_> {
    /// Runs all compilations, `parallel` at a time. The first failure ends it, with the compiler's message.
    pub fn run(&self, jobs: &[Job], parallel: usize) -> Result<(), String> {
        fs::create_dir_all(&self.cache).map_err(|e| format!("{}: {e}", self.cache.display()))?;
        let next = AtomicUsize::new(0);
        let failure = Mutex::new(None);
        std::thread::scope(|scope| {
            for worker in 0..parallel.clamp(1, jobs.len().max(1)) {
                let (next, failure) = (&next, &failure);
                scope.spawn(move || {
                    while next.load(Relaxed) < jobs.len() {
                        // The first worker uses the place that cargo gave to this build script.
                        let _turn = if worker == 0 { None } else { (self.turn)() };
                        let Some(job) = jobs.get(next.fetch_add(1, Relaxed)) else { break };
                        if let Err(error) = self.job(job) {
                            next.store(jobs.len(), Relaxed);
                            *failure.lock().unwrap() = Some(error);
                        }
                    }
                });
            }
        });
        failure.into_inner().unwrap().map_or(Ok(()), Err)
    }

    fn job(&self, job: &Job) -> Result<(), String> {
        let read = |name: &str| fs::read_to_string(self.kernels.join(name)).ok();
        let (file, key) = (job.file(), key(job, &self.compiler, &read));
        let at = |ending: &str| self.cache.join(format!("{file}.{key}{ending}"));
        let (stored, log, small) = (at(""), at(".log"), at(".z"));
        if !(stored.is_file() && log.is_file()) {
            self.compile(job, &stored, &log)?;
        }
        if !small.is_file() {
            self.pack(&stored, &small).map_err(|e| format!("{}: {e}", small.display()))?;
        }
        // Copied from the cache, so that later changes of the cache cannot break this build's `include_bytes!`, or the
        // tests that inspect the machine code.
        let copies = [(small, packed(&file)), (log, format!("{file}.log")), (stored, file)];
        for (from, to) in copies.map(|(from, to)| (from, self.out.join(to))) {
            fs::copy(&from, &to).map_err(|e| format!("{}: {e}", to.display()))?;
        }
        Ok(())
    }

    fn pack(&self, stored: &Path, small: &Path) -> io::Result<()> {
        let made = small.with_extension(format!("{}.part", std::process::id()));
        fs::write(&made, (self.pack)(&fs::read(stored)?))?;
        fs::rename(&made, small)
    }

    fn compile(&self, job: &Job, stored: &Path, log: &Path) -> Result<(), String> {
        let source = format!("{}.cu", job.name);
        let made = stored.with_extension(format!("{}.part", std::process::id()));
        let output = Command::new(&self.compiler.path)
            .args(job.arguments(&self.compiler))
            .arg("-o")
            .arg(&made)
            .arg(&source)
            .current_dir(self.kernels)
            .output()
            .map_err(|e| format!("{}: {e}", self.compiler.path.display()))?;
        let words = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        if !output.status.success() {
            return Err(format!("kernels/{source} for {}:\n{words}", job.file()));
        }
        let finish = || {
            if job.form == Form::Ptx {
                // The driver expects PTX to be a C string.
                let mut text = fs::read(&made)?;
                text.push(0);
                fs::write(&made, text)?;
            }
            fs::write(log, &words)?;
            fs::rename(&made, stored)
        };
        finish().map_err(|e| format!("{}: {e}", stored.display()))
    }
}

/// Rust source of the table `static IMAGES: &[Image]`, with the uncompressed size of each image.
pub fn table(jobs: &[Job], out: &Path) -> io::Result<String> {
    let mut text = String::from("static IMAGES: &[Image] = &[\n");
    for job in jobs {
        let Job { name, architecture, form } = job;
        let size = fs::metadata(out.join(job.file()))?.len();
        text += &format!(
            "    Image {{ file: {name:?}, architecture: {architecture}, form: Form::{form:?}, \
             size: {size}, packed: include_bytes!(concat!(env!(\"OUT_DIR\"), \"/\", {:?})) }},\n",
            packed(&job.file())
        );
    }
    Ok(text + "];\n")
}
