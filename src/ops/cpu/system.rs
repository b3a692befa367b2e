//! Free memory as the operating system reports it.

/// Memory that this process can still take, on Linux: the machine's available memory, or what the limit of its control
/// group leaves. `None` elsewhere.
pub(crate) fn available() -> Option<usize> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let kib: usize = field(&text, "MemAvailable:")?.strip_suffix("kB")?.trim().parse().ok()?;
    let machine = kib << 10;
    Some(group_available().map_or(machine, |group| machine.min(group)))
}

/// What the limit of a control group (version 2) leaves, if there is one. Pages of files count as free, since the
/// system can reclaim them.
fn group_available() -> Option<usize> {
    let read = |name| std::fs::read_to_string(format!("/sys/fs/cgroup/{name}")).ok();
    let limit: usize = read("memory.max")?.trim().parse().ok()?;
    let taken: usize = field(&read("memory.stat")?, "anon ")?.parse().ok()?;
    Some(limit.saturating_sub(taken))
}

/// The rest of the line that starts with a name.
fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|line| line.strip_prefix(name)).map(str::trim)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_of_the_systems_files() {
        let text = "MemTotal: 10 kB\nMemAvailable:    2048 kB\n";
        assert_eq!(field(text, "MemAvailable:"), Some("2048 kB"));
        assert_eq!(field("anon 42\nfile 7\n", "anon "), Some("42"));
        assert_eq!(field(text, "SwapFree:"), None);
        if cfg!(target_os = "linux") {
            assert!(available().is_some_and(|bytes| bytes > 1 << 20));
        }
    }
}
