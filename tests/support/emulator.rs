//! Support for tests on the emulator: building it, starting a program on it, and controlling it from inside that
//! program.
#![allow(dead_code)] // each test file uses a part

use cudarc::driver::sys;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Mutex;

/// The checks with which the kernels are built.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Build {
    /// Array bounds, alignment, and guards around memory.
    Plain,
    /// AddressSanitizer and UndefinedBehaviorSanitizer.
    Asan,
    /// The race detector.
    Races,
}

/// A built emulator.
pub struct Emulator {
    folder: PathBuf,
    /// A folder of libraries for child processes.
    beside: Option<PathBuf>,
    preload: Option<String>,
}

impl Emulator {
    /// Builds the emulator, if its sources have changed. `options` are those of `tools/emulator` besides the build.
    pub fn build(build: Build, options: &[&str]) -> Emulator {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let flag = match build {
            Build::Plain => None,
            Build::Asan => Some("--asan"),
            Build::Races => Some("--races"),
        };
        let output = Command::new(root.join("tools/emulator"))
            .args(options)
            .args(flag)
            .stderr(Stdio::inherit())
            .output()
            .expect("tools/emulator starts");
        assert!(output.status.success(), "tools/emulator failed: {}", output.status);
        let lines = String::from_utf8(output.stdout).expect("paths in UTF-8");
        let folder = lines.lines().last().expect("the folder, last").into();
        let preload = lines.lines().find_map(|line| line.strip_prefix("LD_PRELOAD="));
        Emulator { folder, beside: None, preload: preload.map(str::to_owned) }
    }

    /// Adds the stand-in for cuBLAS, built if it has changed.
    pub fn with_cublas(self) -> Emulator {
        self.with_cublas_as("libcublas.so", None)
    }

    /// Adds the stand-in under the file name `name`, compiled with the macro `define`.
    pub fn with_cublas_as(mut self, name: &str, define: Option<&str>) -> Emulator {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let folder = format!("{}{name}", define.unwrap_or_default());
        let folder = self.folder.parent().expect("a folder of builds").join(folder);
        let (source, library) = (root.join("tests/emulator/cublas.cpp"), folder.join(name));
        // One at a time: tests of one program may request the same build.
        static BUILDING: Mutex<()> = Mutex::new(());
        let _building = BUILDING.lock();
        let changed = |path: &Path| path.metadata().and_then(|m| m.modified()).ok();
        if changed(&library) <= changed(&source) {
            std::fs::create_dir_all(&folder).expect("the target folder is writable");
            // Renamed into place, since another test may be loading the old file.
            let made = folder.join(format!("libcublas.{}", std::process::id()));
            let status = Command::new(std::env::var_os("CXX").unwrap_or("g++".into()))
                .args(define.map(|name| format!("-D{name}")))
                .args(["-O2", "-shared", "-fPIC", "-o"])
                .args([&made, &source])
                .status()
                .expect("a C++ compiler starts");
            assert!(status.success(), "cublas.cpp does not compile");
            std::fs::rename(made, library).expect("the target folder is writable");
        }
        self.beside = Some(folder);
        self
    }

    /// The folder with its libcuda.so.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Runs the ignored test `name` of this program on the emulator, in a child process: the dynamic linker reads its
    /// environment variables only when a process starts.
    pub fn child(&self, name: &str, environment: &[(&str, &str)]) -> Output {
        let program = std::env::current_exe().expect("this program has a path");
        let mut command = self.command(&program, environment);
        command.args(["--exact", name, "--ignored", "--nocapture", "--test-threads=1"]);
        if let Some(library) = &self.preload {
            command.env("LD_PRELOAD", library);
            // The test harness itself exits without freeing its memory.
            command.env("ASAN_OPTIONS", "detect_leaks=0");
        }
        let output = command.output().expect("the child starts");
        // The harness reports success if no test has the name.
        let began = String::from_utf8_lossy(&output.stdout);
        assert!(began.contains("running 1 test\n"), "no test {name}: {began}");
        output
    }

    /// Panics unless the ignored test `name` of this program passes on an emulated GPU of this architecture.
    pub fn passes(&self, name: &str, sm: &str) {
        let output = self.child(name, &[("HIRED_EMULATOR_SM", sm)]);
        let [stdout, stderr] = [&output.stdout, &output.stderr].map(|o| String::from_utf8_lossy(o));
        assert!(output.status.success(), "{stdout}\n{stderr}");
    }

    /// A command that runs a program on the emulator.
    pub fn command(&self, program: &Path, environment: &[(&str, &str)]) -> Command {
        let mut command = Command::new(program);
        let folders = std::iter::once(&self.folder).chain(&self.beside);
        let path = std::env::join_paths(folders).expect("no colon in a path");
        command.env("LD_LIBRARY_PATH", path).stdin(Stdio::null());
        command.envs(environment.iter().copied());
        command
    }
}

/// Counters of allocations and calls, as in tests/emulator/control.h.
#[repr(C)]
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Stats {
    pub device_bytes: u64,
    pub device_peak: u64,
    pub device_blocks: u64,
    pub pinned_bytes: u64,
    pub streams: u64,
    pub events: u64,
    pub graphs: u64,
    pub execs: u64,
    pub modules: u64,
    pub contexts: u64,
    pub calls: u64,
    pub launches: u64,
    pub blocks: u64,
}

/// A function that the emulator exports besides the driver's.
///
/// # Safety
/// `T` must be the function's type in tests/emulator/control.h.
unsafe fn control<T: Copy>(name: &str) -> T {
    // SAFETY: the library stays open; the type is upheld by this function's own contract.
    unsafe { *sys::culib().get::<T>(name.as_bytes()).expect("the driver is the emulator") }
}

pub fn stats() -> Stats {
    let mut stats = Stats::default();
    // SAFETY: the type is that of control.h.
    unsafe { control::<unsafe extern "C" fn(*mut Stats)>("emu_stats")(&mut stats) };
    stats
}

/// Makes a later driver call fail, see emu_fail in control.h; "" for none.
pub fn fail(what: &str) {
    let text = std::ffi::CString::new(what).expect("no NUL");
    // SAFETY: the type is that of control.h.
    let refused = unsafe {
        control::<unsafe extern "C" fn(*const std::ffi::c_char) -> i32>("emu_fail")(text.as_ptr())
    };
    assert_eq!(refused, 0, "emu_fail does not understand {what:?}");
}

pub fn schedule(schedule: i32, seed: u64) {
    // SAFETY: the type is that of control.h.
    unsafe { control::<unsafe extern "C" fn(i32, u64)>("emu_schedule")(schedule, seed) }
}

pub fn poison(byte: u8) {
    // SAFETY: the type is that of control.h.
    unsafe { control::<unsafe extern "C" fn(u8)>("emu_poison")(byte) }
}

pub fn lazy(on: bool) {
    // SAFETY: the type is that of control.h.
    unsafe { control::<unsafe extern "C" fn(i32)>("emu_lazy")(on.into()) }
}

pub fn guard(pointer: u64, bytes: usize, on: bool) {
    // SAFETY: the type is that of control.h.
    unsafe {
        control::<unsafe extern "C" fn(u64, usize, i32)>("emu_guard")(pointer, bytes, on.into())
    }
}

/// The last failure inside a kernel, or "".
pub fn report() -> String {
    // SAFETY: the type is that of control.h; the text is copied before the emulator is called again.
    unsafe {
        let text = control::<unsafe extern "C" fn() -> *const std::ffi::c_char>("emu_report")();
        std::ffi::CStr::from_ptr(text).to_string_lossy().into_owned()
    }
}

pub fn reset() {
    // SAFETY: the type is that of control.h.
    unsafe { control::<unsafe extern "C" fn()>("emu_reset")() }
}
