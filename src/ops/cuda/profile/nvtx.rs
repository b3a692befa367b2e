//! Ranges in a profiler's timeline, by the binary interface of NVTX 3.
//!
//! NVTX 3 has no library of its own. A profiler names its library in an environment variable. The program loads that
//! library once, calls its `InitializeInjectionNvtx2`, and offers tables of slots into which the profiler writes its
//! functions (nvtxTypes.h and nvtxImpl.h of NVTX 3). Without the variable nothing is loaded, and a range costs one
//! comparison.

use crate::ops::clock::Stage;
use libloading::Library;
use std::ffi::{CStr, CString, c_char, c_int, c_uint, c_void};
use std::ptr::null_mut;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicPtr, Ordering};

/// The variable in which a profiler names its library.
const VARIABLE: &str = if cfg!(target_pointer_width = "64") {
    "NVTX_INJECTION64_PATH"
} else {
    "NVTX_INJECTION32_PATH"
};

/// `NVTX_VERSION`.
const VERSION: u32 = 3;

/// Number of functions in each `NvtxCallbackModule`, counted from 1; module 0 does not exist.
const MODULES: [usize; 7] = [0, 16, 9, 15, 7, 16, 7];
const CORE: usize = 1;
/// `NVTX_CBID_CORE_RangePushA`.
const RANGE_PUSH: usize = 9;
/// `NVTX_CBID_CORE_RangePop`.
const RANGE_POP: usize = 11;
const MOST: usize = 16;

type GetExportTable = extern "system" fn(u32) -> *const c_void;
type Initialize = unsafe extern "system" fn(GetExportTable) -> c_int;
type Push = unsafe extern "system" fn(*const c_char) -> c_int;
type Pop = unsafe extern "system" fn() -> c_int;

/// `NvtxExportTableCallbacks`.
#[repr(C)]
struct Callbacks {
    size: usize,
    table: extern "system" fn(c_int, *mut *const Slot, *mut c_uint) -> c_int,
}

/// `NvtxExportTableVersionInfo`.
#[repr(C)]
struct VersionInfo {
    size: usize,
    version: u32,
    reserved: u32,
    set: extern "system" fn(u32),
}

/// A slot into which a profiler writes a function; null for a function that is not offered.
type Slot = *const AtomicPtr<c_void>;

/// The slots of one module, terminated by null as in NVTX's own headers.
struct Table([Slot; MOST + 1]);

// SAFETY: the pointers refer to statics of atomics.
unsafe impl Sync for Table {}

static FUNCTIONS: [[AtomicPtr<c_void>; MOST]; MODULES.len()] =
    [const { [const { AtomicPtr::new(null_mut()) }; MOST] }; MODULES.len()];
static TABLES: [Table; MODULES.len()] = tables();
static CALLBACKS: Callbacks = Callbacks { size: size_of::<Callbacks>(), table: module_table };
static VERSION_INFO: VersionInfo = VersionInfo {
    size: size_of::<VersionInfo>(),
    version: VERSION,
    reserved: 0,
    set: tool_version,
};

const fn tables() -> [Table; MODULES.len()] {
    let mut tables = [const { Table([std::ptr::null(); MOST + 1]) }; MODULES.len()];
    let mut module = 1;
    while module < MODULES.len() {
        let mut slot = 1;
        while slot < MODULES[module] {
            tables[module].0[slot] = &raw const FUNCTIONS[module][slot];
            slot += 1;
        }
        module += 1;
    }
    tables
}

extern "system" fn export_table(which: u32) -> *const c_void {
    match which {
        1 => (&raw const CALLBACKS).cast(),
        3 => (&raw const VERSION_INFO).cast(),
        _ => std::ptr::null(),
    }
}

extern "system" fn module_table(
    module: c_int,
    table: *mut *const Slot,
    size: *mut c_uint,
) -> c_int {
    let Some(module) = usize::try_from(module).ok().filter(|m| (1..MODULES.len()).contains(m))
    else {
        return 0;
    };
    // SAFETY: the pointers are null, or refer to the profiler's variables.
    unsafe {
        if !size.is_null() {
            *size = MODULES[module] as c_uint;
        }
        if !table.is_null() {
            *table = TABLES[module].0.as_ptr();
        }
    }
    1
}

extern "system" fn tool_version(_: u32) {}

/// The library of a profiler that was loaded.
#[derive(Debug)]
struct Tool {
    _library: Library,
}

/// Loads the profiler's library on first use. A library that cannot be loaded or initialised is ignored, as by NVTX's
/// own headers.
fn tool() -> Option<&'static Tool> {
    static TOOL: OnceLock<Option<Tool>> = OnceLock::new();
    let open = || {
        let path = std::env::var_os(VARIABLE).filter(|path| !path.is_empty())?;
        // SAFETY: whoever set the variable vouches for the library and for the type of its function. The function keeps
        // pointers to the tables, which are statics.
        unsafe {
            let library = Library::new(path).ok()?;
            let initialize = library.get::<Initialize>(c"InitializeInjectionNvtx2").ok()?;
            if initialize(export_table) == 0 {
                return None;
            }
            Some(Tool { _library: library })
        }
    };
    TOOL.get_or_init(open).as_ref()
}

impl Tool {
    fn function(slot: usize) -> Option<*mut c_void> {
        Some(FUNCTIONS[CORE][slot].load(Ordering::Acquire)).filter(|f| !f.is_null())
    }

    fn push(&self, name: &CStr) {
        if let Some(function) = Self::function(RANGE_PUSH) {
            // SAFETY: the profiler wrote a function of this type there; it copies the name.
            unsafe { std::mem::transmute::<*mut c_void, Push>(function)(name.as_ptr()) };
        }
    }

    fn pop(&self) {
        if let Some(function) = Self::function(RANGE_POP) {
            // SAFETY: the profiler wrote a function of this type there.
            unsafe { std::mem::transmute::<*mut c_void, Pop>(function)() };
        }
    }
}

/// Nesting depth of a range. A new range ends those of its own level and of deeper ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Level {
    Stage,
    Step,
    Layer,
}

/// Ranges of one executor, nested: stage, decode step, layer.
#[derive(Debug, Default)]
pub struct Ranges {
    tool: Option<&'static Tool>,
    open: Vec<Level>,
    stage: &'static str,
}

impl Ranges {
    /// Ranges that are shown if a profiler was loaded.
    pub fn new() -> Self {
        Self { tool: tool(), open: Vec::new(), stage: "" }
    }

    /// Ends all open ranges and begins a stage.
    pub fn stage(&mut self, stage: Stage) {
        self.end(Level::Stage);
        if stage == Stage::Idle {
            return;
        }
        self.stage = stage.name();
        self.begin(Level::Stage, || stage.name().to_owned());
    }

    /// Begins a decode step of this many rows, or with `None` ends it.
    pub fn step(&mut self, rows: Option<usize>) {
        self.end(Level::Step);
        if let Some(rows) = rows {
            self.begin(Level::Step, || format!("step of {rows}"));
        }
    }

    /// Ends the current layer and begins another, if any.
    pub fn layer(&mut self, index: Option<usize>) {
        self.end(Level::Layer);
        if let Some(index) = index {
            let stage = self.stage;
            self.begin(Level::Layer, || format!("{stage} layer {index}"));
        }
    }

    fn begin(&mut self, level: Level, name: impl FnOnce() -> String) {
        let Some(tool) = self.tool else { return };
        tool.push(&CString::new(name()).expect("no NUL in a name"));
        self.open.push(level);
    }

    fn end(&mut self, level: Level) {
        let Some(tool) = self.tool else { return };
        while self.open.pop_if(|open| *open >= level).is_some() {
            tool.pop();
        }
    }
}

impl Drop for Ranges {
    fn drop(&mut self) {
        self.end(Level::Stage);
    }
}
