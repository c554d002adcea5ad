//! FFmpeg and graphics hardware, which the video archive will use. This version has no video
//! archive, so nothing here is ever worse than a remark.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use llm_memory_disk::Disk;
use rustix::process::{Pid, Signal};

use super::Finding;

/// Encoders worth naming: lossless, then the lossy ones in software, then in hardware.
const KNOWN: [&str; 14] = [
    "ffv1",
    "libsvtav1",
    "libaom-av1",
    "libx264",
    "libx265",
    "h264_nvenc",
    "hevc_nvenc",
    "av1_nvenc",
    "h264_vaapi",
    "hevc_vaapi",
    "av1_vaapi",
    "h264_qsv",
    "hevc_qsv",
    "av1_qsv",
];

/// Hardware that encodes video.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Acceleration {
    /// NVIDIA.
    Nvenc,
    /// Intel Quick Sync.
    Qsv,
    /// Whatever has a driver for it.
    Vaapi,
}

impl Acceleration {
    /// All of them, the best first.
    pub(super) const ALL: [Self; 3] = [Self::Nvenc, Self::Qsv, Self::Vaapi];

    /// The word of the setting, and the end of the names of encoders.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Nvenc => "nvenc",
            Self::Qsv => "qsv",
            Self::Vaapi => "vaapi",
        }
    }
}

/// Looks for FFmpeg on the path and for graphics devices.
pub(super) fn check(disk: &dyn Disk) -> Vec<Finding> {
    vec![ffmpeg(disk), gpu(disk)]
}

fn ffmpeg(disk: &dyn Disk) -> Finding {
    const CHECK: &str = "FFmpeg";
    let Some(program) = program(disk) else {
        return Finding::ok(CHECK, "not present; not needed, as this version has no video archive");
    };
    match listed(&program) {
        Some(encoders) => {
            Finding::ok(CHECK, format!("{} with {}", program.display(), encoders.join(", ")))
        }
        None => Finding::ok(CHECK, format!("{} does not run; not needed yet", program.display())),
    }
}

/// FFmpeg on the path.
fn program(disk: &dyn Disk) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .map(|folder| folder.join("ffmpeg"))
        .find(|program| disk.exists(program).unwrap_or(false))
}

/// The longest that FFmpeg may take to list what it has: a driver that hangs must not hold up those
/// who ask how the store is.
const PATIENCE: Duration = Duration::from_secs(3);

/// The known encoders of that FFmpeg; `None` when it does not run, or not to its end in time.
fn listed(program: &Path) -> Option<Vec<&'static str>> {
    let listing = output(Command::new(program).args(["-hide_banner", "-encoders"]), PATIENCE)?;
    Some(encoders(&String::from_utf8_lossy(&listing)))
}

/// What a program prints that ends well, and in time.
fn output(command: &mut Command, patience: Duration) -> Option<Vec<u8>> {
    let child =
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().ok()?;
    let process = Pid::from_child(&child);
    let (sender, receiver) = std::sync::mpsc::channel();
    // A process that hangs in a driver may not even end when it is killed: only this thread waits.
    std::thread::spawn(move || {
        // Nobody listens any more once it took too long.
        let _ = sender.send(child.wait_with_output());
    });
    let Ok(output) = receiver.recv_timeout(patience) else {
        let _ = rustix::process::kill_process(process, Signal::KILL);
        return None;
    };
    Some(output.ok().filter(|output| output.status.success())?.stdout)
}

/// The known encoders of the FFmpeg on the path.
pub(super) fn available(disk: &dyn Disk) -> Vec<&'static str> {
    program(disk).and_then(|program| listed(&program)).unwrap_or_default()
}

/// The known ones in the listing of `ffmpeg -encoders`, whose second column is the name.
fn encoders(listing: &str) -> Vec<&'static str> {
    let names: Vec<&str> =
        listing.lines().filter_map(|line| line.split_whitespace().nth(1)).collect();
    KNOWN.into_iter().filter(|known| names.contains(known)).collect()
}

fn gpu(disk: &dyn Disk) -> Finding {
    const CHECK: &str = "GPU";
    let devices = [nvidia(disk), render(disk)].concat();
    if devices.is_empty() {
        Finding::ok(CHECK, "not present; not needed, as this version has no video archive")
    } else {
        Finding::ok(CHECK, format!("present: {}", devices.join(", ")))
    }
}

/// The accelerations that there is a device for.
pub(super) fn devices(disk: &dyn Disk) -> Vec<Acceleration> {
    let (nvidia, render) = (!nvidia(disk).is_empty(), !render(disk).is_empty());
    Acceleration::ALL
        .into_iter()
        .filter(|acceleration| match acceleration {
            Acceleration::Nvenc => nvidia,
            Acceleration::Qsv | Acceleration::Vaapi => render,
        })
        .collect()
}

fn nvidia(disk: &dyn Disk) -> Vec<String> {
    let is_nvidia = |name: &String| {
        name.strip_prefix("nvidia").is_some_and(|number| number.parse::<u32>().is_ok())
    };
    names(disk, "/dev").into_iter().filter(is_nvidia).collect()
}

fn render(disk: &dyn Disk) -> Vec<String> {
    names(disk, "/dev/dri").into_iter().filter(|name| name.starts_with("renderD")).collect()
}

fn names(disk: &dyn Disk, folder: &str) -> Vec<String> {
    let entries = disk.list(Path::new(folder)).unwrap_or_default();
    entries.into_iter().map(|entry| entry.name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encoders_are_read_from_the_name_column() {
        let listing = "Encoders:\n V..... = Video\n ------\n V....D ffv1   FFmpeg video codec #1\n \
                       V....D libx264   H.264 (libx265 is another)\n";
        assert_eq!(encoders(listing), ["ffv1", "libx264"]);
    }

    #[test]
    fn a_program_that_hangs_is_not_waited_for() {
        let run =
            |script: &str, patience| output(Command::new("sh").args(["-c", script]), patience);
        // A busy machine may take its time to start one.
        let minute = Duration::from_secs(60);
        assert_eq!(run("echo a", minute), Some(b"a\n".to_vec()));
        assert_eq!(run("exec sleep 600", Duration::from_millis(50)), None);
        assert_eq!(run("echo a; exit 1", minute), None);
        assert_eq!(listed(Path::new("/nowhere/ffmpeg")), None);
    }
}
