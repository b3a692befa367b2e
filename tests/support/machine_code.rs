//! What the compiler made, for tests: the files of the build and the instructions in them.
#![allow(dead_code)] // each test file uses a part

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

/// One instruction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instruction {
    pub address: u64,
    /// Its name with all that is written to it by points: `LDG.E.128`.
    pub word: String,
    /// Where it jumps to, for a branch with a fixed target.
    pub target: Option<u64>,
}

/// What the build made: files that end so, with their contents' path.
pub fn made(ending: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("HIRED_KERNELS"));
    // The folder keeps what earlier builds left: only sources that there are count.
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

/// The compiler of this build; says why there is none.
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

/// Machine code of a cubin, by kernel.
pub fn read(nvcc: &Path, cubin: &Path) -> BTreeMap<String, Vec<Instruction>> {
    let tools = nvcc.parent().unwrap();
    let path = std::env::var_os("PATH").unwrap_or_default();
    let path = std::iter::once(tools.to_owned()).chain(std::env::split_paths(&path));
    let output = Command::new(tools.join("cuobjdump"))
        .args(["--dump-sass".as_ref(), cubin.as_os_str()])
        .env("PATH", std::env::join_paths(path).unwrap())
        .output()
        .unwrap_or_else(|e| panic!("{}/cuobjdump: {e}", tools.display()));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut kernels = BTreeMap::<_, Vec<_>>::new();
    let mut name = String::new();
    for line in String::from_utf8(output.stdout).unwrap().lines() {
        if let Some((_, of)) = line.split_once("Function : ") {
            name = of.trim().to_owned();
        } else if let Some(instruction) = instruction(line) {
            kernels.entry(name.clone()).or_default().push(instruction);
        }
    }
    assert!(!kernels.is_empty(), "{} holds no code", cubin.display());
    kernels
}

/// What a line like `/*0088*/  @P0 LDG.E.128 R4, [R2] ;  /* 0x… */` says.
pub fn instruction(line: &str) -> Option<Instruction> {
    let (address, rest) = line.trim_start().strip_prefix("/*")?.split_once("*/")?;
    let address = u64::from_str_radix(address, 16).ok()?;
    let rest = rest.trim_start().trim_start_matches('{').trim_start();
    let rest = rest.split([';', '}']).next()?;
    let mut words = rest.split_whitespace();
    let first = words.next()?;
    let word = if first.starts_with('@') { words.next()? } else { first };
    if !word.starts_with(|c: char| c.is_ascii_uppercase()) {
        return None;
    }
    let target =
        words.last().and_then(|last| u64::from_str_radix(last.strip_prefix("0x")?, 16).ok());
    let target = target.filter(|_| word.starts_with("BRA"));
    Some(Instruction { address, word: word.to_owned(), target })
}

/// The loops in which `word` (the beginning of one) occurs.
pub fn loops<'a>(code: &'a [Instruction], word: &str) -> Vec<&'a [Instruction]> {
    let loops = code.iter().enumerate().filter_map(|(end, branch)| {
        let target = branch.target.filter(|target| *target <= branch.address)?;
        let start = code.iter().position(|i| i.address >= target)?;
        Some(&code[start..=end])
    });
    loops.filter(|body| count(body, word) > 0).collect()
}

/// The loop in which `word` is most frequent.
pub fn main_loop<'a>(code: &'a [Instruction], word: &str) -> Option<&'a [Instruction]> {
    let share = |body: &&[Instruction]| count(body, word) as f64 / body.len() as f64;
    loops(code, word).into_iter().max_by(|a, b| share(a).total_cmp(&share(b)))
}

/// Instructions whose word begins so.
pub fn count(code: &[Instruction], word: &str) -> usize {
    code.iter().filter(|instruction| instruction.word.starts_with(word)).count()
}
