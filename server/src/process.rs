//! Figures of this process, from `/proc`. Where a figure cannot be had it is left out.

use std::path::Path;

use llm_memory_disk::Disk;

/// What the system says about the process.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct ProcessStats {
    /// CPU time, user and system, seconds.
    pub cpu_seconds: Option<f64>,
    /// Resident memory, bytes.
    pub resident_bytes: Option<u64>,
    /// Virtual memory, bytes.
    pub virtual_bytes: Option<u64>,
    /// Threads.
    pub threads: Option<u64>,
    /// Open file descriptors.
    pub open_fds: Option<u64>,
    /// File descriptors it may open.
    pub max_fds: Option<u64>,
}

/// Reads the figures now.
pub fn sample(disk: &dyn Disk) -> ProcessStats {
    let text = |path: &str| {
        let bytes = disk.read(Path::new(path)).ok()?;
        String::from_utf8(bytes).ok()
    };
    let mut stats = text("/proc/self/stat").map(|stat| parse_stat(&stat)).unwrap_or_default();
    stats.open_fds = disk.list(Path::new("/proc/self/fd")).ok().map(|fds| fds.len() as u64);
    stats.max_fds = text("/proc/self/limits").and_then(|limits| max_open_files(&limits));
    stats
}

/// Memory of the machine, or of the container when that is less: total and available bytes.
pub fn memory(disk: &dyn Disk) -> Option<(u64, u64)> {
    let text = |path: &str| {
        let bytes = disk.read(Path::new(path)).ok()?;
        String::from_utf8(bytes).ok()
    };
    let meminfo = text("/proc/meminfo")?;
    let (total, available) = parse_meminfo(&meminfo)?;
    let number = |path: &str| text(path).and_then(|value| value.trim().parse::<u64>().ok());
    let limit = number("/sys/fs/cgroup/memory.max").filter(|limit| *limit < total);
    Some(match limit {
        Some(limit) => {
            let used = number("/sys/fs/cgroup/memory.current").unwrap_or(0);
            (limit, limit.saturating_sub(used).min(available))
        }
        None => (total, available),
    })
}

fn parse_stat(stat: &str) -> ProcessStats {
    // The name of the program stands in parentheses and may hold anything, so the fields are
    // counted from the last one.
    let Some((_, fields)) = stat.rsplit_once(") ") else { return ProcessStats::default() };
    // Numbered as in proc(5), where the state, the first one here, is field 3.
    let field = |number: usize| {
        fields.split_whitespace().nth(number.saturating_sub(3))?.parse::<u64>().ok()
    };
    let ticks = rustix::param::clock_ticks_per_second().max(1);
    let page = rustix::param::page_size() as u64;
    let cpu_ticks = field(14).zip(field(15)).map(|(user, system)| user.saturating_add(system));
    ProcessStats {
        cpu_seconds: cpu_ticks.map(|cpu| cpu as f64 / ticks as f64),
        threads: field(20),
        virtual_bytes: field(23),
        resident_bytes: field(24).map(|pages| pages.saturating_mul(page)),
        open_fds: None,
        max_fds: None,
    }
}

fn max_open_files(limits: &str) -> Option<u64> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

fn parse_meminfo(text: &str) -> Option<(u64, u64)> {
    let kib = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_whitespace().next()?.parse::<u64>().ok().map(|kib| kib.saturating_mul(1024))
    };
    Some((kib("MemTotal:")?, kib("MemAvailable:")?))
}

#[cfg(test)]
mod tests {
    use llm_memory_disk::OsDisk;

    use super::*;

    #[test]
    fn a_program_name_with_parentheses_does_not_shift_the_fields() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194304 100 0 0 0 250 50 0 0 20 0 9 0 500 4096 25 0";
        let stats = parse_stat(stat);
        let ticks = rustix::param::clock_ticks_per_second() as f64;
        assert_eq!(stats.cpu_seconds, Some(300.0 / ticks));
        assert_eq!(stats.threads, Some(9));
        assert_eq!(stats.virtual_bytes, Some(4096));
        assert_eq!(stats.resident_bytes, Some(25 * rustix::param::page_size() as u64));
        assert_eq!(parse_stat("garbage"), ProcessStats::default());
    }

    #[test]
    fn limits_and_memory_are_read_by_name() {
        let limits =
            "Max processes  1 2 processes\nMax open files            1024    4096    files";
        assert_eq!(max_open_files(limits), Some(1024));
        let meminfo = "MemTotal:  10 kB\nMemFree: 1 kB\nMemAvailable:   4 kB\n";
        assert_eq!(parse_meminfo(meminfo), Some((10 * 1024, 4 * 1024)));
        assert_eq!(parse_meminfo("nothing"), None);
    }

    #[test]
    fn this_process_has_memory_and_files() {
        let stats = sample(&OsDisk);
        assert!(stats.resident_bytes.unwrap() > 0);
        assert!(stats.open_fds.unwrap() > 0);
    }
}
