//! Compiled kernels for tests: the files of this build and the instructions in them.
#![allow(dead_code)] // each test file uses a part

use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

/// One instruction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instruction {
    pub address: u64,
    /// The instruction's name with its modifiers: `LDG.E.128`.
    pub word: String,
    /// The target of a branch, if it is fixed.
    pub target: Option<u64>,
    /// Registers of the operands after the first one, and whether each is kept for the next instruction (`.reuse`).
    pub sources: Vec<Option<(u32, bool)>>,
}

/// The files of this build with this ending.
pub fn made(ending: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("HIRED_KERNELS"));
    // The folder still has results of earlier builds; only those of existing sources count.
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("kernels");
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            let name = path.file_name().unwrap().to_string_lossy();
            let source = name.split('.').next().unwrap_or_default();
            name.ends_with(ending) && sources.join(source).with_extension("cu").is_file()
        })
        .collect();
    files.sort();
    files
}

/// The compiler of this build; prints why if there is none.
pub fn nvcc() -> Option<(&'static Path, &'static str)> {
    let nvcc = option_env!("HIRED_NVCC").map(Path::new).zip(option_env!("HIRED_NVCC_VERSION"));
    if nvcc.is_none() {
        assert!(
            std::env::var("CI").as_deref() != Ok("true"),
            "CI must have nvcc: tools/setup-cuda"
        );
        eprintln!("skipped: no nvcc made kernels here (tools/setup-cuda brings one)");
    }
    nvcc
}

/// Disassembly of a cubin. It takes seconds for each file and depends on the bytes only, so it is cached for a week
/// after its last use.
fn listing(nvcc: &Path, cubin: &Path) -> String {
    const WEEK: Duration = Duration::from_secs(7 * 24 * 3600);
    let hash = Sha256::new()
        .chain_update(option_env!("HIRED_NVCC_VERSION").unwrap_or_default())
        .chain_update(nvcc.as_os_str().as_encoded_bytes())
        .chain_update(std::fs::read(cubin).unwrap())
        .finalize();
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("sass");
    std::fs::create_dir_all(&folder).expect("the target folder is writable");
    let kept = folder.join(format!("{hash:x}"));
    if let Ok(text) = std::fs::read_to_string(&kept) {
        let file = std::fs::File::options().append(true).open(&kept);
        file.and_then(|file| file.set_modified(SystemTime::now())).expect("its time is settable");
        return text;
    }
    let text = disassembled(nvcc, cubin);
    // Renamed into place, since other tests may read it.
    let made = folder.join(format!("{hash:x}.{}", std::process::id()));
    std::fs::write(&made, &text).and_then(|()| std::fs::rename(&made, &kept)).unwrap();
    for entry in std::fs::read_dir(&folder).unwrap().flatten() {
        let age = entry.metadata().and_then(|m| m.modified()).ok().and_then(|t| t.elapsed().ok());
        if age.is_some_and(|age| age > WEEK) {
            // Another test may have removed it already.
            let _ = std::fs::remove_file(entry.path());
        }
    }
    text
}

fn disassembled(nvcc: &Path, cubin: &Path) -> String {
    let tools = nvcc.parent().unwrap();
    let path = std::env::var_os("PATH").unwrap_or_default();
    let path = std::iter::once(tools.to_owned()).chain(std::env::split_paths(&path));
    let output = Command::new(tools.join("cuobjdump"))
        .args(["--dump-sass".as_ref(), cubin.as_os_str()])
        .env("PATH", std::env::join_paths(path).unwrap())
        .output()
        .unwrap_or_else(|e| panic!("{}/cuobjdump: {e}", tools.display()));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// The instructions of a cubin, by kernel.
pub fn read(nvcc: &Path, cubin: &Path) -> BTreeMap<String, Vec<Instruction>> {
    let mut kernels = BTreeMap::<_, Vec<_>>::new();
    let mut name = String::new();
    for line in listing(nvcc, cubin).lines() {
        if let Some((_, of)) = line.split_once("Function : ") {
            name = of.trim().to_owned();
        } else if let Some(instruction) = instruction(line) {
            kernels.entry(name.clone()).or_default().push(instruction);
        }
    }
    assert!(!kernels.is_empty(), "{} holds no code", cubin.display());
    kernels
}

/// Parses a line like `/*0088*/  @P0 LDG.E.128 R4, [R2] ;  /* 0x… */`.
pub fn instruction(line: &str) -> Option<Instruction> {
    let (address, rest) = line.trim_start().strip_prefix("/*")?.split_once("*/")?;
    let address = u64::from_str_radix(address, 16).ok()?;
    let rest = rest.trim_start().trim_start_matches('{').trim_start();
    let rest = rest.split([';', '}']).next()?;
    let operands = rest.split("/*").next().unwrap_or_default().split(',').skip(1);
    let sources = operands.map(register).collect();
    let mut words = rest.split_whitespace();
    let first = words.next()?;
    let word = if first.starts_with('@') { words.next()? } else { first };
    if !word.starts_with(|c: char| c.is_ascii_uppercase()) {
        return None;
    }
    let target =
        words.last().and_then(|last| u64::from_str_radix(last.strip_prefix("0x")?, 16).ok());
    let target = target.filter(|_| word.starts_with("BRA"));
    Some(Instruction { address, word: word.to_owned(), target, sources })
}

/// The register of an operand like `-R12.reuse`, and whether it is kept; `None` for RZ.
fn register(operand: &str) -> Option<(u32, bool)> {
    let name = operand.trim().trim_start_matches(['-', '|']).strip_prefix('R')?;
    let number = name.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()?;
    Some((number, name.contains(".reuse")))
}

/// Number of FFMA that read two registers of one bank. Maxwell and Pascal have four banks, by register number, and read
/// one register of each per clock. A register that the instruction before kept for the same operand is not read again.
pub fn bank_conflicts(code: &[Instruction]) -> usize {
    let mut kept = Vec::new();
    let mut conflicts = 0;
    for Instruction { word, sources, .. } in code {
        let is_read = |&(place, source): &(usize, &Option<(u32, bool)>)| {
            source.is_some() && kept.get(place).copied().flatten() != source.map(|(n, _)| n)
        };
        let mut read: Vec<u32> = sources
            .iter()
            .enumerate()
            .filter(is_read)
            .filter_map(|(_, s)| Some(s.as_ref()?.0))
            .collect();
        read.sort_unstable();
        read.dedup();
        let crowded = (0..4).any(|bank| read.iter().filter(|n| *n % 4 == bank).count() > 1);
        conflicts += usize::from(word.starts_with("FFMA") && crowded);
        kept = sources.iter().map(|s| s.and_then(|(n, is_kept)| is_kept.then_some(n))).collect();
    }
    conflicts
}

/// The loops with an instruction whose name starts with `word`.
pub fn loops<'a>(code: &'a [Instruction], word: &str) -> Vec<&'a [Instruction]> {
    let loops = code.iter().enumerate().filter_map(|(end, branch)| {
        let target = branch.target.filter(|target| *target <= branch.address)?;
        let start = code.iter().position(|i| i.address >= target)?;
        Some(&code[start..=end])
    });
    loops.filter(|body| count(body, word) > 0).collect()
}

/// The loop with the most instructions whose name starts with `word`.
pub fn main_loop<'a>(code: &'a [Instruction], word: &str) -> Option<&'a [Instruction]> {
    let share = |body: &&[Instruction]| count(body, word) as f64 / body.len() as f64;
    loops(code, word).into_iter().max_by(|a, b| share(a).total_cmp(&share(b)))
}

/// Number of instructions whose name starts with `word`.
pub fn count(code: &[Instruction], word: &str) -> usize {
    code.iter().filter(|instruction| instruction.word.starts_with(word)).count()
}
